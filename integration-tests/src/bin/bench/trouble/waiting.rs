//! Deliveries that wait.

use crate::{
    Failure, clock,
    load::{Shape, Until},
    report::{Section, rate},
    stage::Stage,
};

/// In calls as large as pay off.
const SHAPE: Shape = Shape::Batch { size: 500, in_flight: 4 };

/// A subscription with deliveries that wait because it is paused.
pub(super) struct Waiting {
    /// The number of its first event.
    pub(super) first: u64,
    /// How many there are.
    pub(super) count: u64,
    seconds: f64,
}

impl Waiting {
    /// Creates the subscription and publishes to it.
    pub(super) async fn build(
        stage: &Stage,
        tenant: &str,
        id: &str,
        target_url: String,
        count: u64,
    ) -> Result<Self, Failure> {
        let event_type = format!("bench.{id}");
        stage.subscribe(tenant, id, target_url, &event_type).await?;
        stage.pause(tenant, id).await?;
        let task = stage.task(tenant, &event_type, SHAPE, Until::count(count));
        let outcome = stage.publish(&task).await?;
        if let Some(failure) = outcome.first_failure {
            return Err(format!("{} of {count} events were not published: {failure}", outcome.failed).into());
        }
        let seconds = clock::seconds(outcome.begun_at, outcome.acknowledged_at);
        Ok(Self { first: task.first, count: outcome.deliveries, seconds })
    }

    /// Says how they came into being.
    pub(super) fn tell(&self, section: &mut Section) {
        section
            .count("deliveries_waiting", self.count)
            .number("seconds_to_publish_them", self.seconds)
            .number("published_per_second", rate(self.count, self.seconds));
    }
}
