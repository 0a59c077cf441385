//! The hot path of the dispatcher: claim and settle.

use std::collections::HashSet;

use crate::{
    dispatch::{Ask, Claimed, Queue, QueueError, Settled, Settling},
    domain::id::SubscriptionUid,
};

use super::{STEP_TIMEOUT, Store, within};

mod claim;
mod health;
mod settle;

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
}
