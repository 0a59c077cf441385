//! Attempts: the HTTP requests of a delivery.

use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;

/// One HTTP request of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Counts from 1. A number is missing where an attempt was begun and its outcome could not be recorded.
    pub number: u32,
    /// When it was begun.
    pub started_at: OffsetDateTime,
    /// The URL that it went to, without its query.
    pub target_url: String,
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// The headers of the response, in its order, up to 16 KiB.
    pub response_headers: Vec<Header>,
    /// The beginning of the response's body, up to 16 KiB.
    pub response_body: Bytes,
    /// Whether the response's body was longer than what was kept.
    pub response_truncated: bool,
    /// From the start to the outcome.
    pub total_duration: Duration,
    /// Looking up the host name. `None` if the connection was reused, the host is an address, or it was not reached.
    pub dns_duration: Option<Duration>,
    /// Opening the TCP connection. `None` if the connection was reused or this was not reached.
    pub connect_duration: Option<Duration>,
    /// The TLS handshake. `None` for `http`, if the connection was reused, or this was not reached.
    pub tls_duration: Option<Duration>,
    /// From the start to the head of the response. `None` if none came.
    pub first_byte_duration: Option<Duration>,
}

impl Attempt {
    /// The HTTP status, if one was received.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            AttemptOutcome::Acknowledged { status } | AttemptOutcome::Rejected { status } => Some(status),
            AttemptOutcome::Failed { .. } | AttemptOutcome::Unrecognized(_) => None,
        }
    }
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// A 2xx status.
    Acknowledged {
        /// The HTTP status.
        status: u16,
    },
    /// Another status.
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// No answer, or a 2xx one that did not come to its end in time.
    Failed {
        /// What went wrong.
        failure: AttemptFailure,
        /// The failure in words.
        message: String,
    },
    /// An outcome newer than this SDK, with its number.
    Unrecognized(i32),
}

/// What went wrong before an HTTP status was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptFailure {
    /// The exchange took longer than the timeout.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// The connection could not be opened.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The address is one that the server does not send to.
    AddressRefused,
    /// The connection broke or what came back was not HTTP.
    Protocol,
    /// The server could not make the request; its log says more. Not held against the receiver.
    Internal,
    /// The token endpoint of the subscription gave no token; nothing was sent to the receiver.
    Authentication,
    /// The template of the subscription's format could not be rendered for the event. Nothing was sent.
    Template,
    /// A failure newer than this SDK, with its number.
    Unrecognized(i32),
}

/// One header of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The name, in lower case.
    pub name: String,
    /// The value; bytes that are not UTF-8 are replaced.
    pub value: String,
}
