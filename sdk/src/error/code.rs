//! The kinds of failure: the codes of gRPC as our own type.

use std::fmt;

/// The kind of a failure: a [gRPC status code](https://grpc.io/docs/guides/status-codes/) other than `OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call was called off.
    Cancelled,
    /// The server did not say.
    Unknown,
    /// Something in the request is not allowed.
    InvalidArgument,
    /// No answer came in time.
    DeadlineExceeded,
    /// The resource does not exist.
    NotFound,
    /// The id is taken, or the `request_id` was used for another event.
    AlreadyExists,
    /// The token does not allow this.
    PermissionDenied,
    /// A limit is reached.
    ResourceExhausted,
    /// The resource is in a state in which this cannot be done.
    FailedPrecondition,
    /// The resource was changed in between.
    Aborted,
    /// The value is outside of its range.
    OutOfRange,
    /// The server does not have this method.
    Unimplemented,
    /// The server has a defect, or is not a Postrider server.
    Internal,
    /// The server cannot be reached or cannot serve at the moment.
    Unavailable,
    /// Data is lost.
    DataLoss,
    /// The token is missing or unknown.
    Unauthenticated,
}

impl Code {
    pub(super) fn from_grpc(code: tonic::Code) -> Self {
        match code {
            // An error with the code `OK` is none that a server may send.
            tonic::Code::Ok | tonic::Code::Unknown => Self::Unknown,
            tonic::Code::Cancelled => Self::Cancelled,
            tonic::Code::InvalidArgument => Self::InvalidArgument,
            tonic::Code::DeadlineExceeded => Self::DeadlineExceeded,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::AlreadyExists => Self::AlreadyExists,
            tonic::Code::PermissionDenied => Self::PermissionDenied,
            tonic::Code::ResourceExhausted => Self::ResourceExhausted,
            tonic::Code::FailedPrecondition => Self::FailedPrecondition,
            tonic::Code::Aborted => Self::Aborted,
            tonic::Code::OutOfRange => Self::OutOfRange,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::Internal => Self::Internal,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::DataLoss => Self::DataLoss,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid argument",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::ResourceExhausted => "resource exhausted",
            Self::FailedPrecondition => "failed precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out of range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data loss",
            Self::Unauthenticated => "unauthenticated",
        })
    }
}
