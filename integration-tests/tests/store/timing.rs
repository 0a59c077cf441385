//! What is put off waits, and what has expired is not sent.

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    dispatch::{Ask, Queue, Settled},
    domain::delivery::{DeliveryState, EndReason},
    store::{
        Retention,
        steering::{Refusal, Steered},
    },
};

use crate::{
    fixtures::{DAY, LEASE, NOW, SECOND, TICK, a_draft, acknowledged, ask, exhausted, retried},
    node::Node,
};

fn expired(delivery: &postrider_server::domain::delivery::Delivery) -> bool {
    matches!(delivery.state, DeliveryState::Ended { reason: EndReason::Expired, .. })
}

on_both_databases! {
    async fn a_delivery_that_is_put_off_is_due_at_its_time(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let later = NOW + DAY * 30;
        let event = node.publish([a_draft().deliver_at(later).to([&subscription])]).await.remove(0);
        let delivery = node.deliveries_of(&event).await.remove(0);
        assert_eq!((delivery.due_at, delivery.created_at, delivery.attempt_count), (later, NOW, 0));
        assert!(node.claim(later.before(TICK), 10).await.is_empty());
        assert_eq!(node.claim(later, 10).await.len(), 1);
    }

    async fn a_time_that_is_past_means_now(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().deliver_at(NOW.before(DAY)).to([&subscription])]).await.remove(0);
        assert_eq!(node.deliveries_of(&event).await[0].due_at, NOW);
    }

    async fn what_is_put_off_is_kept_beyond_its_retention(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().deliver_at(NOW + DAY * 30).to([&subscription])]).await;
        let retention = Retention { payloads: DAY, attempts: DAY, events: DAY };
        assert_eq!(node.store.prune(&retention, NOW + DAY * 30).await.unwrap(), 0);
        assert_eq!(node.claim(NOW + DAY * 30, 10).await.len(), 1);
    }

    async fn the_claim_ends_what_has_expired_and_returns_what_is_behind_it(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let expiring = || a_draft().expire_at(NOW + SECOND).to([&subscription]);
        let event = node.publish([expiring()]).await.remove(0);
        node.publish((0..30).map(|_| expiring())).await;
        node.publish([a_draft().at(NOW + TICK).data("behind").to([&subscription])]).await;
        // With room for fewer than have expired.
        let room = Ask { max_per_subscription: 10, ..ask(NOW + SECOND, 10) };
        let claims = node.claim_as(&room).await;
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0].event.content.payload.data, "behind");
        let delivery = node.deliveries_of(&event).await.remove(0);
        assert_eq!(delivery.state, DeliveryState::Ended { at: NOW + SECOND, reason: EndReason::Expired });
        assert_eq!(delivery.attempt_count, 0, "none was begun");
        assert!(node.attempts(delivery.id).await.is_empty());
        assert_eq!(node.count("deliveries WHERE end_reason = 7 AND state = 2").await, 31);
    }

    async fn a_claim_does_not_go_on_for_as_long_as_there_is_something_to_end(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish((0..30).map(|_| a_draft().expire_at(NOW + SECOND).to([&subscription]))).await;
        node.publish([a_draft().at(NOW + TICK).to([&subscription])]).await;
        let room = Ask { max_per_subscription: 5, ..ask(NOW + SECOND, 5) };
        let first = node.store.claim(&room).await.unwrap();
        assert!(first.claims.is_empty());
        assert_eq!(first.expired, 20);
        assert_eq!(node.claim_as(&room).await.len(), 1);
    }

    async fn until_it_expires_a_delivery_is_claimed(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().expire_at(NOW + SECOND).to([&subscription])]).await;
        assert_eq!(node.claim((NOW + SECOND).before(TICK), 10).await.len(), 1);
    }

    async fn a_claim_that_came_too_late_ends_the_delivery_without_an_attempt(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().expire_at(NOW + SECOND).to([&subscription])]).await;
        let claim = node.claim(NOW, 10).await.remove(0);
        node.settle([retried(&claim, NOW, NOW)]).await;
        let claim = node.claim(NOW, 10).await.remove(0);
        assert_eq!(claim.attempt.get(), 2);
        let id = claim.delivery;
        let settling = node.settle([Settled::expired(claim, NOW + SECOND)]).await;
        assert!(settling.lost.is_empty());
        let delivery = node.delivery(id).await;
        assert!(expired(&delivery), "{:?}", delivery.state);
        assert_eq!(delivery.attempt_count, 1);
        assert_eq!(node.attempts(id).await.len(), 1);
    }

    async fn what_has_expired_and_is_not_due_or_is_paused_is_ended(kind: Kind) {
        let node = Node::new(kind).await;
        let (open, paused) = (node.subscribe("open").await, node.subscribe("paused").await);
        node.publish([a_draft().expire_at(NOW + SECOND * 2).to([&open])]).await;
        let waits = node.claim(NOW, 1).await.remove(0);
        node.settle([retried(&waits, NOW, NOW + DAY)]).await;
        let event = node.publish([a_draft().expire_at(NOW + SECOND).to([&paused])]).await.remove(0);
        node.pause(&paused).await;
        node.publish([a_draft().to([&open, &paused])]).await;
        assert_eq!(node.store.expire((NOW + SECOND).before(TICK)).await.unwrap(), 0);
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 1);
        assert!(expired(&node.deliveries_of(&event).await[0]));
        assert_eq!(node.store.expire(NOW + SECOND * 2).await.unwrap(), 1);
        assert!(expired(&node.delivery(waits.delivery).await));
        assert_eq!(node.count("deliveries WHERE state = 0").await, 2);
    }

    async fn an_attempt_under_way_may_succeed_after_its_event_has_expired(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().expire_at(NOW + SECOND).to([&subscription])]).await;
        let claim = node.claim(NOW, 1).await.remove(0);
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 0);
        node.settle([acknowledged(&claim, NOW + SECOND)]).await;
        let ended = DeliveryState::Ended { at: NOW + SECOND, reason: EndReason::Acknowledged };
        assert_eq!(node.delivery(claim.delivery).await.state, ended);
    }

    async fn one_whose_node_died_in_its_attempt_expires_when_the_lease_has_run_out(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().expire_at(NOW + SECOND).to([&subscription])]).await;
        let claim = node.claim(NOW, 1).await.remove(0);
        assert_eq!(node.store.expire((NOW + LEASE).before(TICK)).await.unwrap(), 0);
        assert_eq!(node.store.expire(NOW + LEASE).await.unwrap(), 1);
        assert!(expired(&node.delivery(claim.delivery).await));
    }

    async fn many_expire_in_batches(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let draft = a_draft().expire_at(NOW + SECOND).keyed("k");
        node.publish([draft.to(std::iter::repeat_n(&subscription, 1_500))]).await;
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 1_000);
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 500);
        assert_eq!(node.store.expire(NOW + SECOND).await.unwrap(), 0);
        assert_eq!(node.count("ordering_lanes").await, 0);
    }

    async fn what_has_expired_is_not_redelivered(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().expire_at(NOW + SECOND).to([&subscription])]).await;
        let claim = node.claim(NOW, 1).await.remove(0);
        node.settle([exhausted(&claim, NOW)]).await;
        let refused = node.redeliver(claim.delivery, NOW + SECOND).await;
        assert!(matches!(refused, Steered::Refused(Refusal::Expired)), "{refused:?}");
        assert!(matches!(node.redeliver(claim.delivery, NOW).await, Steered::Done(_)));
    }
}
