//! From a gRPC status with its `google.rpc` details to an [`Error`].

use std::error::Error as _;

use tonic::Status;
use tonic_types::StatusExt;

use super::{Code, Error, FieldViolation, Reason};

impl Error {
    pub(crate) fn from_status(status: Status) -> Self {
        // Only the transport gives a status a source: this one was not sent by a server.
        if status.source().is_some() {
            return Self::from_transport(status);
        }
        let mut error = Self::new(Code::from_grpc(status.code()), status.message());
        let received = status.get_error_details();
        let details = &mut *error.details;
        details.reason = received.error_info().map(|info| Reason::from_error_info(&info.reason));
        details.retry_after = received.retry_info().and_then(|info| info.retry_delay);
        details.field_violations = received
            .bad_request()
            .into_iter()
            .flat_map(|bad_request| &bad_request.field_violations)
            .map(|violation| FieldViolation {
                field: violation.field.clone(),
                description: violation.description.clone(),
            })
            .collect();
        error
    }

    /// However a connection fails, before, during or after the handshake, what it means is always the same: there is
    /// no answer, and the next connection may be better.
    pub(crate) fn from_transport(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut cause: &dyn std::error::Error = &source;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let message = format!("the connection to the server failed: {cause}");
        Self::new(Code::Unavailable, message).with_source(source)
    }
}
