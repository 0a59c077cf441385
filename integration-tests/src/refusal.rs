//! What a refused call says for programs to read.

use std::fmt::Debug;

use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// The part of a refusal that is a contract: everything but the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub code: Code,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// `ErrorInfo.metadata["field"]`; empty if there is none.
    pub field: String,
    /// The fields of `BadRequest`.
    pub violations: Vec<String>,
}

impl Refusal {
    /// Nothing but a status and a reason.
    #[must_use]
    pub fn new(code: Code, reason: &str) -> Self {
        Self { code, reason: reason.to_owned(), field: String::new(), violations: Vec::new() }
    }

    /// This field names it.
    #[must_use]
    pub fn of(self, field: &str) -> Self {
        Self { field: field.to_owned(), ..self }
    }

    /// This field holds something that it may not hold.
    #[must_use]
    pub fn invalid(field: &str) -> Self {
        let violations = vec![field.to_owned()];
        Self { violations, ..Self::new(Code::InvalidArgument, "INVALID_FIELD").of(field) }
    }

    /// What this field names does not exist.
    #[must_use]
    pub fn not_found(field: &str) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND").of(field)
    }

    /// The state of the resource does not allow it.
    #[must_use]
    pub fn wrong_state() -> Self {
        Self::new(Code::FailedPrecondition, "WRONG_STATE")
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "postrider", "{status:?}");
        assert!(!status.message().is_empty(), "{status:?}");
        let violations = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            field: info.metadata.get("field").cloned().unwrap_or_default(),
            violations: violations.map(|violation| violation.field.clone()).collect(),
        }
    }
}

/// An answer that is to be a refusal.
pub trait Refused {
    /// How the call was refused; panics if it was not.
    fn refusal(&self) -> Refusal;
}

impl<T: Debug> Refused for Result<Response<T>, Status> {
    #[track_caller]
    fn refusal(&self) -> Refusal {
        match self {
            Ok(answer) => panic!("not refused: {answer:?}"),
            Err(status) => status.into(),
        }
    }
}
