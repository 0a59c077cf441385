//! The hot path of the dispatcher: claim and settle.

use crate::{
    dispatch::{Ask, Queue, QueueError, Settled, Settling},
    domain::claim::Claim,
};

use super::{STEP_TIMEOUT, Store, within};

mod claim;
mod settle;

impl Queue for Store {
    async fn claim(&self, ask: &Ask) -> Result<Vec<Claim>, QueueError> {
        Ok(within(STEP_TIMEOUT, self.claim_due(ask)).await?)
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        Ok(within(STEP_TIMEOUT, self.settle_batch(batch)).await?)
    }
}
