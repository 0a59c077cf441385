//! An operator who cancels deliveries, whether an attempt is under way or not.

use std::sync::{Arc, Mutex};

use postrider_sdk::{Client, model::DeliveryState};
use tokio_util::sync::CancellationToken;

use super::{
    chance::Chance,
    collect::last_segment,
    evidence::Cancelled,
    load::{Ledger, TENANTS},
};

/// How many of the latest deliveries are chosen from.
const LATEST: u16 = 20;

/// Cancels something of any tenant by any node now and then.
pub(super) struct Operator {
    pub(super) clients: Vec<Client>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) chance: Chance,
    pub(super) stop: CancellationToken,
}

impl Operator {
    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            // Where a node or its database is away there is nothing to cancel; the next look is soon.
            if let Err(error) = self.cancel_one().await {
                tracing::debug!(%error, "nothing was cancelled");
            }
            let pause = self.chance.millis(50, 400);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn cancel_one(&mut self) -> Result<(), postrider_sdk::Error> {
        let tenant = self.chance.one_of(&TENANTS);
        let node = self.chance.below(self.clients.len());
        let deliveries = self.clients[node].tenant(tenant).deliveries();
        let page = deliveries.list().state(DeliveryState::Pending).page_size(LATEST).page().await?;
        if page.items.is_empty() {
            return Ok(());
        }
        let chosen = &page.items[self.chance.below(page.items.len())];
        let cancelled = deliveries.cancel(&chosen.name).await;
        self.ledger.lock().unwrap().cancelled.push(Cancelled {
            event: last_segment(&chosen.event).to_owned(),
            subscription: format!("{tenant}/{}", last_segment(&chosen.subscription)),
            is_certain: cancelled.is_ok(),
        });
        cancelled.map(drop)
    }
}
