//! Deliveries and their attempts.

use postrider_proto::v1 as pb;

use super::{count, required, time};
use crate::{
    Error, Result,
    model::{Attempt, AttemptFailure, AttemptOutcome, Delivery, DeliveryState, EndReason, Header},
};

pub(crate) fn delivery(delivery: Option<pb::Delivery>) -> Result<Delivery> {
    let delivery = required(delivery, "delivery")?;
    Ok(Delivery {
        name: delivery.name,
        event: delivery.event,
        subscription: delivery.subscription,
        event_type: delivery.event_type,
        state: state(delivery.state),
        end_reason: end_reason(delivery.end_reason),
        attempt_count: count(delivery.attempt_count, "attempt_count")?,
        due_at: time::optional(delivery.due_time, "due_time")?,
        created_at: time::from_pb(delivery.create_time, "create_time")?,
        ended_at: time::optional(delivery.end_time, "end_time")?,
    })
}

fn state(state: i32) -> DeliveryState {
    match pb::DeliveryState::try_from(state) {
        Ok(pb::DeliveryState::Pending) => DeliveryState::Pending,
        Ok(pb::DeliveryState::Succeeded) => DeliveryState::Succeeded,
        Ok(pb::DeliveryState::Failed) => DeliveryState::Failed,
        Ok(pb::DeliveryState::Cancelled) => DeliveryState::Cancelled,
        Ok(pb::DeliveryState::Unspecified) | Err(_) => DeliveryState::Unrecognized(state),
    }
}

/// As a filter; no state is any state.
pub(crate) fn state_to_pb(state: Option<DeliveryState>) -> i32 {
    match state {
        None => pb::DeliveryState::Unspecified.into(),
        Some(DeliveryState::Pending) => pb::DeliveryState::Pending.into(),
        Some(DeliveryState::Succeeded) => pb::DeliveryState::Succeeded.into(),
        Some(DeliveryState::Failed) => pb::DeliveryState::Failed.into(),
        Some(DeliveryState::Cancelled) => pb::DeliveryState::Cancelled.into(),
        Some(DeliveryState::Unrecognized(state)) => state,
    }
}

fn end_reason(reason: i32) -> Option<EndReason> {
    Some(match pb::DeliveryEndReason::try_from(reason) {
        Ok(pb::DeliveryEndReason::Unspecified) => return None,
        Ok(pb::DeliveryEndReason::Acknowledged) => EndReason::Acknowledged,
        Ok(pb::DeliveryEndReason::Exhausted) => EndReason::Exhausted,
        Ok(pb::DeliveryEndReason::Gone) => EndReason::Gone,
        Ok(pb::DeliveryEndReason::Cancelled) => EndReason::Cancelled,
        Ok(pb::DeliveryEndReason::SubscriptionDeleted) => EndReason::SubscriptionDeleted,
        Ok(pb::DeliveryEndReason::SubscriptionDisabled) => EndReason::SubscriptionDisabled,
        Ok(pb::DeliveryEndReason::Expired) => EndReason::Expired,
        Ok(pb::DeliveryEndReason::Unreadable) => EndReason::Unreadable,
        Ok(pb::DeliveryEndReason::Aborted) => EndReason::Aborted,
        Err(_) => EndReason::Unrecognized(reason),
    })
}

pub(crate) fn attempt(attempt: pb::Attempt) -> Result<Attempt> {
    Ok(Attempt {
        number: count(attempt.number, "number")?,
        started_at: time::from_pb(attempt.start_time, "start_time")?,
        target_url: attempt.target_url,
        outcome: outcome(attempt.outcome, attempt.status_code, attempt.failure, attempt.failure_message)?,
        response_headers: attempt
            .response_headers
            .into_iter()
            .map(|header| Header { name: header.name, value: header.value })
            .collect(),
        response_body: attempt.response_body,
        response_truncated: attempt.response_truncated,
        total_duration: required(
            time::duration(attempt.total_duration, "total_duration")?,
            "total_duration",
        )?,
        dns_duration: time::duration(attempt.dns_duration, "dns_duration")?,
        connect_duration: time::duration(attempt.connect_duration, "connect_duration")?,
        tls_duration: time::duration(attempt.tls_duration, "tls_duration")?,
        first_byte_duration: time::duration(attempt.first_byte_duration, "first_byte_duration")?,
    })
}

fn outcome(outcome: i32, status_code: i32, reason: i32, message: String) -> Result<AttemptOutcome> {
    let status = || u16::try_from(status_code).map_err(|_| Error::malformed_answer("status_code"));
    Ok(match pb::AttemptOutcome::try_from(outcome) {
        Ok(pb::AttemptOutcome::Acknowledged) => AttemptOutcome::Acknowledged { status: status()? },
        Ok(pb::AttemptOutcome::Rejected) => AttemptOutcome::Rejected { status: status()? },
        Ok(pb::AttemptOutcome::Failed) => AttemptOutcome::Failed { failure: failure(reason), message },
        Ok(pb::AttemptOutcome::Unspecified) | Err(_) => AttemptOutcome::Unrecognized(outcome),
    })
}

pub(super) fn failure(failure: i32) -> AttemptFailure {
    match pb::AttemptFailure::try_from(failure) {
        Ok(pb::AttemptFailure::Timeout) => AttemptFailure::Timeout,
        Ok(pb::AttemptFailure::Dns) => AttemptFailure::Dns,
        Ok(pb::AttemptFailure::Connect) => AttemptFailure::Connect,
        Ok(pb::AttemptFailure::Tls) => AttemptFailure::Tls,
        Ok(pb::AttemptFailure::AddressRefused) => AttemptFailure::AddressRefused,
        Ok(pb::AttemptFailure::Protocol) => AttemptFailure::Protocol,
        Ok(pb::AttemptFailure::Internal) => AttemptFailure::Internal,
        Ok(pb::AttemptFailure::Authentication) => AttemptFailure::Authentication,
        Ok(pb::AttemptFailure::Template) => AttemptFailure::Template,
        Ok(pb::AttemptFailure::Unspecified) | Err(_) => AttemptFailure::Unrecognized(failure),
    }
}
