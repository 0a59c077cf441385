//! Why a call failed. One opaque type that answers questions, so that a new kind of failure breaks no caller.
//!
//! What a receiver's `verify` can complain about is elsewhere: `verify::Error`.

mod code;
mod from_item;
mod from_status;
mod reason;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{code::Code, reason::Reason};

/// Why a call failed, or why one event was refused.
///
/// ```
/// use postrider_sdk::{Client, Error};
///
/// async fn find(client: &Client, id: &str) -> Result<(), Error> {
///     match client.events().get(id).await {
///         Ok(event) => println!("{} of {}", event.event_type, event.created_at),
///         Err(error) if error.is_not_found() => println!("no such event"),
///         Err(error) => return Err(error),
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Error {
    details: Box<Details>,
}

#[derive(Debug, Clone)]
struct Details {
    code: Code,
    message: String,
    reason: Option<Reason>,
    field_violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
    tries: u32,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A field that holds something that it may not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Path of the field within the request: `event.type`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

impl FieldViolation {
    pub(crate) fn from_pb(violation: postrider_proto::v1::FieldViolation) -> Self {
        Self { field: violation.field, description: violation.description }
    }
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let details = Details {
            code,
            message: message.into(),
            reason: None,
            field_violations: Vec::new(),
            retry_after: None,
            tries: 1,
            source: None,
        };
        Self { details: Box::new(details) }
    }

    /// The caller's own mistake, found before anything was sent.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// The server's answer breaks the contract.
    pub(crate) fn malformed_answer(what: &str) -> Self {
        Self::new(Code::Internal, format!("the server's answer has no usable {what}"))
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.details.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_tries(mut self, tries: u32) -> Self {
        self.details.tries = tries;
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        self.details.code
    }

    /// The cause, for a program to read. `None` if the failure was not Postrider's answer, for example because the
    /// server could not be reached.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.details.reason.as_ref()
    }

    /// The cause, for a developer to read.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.details.message
    }

    /// Which fields of the request are wrong; empty unless [`is_invalid_argument`](Self::is_invalid_argument).
    #[must_use]
    pub fn field_violations(&self) -> &[FieldViolation] {
        &self.details.field_violations
    }

    /// How long the server asks to wait before the call is repeated.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_after
    }

    /// How many times the call was tried, the first time included.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.details.tries
    }

    /// Something in the request is not allowed; see [`field_violations`](Self::field_violations). Repeating the call
    /// does not help.
    #[must_use]
    pub fn is_invalid_argument(&self) -> bool {
        self.code() == Code::InvalidArgument
    }

    /// The resource, or its tenant, does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// The id is taken, or the `request_id` was used for another event; [`reason`](Self::reason) tells which.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.code() == Code::AlreadyExists
    }

    /// The resource is in a state in which this cannot be done.
    #[must_use]
    pub fn is_failed_precondition(&self) -> bool {
        self.code() == Code::FailedPrecondition
    }

    /// The `etag` is no longer current: read the resource again and decide anew.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.code() == Code::Aborted
    }

    /// The token is missing or not known to the server.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.code() == Code::Unauthenticated
    }

    /// The token does not allow this.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        self.code() == Code::PermissionDenied
    }

    /// The server could not be reached, is stopping, or cannot store anything at the moment. Where the call can be
    /// repeated the client has done so already, [`tries`](Self::tries) times.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.code() == Code::Unavailable
    }

    /// No answer came in time. Whether the call took effect is not known; a publish can be repeated with the
    /// `request_id` that it had.
    #[must_use]
    pub fn is_deadline_exceeded(&self) -> bool {
        self.code() == Code::DeadlineExceeded
    }

    /// Whether the same call may succeed later without any change.
    pub(crate) fn is_transient(&self) -> bool {
        match self.code() {
            Code::Unavailable => true,
            Code::ResourceExhausted => self.retry_after().is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.details.code, self.details.message)?;
        for violation in &self.details.field_violations {
            write!(f, "; {}: {}", violation.field, violation.description)?;
        }
        if self.details.tries > 1 {
            write!(f, " (after {} tries)", self.details.tries)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.details.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.details.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
