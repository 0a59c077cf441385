//! Deliveries and attempts.

use postrider_proto::v1 as pb;

use super::{to_duration, to_timestamp};
use crate::{
    domain::{
        attempt::{Attempt, Failure, Outcome},
        delivery::{Delivery, DeliveryState, DeliveryStatus, EndReason},
        invalid::Invalid,
        timestamp::Timestamp,
    },
    grpc::name,
};

/// Reads the state that a listing is restricted to.
pub(in crate::grpc) fn status(state: i32) -> Result<Option<DeliveryStatus>, Invalid> {
    match pb::DeliveryState::try_from(state) {
        Ok(pb::DeliveryState::Unspecified) => Ok(None),
        Ok(pb::DeliveryState::Pending) => Ok(Some(DeliveryStatus::Pending)),
        Ok(pb::DeliveryState::Succeeded) => Ok(Some(DeliveryStatus::Succeeded)),
        Ok(pb::DeliveryState::Failed) => Ok(Some(DeliveryStatus::Failed)),
        Ok(pb::DeliveryState::Cancelled) => Ok(Some(DeliveryStatus::Cancelled)),
        Err(_) => Err(Invalid::new("state", format!("{state} is not a value of DeliveryState"))),
    }
}

/// Shows a delivery.
pub(in crate::grpc) fn to_delivery(delivery: &Delivery) -> pb::Delivery {
    let (end_reason, end_time) = match delivery.state {
        DeliveryState::Pending => (pb::DeliveryEndReason::Unspecified, None),
        DeliveryState::Ended { at, reason } => (to_end_reason(reason), to_timestamp(at)),
    };
    let due = delivery.state == DeliveryState::Pending && delivery.due_at != Timestamp::NEVER;
    let state = match delivery.state.status() {
        DeliveryStatus::Pending => pb::DeliveryState::Pending,
        DeliveryStatus::Succeeded => pb::DeliveryState::Succeeded,
        DeliveryStatus::Failed => pb::DeliveryState::Failed,
        DeliveryStatus::Cancelled => pb::DeliveryState::Cancelled,
    };
    pb::Delivery {
        name: name::of_delivery(&delivery.tenant, delivery.id),
        event: name::of_event(&delivery.tenant, delivery.event),
        subscription: name::of_subscription(&delivery.tenant, &delivery.subscription),
        event_type: delivery.event_type.to_string(),
        state: state.into(),
        end_reason: end_reason.into(),
        attempt_count: i32::try_from(delivery.attempt_count).unwrap_or(i32::MAX),
        due_time: if due { to_timestamp(delivery.due_at) } else { None },
        create_time: to_timestamp(delivery.created_at),
        end_time,
    }
}

fn to_end_reason(reason: EndReason) -> pb::DeliveryEndReason {
    match reason {
        EndReason::Acknowledged => pb::DeliveryEndReason::Acknowledged,
        EndReason::Exhausted => pb::DeliveryEndReason::Exhausted,
        EndReason::Gone => pb::DeliveryEndReason::Gone,
        EndReason::Cancelled => pb::DeliveryEndReason::Cancelled,
        EndReason::SubscriptionDeleted => pb::DeliveryEndReason::SubscriptionDeleted,
        EndReason::SubscriptionDisabled => pb::DeliveryEndReason::SubscriptionDisabled,
        EndReason::Expired => pb::DeliveryEndReason::Expired,
        EndReason::Unreadable => pb::DeliveryEndReason::Unreadable,
        EndReason::Aborted => pb::DeliveryEndReason::Aborted,
    }
}

/// Shows an attempt.
pub(in crate::grpc) fn to_attempt(attempt: Attempt) -> pb::Attempt {
    let (outcome, failure, failure_message) = match attempt.outcome {
        Outcome::Acknowledged { .. } => (pb::AttemptOutcome::Acknowledged, None, String::new()),
        Outcome::Rejected { .. } => (pb::AttemptOutcome::Rejected, None, String::new()),
        Outcome::Failed { failure, message } => (pb::AttemptOutcome::Failed, Some(failure), message),
    };
    let response = attempt.response.unwrap_or_default();
    let headers = response.headers.into_iter().map(|(name, value)| pb::Header { name, value });
    pb::Attempt {
        number: i32::try_from(attempt.number.get()).unwrap_or(i32::MAX),
        start_time: to_timestamp(attempt.started_at),
        outcome: outcome.into(),
        failure: failure.map_or(pb::AttemptFailure::Unspecified, to_failure).into(),
        failure_message,
        status_code: response.status.into(),
        response_headers: headers.collect(),
        response_body: response.body,
        response_truncated: response.truncated,
        total_duration: Some(to_duration(attempt.timings.total)),
        dns_duration: attempt.timings.dns.map(to_duration),
        connect_duration: attempt.timings.connect.map(to_duration),
        tls_duration: attempt.timings.tls.map(to_duration),
        first_byte_duration: attempt.timings.first_byte.map(to_duration),
        target_url: attempt.target_url,
    }
}

pub(super) fn to_failure(failure: Failure) -> pb::AttemptFailure {
    match failure {
        Failure::Timeout => pb::AttemptFailure::Timeout,
        Failure::Dns => pb::AttemptFailure::Dns,
        Failure::Connect => pb::AttemptFailure::Connect,
        Failure::Tls => pb::AttemptFailure::Tls,
        Failure::AddressRefused => pb::AttemptFailure::AddressRefused,
        Failure::Protocol => pb::AttemptFailure::Protocol,
        Failure::Authentication => pb::AttemptFailure::Authentication,
        Failure::Template => pb::AttemptFailure::Template,
        Failure::Internal => pb::AttemptFailure::Internal,
    }
}
