//! Receives callbacks with axum: `WEBHOOK_SECRETS='whsec_…' PORT=8000 receive_axum`, until Ctrl-C. It stands in `docs/receiving.md` too, and
//! a test sees to it that both are the same.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example speaks to its reader")]

use std::{collections::HashMap, env, error::Error, sync::Arc, sync::Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use postrider_sdk::verify::Verifier;

const MAX_BODY: usize = 2 << 20;

struct Receiver {
    verifier: Verifier,
    /// Stands for a table of your database with a unique key on the id.
    inbox: Mutex<HashMap<String, Bytes>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // During a rotation there are two, with a space between them.
    let verifier = Verifier::new(env::var("WEBHOOK_SECRETS")?.split_whitespace())?;
    let port = env::var("PORT").unwrap_or_else(|_| "8000".to_owned()).parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on port {}", listener.local_addr()?.port());
    axum::serve(listener, app(verifier))
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    Ok(())
}

pub(crate) fn app(verifier: Verifier) -> Router {
    let receiver = Arc::new(Receiver { verifier, inbox: Mutex::default() });
    Router::new().route("/hooks", post(receive)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(receiver)
}

/// Takes the body as bytes: the signature is over what was sent, not over what a parser makes of it.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // By one of the secrets, compared in constant time, and not older than five minutes.
    let Ok(callback) = receiver.verifier.verify(&headers, &body) else {
        return StatusCode::UNAUTHORIZED;
    };
    let Ok(mut inbox) = receiver.inbox.lock() else { return StatusCode::INTERNAL_SERVER_ERROR };
    // One that was seen before is acknowledged all the same.
    if inbox.insert(callback.id.clone(), body).is_none() {
        println!("event {}", callback.id);
    }
    // At once: what there is to do is done from the inbox.
    StatusCode::NO_CONTENT
}
