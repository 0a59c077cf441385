//! How fast what has waited is delivered.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Failure, clock,
    receiver::{GroupReport, Receiver},
    report::{Report, rate},
    stage::pause,
};

const POLL: Duration = Duration::from_millis(100);

/// What is watched.
pub(super) struct Drain<'a> {
    pub(super) receiver: &'a Receiver,
    pub(super) group: &'a str,
    /// How many deliveries wait.
    pub(super) count: u64,
    /// Since when they can be delivered, in microseconds since 1970.
    pub(super) back_at: u64,
    /// How long to watch.
    pub(super) limit: Duration,
}

/// What was seen.
pub(super) struct Drained {
    arrived: GroupReport,
    count: u64,
    back_at: u64,
}

impl Drain<'_> {
    /// Watches until the first has arrived or the time is over.
    pub(super) async fn begun(&self) -> Result<(), Failure> {
        self.until(1).await
    }

    /// Watches until all has arrived or the time is over.
    pub(super) async fn watch(&self) -> Result<Drained, Failure> {
        self.until(self.count).await?;
        let arrived = self.receiver.report(self.group).await?;
        Ok(Drained { arrived, count: self.count, back_at: self.back_at })
    }

    async fn until(&self, count: u64) -> Result<(), Failure> {
        let end = Instant::now() + self.limit;
        while Instant::now() < end && self.receiver.unique(self.group).await? < count {
            pause(POLL).await;
        }
        Ok(())
    }
}

impl Drained {
    /// Adds a section about it.
    pub(super) fn tell(&self, report: &mut Report) {
        let arrived = &self.arrived;
        let first = (arrived.unique > 0).then(|| clock::seconds(self.back_at, arrived.first_at));
        let took = clock::seconds(arrived.first_at, arrived.last_at);
        report
            .section("catching up")
            .number("seconds_to_the_first_delivery", first)
            .number("seconds_from_first_to_last", took)
            .number("deliveries_per_second", rate(arrived.unique, took))
            .count("deliveries_unique", arrived.unique)
            .count("deliveries_still_waiting", self.count.saturating_sub(arrived.unique))
            .count("deliveries_duplicate", arrived.duplicates)
            .count("peak_in_flight_at_the_receiver", arrived.peak_in_flight);
    }
}
