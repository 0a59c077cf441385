//! What was found on the way to a target, and what it means in one sentence.

use std::net::IpAddr;

use super::{
    attempt::{Failure, Timings},
    timestamp::Timestamp,
};

mod summary;
mod tls;

pub use tls::{Certificate, TargetTls, TlsProblem, TlsSession};

/// What was found on the way to a target.
#[derive(Debug, Clone)]
pub struct TargetCheck {
    /// When the check began.
    pub started_at: Timestamp,
    /// What was requested, without its query.
    pub target_url: String,
    /// Where the host leads to.
    pub addresses: Vec<TargetAddress>,
    /// How it was connected to, if it was.
    pub connection: Option<TargetConnection>,
    /// The TLS handshake, if it was reached.
    pub tls: Option<TargetTls>,
    /// What came back, or why nothing did.
    pub outcome: TargetOutcome,
    /// How long it took.
    pub timings: Timings,
}

/// An address that a host leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAddress {
    /// The address.
    pub address: IpAddr,
    /// The rule by which it is not sent to, if one says so.
    pub refused_as: Option<&'static str>,
}

/// A TCP connection that stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetConnection {
    /// The receiver's address.
    pub address: IpAddr,
    /// Whether it goes through our proxy.
    pub through_proxy: bool,
}

/// There are as many checks under way as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyChecks {
    /// Of the tenant.
    #[error(
        "the tenant has {0} checks under way on this node, as many as it may have at a time; repeat the call when one has ended"
    )]
    OfTenant(usize),
    /// Of all tenants together.
    #[error(
        "there are {0} checks under way on this node, as many as it makes at a time; repeat the call later"
    )]
    OfNode(usize),
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetOutcome {
    /// There was an answer, of whatever status.
    Answered {
        /// The status.
        status: u16,
        /// Where a redirect leads to.
        redirect: Option<String>,
        /// Why that cannot be made the target, if it cannot.
        redirect_refused: Option<String>,
        /// The headers in their order, names in lower case, up to a limit.
        headers: Vec<(String, String)>,
    },
    /// There was none.
    Failed {
        /// What kind of failure it was.
        failure: Failure,
        /// The cause in words, without secrets.
        message: String,
    },
}
