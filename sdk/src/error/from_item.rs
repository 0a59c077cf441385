//! From the refusal of one event of a batch or a stream to an [`Error`].

use postrider_proto::v1 as pb;

use super::{Code, Error, FieldViolation, Reason};

impl Error {
    pub(crate) fn from_item(item: pb::ItemError) -> Self {
        let mut error = Self::new(Code::from_grpc(tonic::Code::from_i32(item.code)), item.message);
        error.details.reason = Reason::from_number(item.reason);
        error.details.field_violations =
            item.field_violations.into_iter().map(FieldViolation::from_pb).collect();
        error
    }
}
