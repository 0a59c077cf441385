//! What has one ordering key goes to a subscription one after another, in the order of publishing, whichever nodes are at it.

use std::{collections::BTreeMap, sync::Mutex};

use postrider_integration_tests::{Kind, on_both_databases};
use postrider_server::{
    dispatch::{Ask, Queue},
    domain::{
        claim::Claim,
        delivery::{Delivery, DeliveryState, DeliveryStatus},
        subscription::Subscription,
        timestamp::Timestamp,
    },
    publish::{Commit, Journal},
    store::{
        deliveries::DeliveryFilter,
        steering::{Refusal, Steered},
    },
};

use crate::{
    fixtures::{
        Chance, Draft, LEASE, NOW, SECOND, TICK, a_draft, acknowledged, ask, exhausted, gone, retried,
    },
    node::Node,
};

/// An event of the key `key`, whose data is its number.
fn nth(key: &str, number: usize, subscription: &Subscription) -> Draft {
    a_draft().keyed(key).data(number.to_string()).to([subscription])
}

/// Publishes so many events of a key, each by itself.
async fn publish_keyed(node: &Node, subscription: &Subscription, key: &str, events: usize) {
    for number in 0..events {
        // Each on a clock that is behind that of the one before: the order must not rest on clocks.
        let at = NOW.before(SECOND * u32::try_from(number).unwrap());
        node.publish([nth(key, number, subscription).at(at)]).await;
    }
}

fn data(claim: &Claim) -> String {
    String::from_utf8(claim.event.content.payload.data.to_vec()).unwrap()
}

/// What is claimed now, as its data says, sorted.
fn numbers(claims: &[Claim]) -> Vec<String> {
    let mut numbers: Vec<_> = claims.iter().map(data).collect();
    numbers.sort();
    numbers
}

async fn pending(node: &Node) -> Vec<Delivery> {
    let filter = DeliveryFilter { status: Some(DeliveryStatus::Pending), ..DeliveryFilter::default() };
    let mut deliveries = node.list(&filter).await.items;
    deliveries.reverse();
    deliveries
}

async fn lanes(node: &Node) -> i64 {
    node.count("ordering_lanes").await
}

/// Claims the one delivery that is due.
async fn next(node: &Node, now: Timestamp) -> Claim {
    let mut claims = node.claim(now, 10).await;
    assert_eq!(claims.len(), 1, "{:?}", numbers(&claims));
    claims.remove(0)
}

on_both_databases! {
    async fn the_next_one_is_due_when_the_one_before_has_succeeded(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 4).await;
        for number in 0..4 {
            let claim = next(&node, NOW).await;
            assert_eq!(data(&claim), number.to_string());
            assert!(node.claim(NOW, 10).await.is_empty(), "its followers wait");
            let settling = node.settle([acknowledged(&claim, NOW)]).await;
            assert_eq!(settling.released, number < 3);
        }
        assert_eq!(lanes(&node).await, 0, "nothing is left behind");
    }

    async fn one_batch_keeps_its_order_too(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let drafts = (0..20).map(|n| nth(if n % 2 == 0 { "even" } else { "odd" }, n, &subscription));
        node.publish(drafts.collect::<Vec<_>>()).await;
        let mut seen = BTreeMap::<_, Vec<_>>::new();
        loop {
            let claims = node.claim(NOW, 10).await;
            if claims.is_empty() {
                break;
            }
            assert_eq!(claims.len(), 2, "one of each key");
            for claim in &claims {
                let number: usize = data(claim).parse().unwrap();
                seen.entry(number % 2).or_default().push(number);
            }
            node.settle(claims.iter().map(|claim| acknowledged(claim, NOW))).await;
        }
        assert_eq!(seen[&0], (0..20).step_by(2).collect::<Vec<_>>());
        assert_eq!(seen[&1], (1..20).step_by(2).collect::<Vec<_>>());
    }

    async fn a_failing_one_holds_up_its_own_key_at_its_own_subscription_and_nothing_else(kind: Kind) {
        let node = Node::new(kind).await;
        let (bad, good) = (node.subscribe("bad").await, node.subscribe("good").await);
        for number in 0..2 {
            node.publish([nth("k", number, &bad).to([&good])]).await;
            node.publish([a_draft().data(format!("free {number}")).to([&bad])]).await;
            node.publish([nth("l", number, &bad)]).await;
        }
        let claims = node.claim(NOW, 10).await;
        assert_eq!(numbers(&claims), ["0", "0", "0", "free 0", "free 1"]);
        let later = NOW + SECOND * 5;
        let key = |claim: &Claim| claim.event.content.handling.ordering_key.clone();
        let fails = |claim: &Claim| {
            claim.target.uid == bad.uid && key(claim).is_some_and(|key| key.as_str() == "k")
        };
        let settled = claims.iter().map(|claim| {
            if fails(claim) { retried(claim, NOW, later) } else { acknowledged(claim, NOW) }
        });
        node.settle(settled).await;
        let claims = node.claim(later.before(TICK), 10).await;
        assert_eq!(numbers(&claims), ["1", "1"], "of the other key, and at the other subscription");
        let retry = next(&node, later).await;
        assert_eq!((data(&retry), retry.attempt.get()), ("0".to_owned(), 2));
        node.settle([acknowledged(&retry, later)]).await;
        assert_eq!(data(&next(&node, later).await), "1");
    }

    async fn a_head_whose_lease_ran_out_is_sent_again_before_its_followers(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 2).await;
        let lost = next(&node, NOW).await;
        let other = node.another().await;
        let again = next(&other, NOW + LEASE).await;
        assert_eq!((again.delivery, data(&again)), (lost.delivery, "0".to_owned()));
        // The first node was not dead: its outcome comes too late and releases nothing.
        let settling = node.settle([acknowledged(&lost, NOW + LEASE)]).await;
        assert_eq!((settling.lost, settling.released), (vec![lost.delivery], false));
        assert!(node.claim(NOW + LEASE, 10).await.is_empty());
        other.settle([acknowledged(&again, NOW + LEASE)]).await;
        assert_eq!(data(&next(&node, NOW + LEASE).await), "1");
    }

    async fn only_the_first_of_a_lane_is_committed_as_claimed(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let keyed = |key: &str| a_draft().keyed(key).claimed_to([&subscription]);
        let batch = node.batch([keyed("a"), keyed("a"), keyed("b"), a_draft().claimed_to([&subscription])]);
        let batch = batch.await;
        let ids: Vec<_> = batch.entries.iter().map(|entry| entry.deliveries[0].id).collect();
        let parked = |commit| match commit {
            Commit::Done { parked, .. } => parked,
            Commit::Stale(tenants) => panic!("stale: {tenants:?}"),
        };
        assert_eq!(parked(node.store.commit(&batch).await.unwrap()), [ids[1]].into());
        let waiting = node.delivery(ids[1]).await;
        assert_eq!((waiting.state, waiting.attempt_count), (DeliveryState::Pending, 0));
        assert_eq!(waiting.due_at, Timestamp::NEVER);
        for id in [ids[0], ids[2], ids[3]] {
            let claimed = node.delivery(id).await;
            assert_eq!((claimed.attempt_count, claimed.due_at), (1, NOW + LEASE));
        }
        let more = node.batch([a_draft().at(NOW + SECOND).keyed("a").claimed_to([&subscription])]).await;
        let id = more.entries[0].deliveries[0].id;
        assert_eq!(parked(node.store.commit(&more).await.unwrap()), [id].into());
    }

    async fn a_publish_that_is_repeated_takes_no_place(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for _ in 0..3 {
            let again = nth("k", 0, &subscription).request_id("r");
            node.commit([again, nth("k", 1, &subscription).request_id("s")]).await;
        }
        let first = next(&node, NOW).await;
        node.settle([acknowledged(&first, NOW)]).await;
        let second = next(&node, NOW).await;
        assert_eq!((data(&first), data(&second)), ("0".to_owned(), "1".to_owned()));
        node.settle([acknowledged(&second, NOW)]).await;
        assert!(pending(&node).await.is_empty());
    }

    async fn however_the_first_ends_the_next_is_released(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 3).await;
        let head = next(&node, NOW).await;
        node.settle([exhausted(&head, NOW)]).await;
        let head = next(&node, NOW).await;
        assert_eq!(data(&head), "1");
        let later = NOW + SECOND;
        node.settle([retried(&head, NOW, later)]).await;
        assert!(matches!(node.cancel(head.delivery, NOW).await, Steered::Done(_)));
        let last = next(&node, NOW).await;
        assert_eq!(data(&last), "2");
        node.settle([acknowledged(&last, NOW)]).await;
        assert_eq!(lanes(&node).await, 0);
    }

    async fn whoever_is_cancelled_in_the_middle_of_an_attempt_keeps_the_others_until_it_is_over(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 3).await;
        let head = next(&node, NOW).await;
        assert!(matches!(node.cancel(head.delivery, NOW).await, Steered::Done(_)));
        let now = (NOW + LEASE).before(TICK);
        assert!(node.claim(now, 10).await.is_empty(), "the request may still be on its way");
        let waiting = pending(&node).await.iter().map(|delivery| delivery.id).collect::<Vec<_>>();
        for id in waiting {
            let refused = node.redeliver(id, now).await;
            assert!(matches!(refused, Steered::Refused(Refusal::Parked)), "{refused:?}");
        }
        let settling = node.settle([retried(&head, NOW, NOW)]).await;
        assert_eq!((settling.lost, settling.released), (vec![head.delivery], true));
        let head = next(&node, NOW).await;
        assert_eq!(data(&head), "1");

        // This one's node dies.
        assert!(matches!(node.cancel(head.delivery, NOW).await, Steered::Done(_)));
        assert!(node.claim(now, 10).await.is_empty(), "the request may still be on its way");
        let last = next(&node, NOW + LEASE).await;
        assert_eq!(data(&last), "2");
        node.settle([acknowledged(&last, NOW + LEASE)]).await;
        assert_eq!(lanes(&node).await, 0);
    }

    async fn an_attempt_that_is_over_does_not_free_a_lane_for_the_one_after_it(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 2).await;
        let held_up = next(&node, NOW).await;
        let again = next(&node, NOW + LEASE).await;
        assert_eq!(again.delivery, held_up.delivery);
        assert!(matches!(node.cancel(again.delivery, NOW + LEASE).await, Steered::Done(_)));
        node.settle([acknowledged(&held_up, NOW + LEASE)]).await;
        assert!(node.claim(NOW + LEASE, 10).await.is_empty(), "the second request may still be on its way");
        node.settle([acknowledged(&again, NOW + LEASE)]).await;
        assert_eq!(data(&next(&node, NOW + LEASE).await), "1");
    }

    async fn whoever_is_swept_in_the_middle_of_an_attempt_keeps_those_that_come_later(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for key in ["k", "other"] {
            publish_keyed(&node, &subscription, key, 2).await;
        }
        let heads = node.claim(NOW, 10).await;
        let key = |head: &&Claim| head.event.content.handling.ordering_key.as_ref().unwrap().as_str() == "other";
        node.settle([gone(heads.iter().find(key).unwrap(), NOW)]).await;
        while node.store.sweep(NOW).await.unwrap() > 0 {}
        assert!(pending(&node).await.is_empty());
        assert_eq!(lanes(&node).await, 1, "of the one whose attempt is under way");
        node.enable(&subscription).await;
        node.publish([a_draft().keyed("k").data("2").claimed_to([&subscription])]).await;
        node.publish([nth("k", 3, &subscription)]).await;
        assert!(node.claim((NOW + LEASE).before(TICK), 10).await.is_empty(), "the request may still be on its way");
        let second = next(&node, NOW + LEASE).await;
        assert_eq!(data(&second), "2");
        node.settle([acknowledged(&second, NOW + LEASE)]).await;
        assert_eq!(data(&next(&node, NOW + LEASE).await), "3");
    }

    async fn a_lane_that_nobody_came_into_after_it_was_busy_is_taken_away(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 1).await;
        let head = next(&node, NOW).await;
        assert!(matches!(node.cancel(head.delivery, NOW).await, Steered::Done(_)));
        assert_eq!(node.store.release_stuck_lanes((NOW + LEASE).before(TICK)).await.unwrap(), 0);
        assert_eq!(lanes(&node).await, 1);
        assert_eq!(node.store.release_stuck_lanes(NOW + LEASE).await.unwrap(), 0, "nobody forgot it");
        assert_eq!(lanes(&node).await, 0);
    }

    async fn one_that_waits_can_be_cancelled_and_is_left_out(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 3).await;
        let head = next(&node, NOW).await;
        // Its clock was behind, so the second one sorts before the first.
        let second = pending(&node).await[1].id;
        assert!(matches!(node.cancel(second, NOW).await, Steered::Done(_)));
        assert!(node.claim(NOW, 10).await.is_empty(), "the first has not ended");
        node.settle([acknowledged(&head, NOW)]).await;
        assert_eq!(data(&next(&node, NOW).await), "2");
    }

    async fn what_expires_at_the_head_or_behind_it_lets_the_others_go(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for (number, expires) in [true, true, false, true].into_iter().enumerate() {
            let draft = nth("k", number, &subscription);
            node.publish([if expires { draft.expire_at(NOW + SECOND) } else { draft }]).await;
        }
        // The claim comes across one that has expired, and behind it across another.
        let claim = next(&node, NOW + SECOND).await;
        assert_eq!(data(&claim), "2");
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 1, "the last one, where it waits");
        node.settle([acknowledged(&claim, NOW + SECOND)]).await;
        assert!(pending(&node).await.is_empty());
        assert_eq!(lanes(&node).await, 0);
        assert_eq!(node.count("deliveries WHERE end_reason = 7 AND attempt_count = 0").await, 3);
    }

    async fn a_head_that_expires_at_a_paused_subscription_gives_its_place_to_the_next(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([nth("k", 0, &subscription).expire_at(NOW + SECOND)]).await;
        node.publish([nth("k", 1, &subscription)]).await;
        node.pause(&subscription).await;
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 1);
        node.resume(&subscription).await;
        assert_eq!(data(&next(&node, NOW + SECOND).await), "1");
    }

    async fn a_lane_whose_subscription_ends_is_swept_to_its_end(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for key in ["a", "b"] {
            publish_keyed(&node, &subscription, key, 3).await;
        }
        let claim = node.claim(NOW, 1).await.remove(0);
        node.settle([gone(&claim, NOW)]).await;
        while node.store.sweep(NOW).await.unwrap() > 0 {}
        assert!(pending(&node).await.is_empty());
        assert_eq!(lanes(&node).await, 0);
        // It may come back, and begins anew.
        node.enable(&subscription).await;
        publish_keyed(&node, &subscription, "a", 2).await;
        assert_eq!(data(&next(&node, NOW).await), "0");
    }

    async fn the_first_is_put_off_and_the_others_wait_for_it(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([nth("k", 0, &subscription).deliver_at(NOW + SECOND)]).await;
        node.publish([nth("k", 1, &subscription).deliver_at(NOW + SECOND * 3)]).await;
        assert!(node.claim((NOW + SECOND).before(TICK), 10).await.is_empty());
        let head = next(&node, NOW + SECOND).await;
        node.settle([acknowledged(&head, NOW + SECOND)]).await;
        assert!(node.claim((NOW + SECOND * 3).before(TICK), 10).await.is_empty());
        assert_eq!(data(&next(&node, NOW + SECOND * 3).await), "1");
    }

    async fn one_that_waits_is_not_redelivered_and_one_that_has_ended_goes_beside_its_lane(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 3).await;
        let first = next(&node, NOW).await;
        let waiting = pending(&node).await.iter().map(|delivery| delivery.id).find(|id| *id != first.delivery);
        let refused = node.redeliver(waiting.unwrap(), NOW).await;
        assert!(matches!(refused, Steered::Refused(Refusal::Parked)), "{refused:?}");
        node.settle([exhausted(&first, NOW)]).await;
        assert!(matches!(node.redeliver(first.delivery, NOW).await, Steered::Done(_)));
        let claims = node.claim(NOW, 10).await;
        assert_eq!(numbers(&claims), ["0", "1"], "side by side");
        let again = claims.iter().find(|claim| claim.delivery == first.delivery).unwrap();
        assert!(!node.settle([acknowledged(again, NOW)]).await.released, "the second is under way");
        let second = claims.iter().find(|claim| claim.delivery != first.delivery).unwrap();
        assert!(node.settle([acknowledged(second, NOW)]).await.released);
    }

    async fn a_lane_that_nobody_released_is_found(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_keyed(&node, &subscription, "k", 3).await;
        publish_keyed(&node, &subscription, "l", 1).await;
        assert_eq!(node.store.release_stuck_lanes(NOW).await.unwrap(), 0);
        let parked = Timestamp::NEVER.as_micros();
        node.execute(&format!("UPDATE pending_deliveries SET due_at = {parked} WHERE ordering_key = 'k'")).await;
        assert_eq!(node.store.release_stuck_lanes(NOW).await.unwrap(), 1);
        assert_eq!(numbers(&node.claim(NOW, 10).await), ["0", "0"]);
        assert_eq!(node.store.release_stuck_lanes(NOW).await.unwrap(), 0);
    }

    async fn one_that_comes_while_the_last_of_its_lane_ends_is_not_left_behind(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        a.publish([nth("k", 0, &subscription)]).await;
        let mut chance = Chance(1);
        for number in 1..150 {
            let head = next(&a, NOW).await;
            if number % 3 == 0 {
                a.settle([retried(&head, NOW, NOW + SECOND)]).await;
            }
            let ends = async {
                yield_now(chance.below(20)).await;
                match number % 3 {
                    0 => drop(a.cancel(head.delivery, NOW).await),
                    _ => drop(a.settle([acknowledged(&head, NOW)]).await),
                }
            };
            tokio::join!(b.publish([nth("k", number, &subscription)]), ends);
        }
        assert_eq!(data(&next(&a, NOW).await), "149");
    }

    async fn where_two_of_a_lane_end_at_once_the_third_is_not_left_behind(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        let mut chance = Chance(2);
        for round in 0..60 {
            let now = NOW + LEASE * round;
            let second = nth("k", 1, &subscription).at(now);
            let second = if round % 2 == 0 { second.expire_at(now) } else { second };
            a.publish([nth("k", 0, &subscription).at(now), second, nth("k", 2, &subscription).at(now)]).await;
            let head = next(&a, now).await;
            let waits = pending(&a).await[1].id;
            let ends = async {
                yield_now(chance.below(20)).await;
                match round % 2 {
                    0 => drop(b.store.expire(now).await.unwrap()),
                    _ => drop(b.cancel(waits, now).await),
                }
            };
            tokio::join!(a.settle([acknowledged(&head, now)]), ends);
            // Where the end left the second one to the next time, the claim has come across it.
            let third = next(&a, now).await;
            assert_eq!(data(&third), "2", "round {round}");
            a.settle([acknowledged(&third, now)]).await;
        }
    }

    async fn order_is_kept_where_two_nodes_publish_and_deliver_at_once(kind: Kind) {
        for seed in 0..6 {
            Box::pin(race(kind, seed)).await;
        }
    }
}

/// Lets others go first for a while.
async fn yield_now(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// What has been seen of a race: who was taken over, in this order, as lane and data say.
type Log = Mutex<Vec<(String, String)>>;

const EVENTS: u64 = 24;

/// Publishes to both subscriptions, sometimes several at once, and each time with all of these keys.
async fn publish_all(node: &Node, to: &[Subscription; 2], publisher: usize, keys: [&str; 2], seed: u64) {
    let mut chance = Chance(seed);
    let mut number = 0;
    while number < EVENTS {
        let mut drafts = Vec::new();
        for _ in 0..=chance.below(3) {
            // In any order: the locks must be taken in one all the same.
            let order = if chance.below(2) == 0 { keys } else { [keys[1], keys[0]] };
            // On a clock that runs backwards.
            let at = NOW.before(TICK * u32::try_from(number).unwrap());
            let draft = |key| a_draft().at(at).keyed(key).data(format!("{publisher} {number:02}")).to(to);
            drafts.extend(order.map(draft));
            number += 1;
        }
        node.publish(drafts).await;
    }
}

/// Delivers until nothing has been due for a while. Attempts fail, deliveries are given up or cancelled.
async fn deliver_all(node: &Node, log: &Log, now: Timestamp, seed: u64) {
    let mut chance = Chance(seed);
    let mut idle = 0;
    while idle < 40 {
        let ask = Ask { max_per_subscription: 4, ..ask(now, 6) };
        let claims = node.store.claim(&ask).await.unwrap().claims;
        idle = if claims.is_empty() { idle + 1 } else { 0 };
        // Before anything ends, so before anybody else can take over what comes next.
        let mut batch = Vec::new();
        for claim in &claims {
            let key = claim.event.content.handling.ordering_key.clone().unwrap();
            let lane = format!("{} {}", claim.target.id, key.as_str());
            log.lock().unwrap().push((lane, data(claim)));
        }
        for claim in claims.iter().rev() {
            match chance.below(6) {
                0 | 1 => batch.push(retried(claim, now, now)),
                2 => {
                    node.settle([retried(claim, now, now)]).await;
                    node.cancel(claim.delivery, now).await;
                }
                3 => batch.push(exhausted(claim, now)),
                _ => batch.push(acknowledged(claim, now)),
            }
        }
        node.settle(batch).await;
    }
}

/// Two nodes that publish and two that deliver, all on one database.
async fn race(kind: Kind, seed: u64) {
    let a = Node::new(kind).await;
    let b = a.another().await;
    let to = [a.subscribe("one").await, a.subscribe("two").await];
    let log = Log::default();
    tokio::join!(
        publish_all(&a, &to, 1, ["own", "shared"], seed * 4),
        publish_all(&b, &to, 2, ["shared", "other"], seed * 4 + 1),
        deliver_all(&a, &log, NOW, seed * 4 + 2),
        deliver_all(&b, &log, NOW, seed * 4 + 3),
    );
    // Where one was cancelled that the other had taken over, the lane was busy until now.
    deliver_all(&a, &log, NOW + LEASE, seed).await;
    assert_eq!(a.store.release_stuck_lanes(NOW + LEASE).await.unwrap(), 0, "seed {seed}");
    assert!(pending(&a).await.is_empty(), "seed {seed}: {:?}", pending(&a).await);
    assert_eq!(lanes(&a).await, 0, "seed {seed}");
    // Of each publisher's events in each lane none comes after a later one.
    let mut latest = BTreeMap::new();
    for (lane, data) in log.into_inner().unwrap() {
        let (publisher, number) = data.split_once(' ').unwrap();
        let before = latest.insert((lane.clone(), publisher.to_owned()), number.to_owned());
        assert!(before.is_none_or(|before| before.as_str() <= number), "seed {seed}: {data} in {lane}");
    }
    assert_eq!(latest.len(), 8, "each publisher has two lanes at each of two subscriptions");
}
