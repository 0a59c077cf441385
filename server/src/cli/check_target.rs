//! Whether this machine can reach a target as deliveries do: `CheckTarget`, for those who set a server up and have none to ask yet.

use std::{error::Error, time::Duration};

use clap::Args;
use postrider_server::{
    clock::{Clock, SystemClock},
    domain::{
        claim::Target,
        id::{SubscriptionId, SubscriptionUid, TenantId},
        secret::SecretSet,
        settings::Settings as Own,
        subscription::Pace,
        target_check::{TargetCheck, TargetOutcome},
        target_url::TargetUrl,
    },
    sender::HttpSender,
};

use super::Settings;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The URL that events would be sent to.
    url: String,
    #[command(flatten)]
    settings: Settings,
}

/// Fails if there is no answer.
#[expect(clippy::print_stdout, reason = "what this command is for")]
pub(super) async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let config = options.settings.load()?;
    let now = SystemClock.now();
    let target = Target {
        uid: SubscriptionUid::new(now),
        tenant: TenantId::parse("default")?,
        id: SubscriptionId::parse("check")?,
        url: TargetUrl::parse(&options.url)?,
        secrets: SecretSet::newest_first(Vec::new()),
        pace: Pace::default(),
        suspected: false,
        recovered_at: None,
        revision: 1,
        settings: Some(Own::plain()),
    };
    let check = HttpSender::new(&config.sender)?.check(&target, now, Duration::MAX).await?;
    for (what, found) in findings(&check) {
        println!("{what:<12} {found}");
    }
    match check.outcome {
        TargetOutcome::Answered { .. } => {
            println!("{}", check.summary());
            Ok(())
        }
        TargetOutcome::Failed { .. } => Err(check.summary().into()),
    }
}

/// What was found on the way, line by line.
fn findings(check: &TargetCheck) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for address in &check.addresses {
        let refused = address.refused_as.map(|rule| format!(", refused: {rule}")).unwrap_or_default();
        found.push(("address", format!("{}{refused}", address.address)));
    }
    if let Some(connection) = check.connection {
        let through = if connection.through_proxy { " through the proxy" } else { "" };
        found.push(("connected", format!("{}{through}", connection.address)));
    }
    let tls = check.tls.iter();
    for session in tls.clone().filter_map(|tls| tls.session.as_ref()) {
        let alpn = session.alpn.as_deref().unwrap_or("no alpn");
        found.push(("tls", format!("{}, {}, {alpn}", session.version, session.cipher_suite)));
    }
    for one in tls.flat_map(|tls| &tls.certificates) {
        let names =
            if one.names.is_empty() { String::new() } else { format!(" for {}", one.names.join(", ")) };
        let (from, until) = (one.not_before, one.not_after);
        found.push((
            "certificate",
            format!("{}{names}, issued by {}, valid from {from} until {until}", one.subject, one.issuer),
        ));
    }
    found.push(("took", format!("{:?}", check.timings.total)));
    found
}
