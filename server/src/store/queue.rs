//! The dispatcher's queue: claim and settle, which are the hot path, and what is told beside it.

use crate::{
    dispatch::{Ask, Overdue, Queue, QueueError, Settled, Settling},
    domain::claim::Claim,
};

use super::{PING_TIMEOUT, STEP_TIMEOUT, Store, within};

mod claim;
mod overdue;
mod settle;

impl Queue for Store {
    async fn claim(&self, ask: &Ask) -> Result<Vec<Claim>, QueueError> {
        Ok(within(STEP_TIMEOUT, self.claim_due(ask)).await?)
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        Ok(within(STEP_TIMEOUT, self.settle_batch(batch)).await?)
    }

    async fn overdue(&self, ask: &Ask) -> Result<Option<Overdue>, QueueError> {
        Ok(within(PING_TIMEOUT, self.most_overdue(ask)).await?)
    }

    async fn hint(&self) -> Result<(), QueueError> {
        Ok(within(PING_TIMEOUT, self.tell_others()).await?)
    }
}
