//! What an event is owed, part by part: it becomes deliveries once, whoever makes them and whatever happens meanwhile.

use std::collections::HashSet;

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{
        delivery::{Delivery, DeliveryState, EndReason},
        handling::Priority,
        id::{DeliveryId, TenantId},
        subscription::Subscription,
        timestamp::Timestamp,
    },
    publish::{
        Beginning, Entry, Fate, NewDelivery,
        fan_out::{FanOuts, Finish, OverduePart, Part, PartDeliveries, Recipient},
    },
    store::{FanOutBacklog, Retention, deliveries::DeliveryFilter},
};

use crate::{
    fixtures::{DAY, LEASE, NOW, SECOND, TICK, a_draft, tenant},
    node::Node,
};

/// Takes the part that is due.
pub(crate) async fn take(node: &Node, now: Timestamp) -> Option<Part> {
    let mut parts = take_all(node, now).await;
    assert!(parts.len() < 2, "{parts:?}");
    parts.pop()
}

/// Takes the part that is due, and those that come with it.
pub(crate) async fn take_all(node: &Node, now: Timestamp) -> Vec<Part> {
    node.store.take_parts(None, now, now + LEASE).await.unwrap()
}

async fn finish(node: &Node, part: &Part, now: Timestamp) -> Finish {
    finish_all(node, std::slice::from_ref(part), now).await
}

/// Makes the deliveries of parts; nobody claims them.
pub(crate) async fn finish_all(node: &Node, parts: &[Part], now: Timestamp) -> Finish {
    let subscription = |recipient: &Recipient| match recipient {
        Recipient::Open(target) => target.uid,
        Recipient::Closed(uid) => *uid,
    };
    let delivery = |(nth, recipient): (usize, &Recipient), part: &Part| NewDelivery {
        id: DeliveryId::nth(part.event.created_at, nth),
        subscription: subscription(recipient),
        beginning: Beginning::Unclaimed,
    };
    let entry = |part: &Part| {
        let first = (part.number as usize + 1) * 1_000;
        let deliveries = (first..).zip(&part.recipients).map(|of| delivery(of, part)).collect();
        Entry { event: part.event.clone(), fingerprint: None, deliveries, later: Vec::new() }
    };
    let entries = parts.iter().map(entry).collect();
    let deliveries = PartDeliveries { entries, due_at: now, leased_until: now + LEASE };
    node.store.finish_parts(parts, &deliveries).await.unwrap()
}

fn done() -> Finish {
    Finish::Done { parked: HashSet::new() }
}

/// Makes the deliveries of all parts that are due; returns how many parts there were.
async fn fan_out(node: &Node, now: Timestamp) -> usize {
    let mut parts = 0;
    while let Some(part) = take(node, now).await {
        assert_eq!(finish(node, &part, now).await, done());
        parts += 1;
    }
    parts
}

async fn delivery_to(node: &Node, subscription: &Subscription) -> Delivery {
    let all = node.list(&DeliveryFilter::default()).await.items;
    all.into_iter().find(|delivery| delivery.subscription == subscription.id).unwrap()
}

async fn backlog(node: &Node, now: Timestamp) -> FanOutBacklog {
    node.store.fan_out_backlog(now).await.unwrap()
}

fn is_open(recipient: &Recipient) -> bool {
    matches!(recipient, Recipient::Open(_))
}

on_both_databases! {
    async fn a_part_becomes_the_deliveries_that_the_event_is_owed(kind: Kind) {
        let node = Node::new(kind).await;
        let (one, two, three) = (node.subscribe("one").await, node.subscribe("two").await, node.subscribe("three").await);
        let event = node.publish([a_draft().data("big").to([&one]).later_to([&two]).later_to([&three])]).await.remove(0);
        let stored = node.store.event(&default_tenant(), event.id).await.unwrap().unwrap();
        assert_eq!(stored.delivery_count, 3, "from the beginning");
        assert_eq!(node.deliveries_of(&event).await.len(), 1);

        let part = take(&node, NOW).await.unwrap();
        assert_eq!((part.event.id, part.number), (event.id, 0));
        assert_eq!(part.event.content.payload, event.content.payload);
        assert!(matches!(&part.recipients[..], [Recipient::Open(target)] if target.uid == two.uid));
        assert_eq!(finish(&node, &part, NOW + SECOND).await, done());
        let made = delivery_to(&node, &two).await;
        assert_eq!((made.state, made.attempt_count), (DeliveryState::Pending, 0));
        assert_eq!((made.created_at, made.due_at), (NOW, NOW + SECOND), "as old as its event, and due now");

        assert_eq!(fan_out(&node, NOW).await, 1);
        assert_eq!((node.count("fan_outs").await, node.count("deliveries").await), (0, 3));
        let claims = node.claim(NOW + SECOND, 10).await;
        assert_eq!(claims.len(), 3);
        assert!(claims.iter().all(|claim| claim.event.content.payload.data == "big"));
    }

    async fn what_is_owed_is_committed_with_its_event_or_not_at_all(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let mut batch = node.batch([a_draft().to([&subscription]).later_to([&subscription])]).await;
        let Entry { deliveries, .. } = &mut batch.entries[0];
        let twice = NewDelivery { id: deliveries[0].id, subscription: subscription.uid, beginning: Beginning::Unclaimed };
        deliveries.push(twice);
        postrider_server::publish::Journal::commit(&node.store, &batch).await.unwrap_err();
        assert_eq!((node.count("events").await, node.count("fan_outs").await), (0, 0));
    }

    async fn a_repeated_publish_owes_nothing_more(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let draft = || a_draft().request_id("r").to([&subscription]).later_to([&subscription, &subscription]);
        let event = node.publish([draft()]).await.remove(0);
        let fates = node.commit([draft().at(NOW + SECOND), draft().at(NOW + SECOND)]).await;
        let repeated = Fate::Repeated { event: event.id, created_at: NOW, delivery_count: 3 };
        assert_eq!(fates, [repeated, repeated]);
        assert_eq!(node.count("fan_outs").await, 1);
    }

    async fn a_part_whose_node_died_is_taken_over_when_its_lease_runs_out(kind: Kind) {
        let dead = Node::new(kind).await;
        let alive = dead.another().await;
        let subscription = dead.subscribe("sub").await;
        let event = dead.publish([a_draft().later_to([&subscription]).later_to([&subscription])]).await.remove(0);
        let lost = take(&dead, NOW).await.unwrap();
        // The other part is still there for anybody.
        assert_eq!(fan_out(&alive, NOW).await, 1);
        assert!(take(&alive, (NOW + LEASE).before(TICK)).await.is_none());
        let part = take(&alive, NOW + LEASE).await.unwrap();
        assert_eq!((part.event.id, part.number), (event.id, lost.number));
        assert_eq!(finish(&alive, &part, NOW + LEASE).await, done());
        // It was not dead after all.
        assert_eq!(finish(&dead, &lost, NOW + LEASE).await, Finish::DoneBefore);
        assert_eq!(alive.deliveries_of(&event).await.len(), 2);
    }

    async fn of_two_nodes_that_have_the_same_part_one_makes_its_deliveries(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        for round in 0..5 {
            a.publish([a_draft().at(NOW + SECOND * round).later_to([&subscription])]).await;
            let late = NOW + SECOND * 10;
            let ours = take(&a, late).await.unwrap();
            let theirs = take(&b, late + LEASE).await.unwrap();
            let (one, other) = tokio::join!(finish(&a, &ours, late), finish(&b, &theirs, late));
            assert_ne!(one, other, "one of them is first");
            assert_eq!(a.count("deliveries").await, i64::from(round) + 1);
        }
    }

    async fn two_nodes_share_the_parts_and_make_each_once(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        let event = (0..20).fold(a_draft(), |draft, _| draft.later_to([&subscription, &subscription]));
        a.publish([event]).await;
        // One that is beaten to a part finds nothing, and looks again later.
        let mut parts = 0;
        while a.count("fan_outs").await > 0 {
            let (one, other) = tokio::join!(fan_out(&a, NOW), fan_out(&b, NOW));
            parts += one + other;
        }
        assert_eq!((parts, a.count("deliveries").await), (20, 40));
    }

    async fn tenants_take_turns_and_each_begins_with_its_oldest(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (tenant("a"), tenant("b"));
        let (of_a, of_b) = (node.subscribe_in(&a, "sub").await, node.subscribe_in(&b, "sub").await);
        let first = node.publish([a_draft().of(&a).later_to([&of_a]).later_to([&of_a])]).await.remove(0);
        let young = node.publish([a_draft().of(&a).at(NOW + SECOND).later_to([&of_a])]).await.remove(0);
        let other = node.publish([a_draft().of(&b).at(NOW + SECOND).later_to([&of_b])]).await.remove(0);
        let now = NOW + SECOND;
        let next = async |after: Option<&TenantId>| {
            let part = node.store.take_parts(after, now, now + LEASE).await.unwrap().pop();
            part.map(|part| (part.event.id, part.number))
        };
        assert_eq!(next(None).await, Some((first.id, 0)));
        assert_eq!(next(Some(&a)).await, Some((other.id, 0)));
        assert_eq!(next(Some(&b)).await, None);
        assert_eq!(next(None).await, Some((first.id, 1)));
        assert_eq!(next(None).await, Some((young.id, 0)));
        assert_eq!(next(None).await, None);
    }

    async fn a_subscription_that_changed_meanwhile_is_treated_as_it_is_now(kind: Kind) {
        let node = Node::new(kind).await;
        let (open, paused) = (node.subscribe("open").await, node.subscribe("paused").await);
        let (deleted, disabled) = (node.subscribe("deleted").await, node.subscribe("disabled").await);
        node.publish([a_draft().later_to([&open, &paused, &deleted, &disabled])]).await;
        node.disable(&disabled).await;
        node.delete(&deleted).await;
        node.pause(&paused).await;
        let part = take(&node, NOW).await.unwrap();
        assert_eq!(part.recipients.iter().map(is_open).collect::<Vec<_>>(), [true, false, false, false]);
        finish(&node, &part, NOW).await;
        while node.store.sweep(NOW).await.unwrap() > 0 {}

        let state = async |subscription| delivery_to(&node, subscription).await.state;
        let ended = |reason| DeliveryState::Ended { at: NOW, reason };
        assert_eq!(state(&deleted).await, ended(EndReason::SubscriptionDeleted));
        assert_eq!(state(&disabled).await, ended(EndReason::SubscriptionDisabled));
        assert_eq!(state(&paused).await, DeliveryState::Pending);
        assert_eq!(node.claim(NOW, 10).await.len(), 1, "the open one");
        node.resume(&paused).await;
        assert_eq!(node.claim(NOW, 10).await.len(), 1);
    }

    async fn what_the_event_asks_for_holds_for_its_last_delivery_too(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let asking = || a_draft().later_to([&subscription]);
        let later = NOW + SECOND * 60;
        let put_off = node.publish([asking().deliver_at(later)]).await.remove(0);
        let expiring = node.publish([asking().expire_at(NOW + SECOND)]).await.remove(0);
        let low = node.publish([asking().priority(Priority::Low)]).await.remove(0);
        let high = node.publish([asking().priority(Priority::High)]).await.remove(0);
        assert_eq!(fan_out(&node, NOW).await, 4);
        assert_eq!(node.deliveries_of(&put_off).await[0].due_at, later);
        let now = NOW + SECOND * 2;
        assert_eq!(node.store.expire(now).await.unwrap(), 1);
        let expired = node.deliveries_of(&expiring).await.remove(0);
        assert_eq!(expired.state, DeliveryState::Ended { at: now, reason: EndReason::Expired });
        let mut order = Vec::new();
        for _ in 0..2 {
            order.extend(node.claim(now, 1).await.iter().map(|claim| claim.event.id));
        }
        assert_eq!(order, [high.id, low.id]);
        assert_eq!(node.claim(later, 10).await.iter().filter(|claim| claim.event.id == put_off.id).count(), 1);
    }

    async fn an_event_and_its_data_are_kept_while_it_is_owed_to_somebody(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().data("kept").later_to([&subscription])]).await;
        let late = NOW + DAY * 365;
        while node.store.prune(&Retention::default(), late).await.unwrap() > 0 {}
        assert_eq!(fan_out(&node, late).await, 1);
        assert_eq!(node.claim(late, 10).await[0].event.content.payload.data, "kept");
    }

    async fn what_nobody_takes_is_seen(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        assert_eq!(backlog(&node, NOW).await, FanOutBacklog { parts: 0, overdue: None });
        let event = node.publish([a_draft().later_to([&subscription]).later_to([&subscription])]).await.remove(0);
        let overdue = |number| Some(OverduePart { event: event.id, number, since: NOW });
        assert_eq!(backlog(&node, NOW + SECOND).await, FanOutBacklog { parts: 2, overdue: overdue(0) });
        take(&node, NOW).await.unwrap();
        assert_eq!(backlog(&node, NOW + SECOND).await, FanOutBacklog { parts: 2, overdue: overdue(1) });
        take(&node, NOW).await.unwrap();
        assert_eq!(backlog(&node, NOW + SECOND).await, FanOutBacklog { parts: 2, overdue: None });
        assert_eq!(fan_out(&node, NOW + LEASE).await, 2);
        assert_eq!(backlog(&node, NOW + LEASE).await, FanOutBacklog { parts: 0, overdue: None });
    }
}
