//! The dispatcher's queue in the database: claim and settle, which are the hot path; who is in trouble; what is overdue; hints to other nodes.

use crate::{
    dispatch::{Ask, Claimed, Overdue, Queue, QueueError, Settled, Settling, Trouble},
    domain::timestamp::Timestamp,
};

use super::{LOOK_TIMEOUT, PING_TIMEOUT, STEP_TIMEOUT, Store, within};

mod bound;
mod claim;
mod open;
mod overdue;
mod settle;
mod special;
mod stretch;
mod trouble;

pub(super) use stretch::waiting;

impl Queue for Store {
    async fn claim(&self, ask: &Ask) -> Result<Claimed, QueueError> {
        Ok(within(STEP_TIMEOUT, self.claim_due(ask)).await?)
    }

    async fn trouble(&self, now: Timestamp) -> Result<Trouble, QueueError> {
        Ok(within(STEP_TIMEOUT, self.subscriptions_in_trouble(now)).await?)
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        Ok(within(STEP_TIMEOUT, self.settle_batch(batch)).await?)
    }

    async fn overdue(&self, ask: &Ask) -> Result<Option<Overdue>, QueueError> {
        Ok(within(LOOK_TIMEOUT, self.most_overdue(ask)).await?)
    }

    async fn hint(&self) -> Result<(), QueueError> {
        Ok(within(PING_TIMEOUT, self.tell_others()).await?)
    }
}
