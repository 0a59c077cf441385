//! The subscription that has no part in the trouble, and how it fares.

use std::time::Duration;

use crate::{
    Failure,
    load::{Outcome, Shape, Until},
    receiver::GroupReport,
    report::{Report, per, percent_of_a_core, rate},
    stage::{Reading, Stage, pause},
};

/// How long to wait for a delivery after the one before it, until the rest counts as missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to publish before it counts, so that connections are open and statements prepared.
const WARM_UP: Duration = Duration::from_secs(2);

/// A subscription at a receiver that answers at once, and a producer at a fixed rate.
#[derive(Clone, Copy)]
pub(super) struct Healthy {
    /// Its tenant, its group at the receiver and the last segment of its events' type.
    pub(super) name: &'static str,
    /// Events in a second.
    pub(super) rate: f64,
}

/// How it fared for a while.
pub(super) struct Phase {
    outcome: Outcome,
    arrived: GroupReport,
    used: Reading,
}

impl Healthy {
    /// Creates it and publishes a little.
    pub(super) async fn begin(name: &'static str, rate: f64, stage: &Stage) -> Result<Self, Failure> {
        let healthy = Self { name, rate };
        let url = stage.receiver.url(name, 0);
        stage.subscribe(name, name, url, &healthy.event_type()).await?;
        healthy.measure(stage, WARM_UP).await?;
        // What is recorded late, and what is done once.
        pause(WARM_UP).await;
        Ok(healthy)
    }

    /// Publishes for so long, and waits for the deliveries.
    pub(super) async fn measure(&self, stage: &Stage, time: Duration) -> Result<Phase, Failure> {
        let shape = Shape::OpenLoop { rate: self.rate };
        let task = stage.task(self.name, &self.event_type(), shape, Until::time(time));
        stage.receiver.reset(self.name, task.first).await?;
        stage.flush().await?;
        let before = stage.reading().await?;
        let outcome = stage.publish(&task).await?;
        let used = stage.reading().await?.since(before);
        let arrived = stage.receiver.expect(self.name, outcome.acknowledged, PATIENCE).await?;
        Ok(Phase { outcome, arrived, used })
    }

    fn event_type(&self) -> String {
        format!("bench.{}", self.name)
    }
}

impl Phase {
    /// Adds a section about it.
    pub(super) fn tell(&self, name: &str, report: &mut Report) {
        let (used, seconds) = (self.used, self.used.seconds());
        let each = |count: Option<u64>| count.and_then(|count| rate(count, seconds));
        let core = |cpu| percent_of_a_core(cpu, seconds);
        report
            .section(name)
            .latencies("publish", &self.outcome.latencies)
            .latencies("publish_to_callback", &self.arrived.latencies)
            .count("events_acknowledged", self.outcome.acknowledged)
            .count("events_failed", self.outcome.failed)
            .count("deliveries_missing", self.outcome.acknowledged.saturating_sub(self.arrived.unique))
            .count("deliveries_duplicate", self.arrived.duplicates)
            .number("server_cpu_percent_of_a_core", core(used.server))
            .number("database_cpu_percent_of_a_core", used.database.and_then(core))
            .number("everything_else_cpu_percent_of_a_core", core(used.others(self.outcome.cpu)))
            .number("statements_per_second", each(used.counters.statements))
            .number("rows_per_second", each(used.counters.rows))
            .number("write_transactions_per_second", each(used.counters.writes))
            .number("wal_bytes_per_second", each(used.counters.wal))
            .number(
                "wal_bytes_per_healthy_event",
                used.counters.wal.and_then(|wal| per(wal, self.outcome.acknowledged)),
            );
    }

    /// Adds how many times as long things took as in another one.
    pub(super) fn compare(&self, before: &Self, name: &str, report: &mut Report) {
        let section = report.section(name);
        for (quantile, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let of = |phase: &Self| phase.arrived.latencies.quantile(part);
            let ratio = of(self).zip(of(before)).map(|(with, without)| with / without);
            section.number(&format!("publish_to_callback_{quantile}_ratio"), ratio);
        }
        for (quantile, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let of = |phase: &Self| phase.outcome.latencies.quantile(part);
            let ratio = of(self).zip(of(before)).map(|(with, without)| with / without);
            section.number(&format!("publish_{quantile}_ratio"), ratio);
        }
    }
}
