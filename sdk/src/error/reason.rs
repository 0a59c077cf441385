//! The causes that Postrider distinguishes: `postrider.v1.ErrorReason`.

use postrider_proto::v1 as pb;

/// Why Postrider refused a call or an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A field holds something that it may not hold.
    InvalidField,
    /// The resource does not exist.
    NotFound,
    /// A resource with this id exists already.
    IdTaken,
    /// The `request_id` was used before for an event with other content.
    RequestIdReused,
    /// The resource was changed since the `etag` was read.
    EtagMismatch,
    /// The resource is in a state in which this cannot be done.
    WrongState,
    /// The event's data is no longer kept.
    DataExpired,
    /// The call carries no token, or one that the server does not know.
    Unauthenticated,
    /// The database cannot be reached or cannot take writes at the moment.
    StoreUnavailable,
    /// The server is stopping or has too much in hand.
    ServerBusy,
    /// The server has a defect; its log says more.
    Internal,
    /// The request cannot be read: it is not the message that the method takes.
    MalformedRequest,
    /// The request is larger than the server takes; send less at a time.
    RequestTooLarge,
    /// The server has no such method, or does not know how the request is compressed.
    NotImplemented,
    /// A reason newer than this SDK, as the server wrote it.
    Other(String),
}

impl Reason {
    /// From `google.rpc.ErrorInfo.reason`, which is the enum value's name without its prefix.
    pub(super) fn from_error_info(reason: &str) -> Self {
        pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"))
            .and_then(Self::from_pb)
            .unwrap_or_else(|| Self::Other(reason.to_owned()))
    }

    pub(super) fn from_number(reason: i32) -> Option<Self> {
        match pb::ErrorReason::try_from(reason) {
            Ok(reason) => Self::from_pb(reason),
            Err(_) => Some(Self::Other(reason.to_string())),
        }
    }

    fn from_pb(reason: pb::ErrorReason) -> Option<Self> {
        Some(match reason {
            pb::ErrorReason::Unspecified => return None,
            pb::ErrorReason::InvalidField => Self::InvalidField,
            pb::ErrorReason::NotFound => Self::NotFound,
            pb::ErrorReason::IdTaken => Self::IdTaken,
            pb::ErrorReason::RequestIdReused => Self::RequestIdReused,
            pb::ErrorReason::EtagMismatch => Self::EtagMismatch,
            pb::ErrorReason::WrongState => Self::WrongState,
            pb::ErrorReason::DataExpired => Self::DataExpired,
            pb::ErrorReason::Unauthenticated => Self::Unauthenticated,
            pb::ErrorReason::StoreUnavailable => Self::StoreUnavailable,
            pb::ErrorReason::ServerBusy => Self::ServerBusy,
            pb::ErrorReason::Internal => Self::Internal,
            pb::ErrorReason::MalformedRequest => Self::MalformedRequest,
            pb::ErrorReason::RequestTooLarge => Self::RequestTooLarge,
            pb::ErrorReason::NotImplemented => Self::NotImplemented,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn a_reason_is_read_without_its_prefix() {
        assert_eq!(Reason::from_error_info("REQUEST_ID_REUSED"), Reason::RequestIdReused);
    }

    #[test]
    fn a_reason_that_this_sdk_does_not_know_is_kept_as_it_was_sent() {
        assert_eq!(Reason::from_error_info("QUOTA"), Reason::Other("QUOTA".to_owned()));
        assert_eq!(Reason::from_number(4711), Some(Reason::Other("4711".to_owned())));
    }
}
