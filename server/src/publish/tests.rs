//! The writer, with a journal and an outlet that exist only in memory.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    judge::{Failures, Judge},
    match_table::MatchTable,
    programs::Programs,
    *,
};
use crate::{
    clock::ManualClock,
    domain::{
        claim::{Claim, NoRoom, Target},
        conditions::Conditions,
        event::{Attributes, EventContent, Payload},
        event_type::EventType,
        expression::Pause,
        handling::{Handling, OrderingKey},
        id::{SubscriptionId, TenantId},
        secret::SecretSet,
        settings::Settings,
        subscription::{Filter, Pace},
        target_url::TargetUrl,
    },
};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Keeps what is committed.
#[derive(Default)]
struct Memory {
    /// How many subscriptions each tenant has.
    subscriptions: BTreeMap<TenantId, usize>,
    /// Somebody changes the subscriptions of this tenant whenever nobody looks.
    restless: Option<TenantId>,
    /// Whose subscriptions take long to read.
    slow_to_read: Option<Arc<Slow>>,
    /// Whose batches take long to commit.
    slow_to_commit: Option<Arc<Slow>>,
    version: AtomicI64,
    reads: AtomicUsize,
    commits: Mutex<Vec<Vec<Stored>>>,
}

impl Memory {
    fn version_of(&self, tenant: &TenantId) -> i64 {
        if self.restless.as_ref() == Some(tenant) { self.version.load(Ordering::SeqCst) } else { 0 }
    }
}

/// Something of a tenant that has begun, and goes on when it is told to.
struct Slow {
    tenant: TenantId,
    begun: Notify,
    told: Notify,
}

impl Slow {
    fn new(tenant: &TenantId) -> Arc<Self> {
        Arc::new(Self { tenant: tenant.clone(), begun: Notify::new(), told: Notify::new() })
    }

    async fn wait(&self) {
        self.begun.notify_one();
        self.told.notified().await;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    tenant: String,
    data: String,
    deliveries: usize,
    parts: Vec<usize>,
}

#[derive(Clone)]
struct Shared(Arc<Memory>);

impl Journal for Shared {
    async fn catalogue(&self) -> Result<(i64, Vec<CataloguedType>), JournalError> {
        Ok((0, Vec::new()))
    }

    async fn interests(&self, tenant: &TenantId) -> Result<Interests, JournalError> {
        let memory = &self.0;
        memory.reads.fetch_add(1, Ordering::SeqCst);
        if let Some(slow) = memory.slow_to_read.as_ref().filter(|slow| slow.tenant == *tenant) {
            slow.wait().await;
        }
        let version = memory.version_of(tenant);
        if memory.restless.as_ref() == Some(tenant) {
            memory.version.fetch_add(1, Ordering::SeqCst);
        }
        let count = memory.subscriptions.get(tenant).copied().unwrap_or_default();
        let subscriptions = (0..count).map(|number| interest(tenant, number)).collect();
        Ok(Interests { version: Some(version), catalogue_version: 0, subscriptions, unreadable: 0 })
    }

    fn commits_at_once(&self) -> usize {
        2
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit, JournalError> {
        let memory = &self.0;
        let stale: Vec<_> = batch
            .versions
            .iter()
            .filter(|(tenant, version)| *version != Some(memory.version_of(tenant)))
            .map(|(tenant, _)| tenant.clone())
            .collect();
        if !stale.is_empty() {
            return Ok(Commit::Stale(stale));
        }
        let stored = |entry: &Entry| Stored {
            tenant: entry.event.tenant.to_string(),
            data: String::from_utf8(entry.event.content.payload.data.to_vec()).unwrap(),
            deliveries: entry.deliveries.len(),
            parts: entry.later.iter().map(Vec::len).collect(),
        };
        let is_broken = |entry: &Entry| entry.event.content.payload.data == "broken";
        if batch.entries.iter().any(is_broken) {
            return Err(JournalError::Broken("it cannot be stored".into()));
        }
        if let Some(slow) = &memory.slow_to_commit
            && batch.entries.iter().any(|entry| entry.event.tenant == slow.tenant)
        {
            slow.wait().await;
        }
        memory.commits.lock().unwrap().push(batch.entries.iter().map(stored).collect());
        let fates = vec![Fate::Stored; batch.entries.len()];
        let owes = batch.entries.iter().any(|entry| !entry.later.is_empty());
        Ok(Commit::Done { fates, parked: HashSet::new(), owes })
    }
}

/// Has no room, ever; for some tenant it seems to have some soon, until somebody has waited for it.
#[derive(Default)]
struct Full {
    crowded: Option<TenantId>,
    waits: Arc<Notify>,
}

impl Outlet for Full {
    type Permit = ();

    fn lease(&self) -> Duration {
        Duration::from_mins(1)
    }

    async fn room(&self) {}

    async fn room_for(&self, target: &Target) {
        assert_eq!(Some(&target.tenant), self.crowded.as_ref());
        self.waits.notified().await;
    }

    fn reserve(&self, target: &Arc<Target>, _: usize) -> Result<(), NoRoom> {
        Err(if Some(&target.tenant) == self.crowded.as_ref() { NoRoom::Soon } else { NoRoom::Taken })
    }

    fn start(&self, (): (), _: Claim) {}

    fn wake(&self) {}

    fn wake_at(&self, _: Timestamp) {}
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

fn interest(tenant: &TenantId, number: usize) -> Interest {
    let uid = SubscriptionUid::nth(NOW, number);
    let target = Target {
        uid,
        tenant: tenant.clone(),
        id: SubscriptionId::from(uid),
        url: TargetUrl::parse("https://example.com/hook").unwrap(),
        secrets: SecretSet::newest_first(Vec::new()),
        pace: Pace::default(),
        suspected: false,
        recovered_at: None,
        revision: 1,
        settings: Some(Settings::plain()),
    };
    Interest { target: Arc::new(target), filter: Filter::parse(&["**"]).unwrap(), held: false, program: None }
}

fn an_event(tenant: &TenantId, data: &str) -> NewEvent {
    NewEvent {
        tenant: tenant.clone(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse("order.created").unwrap(),
            source: String::new(),
            subject: String::new(),
            time: None,
            payload: Payload {
                data: Bytes::copy_from_slice(data.as_bytes()),
                content_type: "text/plain".to_owned(),
            },
            attributes: Attributes::default(),
            handling: Handling::default(),
        },
        trace: None,
    }
}

/// Publishes events that are all in line before the writer looks. Returns how many deliveries each has, and whether there is something
/// to fan out.
async fn publish(memory: &Arc<Memory>, events: Vec<NewEvent>) -> (Vec<u32>, bool) {
    publish_after(memory, Vec::new(), events).await
}

/// The same, after the writer has published others.
async fn publish_after(
    memory: &Arc<Memory>,
    others: Vec<NewEvent>,
    events: Vec<NewEvent>,
) -> (Vec<u32>, bool) {
    let told = Arc::new(Notify::new());
    let clock = Arc::new(ManualClock::at(NOW));
    let (publisher, writer) = Publisher::new(
        Shared(Arc::clone(memory)),
        Full::default(),
        clock,
        Metrics::default(),
        Arc::clone(&told),
    );
    let stop = tokio_util::sync::CancellationToken::new();
    let publishing = async {
        for event in others {
            publisher.publish(event, Route::Matching).await.unwrap();
        }
        let mut submitted = Vec::new();
        for event in events {
            submitted.push(publisher.submit(event, Route::Matching, Room::default()).await.unwrap());
        }
        stop.cancel();
        let mut counts = Vec::new();
        for submitted in submitted {
            counts.push(submitted.published().await.unwrap().delivery_count);
        }
        counts
    };
    let (counts, ()) = tokio::join!(publishing, writer.run(stop.clone()));
    let is_told = tokio::time::timeout(Duration::ZERO, told.notified()).await.is_ok();
    (counts, is_told)
}

fn memory(subscriptions: &[(&TenantId, usize)]) -> Memory {
    let subscriptions = subscriptions.iter().map(|(tenant, count)| ((*tenant).clone(), *count)).collect();
    Memory { subscriptions, ..Memory::default() }
}

fn commits(memory: &Memory) -> Vec<Vec<Stored>> {
    memory.commits.lock().unwrap().clone()
}

#[tokio::test]
async fn a_tenant_that_changes_all_the_time_holds_nobody_up() {
    let (restless, calm) = (tenant("restless"), tenant("calm"));
    let memory = Memory { restless: Some(restless.clone()), ..memory(&[(&restless, 3), (&calm, 2)]) };
    let memory = Arc::new(memory);
    let events = || vec![an_event(&restless, "a"), an_event(&calm, "b")];
    assert_eq!(publish(&memory, events()).await, (vec![3, 2], false));
    assert_eq!(memory.reads.load(Ordering::SeqCst), 2, "what is read after an event came in is good for it");

    // What the writer knows of it is out of date whenever it looks.
    let told = Arc::new(Notify::new());
    let clock = Arc::new(ManualClock::at(NOW));
    let (publisher, writer) =
        Publisher::new(Shared(Arc::clone(&memory)), Full::default(), clock, Metrics::default(), told);
    let stop = tokio_util::sync::CancellationToken::new();
    let running = async {
        for _ in 0..10 {
            let (one, other) = tokio::join!(
                publisher.publish(an_event(&restless, "c"), Route::Matching),
                publisher.publish(an_event(&calm, "d"), Route::Matching)
            );
            assert_eq!((one.unwrap().delivery_count, other.unwrap().delivery_count), (3, 2));
        }
        stop.cancel();
    };
    tokio::join!(writer.run(stop.clone()), running);
    assert_eq!(
        memory.reads.load(Ordering::SeqCst),
        2 + 11,
        "once for each commit, and once for the other tenant"
    );
}

/// Runs a writer meanwhile.
async fn with_writer(memory: Memory, work: impl AsyncFnOnce(&Publisher, &Memory)) {
    let memory = Arc::new(memory);
    let clock = Arc::new(ManualClock::at(NOW));
    let journal = Shared(Arc::clone(&memory));
    let (publisher, writer) =
        Publisher::new(journal, Full::default(), clock, Metrics::default(), Arc::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let running = async {
        work(&publisher, &memory).await;
        stop.cancel();
    };
    tokio::join!(writer.run(stop.clone()), running);
}

async fn submit(publisher: &Publisher, tenant: &TenantId, data: &str) -> Submitted {
    publisher.submit(an_event(tenant, data), Route::Matching, Room::default()).await.unwrap()
}

#[tokio::test]
async fn a_tenant_whose_subscriptions_take_long_to_read_holds_nobody_up() {
    let (big, small) = (tenant("big"), tenant("small"));
    let slow = Slow::new(&big);
    let memory = Memory { slow_to_read: Some(slow.clone()), ..memory(&[(&big, 3), (&small, 1)]) };
    with_writer(memory, async |publisher, memory| {
        let first = submit(publisher, &big, "a").await;
        let other = submit(publisher, &small, "b").await;
        let second = submit(publisher, &big, "c").await;
        other.published().await.unwrap();
        submit(publisher, &small, "d").await.published().await.unwrap();
        assert_eq!(names(memory), [["b"], ["d"]]);
        slow.told.notify_one();
        assert_eq!(first.published().await.unwrap().delivery_count, 3);
        second.published().await.unwrap();
        assert_eq!(names(memory), [vec!["b"], vec!["d"], vec!["a", "c"]]);
    })
    .await;
}

#[tokio::test]
async fn an_event_keeps_its_room_until_its_commit_also_if_nobody_waits_for_that() {
    let big = tenant("big");
    let slow = Slow::new(&big);
    let memory = Memory { slow_to_read: Some(slow.clone()), ..memory(&[(&big, 3)]) };
    with_writer(memory, async |publisher, memory| {
        let room = Arc::new(());
        let event = an_event(&big, "a");
        let held = Room::of(Arc::clone(&room));
        drop(publisher.submit(event, Route::Matching, held).await.unwrap());
        let last = submit(publisher, &big, "b").await;
        assert_eq!(Arc::strong_count(&room), 2);
        slow.told.notify_one();
        last.published().await.unwrap();
        assert_eq!(names(memory), [["a", "b"]]);
        assert_eq!(Arc::strong_count(&room), 1);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_takes_long_is_waited_for_by_its_tenants_only() {
    let (big, small) = (tenant("big"), tenant("small"));
    let slow = Slow::new(&big);
    let memory = Memory { slow_to_commit: Some(slow.clone()), ..memory(&[(&big, 1), (&small, 1)]) };
    with_writer(memory, async |publisher, memory| {
        let first = submit(publisher, &big, "a").await;
        slow.begun.notified().await;
        let second = submit(publisher, &big, "b").await;
        for data in ["c", "d"] {
            submit(publisher, &small, data).await.published().await.unwrap();
        }
        assert_eq!(names(memory), [["c"], ["d"]]);
        slow.told.notify_one();
        first.published().await.unwrap();
        slow.begun.notified().await;
        assert_eq!(names(memory), [["c"], ["d"], ["a"]]);
        slow.told.notify_one();
        second.published().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_comes_in_while_a_table_is_read_does_not_make_it_be_read_for_ever() {
    let restless = tenant("restless");
    let slow = Slow::new(&restless);
    let memory = Memory {
        slow_to_read: Some(slow.clone()),
        restless: Some(restless.clone()),
        ..memory(&[(&restless, 1)])
    };
    with_writer(memory, async |publisher, memory| {
        let mut before = submit(publisher, &restless, "0").await;
        for number in 1..5 {
            slow.begun.notified().await;
            let next = submit(publisher, &restless, &number.to_string()).await;
            slow.told.notify_one();
            before.published().await.unwrap();
            before = next;
        }
        slow.begun.notified().await;
        slow.told.notify_one();
        before.published().await.unwrap();
        assert_eq!(names(memory), [["0"], ["1"], ["2"], ["3"], ["4"]]);
        assert_eq!(memory.reads.load(Ordering::SeqCst), 5);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_refused_and_the_others_are_stored_in_their_order() {
    let (one, other) = (tenant("one"), tenant("other"));
    for place in 0..5 {
        with_writer(memory(&[(&one, 1), (&other, 1)]), async |publisher, memory| {
            let mut submitted = Vec::new();
            for number in 0..5 {
                let data = if number == place { "broken".to_owned() } else { number.to_string() };
                submitted.push(submit(publisher, &one, &data).await);
            }
            let beside = submit(publisher, &other, "x").await;
            for (number, submitted) in submitted.into_iter().enumerate() {
                let result = submitted.published().await;
                assert_eq!(matches!(result, Err(Error::Broken(_))), number == place, "{number}: {result:?}");
            }
            beside.published().await.unwrap();
            let mut stored = names(memory).concat();
            stored.retain(|data| data != "x");
            assert!(stored.is_sorted() && stored.len() == 4, "{stored:?}");
        })
        .await;
    }
}

/// A table of one subscription on conditions, to `user.**`, and one without.
fn conditional_table(tenant: &TenantId) -> MatchTable {
    let conditions =
        Conditions { attributes: Vec::new(), expression: Some("data.a.exists(x, x < 0)".to_owned()) };
    let mut conditional = interest(tenant, 0);
    let settings = Settings { filter: Some(conditions), ..(*Settings::plain()).clone() };
    Arc::get_mut(&mut conditional.target).unwrap().settings = Some(settings.into());
    conditional.filter = Filter::parse(&["user.**"]).unwrap();
    let mut table = MatchTable::new(Interests {
        version: Some(1),
        catalogue_version: 0,
        subscriptions: vec![conditional, interest(tenant, 1)],
        unreadable: 0,
    });
    table.compile(&mut Programs::default());
    table
}

#[test]
fn judging_that_is_not_to_go_on_leaves_the_rest_as_it_was() {
    let shop = tenant("shop");
    let judge = Judge {
        table: Arc::new(conditional_table(&shop)),
        is_fresh: true,
        rules: Arc::default(),
        failures: Arc::new(Failures::new(Metrics::default())),
        now: NOW,
    };
    let pending = |data: &str| {
        let mut event = an_event(&shop, data);
        event.content.event_type = EventType::parse("user.created").unwrap();
        "application/json".clone_into(&mut event.content.payload.content_type);
        let (answer, _) = oneshot::channel();
        Pending {
            event,
            route: Route::Matching,
            answer,
            screened: None,
            checked: None,
            room: Room::default(),
        }
    };
    // Each is good for some twelve pauses.
    let pause: Pause = Rc::new({
        let left = Cell::new(30);
        move || left.replace(left.get() - 1) > 0
    });
    let events = (0..4).map(|number| {
        let items = vec!["1"; 20_000].join(",");
        pending(&format!("{{\"number\":{number},\"a\":[{items}]}}"))
    });
    let (looked_at, left) = judge.look_at_all(events.collect(), &pause);
    let number = |pending: &Pending| {
        let data: serde_json::Value = serde_json::from_slice(&pending.event.content.payload.data).unwrap();
        data["number"].as_u64().unwrap()
    };
    let all: Vec<_> = looked_at.iter().chain(&left).map(number).collect();
    assert_eq!(all, [0, 1, 2, 3]);
    assert!((1..4).contains(&looked_at.len()), "{}", looked_at.len());
    assert!(looked_at.iter().all(|pending| pending.screened.is_some()));
    assert!(left.iter().all(|pending| pending.screened.is_none()));
}

#[test]
fn only_events_that_a_subscription_with_conditions_can_want_are_judged() {
    let shop = tenant("shop");
    let table = conditional_table(&shop);
    let asks = |event_type: &str, route| {
        let mut event = an_event(&shop, "e");
        event.content.event_type = EventType::parse(event_type).unwrap();
        let (answer, _) = oneshot::channel();
        table.asks(&Pending { event, route, answer, screened: None, checked: None, room: Room::default() })
    };
    assert!(asks("user.created", Route::Matching));
    assert!(!asks("order.created", Route::Matching));
    assert!(!asks("user.created", Route::Only(SubscriptionUid::nth(NOW, 0))));
}

#[tokio::test]
async fn a_transaction_is_bounded_in_deliveries_and_the_rest_goes_into_the_next() {
    let (big, small) = (tenant("big"), tenant("small"));
    let memory = Arc::new(memory(&[(&big, 450), (&small, 1)]));
    let mut events: Vec<_> = (0..9).map(|number| an_event(&big, &format!("b{number}"))).collect();
    events.extend((0..4).map(|number| an_event(&small, &format!("s{number}"))));
    let others = vec![an_event(&big, "b"), an_event(&small, "s")];
    let (counts, is_told) = publish_after(&memory, others, events).await;
    assert_eq!(counts, [[450; 9].as_slice(), &[1; 4]].concat());
    assert!(!is_told);
    let commits = commits(&memory).split_off(2);
    let names: Vec<Vec<_>> =
        commits.iter().map(|batch| batch.iter().map(|stored| stored.data.as_str()).collect()).collect();
    assert_eq!(
        names,
        [vec!["b0", "s0", "b1", "s1", "b2", "s2", "b3", "s3", "b4"], vec!["b5", "b6", "b7", "b8"],]
    );
}

fn names(memory: &Memory) -> Vec<Vec<String>> {
    let names = |batch: Vec<Stored>| batch.into_iter().map(|stored| stored.data).collect();
    commits(memory).into_iter().map(names).collect()
}

#[tokio::test]
async fn a_tenant_whose_deliveries_find_no_room_waits_for_it_and_the_others_go_on() {
    let (crowded, calm) = (tenant("crowded"), tenant("calm"));
    let memory = Arc::new(memory(&[(&crowded, 1), (&calm, 1)]));
    let waits = Arc::new(Notify::new());
    let outlet = Full { crowded: Some(crowded.clone()), waits: Arc::clone(&waits) };
    let clock = Arc::new(ManualClock::at(NOW));
    let (publisher, writer) =
        Publisher::new(Shared(Arc::clone(&memory)), outlet, clock, Metrics::default(), Arc::default());
    let mut submitted = Vec::new();
    for number in 0..3 {
        let event = an_event(&crowded, &format!("a{number}"));
        submitted.push(publisher.submit(event, Route::Matching, Room::default()).await.unwrap());
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let running = async {
        for number in 0..3 {
            let event = an_event(&calm, &format!("b{number}"));
            publisher.publish(event, Route::Matching).await.unwrap();
        }
        assert_eq!(names(&memory), [["a0"], ["b0"], ["b1"], ["b2"]], "only the first goes on all the same");
        waits.notify_one();
        let mut submitted = submitted.into_iter();
        for expected in ["a0", "a1"] {
            submitted.next().unwrap().published().await.unwrap();
            assert!(names(&memory).concat().contains(&expected.to_owned()));
        }
        assert_eq!(names(&memory).last().unwrap(), &["a1"], "it is crowded again");
        // The last one is committed as the writer ends, whoever waits.
        stop.cancel();
        submitted.next().unwrap().published().await.unwrap();
    };
    tokio::join!(writer.run(stop.clone()), running);
    assert_eq!(names(&memory).concat(), ["a0", "b0", "b1", "b2", "a1", "a2"]);
}

#[tokio::test]
async fn a_big_event_is_committed_with_its_first_deliveries_and_the_rest_in_parts() {
    let big = tenant("big");
    let memory = Arc::new(memory(&[(&big, 1_234)]));
    assert_eq!(publish(&memory, vec![an_event(&big, "e")]).await, (vec![1_234], true));
    let stored = commits(&memory).concat().remove(0);
    assert_eq!((stored.deliveries, stored.parts), (500, vec![500, 234]));
}

#[tokio::test]
async fn an_event_that_everybody_gets_at_once_leaves_nothing_to_fan_out() {
    let big = tenant("big");
    let memory = Arc::new(memory(&[(&big, 500)]));
    assert_eq!(publish(&memory, vec![an_event(&big, "e")]).await, (vec![500], false));
    let stored = commits(&memory).concat().remove(0);
    assert_eq!((stored.deliveries, stored.parts), (500, vec![]));
}

#[tokio::test]
async fn an_event_with_an_ordering_key_is_committed_in_parts_as_well() {
    let big = tenant("big");
    let memory = Arc::new(memory(&[(&big, 1_234)]));
    let mut keyed = an_event(&big, "e");
    keyed.content.handling.ordering_key = Some(OrderingKey::parse("k".to_owned()).unwrap());
    assert_eq!(publish(&memory, vec![keyed]).await, (vec![1_234], true));
    let stored = commits(&memory).concat().remove(0);
    assert_eq!((stored.deliveries, stored.parts), (500, vec![500, 234]));
}
