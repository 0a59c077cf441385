//! Who gets room, and who does not.

use std::{num::NonZeroU32, time::Duration};

use tokio::sync::oneshot::error::TryRecvError;

use super::{
    waiting::{BETWEEN_LOOKS, PATIENCE, WITHOUT_HOPE},
    *,
};
use crate::{
    dispatch::{Config, Trouble, line::Arrival, tests::target, vitals::RECOVERY},
    domain::{
        attempt::Outcome,
        breaker::{BreakerPolicy, HealthChange},
        fixtures::attempt,
        id::DeliveryId,
        kept_window::KeptWindow,
        rate_limit::RateLimit,
        retry::Jitter,
        subscription::Pace,
    },
};

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const OK: Outcome = Outcome::Acknowledged { status: 204 };
const ERROR: Outcome = Outcome::Rejected { status: 500, retry_after: None };
const TOO_MUCH: Outcome = Outcome::Rejected { status: 429, retry_after: None };
const TICK: Duration = Duration::from_micros(1);

fn permits(node: usize, tenant: usize, subscription: usize) -> Arc<Permits> {
    let config = Config {
        max_in_flight: node,
        max_in_flight_per_tenant: tenant,
        max_in_flight_per_subscription: subscription,
        max_queued: 0,
        max_queued_per_subscription: 0,
        ..Config::default()
    };
    Permits::new(&config, Arc::default(), Metrics::default())
}

fn permits_with_queue(node: usize, subscription: usize, queued: usize) -> Arc<Permits> {
    let config = Config {
        max_in_flight: node,
        max_in_flight_per_tenant: node,
        max_in_flight_per_subscription: subscription,
        max_queued: queued,
        max_queued_per_subscription: queued,
        ..Config::default()
    };
    Permits::new(&config, Arc::default(), Metrics::default())
}

fn target_with(change: impl FnOnce(&mut Target)) -> Arc<Target> {
    let mut target = Arc::into_inner(target()).unwrap();
    change(&mut target);
    Arc::new(target)
}

/// Takes all the room there is for a subscription.
fn take_all(permits: &Arc<Permits>, target: &Arc<Target>) -> Vec<Permit> {
    std::iter::from_fn(|| permits.take(target, 0, NOW).ok()).collect()
}

fn refused(permits: &Arc<Permits>, target: &Arc<Target>) -> Option<NoRoom> {
    permits.take(target, 0, NOW).err()
}

/// Makes attempts one after another; returns what the last one led to.
fn attempts(
    permits: &Arc<Permits>,
    target: &Arc<Target>,
    outcome: &Outcome,
    count: usize,
    at: Timestamp,
) -> Option<HealthChange> {
    let mut change = None;
    for _ in 0..count {
        let permit = permits.take(target, 0, at).ok();
        let policy = BreakerPolicy::default();
        change = permits.record(target, &attempt(at, outcome.clone()), &policy, at, Jitter::NONE).health;
        drop(permit);
    }
    change
}

fn blocked(subscriptions: impl IntoIterator<Item = SubscriptionUid>) -> Trouble {
    Trouble { blocked: subscriptions.into_iter().collect(), ..Trouble::default() }
}

fn window(permits: &Permits, target: &Target, now: Timestamp) -> Option<usize> {
    let limits = permits.under_way(now).limits;
    limits.into_iter().find(|(uid, _)| *uid == target.uid).map(|(_, size)| size)
}

#[test]
fn a_subscription_at_its_limit_leaves_room_for_the_others() {
    let permits = permits(3, 3, 2);
    let (slow, other) = (target(), target());
    let held = take_all(&permits, &slow);
    assert_eq!(held.len(), 2);
    let last = permits.take(&other, 0, NOW);
    assert!(last.is_ok());
    assert_eq!(refused(&permits, &target()), Some(NoRoom::Soon), "the node is full");
    drop(held);
    assert_eq!(permits.under_way(NOW).held, [(other.uid, 1)]);
    assert!(permits.take(&slow, 0, NOW).is_ok());
}

#[test]
fn more_is_held_than_is_sent_but_only_for_a_receiver_that_is_well_and_asks_for_no_less() {
    let permits = permits_with_queue(10, 2, 5);
    let (well, modest, slow) =
        (target(), target_with(|target| target.pace.max_in_flight = NonZeroU32::new(2)), target());
    assert_eq!(take_all(&permits, &well).len(), 2 + 5);
    assert_eq!(take_all(&permits, &modest).len(), 2);
    let one = permits.take(&slow, 0, NOW);
    permits.slow_down(&slow);
    assert_eq!(take_all(&permits, &slow).len(), 1);
    drop(one);
    let held = permits.take(&well, 0, NOW);
    permits.crowded(&well, NOW);
    assert_eq!(take_all(&permits, &well).len(), 1, "one waited in vain");
    permits.under_way(NOW + RECOVERY);
    assert_eq!(take_all(&permits, &well).len(), 6, "that was long ago");
    drop(held);
}

#[test]
fn slow_receivers_share_half_of_the_places() {
    let permits = permits_with_queue(4, 4, 4);
    let slow: Vec<_> = (0..5).map(|_| target()).collect();
    let first: Vec<_> = slow.iter().map(|target| permits.take(target, 0, NOW).unwrap()).collect();
    for target in &slow {
        permits.slow_down(target);
    }
    assert_eq!(refused(&permits, &slow[0]), Some(NoRoom::Taken));
    assert_eq!(window(&permits, &slow[0], NOW), Some(1), "the claim takes no more of it");
    assert_eq!(take_all(&permits, &target()).len(), 3, "all that is left");
    drop(first);
    assert_eq!(permits.taken().slow, 0);
    assert_eq!(take_all(&permits, &slow[0]).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_for_long_nor_again_and_again() {
    let permits = permits(1, 1, 1);
    let begun = Instant::now();
    permits.room().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let held = permits.take(&target(), 0, NOW);
    permits.room().await;
    permits.room().await;
    assert!((PATIENCE..PATIENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_quick_receiver_goes_on_when_some_of_its_room_has_come_back() {
    let permits = permits_with_queue(100, 20, 60);
    let quick = target();
    let mut held = take_all(&permits, &quick);
    assert_eq!((held.len(), refused(&permits, &quick)), (80, Some(NoRoom::Soon)));
    let begun = Instant::now();
    let come_back = async {
        tokio::time::sleep(BETWEEN_LOOKS * 5).await;
        held.truncate(61);
        tokio::time::sleep(BETWEEN_LOOKS * 5).await;
        held.truncate(60);
    };
    tokio::join!(permits.room_for(&quick), come_back);
    let took = begun.elapsed();
    assert!((BETWEEN_LOOKS * 10..BETWEEN_LOOKS * 12).contains(&took), "a quarter of the room takes {took:?}");
    assert!(permits.take(&quick, 0, NOW).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_has_waited_in_vain_waits_no_more_for_a_while() {
    let permits = permits(10, 10, 2);
    let (crowded, other) = (target(), target_with(|target| target.tenant = TenantId::parse("b").unwrap()));
    let held = [take_all(&permits, &crowded), take_all(&permits, &other)];
    let begun = Instant::now();
    permits.room_for(&crowded).await;
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(refused(&permits, &crowded), Some(NoRoom::Taken));
    assert_eq!(refused(&permits, &other), Some(NoRoom::Soon), "other tenants have their own hopes");
    tokio::time::sleep(WITHOUT_HOPE).await;
    assert_eq!(refused(&permits, &crowded), Some(NoRoom::Soon));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_receivers_that_are_slow_or_want_less_than_they_could_have() {
    let permits = permits(10, 10, 3);
    let slow = target();
    let modest = target_with(|target| target.pace.max_in_flight = NonZeroU32::new(2));
    let held = [take_all(&permits, &slow), take_all(&permits, &modest)];
    permits.slow_down(&slow);
    let begun = Instant::now();
    for target in [&slow, &modest] {
        assert_eq!(refused(&permits, target), Some(NoRoom::Taken));
        permits.room_for(target).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    drop(held);
}

#[test]
fn a_tenant_at_its_limit_leaves_room_for_the_others() {
    let permits = permits(10, 6, 4);
    let other = target_with(|target| target.tenant = TenantId::parse("quiet").unwrap());
    let (a, b) = (target(), target());
    let held = (take_all(&permits, &a), take_all(&permits, &b));
    assert_eq!((held.0.len(), held.1.len()), (4, 2));
    assert!(permits.under_way(NOW).saturated);
    assert_eq!(permits.under_way(NOW).tenants, [(a.tenant.clone(), 6)]);
    assert_eq!(take_all(&permits, &other).len(), 4);
    drop(held);
    assert!(permits.under_way(NOW).tenants.is_empty());
}

#[test]
fn a_subscription_may_ask_for_less_than_the_server_allows_and_not_for_more() {
    let permits = permits(10, 10, 4);
    for (own, room) in [(1, 1), (3, 3), (4, 4), (5, 4)] {
        let target = target_with(|target| target.pace.max_in_flight = NonZeroU32::new(own));
        assert_eq!(take_all(&permits, &target).len(), room, "{own}");
    }
}

#[test]
fn a_claim_takes_half_of_what_is_free_and_gives_back_what_it_does_not_use() {
    let permits = permits(5, 5, 5);
    let mut room = permits.take_room().unwrap();
    assert_eq!(room.size(), 3);
    assert_eq!(permits.node.available_permits(), 2);
    let used = room.place(0, 0).map(|place| place.at(&target()));
    drop(room);
    assert_eq!(permits.node.available_permits(), 4);
    drop(used);
    assert_eq!(permits.node.available_permits(), 5);
    assert!(permits.under_way(NOW).held.is_empty());
}

#[test]
fn large_data_takes_several_places() {
    for (bytes, expected) in [(0, 1), (1, 1), (PLACE_BYTES, 1), (PLACE_BYTES + 1, 2), (1 << 20, 16)] {
        assert_eq!(places(bytes), expected, "{bytes}");
    }
    let permits = permits(10, 10, 10);
    let (large, other) = (target(), target());
    let held = permits.take(&large, 4 * PLACE_BYTES, NOW).unwrap();
    let second = permits.take(&large, 4 * PLACE_BYTES, NOW).unwrap();
    assert_eq!(permits.take(&large, 4 * PLACE_BYTES, NOW).err(), Some(NoRoom::Soon));
    assert_eq!(permits.under_way(NOW).held, [(large.uid, 2)]);
    assert_eq!(permits.under_way(NOW).tenants, [(large.tenant.clone(), 8)]);
    assert_eq!(take_all(&permits, &other).len(), 2);
    permits.slow_down(&large);
    assert_eq!(permits.taken().slow, 8);
    assert_eq!(refused(&permits, &large), Some(NoRoom::Taken), "slow ones have had their half");
    drop(held);
    assert_eq!((permits.taken().slow, permits.free()), (4, 6));
    drop(second);
    assert!(permits.take(&target(), 100 * PLACE_BYTES, NOW).is_ok(), "alone, any finds room");
}

#[test]
fn of_what_was_claimed_each_finds_room() {
    let permits = permits(20, 20, 20);
    let mut room = permits.take_room().unwrap();
    assert_eq!(room.size(), 10);
    let target = target();
    let held: Vec<_> = (0..)
        .zip([2, 7, 1])
        .map(|(nth, places)| room.place(places * PLACE_BYTES, 2 - nth).unwrap().at(&target))
        .collect();
    assert!(room.place(0, 0).is_none());
    drop(room);
    assert_eq!((permits.taken().owed, permits.free()), (0, 10));
    drop(held);
    assert_eq!(permits.free(), 20);
}

#[test]
fn what_is_claimed_without_room_for_it_takes_what_comes_back() {
    let permits = permits(20, 20, 20);
    let target = target();
    let claim =
        |places: usize| permits.take_room()?.place(places * PLACE_BYTES, 0).map(|place| place.at(&target));
    let small = take_all(&permits, &target).into_iter().skip(4).collect::<Vec<_>>();
    assert_eq!(permits.free(), 4);
    let large = claim(10).unwrap();
    assert_eq!((permits.taken().owed, permits.free()), (6, 0));
    assert_eq!(permits.under_way(NOW).tenants, [(target.tenant.clone(), 26)]);
    assert!(claim(10).is_none(), "nothing more is held until there is room again");
    let mut small = small.into_iter();
    small.by_ref().take(5).for_each(drop);
    assert_eq!((permits.taken().owed, permits.free()), (1, 0));
    small.by_ref().take(2).for_each(drop);
    assert_eq!((permits.taken().owed, permits.free()), (0, 1));
    drop(large);
    assert_eq!(permits.free(), 11);
    drop(small);
    assert_eq!(permits.free(), 20);

    // It may be over before there was room.
    let small: Vec<_> = take_all(&permits, &target).into_iter().skip(1).collect();
    let large = claim(100).unwrap();
    assert_eq!((permits.taken().owed, permits.free()), (19, 0), "it takes no more than there is");
    drop(large);
    assert_eq!((permits.taken().owed, permits.free()), (0, 1));
    drop(small);
    assert_eq!(permits.free(), 20);
}

#[test]
fn what_is_published_to_a_rate_limited_subscription_is_left_to_the_claim() {
    let permits = permits(10, 10, 10);
    let rate = Some(RateLimit::parse(1.0, 1).unwrap());
    let limited = target_with(|target| target.pace = Pace { rate, ..Pace::default() });
    assert_eq!(refused(&permits, &limited), Some(NoRoom::Taken), "the claim has to say whether it may");
    permits.throttle(limited.uid, NOW + Duration::from_secs(1));
    assert_eq!(refused(&permits, &limited), Some(NoRoom::Held), "it has said");
    permits.throttle(limited.uid, NOW);
    assert_eq!(refused(&permits, &limited), Some(NoRoom::Taken));
}

#[test]
fn a_breaker_opens_once_and_holds_everything_until_the_database_says_otherwise() {
    let permits = permits(100, 100, 10);
    let target = target();
    assert_eq!(attempts(&permits, &target, &ERROR, 9, NOW), None);
    assert!(matches!(attempts(&permits, &target, &ERROR, 1, NOW), Some(HealthChange::Open { .. })));
    assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
    assert_eq!(window(&permits, &target, NOW), Some(0), "the row does not say so yet");
    assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None, "what was under way opens nothing");
    permits.opened(&target, true);
    assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
    assert_eq!(window(&permits, &target, NOW), None, "the row says so");
    assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None);
}

#[test]
fn an_opening_that_was_not_stored_holds_nothing() {
    let permits = permits(100, 100, 10);
    let target = target();
    attempts(&permits, &target, &ERROR, 10, NOW);
    permits.opened(&target, false);
    assert_eq!(refused(&permits, &target), None);
    assert!(attempts(&permits, &target, &ERROR, 10, NOW).is_some(), "it opens anew");
}

#[test]
fn after_a_recovery_it_begins_with_one_and_old_attempts_decide_nothing() {
    let permits = permits(100, 100, 10);
    let target = target();
    attempts(&permits, &target, &ERROR, 10, NOW);
    permits.opened(&target, true);
    let recovered_at = NOW + Duration::from_secs(5);
    permits.recovered(&target, recovered_at);
    assert_eq!(take_all(&permits, &target).len(), 1);
    assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None, "they were begun before");
    assert_eq!(attempts(&permits, &target, &OK, 1, recovered_at), None);
    assert_eq!(take_all(&permits, &target).len(), 2);
    permits.recovered(&target, recovered_at);
    assert_eq!(take_all(&permits, &target).len(), 2, "it is the same recovery");
    assert!(attempts(&permits, &target, &ERROR, 10, recovered_at).is_some());
}

#[test]
fn what_other_nodes_found_is_learnt_and_what_they_mended_begins_with_one() {
    let permits = permits(100, 100, 10);
    let target = target();
    assert!(permits.learn(blocked([target.uid]), permits.generation(), NOW));
    assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
    assert!(permits.learn(blocked([]), permits.generation(), NOW));
    assert_eq!(take_all(&permits, &target).len(), 1);
    assert_eq!(window(&permits, &target, NOW), Some(1));
}

/// Kept for one subscription, for so many minutes.
fn kept(target: &Target, size: u32, minutes: u64) -> Trouble {
    let kept = KeptWindow { size, until: NOW + Duration::from_mins(minutes) };
    Trouble { windows: [(target.uid, kept)].into(), ..Trouble::default() }
}

/// Has one attempt after another succeed, with all that may be under way.
fn succeed(permits: &Arc<Permits>, target: &Arc<Target>, count: usize) {
    for _ in 0..count {
        let held = take_all(permits, target);
        attempts(permits, target, &OK, 1, NOW);
        drop(held);
    }
}

fn learn(permits: &Permits, trouble: Trouble, now: Timestamp) {
    assert!(permits.learn(trouble, permits.generation(), now));
}

#[test]
fn what_was_kept_of_a_window_is_what_it_begins_with_until_it_bears_more() {
    let permits = permits(100, 100, 10);
    let target = target();
    learn(&permits, kept(&target, 6, 9), NOW);
    learn(&permits, kept(&target, 3, 10), NOW);
    assert_eq!(window(&permits, &target, NOW), Some(3), "the claim is told the latest");
    assert_eq!(take_all(&permits, &target).len(), 3);
    succeed(&permits, &target, 6);
    assert_eq!(window(&permits, &target, NOW), Some(9));
    learn(&permits, kept(&target, 2, 11), NOW);
    assert_eq!(window(&permits, &target, NOW), Some(9), "it knows better");
    succeed(&permits, &target, 1);
    learn(&permits, kept(&target, 2, 11), NOW);
    assert_eq!(window(&permits, &target, NOW), None, "it bears all that it may get");
    learn(&permits, kept(&target, 2, 12), NOW);
    assert_eq!(window(&permits, &target, NOW), Some(2), "others have found out that it does not");
    learn(&permits, Trouble::default(), NOW);
    assert_eq!(window(&permits, &target, NOW), None, "somebody says that all is well");
}

#[test]
fn a_note_outlives_what_a_node_has_forgotten() {
    let permits = permits(100, 100, 10);
    let target = target();
    attempts(&permits, &target, &ERROR, 1, NOW);
    let later = NOW + Duration::from_mins(10);
    learn(&permits, kept(&target, 3, 15), later);
    assert_eq!(window(&permits, &target, later), Some(3));
    assert_eq!(take_all(&permits, &target).len(), 3);
}

#[test]
fn what_it_finds_itself_is_kept_once_and_soon_believed_to_be_in_the_row() {
    let permits = permits(100, 100, 10);
    let target = target();
    let held = permits.take(&target, 0, NOW);
    learn(&permits, kept(&target, 3, 5), NOW);
    assert_eq!(window(&permits, &target, NOW), None, "it sends already");
    let cut =
        |at| permits.record(&target, &attempt(at, TOO_MUCH), &BreakerPolicy::default(), at, Jitter::NONE);
    assert_eq!(cut(NOW + TICK).window, None, "5 is more than is kept");
    assert_eq!(cut(NOW + TICK * 2).window, None, "2 is about what is kept");
    let found = cut(NOW + TICK * 3).window.unwrap();
    assert_eq!(found.size, 1);
    drop(held);
    let beginning = || permits.taken().windows.beginning(target.uid);
    // The database was asked before that was written.
    learn(&permits, kept(&target, 3, 5), NOW + TICK * 3);
    assert_eq!(beginning(), Some(1));
    learn(&permits, kept(&target, 3, 5), NOW + Duration::from_mins(1));
    assert_eq!(beginning(), Some(3), "it was never written");
}

#[test]
fn who_is_blocked_begins_with_one_and_not_with_what_was_kept_before() {
    let permits = permits(100, 100, 10);
    let target = target();
    learn(&permits, Trouble { blocked: [target.uid].into(), ..kept(&target, 3, 10) }, NOW);
    assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
    assert_eq!(window(&permits, &target, NOW), None, "its row says so to the claim");
    learn(&permits, Trouble::default(), NOW);
    assert_eq!(take_all(&permits, &target).len(), 1);
}

#[test]
fn what_waits_in_line_is_sent_away_when_another_node_finds_the_receiver_dead() {
    let permits = permits_with_queue(10, 1, 5);
    let target = target();
    let held = take_all(&permits, &target);
    assert!(matches!(permits.line_up(&target, DeliveryId::new(NOW), false), Arrival::First(Some(_))));
    let Arrival::Waiting(mut waiting) = permits.line_up(&target, DeliveryId::new(NOW), false) else {
        panic!("it has a turn")
    };
    assert!(waiting.try_recv().is_err_and(|error| error == TryRecvError::Empty));
    permits.learn(blocked([target.uid]), permits.generation(), NOW);
    assert!(waiting.try_recv().is_err_and(|error| error == TryRecvError::Closed));
    assert!(matches!(permits.line_up(&target, DeliveryId::new(NOW), false), Arrival::Held));
    assert!(
        matches!(permits.line_up(&target, DeliveryId::new(NOW), true), Arrival::First(None)),
        "a probe goes all the same"
    );
    drop(held);
}

#[test]
fn an_answer_that_is_older_than_what_we_know_is_dropped() {
    let permits = permits(100, 100, 10);
    let target = target();
    let generation = permits.generation();
    attempts(&permits, &target, &ERROR, 10, NOW);
    permits.opened(&target, true);
    assert!(!permits.learn(blocked([]), generation, NOW));
    assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
}

#[test]
fn a_healthy_subscription_leaves_nothing_behind_and_trouble_is_forgotten_in_time() {
    let permits = permits(100, 100, 10);
    let (healthy, troubled) = (target(), target());
    attempts(&permits, &healthy, &OK, 100, NOW);
    attempts(&permits, &troubled, &ERROR, 9, NOW);
    assert_eq!(permits.taken().by_subscription.keys().collect::<Vec<_>>(), [&troubled.uid]);
    permits.learn(blocked([]), permits.generation(), NOW + Duration::from_hours(1));
    assert!(permits.taken().by_subscription.is_empty());
}

#[test]
fn a_recovery_is_told_to_the_claim_until_it_is_an_old_one() {
    let permits = permits(100, 100, 2);
    let target = target();
    permits.recovered(&target, NOW);
    attempts(&permits, &target, &OK, 1, NOW);
    assert_eq!(window(&permits, &target, NOW), Some(2), "or else the row would have it begin with one again");
    assert_eq!(window(&permits, &target, NOW + RECOVERY), None);
}

#[test]
fn a_subscription_at_the_limit_that_it_asked_for_is_saturated() {
    let permits = permits(8, 8, 4);
    let modest = target_with(|target| target.pace.max_in_flight = NonZeroU32::new(1));
    let other = target();
    let held = (permits.take(&modest, 0, NOW).unwrap(), permits.take(&other, 0, NOW).unwrap());
    assert!(permits.under_way(NOW).saturated, "when its attempt is over there may be something to claim");
    drop(held.0);
    assert!(!permits.under_way(NOW).saturated);
}

#[test]
fn a_success_is_remembered_for_a_minute_and_only_where_there_was_one() {
    let permits = permits(10, 10, 10);
    let (well, failing) = (target(), target());
    let _held = [permits.take(&well, 0, NOW), permits.take(&failing, 0, NOW)];
    attempts(&permits, &well, &OK, 1, NOW);
    attempts(&permits, &failing, &ERROR, 1, NOW);
    attempts(&permits, &well, &ERROR, 1, NOW);
    assert!(permits.is_well(&well, NOW + Duration::from_secs(59)));
    assert!(!permits.is_well(&well, NOW + Duration::from_mins(1)));
    assert!(!permits.is_well(&failing, NOW));
}
