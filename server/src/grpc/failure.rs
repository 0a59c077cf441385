//! Why a call or an item is refused: the one place that turns errors into `tonic::Status` and `ItemError`.
//!
//! Every status carries an `ErrorInfo` (AIP-193); a wrong field also a `BadRequest`, and what may be repeated a `RetryInfo`.

use std::{collections::HashMap, error::Error, time::Duration};

use postrider_proto::v1::{ErrorReason, FieldViolation, ItemError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    domain::{invalid::Invalid, target_check::TooManyChecks},
    publish,
    store::{self, steering::Refusal},
};

/// The domain of our reasons.
const DOMAIN: &str = "postrider";
/// How long a caller may wait before it repeats a call.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a call or an item is refused.
#[derive(Debug)]
pub(super) enum Failure {
    /// A field holds something that it may not hold.
    Invalid(Invalid),
    /// Several do; there is at least one.
    Violations(Vec<Invalid>),
    /// What a field names does not exist.
    NotFound { field: &'static str, name: String },
    /// The id chosen for a new resource is taken.
    IdTaken { field: &'static str, name: String },
    /// The request id stands for another event.
    RequestIdReused,
    /// The resource was changed since the etag in this field was read.
    EtagMismatch { field: &'static str },
    /// The resource's state does not allow it.
    WrongState(String),
    /// The event's data is no longer kept.
    DataExpired,
    /// No token, or a wrong one.
    Unauthenticated(&'static str),
    /// The database is away.
    Unavailable,
    /// The server is stopping.
    Stopping,
    /// The server has as much in hand as it may have.
    Busy,
    /// So many targets are being checked already.
    TooManyChecks(TooManyChecks),
    /// We are broken. The log says how.
    Internal,
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Violations(_) => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::IdTaken { .. } | Self::RequestIdReused => Code::AlreadyExists,
            Self::EtagMismatch { .. } => Code::Aborted,
            Self::WrongState(_) | Self::DataExpired => Code::FailedPrecondition,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Unavailable | Self::Stopping => Code::Unavailable,
            Self::Busy | Self::TooManyChecks(_) => Code::ResourceExhausted,
            Self::Internal => Code::Internal,
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid(_) | Self::Violations(_) => ErrorReason::InvalidField,
            Self::NotFound { .. } => ErrorReason::NotFound,
            Self::IdTaken { .. } => ErrorReason::IdTaken,
            Self::RequestIdReused => ErrorReason::RequestIdReused,
            Self::EtagMismatch { .. } => ErrorReason::EtagMismatch,
            Self::WrongState(_) => ErrorReason::WrongState,
            Self::DataExpired => ErrorReason::DataExpired,
            Self::Unauthenticated(_) => ErrorReason::Unauthenticated,
            Self::Unavailable => ErrorReason::StoreUnavailable,
            Self::Stopping | Self::Busy | Self::TooManyChecks(_) => ErrorReason::ServerBusy,
            Self::Internal => ErrorReason::Internal,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Invalid(invalid) => invalid.to_string(),
            Self::Violations(violations) => {
                violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            Self::NotFound { field, name } => format!("{field}: `{name}` does not exist"),
            Self::IdTaken { field, name } => format!("{field}: `{name}` exists already"),
            Self::RequestIdReused => publish::Error::RequestIdReused.to_string(),
            Self::EtagMismatch { field } => {
                format!("{field}: the resource was changed since; read it again")
            }
            Self::WrongState(message) => message.clone(),
            Self::DataExpired => Refusal::DataExpired.to_string(),
            Self::Unauthenticated(message) => (*message).to_owned(),
            Self::Unavailable => {
                "the database cannot be reached or cannot take writes at the moment; repeat the call"
                    .to_owned()
            }
            Self::Stopping => "the server is stopping; repeat the call".to_owned(),
            Self::Busy => "the server has as much in hand as it may have; repeat the call later".to_owned(),
            Self::TooManyChecks(cause) => cause.to_string(),
            Self::Internal => "the server has a defect; its log says more".to_owned(),
        }
    }

    /// Which fields are wrong.
    fn violations(&self) -> &[Invalid] {
        match self {
            Self::Invalid(invalid) => std::slice::from_ref(invalid),
            Self::Violations(violations) => violations,
            _ => &[],
        }
    }

    /// What the message says beyond its fixed words (AIP-193: whatever varies stands in the metadata too).
    fn metadata(&self) -> HashMap<String, String> {
        let pairs = match self {
            Self::Invalid(invalid) => vec![("field", invalid.field.clone())],
            Self::Violations(violations) => {
                violations.iter().take(1).map(|first| ("field", first.field.clone())).collect()
            }
            Self::NotFound { field, name } | Self::IdTaken { field, name } => {
                vec![("field", (*field).to_owned()), ("resource", name.clone())]
            }
            Self::RequestIdReused => vec![("field", "request_id".to_owned())],
            Self::EtagMismatch { field } => vec![("field", (*field).to_owned())],
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Gives the library's own refusals a reason too: a request that it cannot read, that is too large, or for nobody. Ours have one.
pub(super) fn explained(status: &Status) -> Option<Status> {
    let reason = match status.code() {
        _ if !status.details().is_empty() => return None,
        Code::OutOfRange => ErrorReason::RequestTooLarge,
        Code::Internal => ErrorReason::MalformedRequest,
        Code::Unimplemented => ErrorReason::NotImplemented,
        _ => return None,
    };
    let details = ErrorDetails::with_error_info(name_of(reason), DOMAIN, HashMap::new());
    let message = if status.message().is_empty() { "the method does not exist" } else { status.message() };
    Some(Status::with_error_details(status.code(), message, details))
}

/// As it stands in `ErrorInfo`.
fn name_of(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let reason = name_of(failure.reason());
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, failure.metadata());
        for invalid in failure.violations() {
            details.add_bad_request_violation(&invalid.field, &invalid.reason);
        }
        if matches!(failure.code(), Code::Unavailable | Code::ResourceExhausted) {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Self::with_error_details(failure.code(), failure.message(), details)
    }
}

impl From<Failure> for ItemError {
    fn from(failure: Failure) -> Self {
        let field_violations = failure.violations().iter().map(to_field_violation).collect();
        Self {
            code: failure.code().into(),
            message: failure.message(),
            reason: failure.reason().into(),
            field_violations,
        }
    }
}

/// Shows what is wrong with a field.
pub(super) fn to_field_violation(Invalid { field, reason }: &Invalid) -> FieldViolation {
    FieldViolation { field: field.clone(), description: reason.clone() }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<store::Error> for Failure {
    fn from(cause: store::Error) -> Self {
        tracing::error!(cause = &cause as &dyn Error, "a call could not be served");
        match cause {
            store::Error::Unavailable(_) => Self::Unavailable,
            store::Error::Broken(_) | store::Error::Corrupt { .. } | store::Error::Secret(_) => {
                Self::Internal
            }
        }
    }
}

impl From<publish::Error> for Failure {
    fn from(cause: publish::Error) -> Self {
        // The writer has logged what was wrong with the batch.
        match cause {
            publish::Error::RequestIdReused => Self::RequestIdReused,
            publish::Error::Unavailable(_) => Self::Unavailable,
            publish::Error::Broken(_) => Self::Internal,
            publish::Error::Refused { reasons, .. } => Self::Violations(reasons),
            publish::Error::Stopping => Self::Stopping,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DataExpired => Self::DataExpired,
            Refusal::AttemptUnderWay
            | Refusal::SubscriptionDeleted
            | Refusal::SubscriptionDisabled
            | Refusal::Ended
            | Refusal::Parked
            | Refusal::Expired => Self::WrongState(refusal.to_string()),
        }
    }
}
