//! Every instrument, in one place. Ids are never labels: their number has no bound.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::domain::{
    attempt::{Attempt, Outcome},
    delivery::{DeliveryStatus, EndReason, Settlement},
};

/// From 1 ms to 30 s: from a receiver next door to the longest timeout in use.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The instruments of one server. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    registry: Registry,
    published: Family<PublishLabels, Counter>,
    publish_duration: Histogram,
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Histogram,
    ended: Family<EndLabels, Counter>,
    lost: Counter,
    unrecorded: Counter,
    cancelled: Counter,
    expired: Counter,
    unreadable: Counter,
    left_out: Counter,
    held: Gauge,
    breaker_openings: Counter,
    blocked: Gauge,
    throttled: Counter,
    ready: Gauge,
    claim_age: Gauge<f64, AtomicU64>,
    shed: Family<ShedLabels, Counter>,
    oldest_due: Gauge<f64, AtomicU64>,
    fan_out_parts: Gauge,
    filter_failures: Counter,
    deprecated: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublishLabels {
    result: &'static str,
}

/// What a publish came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// A new event was stored.
    Stored,
    /// The event was stored already.
    Duplicate,
    /// The caller has to change something.
    Refused,
    /// We could not store it.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    what: &'static str,
}

/// What there was no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// A connection.
    Connection,
    /// The bytes of a request.
    Request,
    /// An event, or a batch of them.
    Event,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postrider");
        let histogram = || Histogram::new(SECONDS);
        let instruments = Instruments {
            published: Family::default(),
            publish_duration: histogram(),
            attempts: Family::default(),
            attempt_duration: histogram(),
            ended: Family::default(),
            lost: Counter::default(),
            unrecorded: Counter::default(),
            cancelled: Counter::default(),
            expired: Counter::default(),
            unreadable: Counter::default(),
            left_out: Counter::default(),
            held: Gauge::default(),
            breaker_openings: Counter::default(),
            blocked: Gauge::default(),
            throttled: Counter::default(),
            ready: Gauge::default(),
            claim_age: Gauge::default(),
            shed: Family::default(),
            oldest_due: Gauge::default(),
            fan_out_parts: Gauge::default(),
            filter_failures: Counter::default(),
            deprecated: Counter::default(),
            registry: Registry::default(),
        };
        instruments.register(&mut registry);
        Self(Arc::new(Instruments { registry, ..instruments }))
    }
}

impl Instruments {
    /// Says what each is called and means.
    #[expect(clippy::too_many_lines, reason = "a list")]
    fn register(&self, registry: &mut Registry) {
        registry.register("events_published", "Publishes by what they came to", self.published.clone());
        registry.register_with_unit(
            "publish_duration",
            "From a publish's arrival to its commit",
            Unit::Seconds,
            self.publish_duration.clone(),
        );
        registry.register(
            "deprecated_events",
            "Events that were taken of types that are deprecated",
            self.deprecated.clone(),
        );
        registry.register(
            "filter_failures",
            "Filters that failed on an event, which counts as not matching",
            self.filter_failures.clone(),
        );
        registry.register("attempts", "Attempts by what they came to", self.attempts.clone());
        registry.register_with_unit(
            "attempt_duration",
            "From an attempt's start to its outcome",
            Unit::Seconds,
            self.attempt_duration.clone(),
        );
        registry.register(
            "deliveries_ended",
            "Deliveries by how they ended after an attempt",
            self.ended.clone(),
        );
        registry.register(
            "settlements_lost",
            "Attempts that ended after their delivery was taken over or cancelled",
            self.lost.clone(),
        );
        registry.register(
            "attempts_unrecorded",
            "Attempts that could not be recorded and are made again",
            self.unrecorded.clone(),
        );
        registry.register(
            "deliveries_cancelled",
            "Deliveries cancelled because their subscription was deleted or disabled",
            self.cancelled.clone(),
        );
        registry.register(
            "deliveries_expired",
            "Deliveries that expired while they waited for an attempt",
            self.expired.clone(),
        );
        registry.register(
            "deliveries_unreadable",
            "Deliveries ended because what is stored of them, their events or their subscriptions is missing or damaged",
            self.unreadable.clone(),
        );
        registry.register(
            "subscriptions_left_out",
            "Subscriptions that events were not matched with because their rows are damaged, counted for each event",
            self.left_out.clone(),
        );
        registry.register(
            "deliveries_held",
            "Deliveries that this node has taken over: in line, under way, or not settled yet",
            self.held.clone(),
        );
        registry.register(
            "breaker_openings",
            "Subscriptions that this node has blocked because their receivers fail",
            self.breaker_openings.clone(),
        );
        registry.register(
            "subscriptions_blocked",
            "Subscriptions that are blocked, by whichever node",
            self.blocked.clone(),
        );
        registry.register(
            "claims_throttled",
            "Claims that left something due for the sake of a subscription's rate limit, counted for each subscription",
            self.throttled.clone(),
        );
        registry.register("ready", "1 while the node is ready", self.ready.clone());
        registry.register_with_unit(
            "claim_age",
            "Since the node last looked for due deliveries with success",
            Unit::Seconds,
            self.claim_age.clone(),
        );
        registry.register(
            "shed",
            "Connections, requests and events refused because there was no room for them",
            self.shed.clone(),
        );
        registry.register_with_unit(
            "oldest_due",
            "For how long the oldest delivery that this node could claim, or fan out, has been due",
            Unit::Seconds,
            self.oldest_due.clone(),
        );
        registry.register(
            "fan_out_parts",
            "Parts of events' fan-outs that are still to be made, of up to 500 deliveries each, by whichever node",
            self.fan_out_parts.clone(),
        );
    }
}

impl Metrics {
    /// A publish came to an end.
    pub fn published(&self, result: PublishResult, took: Duration) {
        let result = match result {
            PublishResult::Stored => "stored",
            PublishResult::Duplicate => "duplicate",
            PublishResult::Refused => "refused",
            PublishResult::Failed => "failed",
        };
        self.0.published.get_or_create(&PublishLabels { result }).inc();
        self.0.publish_duration.observe(took.as_secs_f64());
    }

    /// An attempt came to an outcome.
    pub fn attempted(&self, attempt: &Attempt, settlement: Settlement) {
        let outcome = match attempt.outcome {
            Outcome::Acknowledged { .. } => "acknowledged",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Failed { .. } => "failed",
        };
        self.0.attempts.get_or_create(&AttemptLabels { outcome }).inc();
        self.0.attempt_duration.observe(attempt.timings.total.as_secs_f64());
        if let Settlement::End(reason) = settlement {
            self.0.ended.get_or_create(&EndLabels { state: state_of(reason) }).inc();
        }
    }

    /// Settlements came too late.
    pub fn lost(&self, count: usize) {
        self.0.lost.inc_by(count as u64);
    }

    /// An attempt could not be recorded.
    pub fn unrecorded(&self) {
        self.0.unrecorded.inc();
    }

    /// Deliveries expired before another attempt.
    pub fn expired(&self, count: u64) {
        self.0.expired.inc_by(count);
    }

    /// Deliveries were ended because they cannot be read.
    pub fn unreadable(&self, count: u64) {
        self.0.unreadable.inc_by(count);
    }

    /// An event was not matched with so many subscriptions because those cannot be read.
    pub fn left_out(&self, subscriptions: usize) {
        self.0.left_out.inc_by(subscriptions as u64);
    }

    /// An event of a deprecated type came in.
    pub fn deprecated(&self) {
        self.0.deprecated.inc();
    }

    /// A filter failed on an event.
    pub fn filter_failed(&self) {
        self.0.filter_failures.inc();
    }

    /// Deliveries were cancelled with their subscription.
    pub fn cancelled(&self, count: u64) {
        self.0.cancelled.inc_by(count);
    }

    /// Room for an attempt was taken.
    pub fn permit_taken(&self) {
        self.0.held.inc();
    }

    /// Room for an attempt was given back.
    pub fn permit_returned(&self) {
        self.0.held.dec();
    }

    /// A subscription was blocked.
    pub fn breaker_opened(&self) {
        self.0.breaker_openings.inc();
    }

    /// So many subscriptions are blocked.
    pub fn blocked(&self, count: usize) {
        self.0.blocked.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A claim left something due for the sake of so many subscriptions' rate limits.
    pub fn throttled(&self, subscriptions: usize) {
        self.0.throttled.inc_by(subscriptions as u64);
    }

    /// The node became ready, or ceased to be.
    pub fn ready(&self, ready: bool) {
        self.0.ready.set(i64::from(ready));
    }

    /// The node last looked for due deliveries so long ago.
    pub fn claim_age(&self, age: Duration) {
        self.0.claim_age.set(age.as_secs_f64());
    }

    /// There was no room for something that a caller wanted of us.
    pub fn shed(&self, what: Shed) {
        let what = match what {
            Shed::Connection => "connection",
            Shed::Request => "request",
            Shed::Event => "event",
        };
        self.0.shed.get_or_create(&ShedLabels { what }).inc();
    }

    /// The oldest delivery that could be claimed has been due for so long; nothing if there is none.
    pub fn oldest_due(&self, age: Duration) {
        self.0.oldest_due.set(age.as_secs_f64());
    }

    /// So many parts of fan-outs are still to be made.
    pub fn fan_out_parts(&self, count: u64) {
        self.0.fan_out_parts.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }
}

fn state_of(reason: EndReason) -> &'static str {
    match reason.status() {
        DeliveryStatus::Pending => "pending",
        DeliveryStatus::Succeeded => "succeeded",
        DeliveryStatus::Failed => "failed",
        DeliveryStatus::Cancelled => "cancelled",
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
