//! An operator asks for one more attempt, or calls a delivery off.

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    domain::{
        delivery::{Delivery, DeliveryState, EndReason},
        event::Event,
    },
    store::{
        Retention,
        steering::{Refusal, Steered},
    },
};

use crate::{
    fixtures::{DAY, LEASE, NOW, SECOND, a_draft, acknowledged, exhausted, gone, retried},
    node::Node,
};

fn ended(reason: EndReason) -> DeliveryState {
    DeliveryState::Ended { at: NOW, reason }
}

/// The delivery after a wish that was met.
#[track_caller]
fn steered(steered: Steered) -> Delivery {
    match steered {
        Steered::Done(delivery) => delivery,
        refused @ (Steered::NotFound | Steered::Refused(_)) => panic!("{refused:?}"),
    }
}

/// Why a wish was not met.
#[track_caller]
fn refusal(steered: Steered) -> Refusal {
    match steered {
        Steered::Refused(refusal) => refusal,
        other @ (Steered::NotFound | Steered::Done(_)) => panic!("{other:?}"),
    }
}

async fn only_delivery(node: &Node, event: &Event) -> Delivery {
    let mut deliveries = node.deliveries_of(event).await;
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

on_both_databases! {
    async fn a_delivery_that_has_ended_can_be_redelivered(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let claims = [node.claimed(&sub).await, node.claimed(&sub).await, node.claimed(&sub).await];
        node.settle([
            acknowledged(&claims[0], NOW),
            exhausted(&claims[1], NOW),
            retried(&claims[2], NOW, NOW + DAY),
        ])
        .await;
        node.cancel(claims[2].delivery, NOW).await;
        let later = NOW + SECOND * 3;
        let ends = [EndReason::Acknowledged, EndReason::Exhausted, EndReason::Cancelled];
        for (claim, end) in claims.iter().zip(ends) {
            let id = claim.delivery;
            assert_eq!(node.delivery(id).await.state, ended(end));
            let redelivered = steered(node.redeliver(id, later).await);
            assert_eq!((redelivered.state, redelivered.due_at), (DeliveryState::Pending, later));
            let again = node.claim(later, 10).await;
            assert_eq!(again.iter().map(|claim| claim.delivery).collect::<Vec<_>>(), [id]);
            assert_eq!(again[0].attempt.get(), 2, "attempts go on being counted");
            node.settle([acknowledged(&again[0], later)]).await;
            let attempts = node.attempts(id).await;
            assert_eq!(attempts.iter().map(|attempt| attempt.number.get()).collect::<Vec<_>>(), [1, 2]);
        }
    }

    async fn a_delivery_that_waits_for_a_retry_can_be_redelivered_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([retried(&claim, NOW, NOW + DAY)]).await;
        assert!(node.claim(NOW + SECOND, 10).await.is_empty());
        let redelivered = steered(node.redeliver(claim.delivery, NOW + SECOND).await);
        assert_eq!((redelivered.due_at, redelivered.attempt_count), (NOW + SECOND, 1));
        assert_eq!(node.claim(NOW + SECOND, 10).await.len(), 1);
    }

    async fn a_delivery_that_waits_for_a_retry_can_be_redelivered_after_its_attempts_were_pruned(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([retried(&claim, NOW, NOW + DAY)]).await;
        let retention = Retention { attempts: SECOND, ..Retention::default() };
        node.store.prune(&retention, NOW + SECOND * 2).await.unwrap();
        let redelivered = steered(node.redeliver(claim.delivery, NOW + SECOND * 2).await);
        assert_eq!(redelivered.due_at, NOW + SECOND * 2);
    }

    async fn a_delivery_that_was_never_attempted_can_be_redelivered(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        node.pause(&sub).await;
        let event = node.publish([a_draft().to([&sub])]).await.remove(0);
        let id = only_delivery(&node, &event).await.id;
        let redelivered = steered(node.redeliver(id, NOW + SECOND).await);
        assert_eq!((redelivered.due_at, redelivered.attempt_count), (NOW + SECOND, 0));
        assert!(node.claim(NOW + SECOND, 10).await.is_empty(), "a pause holds that back too");
    }

    async fn a_delivery_is_not_redelivered_while_an_attempt_is_under_way(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        assert_eq!(refusal(node.redeliver(claim.delivery, NOW).await), Refusal::AttemptUnderWay);
        assert_eq!(node.delivery(claim.delivery).await.due_at, NOW + LEASE);
        node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        let again = node.claim(NOW + SECOND, 1).await.remove(0);
        assert_eq!(refusal(node.redeliver(again.delivery, NOW).await), Refusal::AttemptUnderWay);
    }

    async fn a_delivery_is_not_redelivered_to_a_subscription_that_has_ended(kind: Kind) {
        let node = Node::new(kind).await;
        let (deleted, disabled) = (node.subscribe("deleted").await, node.subscribe("disabled").await);
        let claims = [node.claimed(&deleted).await, node.claimed(&disabled).await];
        node.settle([acknowledged(&claims[0], NOW), gone(&claims[1], NOW)]).await;
        node.delete(&deleted).await;
        let refused = refusal(node.redeliver(claims[0].delivery, NOW).await);
        assert_eq!(refused, Refusal::SubscriptionDeleted);
        let refused = refusal(node.redeliver(claims[1].delivery, NOW).await);
        assert_eq!(refused, Refusal::SubscriptionDisabled);
        assert_eq!(node.delivery(claims[1].delivery).await.state, ended(EndReason::Gone));
        node.enable(&disabled).await;
        steered(node.redeliver(claims[1].delivery, NOW).await);
    }

    async fn a_delivery_is_not_redelivered_without_its_data(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        node.store.prune(&Retention::default(), NOW + DAY * 31).await.unwrap();
        assert_eq!(refusal(node.redeliver(claim.delivery, NOW + DAY * 31).await), Refusal::DataExpired);
        assert_eq!(node.delivery(claim.delivery).await.state, ended(EndReason::Acknowledged));
    }

    async fn a_pending_delivery_can_be_cancelled_and_cancelling_repeated(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        let cancelled = steered(node.cancel(claim.delivery, NOW).await);
        assert_eq!(cancelled.state, ended(EndReason::Cancelled));
        let again = steered(node.cancel(claim.delivery, NOW + SECOND).await);
        assert_eq!(again.state, ended(EndReason::Cancelled), "when it was cancelled first");
        assert!(node.claim(NOW + DAY, 10).await.is_empty());
    }

    async fn a_delivery_can_be_cancelled_while_an_attempt_is_under_way(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        assert_eq!(steered(node.cancel(claim.delivery, NOW).await).state, ended(EndReason::Cancelled));
        assert_eq!(node.settle([acknowledged(&claim, NOW + SECOND)]).await.lost, [claim.delivery]);
        assert_eq!(node.delivery(claim.delivery).await.state, ended(EndReason::Cancelled));
    }

    async fn a_delivery_that_succeeded_or_failed_cannot_be_cancelled(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let claims = [node.claimed(&sub).await, node.claimed(&sub).await];
        node.settle([acknowledged(&claims[0], NOW), exhausted(&claims[1], NOW)]).await;
        for (claim, end) in claims.iter().zip([EndReason::Acknowledged, EndReason::Exhausted]) {
            assert_eq!(refusal(node.cancel(claim.delivery, NOW).await), Refusal::Ended);
            assert_eq!(node.delivery(claim.delivery).await.state, ended(end));
        }
    }

    async fn cancelling_and_settling_at_once_leave_one_end(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let sub = a.subscribe("sub").await;
        for _ in 0..5 {
            let claim = a.claimed(&sub).await;
            let (cancelled, settling) =
                tokio::join!(a.cancel(claim.delivery, NOW), b.settle([acknowledged(&claim, NOW)]));
            let state = a.delivery(claim.delivery).await.state;
            if settling.lost.is_empty() {
                assert_eq!((refusal(cancelled), state), (Refusal::Ended, ended(EndReason::Acknowledged)));
            } else {
                assert_eq!(
                    (steered(cancelled).state, state),
                    (ended(EndReason::Cancelled), ended(EndReason::Cancelled))
                );
            }
        }
    }

    async fn redelivering_and_claiming_at_once_make_one_attempt(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let sub = a.subscribe("sub").await;
        for _ in 0..5 {
            let claim = a.claimed(&sub).await;
            a.settle([retried(&claim, NOW, NOW)]).await;
            let (redelivered, mut claims) = tokio::join!(a.redeliver(claim.delivery, NOW), b.claim(NOW, 10));
            match redelivered {
                Steered::Done(_) => claims.extend(b.claim(NOW, 10).await),
                refused => assert_eq!(refusal(refused), Refusal::AttemptUnderWay),
            }
            assert_eq!(claims.len(), 1, "one claim, of the second attempt");
            assert_eq!(claims[0].attempt.get(), 2);
            a.settle([acknowledged(&claims[0], NOW)]).await;
        }
    }
}
