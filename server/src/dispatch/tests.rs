//! The dispatcher with everything around it replaced: no database, no network, and tokio's time, which jumps when all are idle.

use std::collections::BTreeMap;

pub(super) use fakes::target;
use fakes::{FakeQueue, FakeSender, TIMEOUT, claim};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    domain::breaker::{HealthChange, Probe},
};

mod fakes;

/// Long enough for a test that needs it to be seen to have waited.
const POLL_INTERVAL: Duration = Duration::from_mins(1);

/// A dispatcher whose attempts are acknowledged.
fn dispatcher(queue: &Arc<FakeQueue>, config: Config) -> Dispatcher<Arc<FakeQueue>, Arc<FakeSender>> {
    Dispatcher::new(
        config,
        Policy::default(),
        Arc::clone(queue),
        Arc::default(),
        Arc::new(ManualClock::at(Timestamp::from_micros(1))),
        Metrics::default(),
        Arc::default(),
    )
}

/// Runs a dispatcher until `expected` deliveries are settled; returns how many attempts were under way together at most, and how long it took.
async fn run(queue: &Arc<FakeQueue>, config: Config, expected: usize) -> (usize, Duration) {
    run_with(queue, FakeSender::default(), config, expected).await
}

async fn run_with(
    queue: &Arc<FakeQueue>,
    sender: FakeSender,
    config: Config,
    expected: usize,
) -> (usize, Duration) {
    let sender = Arc::new(sender);
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1)));
    let dispatcher = Dispatcher::new(
        config,
        Policy::default(),
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

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_delivery_is_told_when_it_is_settled() {
    let queue = FakeQueue::holding(1, 1);
    let delivery = queue.due.lock().unwrap().values().next().unwrap()[0].delivery;
    let dispatcher = dispatcher(&queue, Config::default());
    let watch = dispatcher.watch(delivery).unwrap();
    let settling = dispatcher.clone();
    let settler = TaskTracker::new().spawn(async move { settling.settle().await });
    assert!(tokio::time::timeout(POLL_INTERVAL, watch.settled()).await.is_err(), "nothing was settled yet");
    dispatcher.tick().await.unwrap();
    tokio::time::timeout(POLL_INTERVAL, watch.settled()).await.expect("it was not told");
    assert_eq!(*queue.settled.borrow(), 1);
    settler.abort();
}

fn config(max_in_flight: usize, max_in_flight_per_subscription: usize) -> Config {
    Config {
        max_in_flight,
        max_in_flight_per_tenant: max_in_flight,
        max_in_flight_per_subscription,
        poll_interval: POLL_INTERVAL,
        max_queued: 0,
        max_queued_per_subscription: 0,
        ..Config::default()
    }
}

#[tokio::test(start_paused = true)]
async fn more_is_held_than_is_sent_at_once() {
    let queue = FakeQueue::holding(300, 2);
    let config = Config { max_queued: 100, max_queued_per_subscription: 50, ..config(6, 4) };
    let (most, took) = run(&queue, config, 600).await;
    assert_eq!(most, 6, "the node's limit holds for what is sent");
    assert!(took < POLL_INTERVAL, "it took {took:?}");
    assert_eq!(*queue.unattempted.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_a_breaker_opens_what_waits_in_line_is_given_back_without_an_attempt() {
    let queue = FakeQueue::holding(50, 1);
    let dead = *queue.due.lock().unwrap().keys().next().unwrap();
    let sender = FakeSender { failing: BTreeMap::from([(dead, 500)]), ..FakeSender::default() };
    let config = Config { max_queued: 100, max_queued_per_subscription: 100, ..config(4, 4) };
    run_with(&queue, sender, config, 50).await;
    let unattempted = *queue.unattempted.lock().unwrap();
    assert!((50 - 10 - 3..50 - 10 + 1).contains(&unattempted), "{unattempted} were given back");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_receiver_that_is_gone_is_given_back_unsent() {
    let queue = FakeQueue::holding(30, 1);
    let gone = *queue.due.lock().unwrap().keys().next().unwrap();
    let config = Config { max_queued: 30, max_queued_per_subscription: 30, ..config(32, 2) };
    let sender = FakeSender { failing: BTreeMap::from([(gone, 410)]), ..FakeSender::default() };
    run_with(&queue, sender, config, 30).await;
    assert_eq!(*queue.unattempted.lock().unwrap(), 28, "but for the two that were sent at once");
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_memory_is_given_back_when_that_is_asked_for() {
    let queue = FakeQueue::holding(30, 1);
    let subscription = *queue.due.lock().unwrap().keys().next().unwrap();
    let config = Config { max_queued: 30, max_queued_per_subscription: 30, ..config(32, 2) };
    let dispatcher = dispatcher(&queue, config);
    let settling = dispatcher.clone();
    let settler = TaskTracker::new().spawn(async move { settling.settle().await });
    assert_eq!(dispatcher.tick().await.unwrap(), 30);
    // Each has lined up; two of them send.
    tokio::task::yield_now().await;
    dispatcher.send_away(subscription);
    dispatcher.drain().await;
    assert_eq!(*queue.unattempted.lock().unwrap(), 28);
    settler.abort();
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

#[tokio::test]
async fn while_a_settlement_is_held_up_nothing_more_is_taken_over() {
    let queue = FakeQueue::holding(2, 1);
    *queue.silent_for_good.lock().unwrap() = true;
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1)));
    let dispatcher = Dispatcher::new(
        config(8, 8),
        Policy::default(),
        Arc::clone(&queue),
        Arc::new(FakeSender::default()),
        Arc::clone(&clock) as _,
        Metrics::default(),
        Arc::default(),
    );
    let settling = dispatcher.clone();
    let settler = TaskTracker::new().spawn(async move { settling.settle().await });
    dispatcher.start(dispatcher.reserve(&target(), 0).unwrap(), claim(&target()));
    while dispatcher.0.recording.works(clock.now() + Duration::from_mins(1), Duration::ZERO) {
        tokio::task::yield_now().await;
    }
    clock.advance(dispatcher.lease() / 4);
    dispatcher.reserve(&target(), 0).expect("it may take so long");
    clock.advance(Duration::from_micros(1));
    assert_eq!(dispatcher.tick().await.unwrap(), 0);
    assert_eq!(dispatcher.reserve(&target(), 0).err(), Some(NoRoom::Taken));
    settler.abort();
}

#[tokio::test]
async fn a_settlement_that_a_defect_has_ended_does_not_count_as_held_up() {
    let queue = FakeQueue::holding(1, 1);
    *queue.faulty.lock().unwrap() = true;
    let dispatcher = dispatcher(&queue, config(8, 8));
    let settling = || {
        let dispatcher = dispatcher.clone();
        TaskTracker::new().spawn(async move { dispatcher.settle().await })
    };
    let settler = settling();
    dispatcher.start(dispatcher.reserve(&target(), 0).unwrap(), claim(&target()));
    assert!(settler.await.unwrap_err().is_panic());
    let later = Timestamp::from_micros(1) + dispatcher.lease();
    assert!(!dispatcher.0.records(later));
    let settler = settling();
    while !dispatcher.0.records(later) {
        tokio::task::yield_now().await;
    }
    settler.abort();
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_put_off_and_then_refused_does_not_keep_the_node_from_going_on() {
    let queue = FakeQueue::holding(2, 1);
    (*queue.unavailable.lock().unwrap(), *queue.broken.lock().unwrap()) = (1, 1);
    let all = tokio::time::timeout(POLL_INTERVAL * 2, run(&queue, config(1, 1), 1)).await;
    assert!(all.is_ok(), "nothing was claimed any more");
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_when_it_is_its_turn_is_settled_without_an_attempt() {
    let queue = FakeQueue::holding(4, 1);
    for claim in queue.due.lock().unwrap().values_mut().flatten().step_by(2) {
        let event = Arc::make_mut(&mut claim.event);
        // The clock of `run` stands there.
        event.content.handling.expire_at = Some(Timestamp::from_micros(1));
    }
    let (most, _) = run(&queue, config(8, 8), 4).await;
    assert!(most <= 2, "{most} attempts were made");
    assert_eq!(*queue.unattempted.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_is_looked_for_at_its_time() {
    let queue = Arc::new(FakeQueue::default());
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1)));
    let dispatcher = Dispatcher::new(
        config(8, 8),
        Policy::default(),
        Arc::clone(&queue),
        Arc::new(FakeSender::default()),
        clock,
        Metrics::default(),
        Arc::default(),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (settling, running, ends) = (dispatcher.clone(), dispatcher.clone(), stop.clone());
    let settler = tasks.spawn(async move { settling.settle().await });
    let loops = tasks.spawn(async move { running.run(ends).await });
    // The loop has looked once and sleeps.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let begun = tokio::time::Instant::now();
    dispatcher.wake_at(Timestamp::from_micros(1) + Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let target = target();
    queue.due.lock().unwrap().insert(target.uid, [claim(&target)].into());
    queue.settled.subscribe().wait_for(|settled| *settled == 1).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2);
    dispatcher.drain().await;
    stop.cancel();
    loops.await.unwrap();
    settler.abort();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_opens_its_breaker_once_and_holds_up_nobody_else() {
    let queue = FakeQueue::holding(200, 3);
    let dead = *queue.due.lock().unwrap().keys().next().unwrap();
    let sender = FakeSender { failing: BTreeMap::from([(dead, 500)]), ..FakeSender::default() };
    // What the others have, and what it takes for the breaker to open.
    let (_, took) = run_with(&queue, sender, config(64, 8), 400 + 10).await;
    assert!(took < POLL_INTERVAL, "it took {took:?}");
    let changes = queue.changes.lock().unwrap();
    assert!(matches!(changes[..], [HealthChange::Open { .. }]), "{changes:?}");
    let waiting = queue.due.lock().unwrap()[&dead].len();
    assert!(waiting >= 200 - 10 - 7, "no more is sent than was under way: {waiting} wait");
}

#[tokio::test]
async fn a_probe_that_has_expired_before_its_turn_leaves_it_to_another() {
    let held_until = claim(&target()).leased_until;
    let probe = Probe { held_until, pauses: 1 };
    let target = target();
    let mut expired = Claim { probe: Some(probe), ..claim(&target) };
    let event = Arc::make_mut(&mut expired.event);
    event.content.handling.expire_at = Some(Timestamp::from_micros(1));
    let queue = Arc::new(FakeQueue::default());
    queue.due.lock().unwrap().insert(target.uid, [expired].into());
    let dispatcher = Dispatcher::new(
        config(1, 1),
        Policy::default(),
        Arc::clone(&queue),
        Arc::new(FakeSender::default()),
        Arc::new(ManualClock::at(Timestamp::from_micros(1))),
        Metrics::default(),
        Arc::default(),
    );
    assert_eq!(dispatcher.tick().await.unwrap(), 1);
    tokio::select! {
        () = dispatcher.settle() => {}
        () = dispatcher.drain() => {}
    }
    assert_eq!(*queue.unattempted.lock().unwrap(), 1);
    assert_eq!(*queue.changes.lock().unwrap(), [HealthChange::Release { held_until }]);
}

#[tokio::test]
async fn an_attempt_is_only_begun_if_its_whole_timeout_fits_into_the_lease() {
    let lease_ends = claim(&target()).leased_until;
    let begun_with = async |left: Duration| {
        let (queue, sender) = (FakeQueue::holding(1, 1), Arc::new(FakeSender::default()));
        let now = Timestamp::from_micros(lease_ends.as_micros() - i64::try_from(left.as_micros()).unwrap());
        let dispatcher = Dispatcher::new(
            config(1, 1),
            Policy::default(),
            Arc::clone(&queue),
            Arc::clone(&sender),
            Arc::new(ManualClock::at(now)),
            Metrics::default(),
            Arc::default(),
        );
        assert_eq!(dispatcher.tick().await.unwrap(), 1);
        tokio::select! {
            () = dispatcher.settle() => {}
            () = dispatcher.drain() => {}
        }
        (sender.under_way.lock().unwrap().1, *queue.unattempted.lock().unwrap())
    };
    let given_back = (0, 1);
    assert_eq!(begun_with(TIMEOUT + Duration::from_micros(1)).await, (1, 0));
    assert_eq!(begun_with(TIMEOUT).await, given_back, "it may end when the lease does");
    assert_eq!(begun_with(Duration::from_secs(1)).await, given_back, "the lease would run out meanwhile");
    assert_eq!(begun_with(Duration::ZERO).await, given_back, "the lease has run out");
}

#[tokio::test]
async fn not_knowing_who_is_blocked_keeps_nobody_from_claiming() {
    let queue = FakeQueue::holding(1, 1);
    *queue.confused.lock().unwrap() = true;
    assert_eq!(dispatcher(&queue, config(1, 1)).tick().await.unwrap(), 1);
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

/// A dispatcher with room for one delivery, whose place was taken right after it was told of another one; and how many hints it has
/// given a while later.
async fn hints_of_a_node_that_is_full(queue: &Arc<FakeQueue>) -> usize {
    let dispatcher = dispatcher(queue, config(1, 1));
    let told = dispatcher.clone();
    *queue.meanwhile.lock().unwrap() = Some(Box::new(move || told.wake()));
    assert_eq!(dispatcher.tick().await.unwrap(), 0);
    let _permit = dispatcher.reserve(&target(), 1).unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (running, ends) = (dispatcher.clone(), stop.clone());
    let loops = tasks.spawn(async move { running.run(ends).await });
    tokio::time::sleep(POLL_INTERVAL / 2).await;
    stop.cancel();
    loops.await.unwrap();
    *queue.hints.lock().unwrap()
}

#[tokio::test(start_paused = true)]
async fn news_that_a_look_came_too_early_for_is_passed_on_by_the_next_one_if_the_node_is_full() {
    let queue = Arc::new(FakeQueue::default());
    assert_eq!(hints_of_a_node_that_is_full(&queue).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_does_not_get_through_is_given_again() {
    let queue = Arc::new(FakeQueue::default());
    *queue.silent.lock().unwrap() = 3;
    assert_eq!(hints_of_a_node_that_is_full(&queue).await, 1);
}
