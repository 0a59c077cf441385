//! Producers: publish to any node, again and again until somebody acknowledges.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use postrider_sdk::{Client, Event, Subscription, model::Priority};
use postrider_server::{
    clock::{Clock, SystemClock},
    domain::timestamp::Timestamp,
};
use time::OffsetDateTime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error, Options, Stopwatch,
    chance::Chance,
    evidence::{Cancelled, Published},
    nodes::Nodes,
    operator::Operator,
    receiver::{DEAD, Receiver},
};

/// Who owns events. The load is spread over them.
pub(super) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// The subscriptions of each tenant, with the one pattern that each has.
const SUBSCRIPTIONS: [(&str, &str); 3] = [("all", "load.**"), ("orders", "load.order.*"), (DEAD, DEAD_TYPES)];
const DEAD_TYPES: &str = "load.refund.*";
/// What is published, and how often in twenty.
const TYPES: [(&str, usize); 3] =
    [("load.order.created", 11), ("load.user.updated", 8), ("load.refund.made", 1)];
/// Who has more subscriptions than a publish serves at once, so that its events are fanned out: in order, all of them.
pub(super) const WIDE: &str = "umbrella";
/// How many there are. The last few want small events as well, which come right behind big ones: they are made last, and so they get the big
/// ones in the last part.
const WIDE_SUBSCRIPTIONS: usize = 520;
const OF_SMALL: std::ops::Range<usize> = 515..WIDE_SUBSCRIPTIONS;
const WIDE_TYPES: (&str, &str) = ("load.wide.big", "load.wide.small");
/// How long it takes from one big event to the next.
const BETWEEN_WIDE: Duration = Duration::from_secs(4);
/// How many producers there are.
const PRODUCERS: u32 = 16;
/// How long producers may take to get their last events acknowledged.
const LAST_CALLS: Duration = Duration::from_mins(1);

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) events: Vec<Published>,
    pub(super) cancelled: Vec<Cancelled>,
    /// Tries that were not acknowledged and repeated.
    pub(super) repeated: u64,
    pub(super) tenants: Vec<String>,
}

/// Producers that run.
pub(super) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    producers: TaskTracker,
    stop: CancellationToken,
}

struct Producer {
    number: u32,
    clients: Vec<Client>,
    ledger: Arc<Mutex<Ledger>>,
    chance: Chance,
    stop: CancellationToken,
    pause: Duration,
    places: Arc<AtomicU64>,
    watch: Stopwatch,
}

/// When an event is to be sent, and how urgently.
#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    deliver_after: Option<Duration>,
    expire_after: Option<Duration>,
    priority: Option<Priority>,
}

impl Wishes {
    fn of(chance: &mut Chance) -> Self {
        Self {
            deliver_after: chance.percent(10).then(|| chance.millis(100, 3_000)),
            // Some faults last for longer.
            expire_after: chance.percent(10).then(|| chance.millis(8_000, 30_000)),
            priority: chance.percent(20).then(|| chance.one_of(&[Priority::Low, Priority::High])),
        }
    }

    fn ask(self, mut event: Event, now: OffsetDateTime) -> Event {
        if let Some(after) = self.deliver_after {
            event = event.deliver_at(now + after);
        }
        if let Some(after) = self.expire_after {
            event = event.expire_at(now + after);
        }
        match self.priority {
            Some(priority) => event.priority(priority),
            None => event,
        }
    }
}

impl Load {
    /// Makes the subscriptions and starts to publish.
    pub(super) async fn start(
        nodes: &Nodes,
        receiver: &Receiver,
        options: &Options,
        chance: &mut Chance,
        watch: Stopwatch,
    ) -> Result<Self, Error> {
        let clients = nodes.clients()?;
        subscribe(&clients[0], receiver).await?;
        let tenants = TENANTS.iter().chain([&WIDE]).map(|tenant| (*tenant).to_owned()).collect();
        let ledger = Arc::new(Mutex::new(Ledger { tenants, ..Ledger::default() }));
        let (producers, stop) = (TaskTracker::new(), CancellationToken::new());
        let places = Arc::new(AtomicU64::new(0));
        let mut producer = |number| Producer {
            number,
            clients: clients.clone(),
            ledger: Arc::clone(&ledger),
            chance: chance.fork(),
            stop: stop.clone(),
            pause: Duration::from_secs(1) * PRODUCERS / options.rate.max(1),
            places: Arc::clone(&places),
            watch,
        };
        for number in 0..PRODUCERS {
            producers.spawn(producer(number).run());
        }
        if nodes.count() > 1 {
            let url = receiver.url("");
            producers.spawn(producer(PRODUCERS).read_its_writes(url));
        }
        producers.spawn(producer(PRODUCERS + 1).reach_many());
        let operator = Operator {
            clients: clients.clone(),
            ledger: Arc::clone(&ledger),
            chance: chance.fork(),
            stop: stop.clone(),
        };
        producers.spawn(operator.run());
        producers.close();
        Ok(Self { ledger, producers, stop })
    }

    /// Ends the load when everything that was begun is acknowledged.
    pub(super) async fn stop(self) -> Result<Ledger, Error> {
        self.stop.cancel();
        if tokio::time::timeout(LAST_CALLS, self.producers.wait()).await.is_err() {
            return Err(Error("events were not acknowledged long after the last fault".to_owned()));
        }
        Ok(std::mem::take(&mut self.ledger.lock().unwrap()))
    }
}

/// Makes the subscriptions that there are from the beginning.
async fn subscribe(client: &Client, receiver: &Receiver) -> Result<(), Error> {
    let few = TENANTS
        .iter()
        .flat_map(|tenant| SUBSCRIPTIONS.map(|(id, pattern)| (*tenant, id.to_owned(), pattern)));
    let many = |nth| (WIDE, wide(nth), if OF_SMALL.contains(&nth) { "load.wide.*" } else { WIDE_TYPES.0 });
    let all = few.chain((0..WIDE_SUBSCRIPTIONS).map(many));
    let create = |(tenant, id, pattern): (&'static str, String, &'static str)| async move {
        let url = receiver.url(&format!("{tenant}/{id}"));
        let wanted = Subscription::to(url).event_types([pattern]).id(id);
        client.tenant(tenant).subscriptions().create(wanted).await
    };
    let mut creating = futures_util::stream::iter(all.map(create)).buffer_unordered(8);
    while let Some(created) = creating.next().await {
        created.map_err(|error| Error(format!("a subscription could not be made: {error}")))?;
    }
    Ok(())
}

/// The id of a subscription of the tenant that has very many.
fn wide(nth: usize) -> String {
    format!("wide-{nth}")
}

impl Producer {
    async fn run(mut self) {
        for number in 0.. {
            if self.stop.is_cancelled() {
                return;
            }
            let tenant = self.chance.one_of(&TENANTS);
            let mut ticket = self.chance.below(20);
            let mut event_type = TYPES[0].0;
            for (name, share) in TYPES {
                if ticket < share {
                    event_type = name;
                    break;
                }
                ticket -= share;
            }
            let wanted_by = SUBSCRIPTIONS
                .iter()
                .filter(|(_, pattern)| wants(pattern, event_type))
                .map(|(id, _)| format!("{tenant}/{id}"))
                .collect();
            let request_id = format!("p{}-{number}", self.number);
            self.publish(tenant, event_type, request_id, wanted_by, None).await;
            let pause =
                self.pause / 2 + self.pause / 100 * u32::try_from(self.chance.below(100)).unwrap_or(0);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Publishes events that very many subscriptions want, and at once some that a few of those want, which must not pass them.
    async fn reach_many(mut self) {
        for number in 0.. {
            let events =
                [(WIDE_TYPES.0, 0..WIDE_SUBSCRIPTIONS), (WIDE_TYPES.1, OF_SMALL), (WIDE_TYPES.1, OF_SMALL)];
            for (nth, (event_type, wanted_by)) in events.into_iter().enumerate() {
                if self.stop.is_cancelled() {
                    return;
                }
                let request_id = format!("wide-{number}-{nth}");
                let wanted_by = wanted_by.map(|nth| format!("{WIDE}/{}", wide(nth))).collect();
                self.publish(WIDE, event_type, request_id, wanted_by, None).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(BETWEEN_WIDE) => {}
            }
        }
    }

    /// Creates a subscription on one node and publishes on another one at once.
    async fn read_its_writes(mut self, url: String) {
        for number in 0.. {
            if self.stop.is_cancelled() {
                return;
            }
            let tenant = self.chance.one_of(&TENANTS);
            let (id, event_type) = (format!("late-{number}"), format!("late.n{number}"));
            let wanted =
                Subscription::to(format!("{url}{tenant}/{id}")).event_types([event_type.as_str()]).id(&id);
            let first = self.chance.below(self.clients.len());
            if self.clients[first].tenant(tenant).subscriptions().create(wanted).await.is_ok() {
                let other = (first + 1 + self.chance.below(self.clients.len() - 1)) % self.clients.len();
                let wanted_by = vec![format!("{tenant}/{id}")];
                self.publish(tenant, &event_type, format!("late-{number}"), wanted_by, Some(other)).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(700)) => {}
            }
        }
    }

    /// Publishes until it is acknowledged, first on the given node or on any, and then on any.
    async fn publish(
        &mut self,
        tenant: &str,
        event_type: &str,
        request_id: String,
        wanted_by: Vec<String>,
        mut node: Option<usize>,
    ) {
        let data = serde_json::json!({ "request_id": request_id }).to_string();
        let read_your_writes = node.is_some();
        // Events of one key are published one after another by one producer. What waits for the receiver that is always dead has
        // none, or all of it would wait for the first.
        let may_be_ordered = !read_your_writes && !wants(DEAD_TYPES, event_type);
        let is_ordered = tenant == WIDE || may_be_ordered && self.chance.below(3) == 0;
        let ordering_key = is_ordered.then(|| format!("producer-{}", self.number));
        let place = self.places.fetch_add(1, Ordering::Relaxed);
        let wishes = if read_your_writes { Wishes::default() } else { Wishes::of(&mut self.chance) };
        let (now, elapsed) = (OffsetDateTime::UNIX_EPOCH + since_epoch(), self.watch.elapsed());
        loop {
            let target = node.take().unwrap_or_else(|| self.chance.below(self.clients.len()));
            let mut event =
                Event::new(event_type).data(data.clone(), "application/json").request_id(request_id.as_str());
            if let Some(key) = &ordering_key {
                event = event.ordering_key(key.as_str());
            }
            match self.clients[target].tenant(tenant).publish(wishes.ask(event, now)).await {
                Ok(published) => {
                    self.ledger.lock().unwrap().events.push(Published {
                        event: published.event_id().to_owned(),
                        request_id,
                        wanted_by,
                        ordering_key,
                        place,
                        read_your_writes,
                        deliver_at: wishes.deliver_after.map(|after| elapsed + after),
                        expire_at: wishes.expire_after.map(|after| elapsed + after),
                    });
                    return;
                }
                // It expired before anybody could take it in, so nothing of it is stored, and nothing was promised.
                Err(error) if wishes.expire_after.is_some() && error.is_invalid_argument() => return,
                Err(error) => {
                    tracing::debug!(%error, node = target, "a publish is repeated");
                    self.ledger.lock().unwrap().repeated += 1;
                    tokio::time::sleep(self.chance.millis(50, 250)).await;
                }
            }
        }
    }
}

fn since_epoch() -> Duration {
    SystemClock.now().since(Timestamp::default())
}

/// Whether a pattern of ours matches a type of ours.
fn wants(pattern: &str, event_type: &str) -> bool {
    event_type.starts_with(pattern.trim_end_matches('*'))
}
