//! What was found on the way to a target.

use std::{net::IpAddr, time::Duration};

use time::OffsetDateTime;

use super::{AttemptFailure, Header};

/// What was found on the way to a target.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// use postrider_sdk::model::TlsProblem;
///
/// let check = client.subscriptions().check_target("orders").await?;
/// println!("{}", check.summary);
/// for found in &check.addresses {
///     match &found.refused_as {
///         None => println!("{}", found.address),
///         Some(rule) => println!("{} is {rule}, and is not sent to", found.address),
///     }
/// }
/// if let Some(tls) = &check.tls
///     && tls.problem == Some(TlsProblem::Expired)
/// {
///     println!("valid until {}", tls.certificates[0].not_after);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetCheck {
    /// The finding in one sentence, for people.
    pub summary: String,
    /// What was requested, without its query.
    pub target_url: String,
    /// When the check began.
    pub started_at: OffsetDateTime,
    /// Where the host leads to. Empty if the lookup failed or was not made.
    pub addresses: Vec<TargetAddress>,
    /// The address that was connected to.
    pub connected_address: Option<IpAddr>,
    /// Whether the connection went through the server's proxy.
    pub through_proxy: bool,
    /// The TLS handshake. `None` for `http`, if it was not reached, and if the target said nothing.
    pub tls: Option<TargetTls>,
    /// What came back, or why nothing did.
    pub outcome: TargetOutcome,
    /// From the start to the end of the check.
    pub total_duration: Duration,
    /// Looking up the host name. `None` if the host is an address, or it was not reached.
    pub dns_duration: Option<Duration>,
    /// Opening the TCP connection. `None` if this was not reached.
    pub connect_duration: Option<Duration>,
    /// The TLS handshake. `None` for `http`, or if this was not reached.
    pub tls_duration: Option<Duration>,
    /// From the start to the answer. `None` if none came.
    pub first_byte_duration: Option<Duration>,
}

impl TargetCheck {
    /// Whether the target gave an HTTP answer, of whatever status.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// assert!(client.subscriptions().check_target("orders").await?.is_reachable());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        matches!(self.outcome, TargetOutcome::Answered { .. })
    }
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetOutcome {
    /// There was an answer, of whatever status.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Where a redirect leads to, which is not followed.
        redirect: Option<String>,
        /// The headers, in their order, up to 16 KiB.
        headers: Vec<Header>,
    },
    /// There was none.
    Failed {
        /// What went wrong.
        failure: AttemptFailure,
        /// The failure in words.
        message: String,
    },
}

/// An address that a target's host leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetAddress {
    /// The address.
    pub address: IpAddr,
    /// The rule by which the server does not send there, like `loopback`; `None` if it does.
    pub refused_as: Option<String>,
}

/// What a target showed in a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetTls {
    /// The version that was agreed on, like `TLS 1.3`. `None` if the handshake failed.
    pub version: Option<String>,
    /// The cipher suite that was agreed on. `None` if the handshake failed.
    pub cipher_suite: Option<String>,
    /// The protocol that was agreed on: `h2`, `http/1.1`, or none.
    pub alpn_protocol: Option<String>,
    /// The certificates that the target sent, its own first, also if they are not accepted.
    pub certificates: Vec<TargetCertificate>,
    /// Whether the target asked for a client certificate.
    pub client_certificate_requested: bool,
    /// What is wrong, if the handshake failed.
    pub problem: Option<TlsProblem>,
    /// The problem in words; empty if there is none.
    pub problem_message: String,
}

/// A certificate as a target sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetCertificate {
    /// Whose it is, like `CN=example.com`. May be empty.
    pub subject: String,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
}

/// What is wrong with a target's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A certificate has expired.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// The certificate is for other hosts.
    WrongName,
    /// The certificate was issued by nobody who is trusted, or an intermediate certificate is not sent.
    UnknownIssuer,
    /// The target speaks neither TLS 1.2 nor TLS 1.3.
    UnsupportedVersion,
    /// The target speaks no TLS at all at this port.
    NotTls,
    /// The target wants a client certificate, and the subscription has none.
    ClientCertificateRequired,
    /// The target was shown the subscription's client certificate, and broke off.
    ClientCertificateRefused,
    /// Something else, which the message says.
    Other,
    /// A problem newer than this SDK, with its number.
    Unrecognized(i32),
}
