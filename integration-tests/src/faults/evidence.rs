//! What was seen from outside during a run: all that the invariants judge by. Times count from its beginning.

use std::time::Duration;

use postrider_sdk::model::{DeliveryState, EndReason};

use super::TIMEOUT;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) published: Vec<Published>,
    pub(super) cancelled: Vec<Cancelled>,
    pub(super) requests: Vec<Request>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) faults: Vec<Window>,
    /// Nodes that were not ready at the end, and why.
    pub(super) not_ready: Vec<String>,
}

/// An event that was acknowledged to its producer.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// Its id, which is its `webhook-id`.
    pub(super) event: String,
    /// The producer's name for it, which is also in its data.
    pub(super) request_id: String,
    /// The subscriptions that it must go to: `tenant/id`.
    pub(super) wanted_by: Vec<String>,
    /// Among events of one key that go to one subscription the order is to be kept.
    pub(super) ordering_key: Option<String>,
    /// Where it stands in the order in which the events of its key were published.
    pub(super) place: u64,
    /// Whether the subscription was created on another node in the moment before.
    pub(super) read_your_writes: bool,
    /// Before when, and from when on, it must not be sent.
    pub(super) deliver_at: Option<Duration>,
    pub(super) expire_at: Option<Duration>,
}

/// A delivery that the operator has asked to cancel.
#[derive(Debug, Clone)]
pub(super) struct Cancelled {
    pub(super) event: String,
    pub(super) subscription: String,
    /// Whether that was confirmed. Otherwise it may have been done or not.
    pub(super) is_certain: bool,
}

/// A request that the receiver saw.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) subscription: String,
    pub(super) event: String,
    /// What its data says that the producer named it.
    pub(super) named: String,
    /// When it arrived.
    pub(super) at: Duration,
    /// How and when it was answered; nothing if the other side left before.
    pub(super) answer: Option<(Answer, Duration)>,
}

impl Request {
    /// When it was answered, if the other side waited for that long.
    pub(super) fn answered_at(&self) -> Option<Duration> {
        let (answer, at) = self.answer?;
        (answer != Answer::None && at < self.at + TIMEOUT).then_some(at)
    }

    /// When it was acknowledged.
    pub(super) fn acknowledged_at(&self) -> Option<Duration> {
        self.answer.and_then(|(answer, at)| (answer == Answer::Acknowledged).then_some(at))
    }
}

/// How the receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx.
    Acknowledged,
    /// Another status.
    Rejected,
    /// Not in time, or not to the end.
    None,
}

/// What the API says of a delivery.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) name: String,
    pub(super) event: String,
    pub(super) subscription: String,
    pub(super) state: DeliveryState,
    pub(super) end_reason: Option<EndReason>,
    /// How many attempts were begun.
    pub(super) begun: u32,
    /// Pending, and its time is past.
    pub(super) overdue: bool,
    /// What is recorded of its attempts; nothing if it was not looked up.
    pub(super) attempts: Option<Attempts>,
}

/// What is recorded of a delivery's attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    pub(super) acknowledged: u32,
    pub(super) rejected: u32,
    /// Without a complete answer: whether the receiver saw them is not known.
    pub(super) failed: u32,
}

impl Attempts {
    pub(super) fn recorded(self) -> u32 {
        self.acknowledged + self.rejected + self.failed
    }
}

/// When something was broken.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) what: String,
    pub(super) from: Duration,
    pub(super) until: Duration,
}
