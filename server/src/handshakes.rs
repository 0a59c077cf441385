//! Makes the handshakes that subscriptions wait for ([`crate::domain::handshake`]).
//!
//! ```text
//!   create, update, enable ── nudge ──┐
//!   tick ── due, by an index ──> take (lease, fence) ──> sender: ask ──> settle ──> deliveries go out
//!                                                                          └─> again later, or disabled
//! ```
//!
//! Every node does it: who takes a handshake over has it to himself until its lease runs out. The rows are the truth, the
//! nudge a hint. They go on beside each other, only some at a time, and only some of them of one tenant, so that receivers that do not
//! answer keep nobody else's waiting.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{Mutex, Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::SharedClock,
    domain::{
        claim::Target,
        id::{SubscriptionId, TenantId},
    },
    places::{Place, Places},
    sender::HttpSender,
    store::{
        Error, Store,
        handshakes::{Followed, Take, Turn},
        keyring::draw_challenge,
    },
};

/// How often to look for what is due, when nobody says that there is something.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long to rest when the database does not do what it should.
const REST: Duration = Duration::from_secs(5);
/// How many are made at a time, and how many of one tenant.
const MOST: usize = 64;
const MOST_OF_TENANT: usize = 16;
/// What a lease has beside the time of the exchange: for the database, before and after.
const MARGIN: Duration = Duration::from_secs(30);

/// Who wants to hear of what handshakes have changed.
pub trait Nudge: Send + Sync + 'static {
    /// Deliveries may have become due.
    fn deliveries_due(&self);
    /// A subscription was disabled.
    fn subscription_ended(&self);
}

/// The handshakes of one node. Cheap to clone.
#[derive(Clone)]
pub struct Handshakes(Arc<Shared>);

struct Shared {
    store: Store,
    sender: HttpSender,
    clock: SharedClock,
    lease: Duration,
    nudge: Box<dyn Nudge>,
    /// Told when there may be something due.
    due: Notify,
    places: Places,
    tasks: TaskTracker,
    /// Those that this node makes, each with what tells its end. Locked while one is taken over, so that nobody takes it twice.
    under_way: Mutex<HashMap<Name, watch::Receiver<()>>>,
}

/// Whose handshake it is.
type Name = (TenantId, SubscriptionId);

/// What came of a handshake that was to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was made, whatever came of it.
    Yes,
    /// There was none to be made, or somebody else made it.
    No,
    /// As many are under way as there may be.
    TooMany,
}

impl Handshakes {
    /// Makes handshakes that take at most `max_timeout` each.
    pub fn new(
        store: Store,
        sender: HttpSender,
        clock: SharedClock,
        max_timeout: Duration,
        nudge: impl Nudge,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            sender,
            clock,
            lease: max_timeout + MARGIN,
            nudge: Box::new(nudge),
            due: Notify::new(),
            places: Places::new(MOST, MOST_OF_TENANT),
            tasks: TaskTracker::new(),
            under_way: Mutex::default(),
        }))
    }

    /// Says that there may be something due.
    pub fn wake(&self) {
        self.0.due.notify_one();
    }

    /// Begins what is due, as far as there is room. Returns how many.
    pub async fn tick(&self) -> Result<usize, Error> {
        let shared = &self.0;
        let mut begun = 0;
        loop {
            let (room, crowded) = shared.places.standing();
            if room == 0 {
                return Ok(begun);
            }
            let now = shared.clock.now();
            let mut taken = 0;
            for (subscription, tenant) in shared.store.due_handshakes(&crowded, now, room).await? {
                let Ok(place) = shared.places.take(&tenant) else { continue };
                let until = now + shared.lease;
                let mut under_way = shared.under_way.lock().await;
                if let Take::Taken(turn) = shared.store.take_handshake(subscription, now, until).await? {
                    taken += 1;
                    self.begin(turn, place, &mut under_way);
                }
            }
            begun += taken;
            if taken == 0 {
                return Ok(begun);
            }
        }
    }

    /// Makes a subscription's handshake without regard to when it is due. One that this node makes already is waited for.
    pub async fn make_now(&self, tenant: &TenantId, id: &SubscriptionId) -> Result<Made, Error> {
        let shared = &self.0;
        let mut under_way = shared.under_way.lock().await;
        let mut end = if let Some(end) = under_way.get(&(tenant.clone(), id.clone())) {
            end.clone()
        } else {
            let Ok(place) = shared.places.take(tenant) else { return Ok(Made::TooMany) };
            let now = shared.clock.now();
            let taking = shared.store.take_handshake_now(tenant, id, now, now + shared.lease);
            let Take::Taken(turn) = taking.await? else { return Ok(Made::No) };
            self.begin(turn, place, &mut under_way)
        };
        drop(under_way);
        // It goes on if the caller hangs up. Its end is that of the sender.
        while end.changed().await.is_ok() {}
        Ok(Made::Yes)
    }

    /// Makes a handshake that was taken over.
    fn begin(
        &self,
        turn: Turn,
        place: Place,
        under_way: &mut HashMap<Name, watch::Receiver<()>>,
    ) -> watch::Receiver<()> {
        let (shared, name) = (Arc::clone(&self.0), (turn.target.tenant.clone(), turn.target.id.clone()));
        let (ends, end) = watch::channel(());
        under_way.insert(name.clone(), end.clone());
        let own = end.clone();
        self.0.tasks.spawn(async move {
            shared.make(turn, place).await;
            let mut under_way = shared.under_way.lock().await;
            // Another may have been begun by now, for what the subscription has become.
            if under_way.get(&name).is_some_and(|end| end.same_channel(&own)) {
                under_way.remove(&name);
            }
            drop(ends);
        });
        end
    }

    /// Waits until none is under way.
    pub async fn drain(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }

    /// Makes handshakes until `stop`, and finishes those that are under way.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.tick().await {
                Ok(_) => INTERVAL,
                Err(cause) => {
                    tracing::error!(cause = &cause as &dyn std::error::Error, "handshakes cannot be made");
                    REST
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.0.due.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.drain().await;
    }
}

impl Shared {
    async fn make(&self, turn: Turn, place: Place) {
        let outcome = self.sender.shake_hands(&turn.target, draw_challenge(), self.clock.now()).await;
        let followed = self.store.settle_handshake(&turn, &outcome, self.clock.now()).await;
        drop(place);
        // Others may have waited for the place.
        self.due.notify_one();
        match followed {
            Ok(followed) => self.tell(&turn.target, followed, outcome.err().as_deref().unwrap_or_default()),
            Err(cause) => tracing::error!(
                cause = &cause as &dyn std::error::Error,
                subscription.uid = %turn.target.uid,
                "what a handshake came to cannot be stored; it is made again when its lease is over"
            ),
        }
    }

    fn tell(&self, target: &Target, followed: Followed, failure: &str) {
        let Target { tenant, id, .. } = target;
        match followed {
            Followed::Agreed => {
                tracing::info!(tenant.id = %tenant, subscription.id = %id, "the receiver agrees by its handshake");
                self.nudge.deliveries_due();
            }
            Followed::Again(_) => {
                tracing::info!(tenant.id = %tenant, subscription.id = %id, failure, "a handshake failed");
            }
            Followed::Disabled => {
                tracing::warn!(
                    tenant.id = %tenant, subscription.id = %id, failure,
                    "a subscription was disabled because its handshake failed for good"
                );
                self.nudge.subscription_ended();
            }
            Followed::Overtaken => {
                tracing::info!(tenant.id = %tenant, subscription.id = %id, "a handshake was overtaken by a change");
            }
        }
    }
}
