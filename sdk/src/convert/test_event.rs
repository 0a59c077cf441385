//! Test events.

use postrider_proto::v1 as pb;

use super::{delivery, target_check};
use crate::{
    Result,
    model::{SentTestEvent, TestEventStanding},
};

pub(crate) fn sent(answer: pb::SendTestEventResponse) -> Result<SentTestEvent> {
    Ok(SentTestEvent {
        event: answer.event,
        delivery: answer.delivery,
        standing: standing(answer.standing),
        summary: answer.summary,
        attempt: answer.attempt.map(delivery::attempt).transpose()?,
        check: answer.check.map(|check| target_check::check(Some(check))).transpose()?,
    })
}

fn standing(standing: i32) -> TestEventStanding {
    match pb::TestEventStanding::try_from(standing) {
        Ok(pb::TestEventStanding::Attempted) => TestEventStanding::Attempted,
        Ok(pb::TestEventStanding::Pending) => TestEventStanding::Pending,
        Ok(pb::TestEventStanding::Paused) => TestEventStanding::Paused,
        Ok(pb::TestEventStanding::Blocked) => TestEventStanding::Blocked,
        Ok(pb::TestEventStanding::Ended) => TestEventStanding::Ended,
        Ok(pb::TestEventStanding::Unspecified) | Err(_) => TestEventStanding::Unrecognized(standing),
    }
}
