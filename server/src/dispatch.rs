//! Takes due deliveries over, makes attempts, and settles them.
//!
//! ```text
//!   publish ── start ──┐                                     ┌─> Sender: one HTTP request ─> Outcome
//!                      ├─> attempt (holds a permit) ─ turn ──┤
//!   tick ── claim ─────┘        ^                            └─> settle (pure) ─> settler: batched write ─> permit back
//!     ^  as many as there       │
//!     └─ are free permits ──────┘
//! ```
//!
//! - **Permits before claims.** [`permits::Permits`] bounds what the node holds, in deliveries and in bytes, in all, for each tenant and for
//!   each subscription. The claim asks for no more than is free.
//! - **Turns before attempts.** [`turns`] bounds the attempts among what is held. Where receivers are well, a little more is held than is
//!   sent, so that bursts go out from memory; what waits there in vain is given back long before its lease runs out.
//! - **Health belongs to the subscription.** What attempts come to moves its window and its breaker ([`vitals`]). That the breaker
//!   opens or closes is written together with the settlement that led to it, into the subscription's row, which every claim
//!   reads. What this node knows of it ([`Dispatcher::refresh`]) only keeps publishes from being sent at once. What a window
//!   was cut to is written in the same way: a node that has not sent there yet begins with that.
//! - **A lease is only a due date in the future.** A claimed delivery is due again when its lease runs out. If this node dies,
//!   any node claims it then. Settling names the attempt's number; if that is no longer the latest, somebody else
//!   owns the delivery and our settlement is dropped.
//! - **The poll is the truth, the wake-up a hint** ([`poll`]).
//! - A permit is held until the settlement is committed. While the database is away, claiming stops by itself.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::SharedClock,
    domain::{
        claim::{Claim, NoRoom, Target},
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

mod attempts;
mod claiming;
mod config;
mod line;
mod permits;
mod poll;
mod queue;
mod sender;
mod settled;
mod settler;
#[cfg(test)]
mod tests;
mod turns;
mod vitals;
mod wakeup;
mod watchers;

pub use config::{Config, Policy};
use permits::Permits;
pub use permits::{Permit, places};
pub use queue::{Ask, Claimed, Overdue, Queue, QueueError, Settling, Trouble};
pub use sender::Sender;
pub use settled::Settled;
pub use vitals::RECOVERY;
use wakeup::Wakeup;
pub use watchers::Watch;
use watchers::Watchers;

/// How a dispatcher stands, for those who judge it.
#[derive(Debug)]
pub struct Standing {
    /// When it last asked the queue with success, on its clock.
    pub last_tick: Timestamp,
    /// What it would ask the queue for now; `max` is 0 while the node is full.
    pub ask: Ask,
}

/// What the parts of the dispatcher share.
struct Shared<Q, S> {
    config: Config,
    policy: Policy,
    queue: Q,
    sender: S,
    permits: Arc<Permits>,
    wakeup: Arc<Wakeup>,
    recording: settler::Recording,
    /// When we last asked who is blocked, in microseconds.
    refreshed_at: AtomicI64,
    settled: settler::Inbox,
    clock: SharedClock,
    metrics: Metrics,
    /// Told when a subscription has ended.
    ended: Arc<Notify>,
    attempts: TaskTracker,
    watchers: Arc<Watchers>,
}

impl<Q, S> Shared<Q, S> {
    /// Whether what attempts come to is being recorded. While it is not, nothing more is taken over.
    fn records(&self, now: Timestamp) -> bool {
        self.recording.works(now, self.config.lease)
    }
}

/// Takes deliveries over and sends them. Cheap to clone.
pub struct Dispatcher<Q, S>(Arc<Shared<Q, S>>);

impl<Q, S> Clone for Dispatcher<Q, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q: Queue, S: Sender> Dispatcher<Q, S> {
    /// Makes a dispatcher. Nothing moves before [`tick`](Self::tick) or [`run`](Self::run), and nothing is
    /// settled before [`settle`](Self::settle).
    pub fn new(
        config: Config,
        policy: Policy,
        queue: Q,
        sender: S,
        clock: SharedClock,
        metrics: Metrics,
        ended: Arc<Notify>,
    ) -> Self {
        let wakeup = Arc::new(Wakeup::default());
        let permits = Permits::new(&config, Arc::clone(&wakeup), metrics.clone());
        Self(Arc::new(Shared {
            permits,
            wakeup,
            recording: settler::Recording::default(),
            refreshed_at: AtomicI64::new(i64::MIN),
            settled: settler::Inbox::default(),
            attempts: TaskTracker::new(),
            watchers: Arc::default(),
            config,
            policy,
            queue,
            sender,
            clock,
            metrics,
            ended,
        }))
    }

    /// How long a claimed delivery belongs to this node.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.0.config.lease
    }

    /// Lets a caller wait until this node has settled an attempt of a delivery; `None` if as many wait as may.
    #[must_use]
    pub fn watch(&self, delivery: DeliveryId) -> Option<Watch> {
        self.0.watchers.watch(delivery)
    }

    /// Waits, some milliseconds at most, until the node has room.
    pub async fn room(&self) {
        self.0.permits.room().await;
    }

    /// Waits, some milliseconds at most, for room at a target that was refused with [`NoRoom::Soon`].
    pub async fn room_for(&self, target: &Target) {
        self.0.permits.room_for(target).await;
    }

    /// Takes room for one attempt with so many bytes of data, if there is any.
    pub fn reserve(&self, target: &Arc<Target>, bytes: usize) -> Result<Permit, NoRoom> {
        let now = self.0.clock.now();
        if !self.0.records(now) {
            return Err(NoRoom::Taken);
        }
        self.0.permits.take(target, bytes, now)
    }

    /// Makes one attempt in the background, in the room that was taken for it.
    pub fn start(&self, permit: Permit, claim: Claim) {
        let runtime = self.0.sender.runtime(&claim.target);
        let attempt = attempts::make(Arc::clone(&self.0), permit, claim);
        match runtime {
            Some(runtime) => self.0.attempts.spawn_on(attempt, runtime),
            None => self.0.attempts.spawn(attempt),
        };
    }

    /// Gives back what waits in memory for a subscription. Attempts that are under way go on.
    pub fn send_away(&self, subscription: SubscriptionUid) {
        self.0.permits.send_away(subscription);
    }

    /// Gives one of them back, if it waits in memory.
    pub fn send_one_away(&self, subscription: SubscriptionUid, delivery: DeliveryId) {
        self.0.permits.send_one_away(subscription, delivery);
    }

    /// Says that there may be something to claim.
    pub fn wake(&self) {
        self.0.wakeup.now();
    }

    /// Says that something will be due at `due_at`.
    pub fn wake_at(&self, due_at: Timestamp) {
        self.0.wakeup.at(due_at);
    }

    /// Says that another node leaves something over. Unlike [`wake`](Self::wake) this is not passed on to other nodes.
    pub fn wake_by_other(&self) {
        self.0.wakeup.by_other();
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { last_tick: self.0.wakeup.last_tick(), ask: self.ask(self.0.permits.free()).0 }
    }

    /// Waits until nothing is under way and everything is settled.
    pub async fn drain(&self) {
        self.0.permits.all_back().await;
    }

    /// Claims until `stop`; then leaves what is under way to [`drain`](Self::drain).
    pub async fn run(&self, stop: CancellationToken) {
        poll::run(self, &stop).await;
    }

    /// Writes settlements until the process ends.
    pub async fn settle(&self) {
        settler::run(&self.0).await;
    }
}
