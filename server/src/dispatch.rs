//! Takes due deliveries over, makes attempts, and settles them.
//!
//! ```text
//!   publish ── start ──┐                                     ┌─> Sender: one HTTP request ─> Outcome
//!                      ├─> flight (holds a permit) ── turn ──┤
//!   tick ── claim ─────┘        ^                            └─> settle (pure) ─> Settler: batched write ─> permit back
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
//!   reads. What this node knows of it ([`Dispatcher::refresh`]) only keeps publishes from being sent at once.
//! - **A lease is only a due date in the future.** A claimed delivery is due again when its lease runs out. If this node dies,
//!   any node claims it then. Settling names the attempt's number; if that is no longer the latest, somebody else
//!   owns the delivery and our settlement is dropped.
//! - **The poll is the truth, the wake-up a hint** ([`poll`]).
//! - A permit is held until the settlement is committed. While the database is away, claiming stops by itself.

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::SharedClock,
    domain::{
        attempt::{Attempt, AttemptNumber},
        breaker::{BreakerPolicy, HealthChange},
        claim::{Claim, Target},
        delivery::{EndReason, Settlement},
        failing::Sign,
        handling::OrderingKey,
        id::{DeliveryId, SubscriptionUid, TenantId},
        operational::Exhausted,
        retry::RetryPolicy,
        subscription::DisabledReason,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    telemetry::metrics::Metrics,
};

mod config;
mod flight;
mod permits;
mod poll;
mod settler;
#[cfg(test)]
mod tests;
mod turns;
mod vitals;
mod watchers;

pub use config::Config;
pub use permits::{NoRoom, Permit, places};
use permits::{Permits, UnderWay};
pub use vitals::RECOVERY;
pub use watchers::Watch;
use watchers::Watchers;

/// How long an answer to who is blocked is good for, in microseconds.
const MICROS_OF_REFRESH: i64 = 1_000_000;

/// What follows from attempts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// For the delivery.
    pub retry: RetryPolicy,
    /// For the subscription.
    pub breaker: BreakerPolicy,
}

/// Where due deliveries are found and settlements are written.
pub trait Queue: Send + Sync + 'static {
    /// Takes due deliveries over, fairly spread over tenants and subscriptions. Leaves out who is blocked or throttled, but for
    /// probes.
    fn claim(&self, ask: &Ask) -> impl Future<Output = Result<Claimed, QueueError>> + Send;

    /// Which subscriptions are blocked.
    fn blocked(&self) -> impl Future<Output = Result<HashSet<SubscriptionUid>, QueueError>> + Send;

    /// Records attempts and what follows from them, in one transaction.
    fn settle(&self, batch: &[Settled]) -> impl Future<Output = Result<Settling, QueueError>> + Send;

    /// The delivery that has been due for longest of those that a claim with this ask could take over now.
    fn overdue(&self, ask: &Ask) -> impl Future<Output = Result<Option<Overdue>, QueueError>> + Send;

    /// Tells other nodes that this one leaves due deliveries over.
    fn hint(&self) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A delivery that is due and that nobody has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its subscription.
    pub subscription: SubscriptionUid,
    /// Since when it is due.
    pub since: Timestamp,
}

/// How a dispatcher stands, for those who judge it.
#[derive(Debug)]
pub struct Standing {
    /// When it last asked the queue with success, on its clock.
    pub last_tick: Timestamp,
    /// What it would ask the queue for now; `max` is 0 while the node is full.
    pub ask: Ask,
}

/// How much a node can take over.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Deliveries that are due at this time.
    pub now: Timestamp,
    /// When they are due again.
    pub leased_until: Timestamp,
    /// At most this many.
    pub max: usize,
    /// Unless it is one, they take at most this many [`places`].
    pub places: usize,
    /// At most this many of one subscription, less those held.
    pub max_per_subscription: usize,
    /// How many deliveries this node holds, sent or in line, for each subscription that has any.
    pub in_flight: Vec<(SubscriptionUid, usize)>,
    /// At most this many of these subscriptions, less those held.
    pub windows: Vec<(SubscriptionUid, usize)>,
    /// At most this many places of one tenant, less those taken.
    pub max_per_tenant: usize,
    /// How many [`places`] are taken, for each tenant that has any.
    pub tenants: Vec<(TenantId, usize)>,
}

/// What was taken over.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The deliveries.
    pub claims: Vec<Claim>,
    /// Subscriptions of which something was left for their rate limit's sake, and when to look again.
    pub throttled: Vec<(SubscriptionUid, Timestamp)>,
    /// How many others had expired, and were ended.
    pub expired: usize,
    /// How many others cannot be read, and were ended.
    pub unreadable: u64,
}

/// A claim that has been used, and what follows.
#[derive(Debug)]
pub struct Settled {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt the claim was for.
    pub number: AttemptNumber,
    /// Until when the claim held: tells it from a later one for the same attempt, where none was made.
    pub leased_until: Timestamp,
    /// Where it was to go.
    pub target: Arc<Target>,
    /// The event's ordering key, whose next delivery may have to be released.
    pub ordering_key: Option<OrderingKey>,
    /// The attempt; none if it was too late for one.
    pub attempt: Option<Attempt>,
    /// The span of the attempt before, which the next one links to if there was none now.
    pub previous_span: Option<TraceContext>,
    /// What follows.
    pub settlement: Settlement,
    /// What follows for the breaker of the subscription.
    pub health: Option<HealthChange>,
    /// What there is to tell of the subscription's failing.
    pub sign: Option<Sign>,
    /// Set if this was the last attempt of the schedule and its tenant is to be told. Rare, so it takes no room in the others.
    pub exhausted: Option<Box<Exhausted>>,
    /// When that was decided.
    pub at: Timestamp,
}

impl Settled {
    /// What follows from an attempt; nothing for the subscription yet.
    #[must_use]
    pub fn attempted(claim: Claim, attempt: Attempt, settlement: Settlement, at: Timestamp) -> Self {
        let exhausted = Exhausted::of(&claim.event, &attempt, settlement).map(Box::new);
        let unattempted = Self::unattempted(claim, settlement, at);
        Self { attempt: Some(attempt), health: None, exhausted, ..unattempted }
    }

    /// What follows for a claim that came too late for an attempt.
    #[must_use]
    pub fn expired(claim: Claim, at: Timestamp) -> Self {
        Self::unattempted(claim, Settlement::End(EndReason::Expired), at)
    }

    /// A claim is given back unused: the delivery is due now.
    #[must_use]
    pub fn returned(claim: Claim, at: Timestamp) -> Self {
        Self::unattempted(claim, Settlement::RetryAt(at), at)
    }

    /// Whether, and why, the subscription is to be disabled too.
    #[must_use]
    pub fn disables(&self) -> Option<DisabledReason> {
        self.settlement.disables(self.attempt.as_ref().and_then(|attempt| attempt.wish))
    }

    /// Whether anything follows for the subscription.
    #[must_use]
    pub fn concerns_its_subscription(&self) -> bool {
        self.health.is_some() || self.sign.is_some() || self.disables().is_some()
    }

    /// If it was to be a probe, another delivery is to be that.
    fn unattempted(claim: Claim, settlement: Settlement, at: Timestamp) -> Self {
        Self {
            delivery: claim.delivery,
            number: claim.attempt,
            leased_until: claim.leased_until,
            target: claim.target,
            ordering_key: claim.event.content.handling.ordering_key.clone(),
            attempt: None,
            previous_span: claim.previous_span,
            settlement,
            sign: None,
            exhausted: None,
            health: claim.probe.map(|probe| HealthChange::Release { held_until: probe.held_until }),
            at,
        }
    }
}

/// What became of a batch of settlements.
#[derive(Debug, Default)]
pub struct Settling {
    /// Deliveries that were no longer ours, or no longer pending: nothing followed from the attempt.
    pub lost: Vec<DeliveryId>,
    /// Whether a subscription was disabled.
    pub disabled: bool,
    /// Subscriptions whose health was changed as it was to be; the others' had been changed by somebody else.
    pub turned: HashSet<SubscriptionUid>,
    /// Whether deliveries became due that had waited for these to end.
    pub released: bool,
}

/// The queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// For reasons that pass.
    #[error("the queue is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// For reasons that do not.
    #[error("the queue is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes the attempt that a claim calls for.
pub trait Sender: Send + Sync + 'static {
    /// Always comes to an attempt with an outcome: what the receiver or the network does is no error of ours.
    ///
    /// `trace` is what the receiver gets as its trace context. The attempt's `span` is left for the caller to fill in.
    fn send(
        &self,
        claim: &Claim,
        trace: Option<&TraceContext>,
        now: Timestamp,
    ) -> impl Future<Output = Attempt> + Send;

    /// The longest that an attempt at this target can take: one is only begun while this still fits into its lease.
    fn timeout(&self, target: &Target) -> Duration;
}

/// What the parts of the dispatcher share.
struct Shared<Q, S> {
    config: Config,
    policy: Policy,
    queue: Q,
    sender: S,
    permits: Arc<Permits>,
    wakeup: Arc<poll::Wakeup>,
    /// Whether settlements can be written. While they cannot, nothing is claimed: leases may have run out in the meantime, and what
    /// we know to be done would be sent again.
    settling: AtomicBool,
    /// When we last asked who is blocked, in microseconds.
    refreshed_at: AtomicI64,
    settled: settler::Inbox,
    clock: SharedClock,
    metrics: Metrics,
    /// Told when a subscription has ended.
    ended: Arc<Notify>,
    flights: TaskTracker,
    watchers: Arc<Watchers>,
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
        let wakeup = Arc::new(poll::Wakeup::default());
        let permits = Permits::new(&config, Arc::clone(&wakeup), metrics.clone());
        Self(Arc::new(Shared {
            permits,
            wakeup,
            settling: AtomicBool::new(true),
            refreshed_at: AtomicI64::new(i64::MIN),
            settled: settler::Inbox::default(),
            flights: TaskTracker::new(),
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

    /// Returns when there is room for attempts, or when it is no use to wait for that any longer: in some milliseconds at most.
    pub async fn room(&self) {
        self.0.permits.room().await;
    }

    /// Returns when there is some room for attempts at a target for which there was none ([`NoRoom::Soon`]), or when it is no use to wait for
    /// that any longer: in some milliseconds at most.
    pub async fn room_for(&self, target: &Target) {
        self.0.permits.room_for(target).await;
    }

    /// Takes room for one attempt with so many bytes of data, if there is any.
    pub fn reserve(&self, target: &Arc<Target>, bytes: usize) -> Result<Permit, NoRoom> {
        self.0.permits.take(target, bytes, self.0.clock.now())
    }

    /// Makes one attempt in the background, in the room that was taken for it.
    pub fn start(&self, permit: Permit, claim: Claim) {
        self.0.flights.spawn(flight::fly(Arc::clone(&self.0), permit, claim));
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

    /// Claims as many due deliveries as there is room for and starts them. Returns how many.
    pub async fn tick(&self) -> Result<usize, QueueError> {
        let wakeup = &self.0.wakeup;
        if !self.0.settling.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let news = wakeup.take_news();
        self.look(news).await.inspect_err(|_| wakeup.keep_news(news))
    }

    /// Claims and starts, because of `news` or not.
    async fn look(&self, news: bool) -> Result<usize, QueueError> {
        let shared = &self.0;
        if let Err(cause) = self.refresh().await {
            // Whom it takes of, the claim finds out by itself.
            tracing::warn!(cause = &cause as &dyn std::error::Error, "who is blocked is not known");
        }
        let Some(mut room) = shared.permits.take_room() else {
            // Attempts that are under way are work enough; each of them ends by its timeout.
            shared.wakeup.ticked(shared.clock.now());
            shared.wakeup.set_backlog(true);
            shared.wakeup.left_to_others(poll::LeftOver::IfNews, news);
            return Ok(0);
        };
        let (ask, saturated) = self.ask(room.size());
        let now = ask.now;
        if saturated {
            // Room that comes back during the claim is not seen by it.
            shared.wakeup.set_backlog(true);
        }
        let Claimed { claims, throttled, expired, unreadable } = shared.queue.claim(&ask).await?;
        let claimed = claims.len();
        shared.metrics.expired(expired as u64);
        if expired > 0 || unreadable > 0 {
            // Others may have waited for them, or are due behind them.
            shared.wakeup.now();
        }
        shared.metrics.unreadable(unreadable);
        for (nth, claim) in (1..).zip(claims) {
            let others = claimed - nth;
            let Some(place) = room.place(claim.event.content.payload.data.len(), others) else {
                // There is one for each. Its lease runs out, and it is claimed again.
                tracing::error!(delivery.id = %claim.delivery, "there is no room for a delivery that was claimed");
                continue;
            };
            if let Some(at) = claim.target.recovered_at.filter(|at| now < *at + RECOVERY) {
                shared.permits.recovered(&claim.target, at);
            }
            self.start(place.at(&claim.target), claim);
        }
        drop(room);
        shared.metrics.throttled(throttled.len());
        for (subscription, until) in throttled {
            shared.permits.throttle(subscription, until);
            shared.wakeup.at(until);
        }
        shared.wakeup.ticked(now);
        // Where something was due there may be more, which is claimed as permits come back; so is what a saturated
        // subscription kept from this claim. By now its attempts may have ended, so this is told from what we asked.
        shared.wakeup.set_backlog(claimed > 0 || saturated);
        let left_over = match (claimed >= ask.max, saturated) {
            // There is most probably more; another node may have lost all that it tried to claim to us.
            (true, _) => poll::LeftOver::Probably,
            (false, true) => poll::LeftOver::IfNews,
            (false, false) => poll::LeftOver::Nothing,
        };
        shared.wakeup.left_to_others(left_over, news);
        Ok(claimed)
    }

    /// What to ask the queue for, and whether anybody has no room left.
    fn ask(&self, max: usize) -> (Ask, bool) {
        let shared = &self.0;
        let now = shared.clock.now();
        let UnderWay { in_flight, windows, tenants, saturated } = shared.permits.under_way(now);
        let ask = Ask {
            now,
            leased_until: now + shared.config.lease,
            max,
            places: max,
            max_per_subscription: shared.config.max_in_flight_per_subscription
                + shared.config.max_queued_per_subscription,
            in_flight,
            windows,
            max_per_tenant: shared.config.max_in_flight_per_tenant + shared.config.max_queued,
            tenants,
        };
        (ask, saturated)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { last_tick: self.last_tick(), ask: self.ask(self.0.permits.free()).0 }
    }

    /// Learns who is blocked, unless that is known.
    pub async fn refresh(&self) -> Result<(), QueueError> {
        let shared = &self.0;
        let now = shared.clock.now();
        let refreshed_at = shared.refreshed_at.load(Ordering::Relaxed);
        // A clock that was set back makes the answer old as well.
        if (refreshed_at..refreshed_at.saturating_add(MICROS_OF_REFRESH)).contains(&now.as_micros()) {
            return Ok(());
        }
        let generation = shared.permits.generation();
        let blocked = shared.queue.blocked().await?;
        let count = blocked.len();
        if shared.permits.learn(blocked, generation, now) {
            shared.refreshed_at.store(now.as_micros(), Ordering::Relaxed);
            shared.metrics.blocked(count);
        }
        Ok(())
    }

    /// Waits until nothing is under way and everything is settled.
    pub async fn drain(&self) {
        self.0.permits.all_back().await;
    }

    /// Claims until `stop`; then leaves what is under way to [`drain`](Self::drain).
    pub async fn run(&self, stop: CancellationToken) {
        poll::run(self, &stop).await;
    }

    /// When [`tick`](Self::tick) last asked the queue with success, on the dispatcher's clock.
    #[must_use]
    pub fn last_tick(&self) -> Timestamp {
        self.0.wakeup.last_tick()
    }

    /// Writes settlements until the process ends.
    pub async fn settle(&self) {
        settler::run(&self.0).await;
    }
}
