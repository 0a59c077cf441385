//! What is due is taken over: once, fairly, and no more than there is room for.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use postrider_integration_tests::{Kind, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::{self, Ask, Queue, Settled},
    domain::{
        attempt::AttemptNumber,
        claim::Claim,
        id::{DeliveryId, SubscriptionUid},
        subscription::Subscription,
        target_url::TargetUrl,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    sender,
};

use crate::{
    fixtures::{
        LEASE, NOW, SECOND, TICK, a_draft, a_secret, a_spec, acknowledged, ask, name, over, retried, tenant,
    },
    node::Node,
};

/// The most that `dispatch.max_in_flight` can be.
const MOST_ROOM: usize = 100_000;

/// What was claimed of whom, in no order.
fn by_subscription(claims: &[Claim]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for claim in claims {
        *counts.entry(claim.target.id.to_string()).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(id, count)| (id.to_owned(), count)).into()
}

/// Publishes events that are due one after another, a second apart; the last one at `last`.
async fn publish_due(node: &Node, subscription: &Subscription, events: u64, last: Timestamp) {
    // One by one: what is published together is due together.
    for n in 0..events {
        let at = last.before(SECOND * u32::try_from(n).unwrap());
        node.publish([a_draft().at(at).to([subscription])]).await;
    }
}

on_both_databases! {
    async fn nothing_is_claimed_when_nothing_is_due(kind: Kind) {
        let node = Node::new(kind).await;
        assert!(node.claim(NOW, 10).await.is_empty());
        let subscription = node.subscribe("sub").await;
        assert!(node.claim(NOW, 10).await.is_empty());
        publish_due(&node, &subscription, 1, NOW + SECOND).await;
        assert!(node.claim((NOW + SECOND).before(TICK), 10).await.is_empty());
        assert_eq!(node.claim(NOW + SECOND, 10).await.len(), 1);
    }

    async fn a_claim_carries_all_that_an_attempt_needs(kind: Kind) {
        let node = Node::new(kind).await;
        let mut spec = a_spec();
        spec.target_url = TargetUrl::parse("https://example.com/hook?token=1").unwrap();
        let other = tenant("other");
        let subscription = node.subscribe_with(&other, "sub", &spec, NOW).await;
        let mut draft = a_draft().of(&other).request_id("r").data(vec![0, 255, 10]).to([&subscription]);
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1");
        draft.trace.clone_from(&trace);
        draft.content.subject = String::from("7");
        let event = node.publish([draft]).await.remove(0);
        let claims = node.claim(NOW, 10).await;
        assert_eq!(claims.len(), 1);
        let claim = &claims[0];
        assert_eq!((claim.attempt, claim.leased_until), (AttemptNumber::FIRST, NOW + LEASE));
        assert_eq!(claim.previous_span, None);
        assert_eq!((claim.event.id, claim.event.created_at), (event.id, NOW));
        assert_eq!(claim.event.content.payload.data, Bytes::from_static(&[0, 255, 10]));
        assert_eq!(claim.event.content.subject, "7");
        assert_eq!((&claim.event.trace, &claim.event.tenant), (&trace, &other));
        assert_eq!((claim.target.uid, &claim.target.id), (subscription.uid, &subscription.id));
        assert_eq!((&claim.target.tenant, &claim.target.url), (&other, &spec.target_url));
        let signing: Vec<_> = claim.target.secrets.in_force(NOW).cloned().collect();
        assert_eq!(signing, [a_secret(1)]);
    }

    async fn a_claim_carries_the_secrets_in_force(kind: Kind) {
        let node = Node::new(kind).await;
        let (id, tenant) = (name("sub"), default_tenant());
        let subscription = node.subscribe("sub").await;
        node.store.rotate_secret(&tenant, &id, &a_secret(2), over(SECOND), NOW).await.unwrap();
        publish_due(&node, &subscription, 1, NOW).await;
        let claims = node.claim(NOW, 1).await;
        let signing = |now| claims[0].target.secrets.in_force(now).map(|s| s.expose()[0]).collect::<Vec<_>>();
        assert_eq!(signing(NOW), [2, 1]);
        assert_eq!(signing(NOW + SECOND), [2]);
    }

    async fn a_claim_of_one_event_for_many_carries_its_data_for_each(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        node.publish([a_draft().data("shared").to([&a, &b])]).await;
        let claims = node.claim(NOW, 10).await;
        assert_eq!(by_subscription(&claims), counts([("a", 1), ("b", 1)]));
        assert!(claims.iter().all(|claim| claim.event.content.payload.data == "shared"));
    }

    async fn a_claimed_delivery_is_left_alone_until_its_lease_runs_out(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let first = node.claimed(&subscription).await;
        let delivery = node.delivery(first.delivery).await;
        assert_eq!((delivery.attempt_count, delivery.due_at), (1, NOW + LEASE));
        let almost = (NOW + LEASE).before(TICK);
        assert!(node.claim(almost, 10).await.is_empty());
        let second = node.another().await.claim(NOW + LEASE, 10).await;
        assert_eq!(second.len(), 1);
        assert_eq!((second[0].delivery, second[0].attempt.get()), (first.delivery, 2));
        assert_eq!(second[0].leased_until, NOW + LEASE + LEASE);
    }

    async fn a_retry_is_claimed_when_it_is_due_and_knows_the_span_of_the_attempt_before(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        let span = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "");
        let mut settled = retried(&claim, NOW, NOW + SECOND);
        settled.attempt.as_mut().unwrap().span.clone_from(&span);
        node.settle([settled]).await;
        assert!(node.claim(NOW, 10).await.is_empty());
        let retry = node.claim(NOW + SECOND, 10).await;
        assert_eq!(retry.len(), 1);
        assert_eq!((retry[0].attempt.get(), &retry[0].previous_span), (2, &span));
    }

    async fn what_is_given_back_without_an_attempt_still_knows_the_span_of_the_one_before(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        let span = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "");
        let mut settled = retried(&claim, NOW, NOW);
        settled.attempt.as_mut().unwrap().span.clone_from(&span);
        node.settle([settled]).await;
        let claim = node.claim(NOW, 10).await.remove(0);
        node.settle([Settled::returned(claim, NOW)]).await;
        let retry = node.claim(NOW, 10).await.remove(0);
        assert_eq!((retry.attempt.get(), &retry.previous_span), (2, &span));
    }

    async fn no_more_is_claimed_than_there_is_room_on_the_node(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        publish_due(&node, &a, 10, NOW).await;
        publish_due(&node, &b, 10, NOW).await;
        assert_eq!(node.claim(NOW, 7).await.len(), 7);
        assert_eq!(node.claim(NOW, 100).await.len(), 13);
    }

    async fn no_more_is_claimed_of_one_subscription_than_it_has_room(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        publish_due(&node, &a, 10, NOW).await;
        publish_due(&node, &b, 2, NOW).await;
        let three_each = Ask { max_per_subscription: 3, ..ask(NOW, 100) };
        assert_eq!(by_subscription(&node.claim_as(&three_each).await), counts([("a", 3), ("b", 2)]));
    }

    async fn attempts_under_way_take_room(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b, c) = (node.subscribe("a").await, node.subscribe("b").await, node.subscribe("c").await);
        for subscription in [&a, &b, &c] {
            publish_due(&node, subscription, 10, NOW).await;
        }
        let held = vec![(a.uid, 2), (b.uid, 3)];
        let busy = Ask { max_per_subscription: 3, held, ..ask(NOW, 100) };
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("a", 1), ("c", 3)]));
        let held = vec![(a.uid, 3), (b.uid, 4), (c.uid, 2)];
        let busier = Ask { max_per_subscription: 3, held, ..ask(NOW, 100) };
        assert_eq!(by_subscription(&node.claim_as(&busier).await), counts([("c", 1)]));
    }

    async fn attempts_under_way_to_a_thousand_subscriptions_do_not_hinder_a_claim(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        for subscription in [&a, &b] {
            publish_due(&node, subscription, 10, NOW).await;
        }
        let mut held: Vec<_> = (0..1_021).map(|n| (SubscriptionUid::nth(NOW, n), 1)).collect();
        held.extend([(a.uid, 128), (b.uid, 126)]);
        let busy = Ask { held, ..ask(NOW, 100) };
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("b", 2)]));
    }

    async fn a_subscription_with_a_large_backlog_leaves_the_others_their_share(kind: Kind) {
        let node = Node::new(kind).await;
        let hog = node.subscribe("hog").await;
        publish_due(&node, &hog, 500, NOW.before(SECOND)).await;
        for id in ["a", "b", "c"] {
            publish_due(&node, &node.subscribe(id).await, 2, NOW).await;
        }
        let claims = node.claim(NOW, 8).await;
        assert_eq!(by_subscription(&claims), counts([("hog", 2), ("a", 2), ("b", 2), ("c", 2)]));
    }

    async fn a_saturated_subscription_does_not_stand_in_the_way(kind: Kind) {
        let node = Node::new(kind).await;
        let (saturated, other) = (node.subscribe("saturated").await, node.subscribe("other").await);
        publish_due(&node, &saturated, 2_000, NOW).await;
        publish_due(&node, &other, 1, NOW).await;
        let busy = Ask { held: vec![(saturated.uid, 128)], ..ask(NOW, 10) };
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("other", 1)]));
        assert!(node.claim_as(&busy).await.is_empty());
    }

    async fn a_claim_goes_on_however_many_subscriptions_something_is_held_for(kind: Kind) {
        let node = Node::new(kind).await;
        let (saturated, other) = (node.subscribe("saturated").await, node.subscribe("other").await);
        publish_due(&node, &saturated, 1, NOW).await;
        publish_due(&node, &other, 1, NOW).await;
        let full = |uid| (uid, 128);
        let mut held: Vec<_> = (0..17_000).map(|_| full(SubscriptionUid::new(NOW))).collect();
        held.push(full(saturated.uid));
        let busy = Ask { limits: held.clone(), held, ..ask(NOW, 10) };
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("other", 1)]));
    }

    async fn what_cannot_be_ended_keeps_nothing_else_from_being_sent(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().at(NOW.before(SECOND)).expire_at(NOW).to([&subscription])]).await;
        publish_due(&node, &subscription, 1, NOW).await;
        // Nothing ends as expired.
        node.execute(match kind {
            Kind::Sqlite => {
                "CREATE TRIGGER refusal BEFORE UPDATE ON deliveries WHEN NEW.end_reason = 7
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            }
            Kind::Postgres => {
                "ALTER TABLE deliveries ADD CONSTRAINT refusal CHECK (end_reason IS DISTINCT FROM 7)"
            }
        })
        .await;
        assert_eq!(node.claim(NOW, 10).await.len(), 1, "the other one");
        assert!(node.claim(NOW, 10).await.is_empty(), "it is held until its lease is over");
        assert!(node.store.claim(&ask(NOW + LEASE, 1)).await.is_err(), "there is nothing else");
    }

    async fn attempts_under_way_count_as_turns_that_a_subscription_has_had(kind: Kind) {
        let node = Node::new(kind).await;
        let (slow, other) = (node.subscribe("slow").await, node.subscribe("other").await);
        publish_due(&node, &slow, 5, NOW.before(SECOND * 100)).await;
        publish_due(&node, &other, 1, NOW).await;
        // The backlog of the slow one is older, but it has its share of the node.
        let busy = Ask { held: vec![(slow.uid, 127)], ..ask(NOW, 1) };
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("other", 1)]));
        assert_eq!(by_subscription(&node.claim_as(&busy).await), counts([("slow", 1)]));
    }

    async fn the_most_overdue_come_first(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        publish_due(&node, &subscription, 10, NOW).await;
        let when = |claims: Vec<Claim>| {
            let mut ages: Vec<_> =
                claims.iter().map(|claim| NOW.since(claim.event.created_at).as_secs()).collect();
            ages.sort_unstable();
            ages
        };
        assert_eq!(when(node.claim(NOW, 3).await), [7, 8, 9]);
        assert_eq!(when(node.claim(NOW, 4).await), [3, 4, 5, 6]);
    }

    async fn the_most_overdue_subscription_comes_first_where_there_is_not_room_for_all(kind: Kind) {
        let node = Node::new(kind).await;
        for (id, overdue) in [("a", 1), ("b", 3), ("c", 2)] {
            publish_due(&node, &node.subscribe(id).await, 1, NOW.before(SECOND * overdue)).await;
        }
        assert_eq!(by_subscription(&node.claim(NOW, 2).await), counts([("b", 1), ("c", 1)]));
    }

    async fn what_waits_for_a_paused_subscription_stays_until_it_is_resumed(kind: Kind) {
        let node = Node::new(kind).await;
        let (paused, other) = (node.subscribe("paused").await, node.subscribe("other").await);
        publish_due(&node, &paused, 3, NOW).await;
        publish_due(&node, &other, 1, NOW).await;
        node.pause(&paused).await;
        assert_eq!(by_subscription(&node.claim(NOW, 10).await), counts([("other", 1)]));
        assert!(node.claim(NOW, 10).await.is_empty());
        node.resume(&paused).await;
        assert_eq!(by_subscription(&node.claim(NOW, 10).await), counts([("paused", 3)]));
    }

    async fn what_waits_for_a_subscription_that_has_ended_is_not_claimed(kind: Kind) {
        let node = Node::new(kind).await;
        let (deleted, disabled) = (node.subscribe("deleted").await, node.subscribe("disabled").await);
        for subscription in [&deleted, &disabled] {
            publish_due(&node, subscription, 2, NOW).await;
        }
        node.delete(&deleted).await;
        node.disable(&disabled).await;
        assert!(node.claim(NOW, 10).await.is_empty());
        node.enable(&disabled).await;
        assert_eq!(by_subscription(&node.claim(NOW, 10).await), counts([("disabled", 2)]));
    }

    async fn what_has_ended_is_not_claimed(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        publish_due(&node, &subscription, 1, NOW).await;
        let waiting = node.claim(NOW, 10).await.remove(0);
        node.cancel(waiting.delivery, NOW).await;
        assert!(node.claim(NOW + LEASE + LEASE, 10).await.is_empty());
    }

    async fn two_nodes_never_claim_the_same_delivery(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        for id in ["one", "two", "three"] {
            publish_due(&a, &a.subscribe(id).await, 200, NOW).await;
        }
        let mut claimed: Vec<DeliveryId> = Vec::new();
        loop {
            let (one, other) = tokio::join!(a.claim(NOW, 40), b.claim(NOW, 40));
            if one.is_empty() && other.is_empty() {
                break;
            }
            claimed.extend(one.iter().chain(&other).map(|claim| claim.delivery));
        }
        assert_eq!(claimed.len(), 600);
        assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 600);
    }

    async fn a_node_with_as_much_room_as_it_may_have_claims_whatever_is_due(kind: Kind) {
        // Each delivery is of another event: more of them than a statement takes values.
        let values = match kind {
            Kind::Sqlite => 32_766,
            Kind::Postgres => 65_535,
        };
        let room = |room| dispatch::Config { max_in_flight: room, ..dispatch::Config::default() };
        let timeout = sender::Config::default().timeout;
        assert!(room(MOST_ROOM).validate(timeout).is_ok() && room(MOST_ROOM + 1).validate(timeout).is_err());
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let due = MOST_ROOM.min(values + 1);
        insert_due(&node, &subscription, due).await;
        let all = Ask { max_per_subscription: MOST_ROOM, ..ask(NOW, MOST_ROOM) };
        let mut claimed = 0;
        loop {
            let claims = node.claim_as(&all).await.len();
            if claims == 0 {
                break;
            }
            claimed += claims;
        }
        assert_eq!(claimed, due);
    }

    async fn a_claim_takes_no_more_data_than_there_is_room_for(kind: Kind) {
        let node = Node::new(kind).await;
        let to = node.subscribe("sub").await;
        // Of five places each, and a small one that is due last.
        let large = || a_draft().data(vec![b'x'; 300 << 10]).to([&to]);
        node.publish([large(), large(), large()]).await;
        let with = |places| Ask { places, ..ask(NOW, 100) };
        let data = |claims: Vec<Claim>| -> Vec<_> {
            claims.iter().map(|claim| claim.event.content.payload.data.len() >> 10).collect()
        };
        assert_eq!(data(node.claim_as(&with(14)).await), [300, 300]);
        assert_eq!(data(node.claim_as(&with(1)).await), [300], "one is always taken");
        assert_eq!(node.claim_as(&with(100)).await.len(), 0);
        node.publish([a_draft().to([&to]), large()]).await;
        assert_eq!(node.claim_as(&with(6)).await.len(), 2);
    }
}

/// Puts so many due deliveries past the store, because that is faster.
async fn insert_due(node: &Node, subscription: &Subscription, deliveries: usize) {
    let uid = subscription.uid.uuid();
    let (series, id, uid, no_data) = match node.database.kind() {
        Kind::Sqlite => (
            format!(
                "RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {deliveries})"
            ),
            "CAST(printf('%016d', n) AS BLOB)",
            format!("x'{}'", uid.simple()),
            "x''",
        ),
        Kind::Postgres => (
            format!("series (n) AS (SELECT generate_series(1, {deliveries}))"),
            "lpad(n::text, 32, '0')::uuid",
            format!("'{uid}'::uuid"),
            "''::bytea",
        ),
    };
    let now = NOW.as_micros();
    for (table, columns, values) in [
        (
            "events",
            "id, tenant_id, type, source, subject, content_type, delivery_count, created_at",
            format!("{id}, 'default', 'a', '', '', 'text/plain', 1, {now}"),
        ),
        ("payloads", "event_id, data", format!("{id}, {no_data}")),
        (
            "deliveries",
            "id, event_id, subscription_uid, tenant_id, state, created_at",
            format!("{id}, {id}, {uid}, 'default', 0, {now}"),
        ),
        (
            "pending_deliveries",
            "id, event_id, subscription_uid, attempt_count, due_at, priority",
            format!("{id}, {id}, {uid}, 0, {now}, 0"),
        ),
    ] {
        node.execute(&format!("WITH {series} INSERT INTO {table} ({columns}) SELECT {values} FROM series"))
            .await;
    }
}
