//! Test events: how long to wait for one, and how it stands.

use std::time::Duration;

use postrider_proto::v1 as pb;

use super::{delivery, duration};
use crate::{
    domain::{
        attempt::{Attempt, Outcome, Response},
        invalid::Invalid,
        rate_limit::RateLimit,
    },
    grpc::test_event::Standing,
};

/// The longest that a call waits.
pub(in crate::grpc) const MAX_WAIT: Duration = Duration::from_mins(1);

/// Reads how long to wait.
pub(in crate::grpc) fn wait(wait: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    match duration::optional(wait, "wait")? {
        Some(wait) if wait > MAX_WAIT => Err(Invalid::new("wait", "must be from 0 to 60 seconds")),
        wait => Ok(wait),
    }
}

/// Shows how an event to a receiver that is sent to at this rate at most stands; leaves out what it is called.
pub(in crate::grpc) fn to_response(standing: Standing, rate: Option<RateLimit>) -> pb::SendTestEventResponse {
    let summary = summary(&standing, rate);
    let (standing, attempt) = match standing {
        Standing::Attempted(attempt) => (pb::TestEventStanding::Attempted, Some(*attempt)),
        Standing::Pending => (pb::TestEventStanding::Pending, None),
        Standing::Paused { .. } => (pb::TestEventStanding::Paused, None),
        Standing::Blocked { .. } => (pb::TestEventStanding::Blocked, None),
        Standing::Ended => (pb::TestEventStanding::Ended, None),
    };
    pb::SendTestEventResponse {
        standing: standing.into(),
        summary,
        attempt: attempt.map(delivery::to_attempt),
        ..pb::SendTestEventResponse::default()
    }
}

fn summary(standing: &Standing, rate: Option<RateLimit>) -> String {
    match standing {
        Standing::Attempted(attempt) => attempted(attempt),
        Standing::Pending => {
            let reason = rate.map(|rate| {
                let rate = rate.per_second();
                format!(
                    ", perhaps because the receiver is sent no more than {rate} deliveries a second, and others were before it"
                )
            });
            let reason = reason.unwrap_or_default();
            format!("No attempt was made yet{reason}; what comes of it is in the attempts of the delivery.")
        }
        Standing::Paused { since } => {
            let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
            format!("The subscription is paused{since}: the event waits until it is resumed.")
        }
        Standing::Blocked { since, reason, next_probe_at } => format!(
            "The subscription is blocked, as its receiver fails since {since} ({reason}): the event waits until a probe succeeds, \
             the next one of which is due at {next_probe_at}, or until the subscription is resumed."
        ),
        Standing::Ended => "The delivery ended before an attempt was made.".to_owned(),
    }
}

fn attempted(attempt: &Attempt) -> String {
    match &attempt.outcome {
        Outcome::Acknowledged { status } => format!("The receiver acknowledged the event with {status}."),
        Outcome::Rejected { status: 410, .. } => {
            "The receiver answered 410: it wants nothing more, and the subscription is disabled.".to_owned()
        }
        Outcome::Rejected { status, .. } => {
            let redirect = attempt.response.as_ref().and_then(Response::redirect);
            let what = redirect.map(|to| format!(", a redirect to {to} that was not followed"));
            format!(
                "The receiver answered {status}{}, which does not acknowledge the event.",
                what.unwrap_or_default()
            )
        }
        Outcome::Failed { message, .. } => format!("The attempt failed: {message}."),
    }
}
