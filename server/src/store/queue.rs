//! The dispatcher's queue in the database: claim and settle, which are the hot path; who is blocked; what is overdue; hints to other nodes.

use std::collections::HashSet;

use crate::{
    dispatch::{Ask, Claimed, Overdue, Queue, QueueError, Settled, Settling},
    domain::id::SubscriptionUid,
};

use super::{LOOK_TIMEOUT, PING_TIMEOUT, STEP_TIMEOUT, Store, within};

mod bound;
mod claim;
mod open;
mod overdue;
mod settle;
mod special;
mod stretch;

pub(super) use stretch::waiting;

impl Queue for Store {
    async fn claim(&self, ask: &Ask) -> Result<Claimed, QueueError> {
        Ok(within(STEP_TIMEOUT, self.claim_due(ask)).await?)
    }

    async fn blocked(&self) -> Result<HashSet<SubscriptionUid>, QueueError> {
        Ok(within(STEP_TIMEOUT, self.blocked_subscriptions()).await?)
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
