//! Why a callback, or a secret, is refused.

/// Why a callback is refused. Answer the request with 400 or 401; the sender tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header that every callback has is not there.
    #[error("header {0} is missing")]
    MissingHeader(&'static str),
    /// `webhook-timestamp` is not a number of seconds.
    #[error("header webhook-timestamp is not a number of seconds")]
    MalformedTimestamp,
    /// The callback was sent longer ago than the tolerance: it may be a replay, or the clock of this machine is fast.
    #[error("timestamp lies too far in the past")]
    TooOld,
    /// The callback was sent further in the future than the tolerance: the clock of this machine is slow.
    #[error("timestamp lies too far in the future")]
    TooNew,
    /// None of the signatures was made with one of the secrets over this body.
    #[error("no signature matches")]
    NoMatchingSignature,
}

/// Why a secret cannot be used. Does not quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// No secret was given.
    #[error("no secret is given")]
    None,
    /// What follows `whsec_` is not base64.
    #[error("secret is not base64 after whsec_")]
    NotBase64,
    /// The secret has no bytes.
    #[error("secret is empty")]
    Empty,
}
