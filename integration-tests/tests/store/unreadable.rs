//! What is stored of a delivery is missing or damaged: it ends, says why, and nobody else notices.

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    dispatch::{Ask, Claimed, Queue},
    domain::{
        delivery::{Delivery, DeliveryState, EndReason},
        timestamp::Timestamp,
    },
    publish::fan_out::FanOuts,
};

use crate::{
    fixtures::{Draft, LEASE, NOW, SECOND, a_draft, ask, one_page},
    node::Node,
};

/// An event that is told apart from others by its data, and by its subject in SQL.
fn marked(mark: &str) -> Draft {
    let mut draft = a_draft().data(mark.to_owned());
    mark.clone_into(&mut draft.content.subject);
    draft
}

async fn claim(node: &Node, now: Timestamp, max: usize) -> Claimed {
    node.store.claim(&ask(now, max)).await.unwrap()
}

fn data(claimed: &Claimed) -> Vec<&[u8]> {
    claimed.claims.iter().map(|claim| &claim.event.content.payload.data[..]).collect()
}

#[track_caller]
fn assert_ended(delivery: &Delivery, at: Timestamp) {
    assert_eq!(delivery.state, DeliveryState::Ended { at, reason: EndReason::Unreadable });
    assert_eq!(delivery.attempt_count, 0, "none was begun");
}

/// What can happen to the rows of the event that is marked with `bad`.
const HARM_TO_AN_EVENT: [&str; 3] = [
    "DELETE FROM events WHERE subject = 'bad'",
    "DELETE FROM payloads WHERE event_id IN (SELECT id FROM events WHERE subject = 'bad')",
    "UPDATE events SET attributes = '{' WHERE subject = 'bad'",
];

on_both_databases! {
    async fn a_delivery_whose_event_is_missing_or_damaged_ends_and_the_others_go_out(kind: Kind) {
        for harm in HARM_TO_AN_EVENT {
            let node = Node::new(kind).await;
            let subscription = node.subscribe("sub").await;
            let bad = node.publish([marked("bad").to([&subscription])]).await.remove(0);
            node.publish([marked("good").at(NOW + SECOND).to([&subscription])]).await;
            node.execute(harm).await;
            let claimed = claim(&node, NOW + SECOND, 10).await;
            assert_eq!((data(&claimed), claimed.unreadable), (vec![&b"good"[..]], 1), "{harm}");
            assert_ended(&node.deliveries_of(&bad).await[0], NOW + SECOND);
            let claimed = claim(&node, NOW + SECOND + LEASE, 10).await;
            assert_eq!((claimed.claims.len(), claimed.unreadable), (1, 0), "once");
        }
    }

    async fn what_is_behind_the_unreadable_is_claimed_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish((0..30).map(|_| marked("bad").to([&subscription]))).await;
        node.publish([marked("good").at(NOW + SECOND).to([&subscription])]).await;
        node.execute(HARM_TO_AN_EVENT[0]).await;
        let room = Ask { max_per_subscription: 10, ..ask(NOW + SECOND, 10) };
        let claimed = node.store.claim(&room).await.unwrap();
        assert_eq!((data(&claimed), claimed.unreadable), (vec![&b"good"[..]], 30));
    }

    async fn an_unreadable_delivery_does_not_hold_up_its_ordering_key(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        for mark in ["bad", "good", "later"] {
            node.publish([marked(mark).keyed("k").to([&subscription])]).await;
        }
        node.execute(HARM_TO_AN_EVENT[1]).await;
        let claimed = claim(&node, NOW, 10).await;
        assert_eq!((data(&claimed), claimed.unreadable), (vec![&b"good"[..]], 1));
        assert_eq!(node.store.release_stuck_lanes(NOW).await.unwrap(), 0);
    }

    async fn what_is_to_be_fanned_out_of_an_event_that_is_missing_or_damaged_ends_too(kind: Kind) {
        for harm in HARM_TO_AN_EVENT {
            let node = Node::new(kind).await;
            let (one, two) = (node.subscribe("one").await, node.subscribe("two").await);
            let bad = node.publish([marked("bad").later_to([&one, &two])]).await.remove(0);
            node.publish([marked("good").at(NOW + SECOND).later_to([&one])]).await;
            node.execute(harm).await;
            let now = NOW + SECOND * 2;
            let part = node.store.take_parts(None, now, now + LEASE).await.unwrap().remove(0);
            assert_eq!(part.event.content.payload.data, "good", "{harm}");
            assert_eq!(node.count("fan_outs").await, 1, "that one");
            assert_eq!(claim(&node, now, 10).await.unreadable, 2);
            let ended = node.deliveries_of(&bad).await;
            assert_eq!(ended.len(), 2);
            for delivery in &ended {
                assert_ended(delivery, now);
            }
        }
    }

    async fn what_waits_for_a_damaged_subscription_ends_as_it_comes_due(kind: Kind) {
        let node = Node::new(kind).await;
        let (bad, good) = (node.subscribe("bad").await, node.subscribe("good").await);
        let event = node.publish([a_draft().to([&bad, &good])]).await.remove(0);
        let later = node.publish([a_draft().deliver_at(NOW + SECOND).to([&bad])]).await.remove(0);
        node.execute("UPDATE subscriptions SET target_url = 'nowhere' WHERE id = 'bad'").await;
        let claimed = claim(&node, NOW, 10).await;
        assert_eq!((claimed.claims.len(), claimed.unreadable), (1, 1));
        assert_eq!(claimed.claims[0].target.uid, good.uid);
        let deliveries = node.deliveries_of(&event).await;
        assert_ended(deliveries.iter().find(|delivery| delivery.subscription == bad.id).unwrap(), NOW);
        assert_eq!(node.deliveries_of(&later).await[0].state, DeliveryState::Pending);
        assert_eq!(claim(&node, NOW + SECOND, 10).await.unreadable, 1);
        assert_ended(&node.deliveries_of(&later).await[0], NOW + SECOND);
    }

    async fn a_damaged_subscription_hides_no_others_from_a_listing(kind: Kind) {
        let node = Node::new(kind).await;
        for id in ["one", "bad", "two"] {
            node.subscribe(id).await;
        }
        node.execute("UPDATE subscriptions SET target_url = 'nowhere' WHERE id = 'bad'").await;
        let listed = node.store.subscriptions(None, one_page()).await.unwrap().items;
        let mut ids: Vec<_> = listed.iter().map(|listed| listed.id.as_str()).collect();
        // They are of the same moment, and in no order.
        ids.sort_unstable();
        assert_eq!(ids, ["one", "two"]);
    }

    async fn a_damaged_subscription_gets_no_events_and_is_counted(kind: Kind) {
        let node = Node::new(kind).await;
        let (_, good) = (node.subscribe("bad").await, node.subscribe("good").await);
        node.execute("UPDATE subscriptions SET event_types = '[' WHERE id = 'bad'").await;
        let interests = node.interests(&default_tenant()).await;
        assert_eq!((interests.subscriptions.len(), interests.unreadable), (1, 1));
        assert_eq!(interests.subscriptions[0].target.uid, good.uid);
    }

    async fn what_waits_for_a_missing_subscription_is_found_and_ends(kind: Kind) {
        let node = Node::new(kind).await;
        let (missing, other) = (node.subscribe("missing").await, node.subscribe("other").await);
        let event = node.publish([a_draft().keyed("k").to([&missing, &other])]).await.remove(0);
        node.publish([a_draft().keyed("k").to([&missing])]).await;
        assert_eq!(node.store.end_orphans(NOW).await.unwrap(), 0);
        node.execute("DELETE FROM subscriptions WHERE id = 'missing'").await;
        assert_eq!(node.claim(NOW, 10).await.len(), 1, "the claim goes by the rows of subscriptions");
        assert_eq!(node.store.end_orphans(NOW).await.unwrap(), 2);
        assert_eq!(node.store.end_orphans(NOW).await.unwrap(), 0);
        let deliveries = node.deliveries_of(&event).await;
        assert_ended(deliveries.iter().find(|delivery| delivery.subscription != other.id).unwrap(), NOW);
        assert_eq!(node.count("ordering_lanes").await, 1, "the other one's");
    }

    async fn a_secret_that_this_node_has_no_key_for_ends_nothing(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().to([&subscription])]).await;
        node.execute("UPDATE subscription_secrets SET key_id = 'elsewhere'").await;
        let claimed = claim(&node, NOW, 10).await;
        assert_eq!((claimed.claims.len(), claimed.unreadable), (1, 0));
        assert_eq!(claimed.claims[0].target.secrets.in_force(NOW).count(), 0);
    }

    async fn what_is_unreadable_uses_up_neither_a_probe_nor_a_rate(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([marked("bad").to([&subscription])]).await;
        node.publish([marked("good").at(NOW + SECOND).to([&subscription])]).await;
        node.execute(HARM_TO_AN_EVENT[0]).await;
        node.execute(&format!(
            "UPDATE subscriptions SET blocked_until = {}, blocked_reason = 'it fails', failing_since = 0,
                 rate_per_second = 0.01, rate_burst = 1",
            NOW.as_micros()
        ))
        .await;
        let claimed = claim(&node, NOW + SECOND, 10).await;
        assert_eq!((data(&claimed), claimed.unreadable), (vec![&b"good"[..]], 1));
        assert!(claimed.claims[0].probe.is_some());
    }
}
