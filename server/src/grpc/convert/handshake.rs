//! What is asked of a receiver before anything is sent to it, and how that stands.

use postrider_proto::v1::{self as pb, handshake::Method};

use super::to_timestamp;
use crate::domain::{
    handshake::{Handshake, HandshakeState, HandshakeStatus},
    invalid::Invalid,
};

/// Reads it.
pub(super) fn own(handshake: &pb::Handshake) -> Result<Handshake, Invalid> {
    let (field, read) = match &handshake.method {
        None => {
            let known = "`cloud_events`, `slack_url_verification`, `hook_secret`, `trello`, `meta`, `ebay` or `linkedin`";
            return Err(Invalid::new("method", format!("must be set: {known}")));
        }
        Some(Method::CloudEvents(own)) => {
            ("cloud_events", Handshake::cloud_events(&own.origin, own.requests_per_minute))
        }
        Some(Method::SlackUrlVerification(own)) => ("slack_url_verification", Handshake::slack(&own.token)),
        Some(Method::HookSecret(_)) => return Ok(Handshake::HookSecret),
        Some(Method::Trello(_)) => return Ok(Handshake::Trello),
        Some(Method::Meta(own)) => ("meta", Handshake::meta(&own.verify_token)),
        Some(Method::Ebay(own)) => ("ebay", Handshake::ebay(&own.verification_token)),
        Some(Method::Linkedin(own)) => ("linkedin", Handshake::linkedin(&own.client_secret)),
    };
    read.map_err(|invalid| invalid.within(field))
}

/// Shows it, with its secrets masked.
pub(super) fn to_handshake(own: &Handshake) -> pb::Handshake {
    let method = match own {
        Handshake::CloudEvents { origin, rate } => Method::CloudEvents(pb::CloudEventsHandshake {
            origin: origin.as_str().to_owned(),
            requests_per_minute: to_number(rate.unwrap_or(0)),
        }),
        Handshake::Slack { token } => {
            Method::SlackUrlVerification(pb::SlackUrlVerification { token: token.masked().to_owned() })
        }
        Handshake::HookSecret => Method::HookSecret(pb::HookSecretHandshake {}),
        Handshake::Trello => Method::Trello(pb::TrelloHandshake {}),
        Handshake::Meta { verify_token } => {
            Method::Meta(pb::MetaHandshake { verify_token: verify_token.masked().to_owned() })
        }
        Handshake::Ebay { verification_token } => {
            Method::Ebay(pb::EbayHandshake { verification_token: verification_token.masked().to_owned() })
        }
        Handshake::Linkedin { client_secret } => {
            Method::Linkedin(pb::LinkedinHandshake { client_secret: client_secret.masked().to_owned() })
        }
    };
    pb::Handshake { method: Some(method) }
}

/// Shows how it stands.
pub(super) fn to_status(status: &HandshakeStatus) -> pb::HandshakeStatus {
    let (state, next_attempt_at, done_at) = match status.state {
        HandshakeState::Awaited { next_attempt_at } => {
            (pb::HandshakeState::Awaited, Some(next_attempt_at), None)
        }
        HandshakeState::Done { at } => (pb::HandshakeState::Done, None, Some(at)),
        HandshakeState::Failed => (pb::HandshakeState::Failed, None, None),
    };
    pb::HandshakeStatus {
        state: state.into(),
        attempt_count: to_number(status.attempts),
        last_failure: status.last_failure.clone().unwrap_or_default(),
        next_attempt_time: next_attempt_at.and_then(to_timestamp),
        done_time: done_at.and_then(to_timestamp),
        allowed_requests_per_minute: to_number(status.allowed_rate.unwrap_or(0)),
    }
}

fn to_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
