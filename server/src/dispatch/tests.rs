//! The dispatcher with everything around it replaced: no database, no network, and tokio's time, which jumps when all are idle.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use bytes::Bytes;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        attempt::{AttemptNumber, Outcome, Timings},
        event::{Attributes, Event, EventContent, Payload},
        event_type::EventType,
        id::{EventId, SubscriptionId, TenantId},
        secret::SecretSet,
        target_url::TargetUrl,
    },
};

/// Long enough for a test that needs it to be seen to have waited.
const POLL_INTERVAL: Duration = Duration::from_mins(1);

/// Deliveries that are due, and those that were settled.
#[derive(Default)]
struct FakeQueue {
    due: Mutex<BTreeMap<SubscriptionUid, VecDeque<Claim>>>,
    settled: tokio::sync::watch::Sender<usize>,
    unavailable: Mutex<usize>,
    hints: Mutex<usize>,
}

impl FakeQueue {
    fn holding(deliveries: usize, subscriptions: usize) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        for _ in 0..subscriptions {
            let target = target();
            let claims = (0..deliveries).map(|_| claim(&target)).collect();
            queue.due.lock().unwrap().insert(target.uid, claims);
        }
        queue
    }
}

impl Queue for Arc<FakeQueue> {
    async fn claim(&self, ask: &Ask) -> Result<Vec<Claim>, QueueError> {
        let busy: BTreeMap<_, _> = ask.in_flight.iter().copied().collect();
        let mut claims = Vec::new();
        for (uid, due) in self.due.lock().unwrap().iter_mut() {
            let room = ask.max_per_subscription.saturating_sub(busy.get(uid).copied().unwrap_or(0));
            let room = room.min(ask.max - claims.len()).min(due.len());
            claims.extend(due.drain(..room));
        }
        Ok(claims)
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        let mut unavailable = self.unavailable.lock().unwrap();
        if *unavailable > 0 {
            *unavailable -= 1;
            return Err(QueueError::Unavailable("gone".into()));
        }
        self.settled.send_modify(|settled| *settled += batch.len());
        Ok(Settling::default())
    }

    async fn overdue(&self, _: &Ask) -> Result<Option<Overdue>, QueueError> {
        Ok(None)
    }

    async fn hint(&self) -> Result<(), QueueError> {
        *self.hints.lock().unwrap() += 1;
        Ok(())
    }
}

/// Is acknowledged at once, and notes how many attempts were under way together.
#[derive(Default)]
struct FakeSender {
    under_way: Mutex<(usize, usize)>,
}

impl Sender for Arc<FakeSender> {
    async fn send(&self, claim: &Claim, _: Option<&TraceContext>, now: Timestamp) -> Attempt {
        {
            let mut under_way = self.under_way.lock().unwrap();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        tokio::task::yield_now().await;
        self.under_way.lock().unwrap().0 -= 1;
        Attempt {
            number: claim.attempt,
            started_at: now,
            target_url: String::new(),
            outcome: Outcome::Acknowledged { status: 204 },
            response: None,
            timings: Timings::default(),
            span: None,
        }
    }
}

fn target() -> Arc<Target> {
    let uid = SubscriptionUid::new(Timestamp::from_micros(0));
    Arc::new(Target {
        uid,
        tenant: TenantId::parse("default").unwrap(),
        id: SubscriptionId::from(uid),
        url: TargetUrl::parse("https://example.com/").unwrap(),
        secrets: SecretSet::newest_first(Vec::new()),
    })
}

fn claim(target: &Arc<Target>) -> Claim {
    let now = Timestamp::from_micros(0);
    let event = Event {
        id: EventId::new(now),
        tenant: target.tenant.clone(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse("a.b").unwrap(),
            source: String::new(),
            subject: String::new(),
            time: None,
            payload: Payload::parse(Bytes::from_static(b"1"), "", 1).unwrap(),
            attributes: Attributes::default(),
        },
        trace: None,
        created_at: now,
    };
    Claim {
        delivery: DeliveryId::new(now),
        attempt: AttemptNumber::FIRST,
        event: Arc::new(event),
        target: Arc::clone(target),
        leased_until: now + Duration::from_mins(1),
        previous_span: None,
    }
}

/// Runs a dispatcher until `expected` deliveries are settled; returns how many attempts were under way together at most, and how long it took.
async fn run(queue: &Arc<FakeQueue>, config: Config, expected: usize) -> (usize, Duration) {
    let sender = Arc::new(FakeSender::default());
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1)));
    let dispatcher = Dispatcher::new(
        config,
        RetryPolicy::default(),
        Arc::clone(queue),
        Arc::clone(&sender),
        clock,
        Metrics::default(),
        Arc::default(),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let settling = dispatcher.clone();
    let settler = tasks.spawn(async move { settling.settle().await });
    let begun = tokio::time::Instant::now();
    let (running, ends) = (dispatcher.clone(), stop.clone());
    let loops = tasks.spawn(async move { running.run(ends).await });
    queue.settled.subscribe().wait_for(|settled| *settled >= expected).await.unwrap();
    let took = begun.elapsed();
    dispatcher.drain().await;
    stop.cancel();
    loops.await.unwrap();
    settler.abort();
    let most = sender.under_way.lock().unwrap().1;
    (most, took)
}

fn config(max_in_flight: usize, max_in_flight_per_subscription: usize) -> Config {
    Config {
        max_in_flight,
        max_in_flight_per_subscription,
        poll_interval: POLL_INTERVAL,
        ..Config::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_behind_one_subscriptions_limit_drains_without_waiting_for_the_poll() {
    let queue = FakeQueue::holding(500, 1);
    let (most, took) = run(&queue, config(64, 8), 500).await;
    assert!(took < POLL_INTERVAL, "it took {took:?}");
    assert!(most <= 8, "{most} attempts were under way");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_behind_the_nodes_limit_drains_without_waiting_for_the_poll() {
    let queue = FakeQueue::holding(50, 20);
    let (most, took) = run(&queue, config(16, 16), 1_000).await;
    assert!(took < POLL_INTERVAL, "it took {took:?}");
    assert!(most <= 16, "{most} attempts were under way");
}

#[tokio::test(start_paused = true)]
async fn while_settlements_cannot_be_written_no_more_is_taken_over_and_then_it_goes_on() {
    let queue = FakeQueue::holding(100, 1);
    *queue.unavailable.lock().unwrap() = 5;
    let (most, took) = run(&queue, config(8, 8), 100).await;
    assert!(most <= 8, "{most} attempts were under way");
    assert!(took >= Duration::from_millis(50 + 100 + 200 + 400 + 800), "it took {took:?}");
    assert!(took < POLL_INTERVAL, "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn other_nodes_are_told_while_work_is_left_over_and_not_at_every_claim() {
    let queue = FakeQueue::holding(50, 20);
    let (_, took) = run(&queue, config(16, 16), 1_000).await;
    let hints = *queue.hints.lock().unwrap();
    assert!(hints >= 1);
    assert!(hints as u128 <= took.as_millis() / 50 + 1, "{hints} hints in {took:?}");
}

#[tokio::test(start_paused = true)]
async fn other_nodes_are_left_alone_where_nothing_is_left_over() {
    let queue = FakeQueue::holding(1, 20);
    run(&queue, config(64, 8), 20).await;
    assert_eq!(*queue.hints.lock().unwrap(), 0);
}
