//! What waits for a subscription that has ended is cancelled, in batches, and nothing else.

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    dispatch::{Ask, Queue},
    domain::delivery::{DeliveryState, DeliveryStatus, EndReason},
    store::deliveries::DeliveryFilter,
};

use crate::{
    fixtures::{LEASE, NOW, SECOND, a_draft, acknowledged, ask, retried},
    node::Node,
};

/// Sweeps until nothing is left to; answers how many each batch had.
async fn sweep(node: &Node) -> Vec<u64> {
    let mut batches = Vec::new();
    loop {
        match node.store.sweep(NOW + SECOND).await.unwrap() {
            0 => return batches,
            cancelled => batches.push(cancelled),
        }
    }
}

fn cancelled(reason: EndReason) -> DeliveryState {
    DeliveryState::Ended { at: NOW + SECOND, reason }
}

on_both_databases! {
    async fn there_is_nothing_to_sweep_while_no_subscription_has_ended(kind: Kind) {
        let node = Node::new(kind).await;
        let (active, paused) = (node.subscribe("active").await, node.subscribe("paused").await);
        node.publish([a_draft().to([&active, &paused])]).await;
        node.pause(&paused).await;
        assert!(sweep(&node).await.is_empty());
        assert_eq!(node.count("deliveries WHERE state = 0").await, 2);
    }

    async fn what_waits_is_cancelled_for_the_reason_for_which_its_subscription_ended(kind: Kind) {
        let node = Node::new(kind).await;
        let (deleted, disabled, kept) =
            (node.subscribe("deleted").await, node.subscribe("disabled").await, node.subscribe("kept").await);
        let event = node.publish([a_draft().to([&deleted, &disabled, &kept])]).await.remove(0);
        node.delete(&deleted).await;
        node.disable(&disabled).await;
        assert_eq!(sweep(&node).await.iter().sum::<u64>(), 2);
        for delivery in node.deliveries_of(&event).await {
            let expected = match delivery.subscription.as_str() {
                "deleted" => cancelled(EndReason::SubscriptionDeleted),
                "disabled" => cancelled(EndReason::SubscriptionDisabled),
                _ => DeliveryState::Pending,
            };
            assert_eq!(delivery.state, expected, "{}", delivery.subscription);
        }
    }

    async fn what_waits_for_a_subscription_that_was_disabled_and_deleted_is_cancelled_as_deleted(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().to([&subscription])]).await.remove(0);
        node.disable(&subscription).await;
        node.delete(&subscription).await;
        sweep(&node).await;
        let delivery = node.deliveries_of(&event).await.remove(0);
        assert_eq!(delivery.state, cancelled(EndReason::SubscriptionDeleted));
    }

    async fn a_large_backlog_is_swept_in_batches(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish([a_draft().to(std::iter::repeat_n(&subscription, 2_300))]).await;
        node.delete(&subscription).await;
        assert_eq!(sweep(&node).await, [1_000, 1_000, 300]);
        assert_eq!(node.count("deliveries WHERE state = 0").await, 0);
    }

    async fn what_has_ended_keeps_its_end(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        node.delete(&subscription).await;
        assert!(sweep(&node).await.is_empty());
        let ended = DeliveryState::Ended { at: NOW, reason: EndReason::Acknowledged };
        assert_eq!(node.delivery(claim.delivery).await.state, ended);
    }

    async fn an_attempt_under_way_is_swept_too_and_its_outcome_changes_nothing(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        node.delete(&subscription).await;
        assert_eq!(sweep(&node).await, [1]);
        assert_eq!(node.settle([retried(&claim, NOW, NOW + LEASE)]).await.lost, [claim.delivery]);
        let delivery = node.delivery(claim.delivery).await;
        assert_eq!(delivery.state, cancelled(EndReason::SubscriptionDeleted));
        assert_eq!(node.attempts(claim.delivery).await.len(), 1);
    }

    async fn what_waits_for_a_subscription_that_was_enabled_again_is_not_swept(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().to([&subscription])]).await.remove(0);
        node.disable(&subscription).await;
        node.enable(&subscription).await;
        assert!(sweep(&node).await.is_empty());
        assert_eq!(node.deliveries_of(&event).await[0].state, DeliveryState::Pending);
    }

    async fn the_successor_of_a_deleted_subscription_keeps_its_deliveries(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.subscribe("sub").await;
        let before = node.publish([a_draft().to([&first])]).await.remove(0);
        node.delete(&first).await;
        let second = node.subscribe("sub").await;
        let after = node.publish([a_draft().to([&second])]).await.remove(0);
        assert_eq!(sweep(&node).await, [1]);
        assert_eq!(node.deliveries_of(&before).await[0].state, cancelled(EndReason::SubscriptionDeleted));
        assert_eq!(node.deliveries_of(&after).await[0].state, DeliveryState::Pending);
    }

    async fn two_nodes_sweep_at_once_and_cancel_each_delivery_once(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        a.publish([a_draft().to(std::iter::repeat_n(&subscription, 2_000))]).await;
        a.delete(&subscription).await;
        let (one, other) = tokio::join!(sweep(&a), sweep(&b));
        let left = sweep(&a).await;
        assert_eq!(one.into_iter().chain(other).chain(left).sum::<u64>(), 2_000);
    }

    async fn a_sweep_and_settlements_at_once_end_each_delivery_once_and_do_not_deadlock(kind: Kind) {
        // A receiver is gone while many attempts at it are under way.
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        for round in 0..5 {
            // Later events are due earlier, so that the order of the ids is not that of the due dates.
            let drafts = (0..400).map(|n| a_draft().at(NOW.before(SECOND * n)).to([&subscription]));
            let at = NOW + LEASE * (2 * round);
            a.publish(drafts).await;
            let all = Ask { max_per_subscription: 1_000, ..ask(at, 1_000) };
            let claims = a.claim_as(&all).await;
            assert_eq!(claims.len(), 400);
            a.disable(&subscription).await;
            let batch: Vec<_> = claims.iter().rev().map(|claim| acknowledged(claim, NOW)).collect();
            let (settling, swept) = tokio::join!(a.store.settle(&batch), b.store.sweep(NOW + SECOND));
            let (lost, swept) = (settling.unwrap().lost.len(), swept.unwrap());
            let left: u64 = sweep(&b).await.iter().sum();
            assert_eq!(lost as u64, swept + left, "round {round}");
            a.enable(&subscription).await;
        }
        let pending = DeliveryFilter { status: Some(DeliveryStatus::Pending), ..DeliveryFilter::default() };
        assert!(a.list(&pending).await.items.is_empty());
    }
}
