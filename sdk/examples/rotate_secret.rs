//! Changes a signing secret without a receiver missing a callback: `rotate_secret [URL]`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::error::Error;

use postrider_sdk::{Client, Subscription, verify::Verifier};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned())).await
}

pub(crate) async fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let subscriptions = Client::connect(url).await?.subscriptions();
    let created =
        subscriptions.create(Subscription::to("https://example.com/hooks").event_types(["**"])).await?;
    let name = created.subscription.name;

    // From now on callbacks are signed with both secrets: a receiver that knows either of them is content.
    let rotated = subscriptions.rotate_secret(&name).await?;
    println!("the old secret is good until {}", rotated.previous_expires_at);

    // A receiver that knows both works before, during and after the change.
    let _verifier = Verifier::new([rotated.secret.expose(), created.secret.expose()])?;

    // Where the new secret got lost on the way, it can be read again.
    let current = subscriptions.secret(&name).await?;
    assert_eq!(current, rotated.secret);

    subscriptions.delete(&name).await?;
    println!("rotated the secret of {name}");
    Ok(())
}
