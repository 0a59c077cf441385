//! One HTTP request of a delivery, and what it came to.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;

use super::{timestamp::Timestamp, trace_context::TraceContext};

/// The longest redirect that is shown, in characters.
const MAX_REDIRECT: usize = 2_048;

/// Counts a delivery's attempts from 1. Also the fence: whoever settles an attempt must name the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNumber(NonZeroU32);

impl AttemptNumber {
    /// The first attempt.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The attempt of this number, if it is one.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// As a number, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// What one attempt came to. Not a `Result`: whatever the receiver or the network did, we have an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with a 2xx status.
    Acknowledged {
        /// The status.
        status: u16,
    },
    /// The receiver answered with another status.
    Rejected {
        /// The status.
        status: u16,
        /// How long it asked us to wait, where that counts (429 and 503).
        retry_after: Option<Duration>,
    },
    /// There was no complete answer.
    Failed {
        /// What kind of failure it was.
        failure: Failure,
        /// The cause in words, without secrets.
        message: String,
    },
}

/// What went wrong where no complete answer was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The exchange took longer than the timeout.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// The connection could not be opened.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The address is one that we do not send to.
    AddressRefused,
    /// The connection broke or what came back was not HTTP.
    Protocol,
    /// There was nothing to show the receiver who we are with: its token endpoint gave no token.
    Authentication,
    /// The subscription's template could not be rendered for the event: its owner's defect.
    Template,
    /// We could not make the request: our defect, and not held against the receiver.
    Internal,
}

/// What a receiver asks for beside its status, by the response header `webhook-delivery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing more is to come, as with 410 Gone. With a 2xx status this delivery is acknowledged all the same.
    Disable,
    /// This delivery is not to be repeated. Says nothing with a 2xx status.
    AbortMessage,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers in their order, names in lower case, up to a limit.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, up to a limit.
    pub body: Bytes,
    /// Whether the body was longer than what was kept, or broke off.
    pub truncated: bool,
}

impl Response {
    /// Where it redirects to, which is not followed.
    #[must_use]
    pub fn redirect(&self) -> Option<String> {
        let location = self.headers.iter().find(|(name, _)| name == "location");
        redirect(self.status, &location?.1)
    }
}

/// Where an answer with this status and this `location` redirects to, as far as it is shown.
#[must_use]
pub fn redirect(status: u16, location: &str) -> Option<String> {
    let says_where = (300..=399).contains(&status) && !location.is_empty();
    says_where.then(|| location.chars().take(MAX_REDIRECT).collect())
}

/// How long the phases of an exchange took. A phase that did not take place, or was not reached, has no length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the start to the outcome.
    pub total: Duration,
    /// Looking up the host name.
    pub dns: Option<Duration>,
    /// Opening the TCP connection.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the start to the head of the response.
    pub first_byte: Option<Duration>,
}

/// The record of one attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Which attempt of its delivery it is.
    pub number: AttemptNumber,
    /// When it was begun.
    pub started_at: Timestamp,
    /// The URL it went to, without the query.
    pub target_url: String,
    /// What it came to.
    pub outcome: Outcome,
    /// What the receiver asks for beside that. Not stored: the header is among those of the response.
    pub wish: Option<Wish>,
    /// What came back, if the head of a response did.
    pub response: Option<Response>,
    /// How long it took.
    pub timings: Timings,
    /// The span that traced it, for the next attempt to link to.
    pub span: Option<TraceContext>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_3xx_that_says_where_to() {
        let to = |status, name: &str, value: &str| {
            let headers = vec![("x-other".to_owned(), "1".to_owned()), (name.to_owned(), value.to_owned())];
            Response { status, headers, ..Response::default() }.redirect()
        };
        for status in [300, 302, 308, 399] {
            assert_eq!(to(status, "location", "/new").as_deref(), Some("/new"), "{status}");
        }
        for (status, name, value) in
            [(201, "location", "/new"), (400, "location", "/new"), (304, "x", "/new"), (302, "location", "")]
        {
            assert_eq!(to(status, name, value), None, "{status} {name} {value}");
        }
        let long = "ü".repeat(MAX_REDIRECT + 1);
        assert_eq!(to(302, "location", &long).unwrap().chars().count(), MAX_REDIRECT);
    }
}
