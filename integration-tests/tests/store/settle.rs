//! What follows from attempts is recorded: by whoever owns the delivery, and nobody else.

use std::{cmp::Reverse, sync::Arc};

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    dispatch::{Ask, Queue, Settled},
    domain::{
        claim::Claim,
        delivery::{DeliveryState, EndReason},
        id::DeliveryId,
        subscription::{DisabledReason, Subscription, SubscriptionSpec},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
};

use crate::{
    fixtures::{
        LEASE, NOW, SECOND, a_draft, a_secret, acknowledged, ask, exhausted, gone, over, retried, set,
        target, tenant,
    },
    node::{Node, done},
};

fn ended(at: Timestamp, reason: EndReason) -> DeliveryState {
    DeliveryState::Ended { at, reason }
}

/// Claims one delivery to each subscription.
async fn claim_each(node: &Node, subscriptions: &[Subscription]) -> Vec<Claim> {
    node.publish(subscriptions.iter().map(|wanting| a_draft().of(&wanting.tenant).to([wanting]))).await;
    let claims = node.claim(NOW, subscriptions.len()).await;
    assert_eq!(claims.len(), subscriptions.len());
    claims
}

/// Brings claims into the opposite order of others for the same deliveries or subscriptions.
fn reverse<K: PartialEq>(claims: &mut [Claim], others: &[Claim], key: impl Fn(&Claim) -> K) {
    let place = |claim: &Claim| others.iter().position(|other| key(other) == key(claim)).unwrap();
    claims.sort_by_key(|claim| Reverse(place(claim)));
}

on_both_databases! {
    async fn an_acknowledged_delivery_has_succeeded(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let settling = node.settle([acknowledged(&claim, NOW + SECOND)]).await;
        assert!(settling.lost.is_empty() && !settling.disabled);
        let delivery = node.delivery(claim.delivery).await;
        assert_eq!(delivery.state, ended(NOW + SECOND, EndReason::Acknowledged));
        assert_eq!(delivery.attempt_count, 1);
        assert_eq!(node.attempts(claim.delivery).await.len(), 1);
    }

    async fn a_delivery_that_failed_waits_for_its_retry(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let settling = node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        assert!(settling.lost.is_empty() && !settling.disabled);
        let delivery = node.delivery(claim.delivery).await;
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
        assert_eq!(delivery.due_at, NOW + SECOND);
    }

    async fn a_claim_that_is_given_back_twice_is_not_taken_from_whoever_has_it_by_then(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let given_back = || [Settled::returned(claim.clone(), NOW + SECOND)];
        assert!(node.settle(given_back()).await.lost.is_empty());
        assert_eq!(node.delivery(claim.delivery).await.attempt_count, 0, "what was not attempted does not count");
        let taken = node.claim(NOW + SECOND, 1).await.remove(0);
        assert_eq!(taken.attempt, claim.attempt, "the number is given again");
        // As by a node that did not hear that it was done the first time.
        assert_eq!(node.settle(given_back()).await.lost, [claim.delivery]);
        assert!(node.claim(NOW + SECOND * 2, 1).await.is_empty(), "somebody has it");
        assert!(node.settle([acknowledged(&taken, NOW + SECOND * 3)]).await.lost.is_empty());
    }

    async fn a_delivery_without_further_attempts_has_failed(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        let settling = node.settle([exhausted(&claim, NOW)]).await;
        assert!(settling.lost.is_empty() && !settling.disabled);
        let delivery = node.delivery(claim.delivery).await;
        assert_eq!(delivery.state, ended(NOW, EndReason::Exhausted));
        assert_eq!(node.subscription(&subscription).await.disabled, None);
    }

    async fn gone_ends_the_delivery_and_disables_the_subscription(kind: Kind) {
        let node = Node::new(kind).await;
        let (subscription, other) = (node.subscribe("sub").await, node.subscribe("other").await);
        let claim = node.claimed(&subscription).await;
        let before = node.interests(&default_tenant()).await.version;
        assert!(node.settle([gone(&claim, NOW + SECOND)]).await.disabled);
        assert_eq!(node.delivery(claim.delivery).await.state, ended(NOW + SECOND, EndReason::Gone));
        let disabled = node.subscription(&subscription).await;
        assert_eq!(disabled.disabled, Some((NOW + SECOND, DisabledReason::Gone)));
        assert_eq!((disabled.revision, disabled.updated_at), (2, NOW + SECOND));
        assert_ne!(disabled.etag(), subscription.etag());
        let after = node.interests(&default_tenant()).await;
        assert!(after.version > before, "every node hears of it");
        let matched: Vec<_> = after.subscriptions.iter().map(|interest| interest.target.uid).collect();
        assert_eq!(matched, [other.uid]);
    }

    async fn gone_does_not_disable_a_subscription_that_has_another_target_by_now(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        let elsewhere = TargetUrl::parse("https://example.com/elsewhere").unwrap();
        let edit = |spec: &mut SubscriptionSpec| {
            spec.target_url = elsewhere;
        };
        let updated =
            node.store.update_subscription(&subscription.tenant, &subscription.id, None, set(edit), NOW).await;
        done(updated.unwrap());
        assert!(!node.settle([gone(&claim, NOW)]).await.disabled);
        assert_eq!(node.delivery(claim.delivery).await.state, ended(NOW, EndReason::Gone));
        assert_eq!(node.subscription(&subscription).await.disabled, None);
    }

    async fn gone_disables_a_subscription_once(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claims = [node.claimed(&subscription).await, node.claimed(&subscription).await];
        assert!(node.settle([gone(&claims[0], NOW)]).await.disabled);
        let version = node.interests(&default_tenant()).await.version;
        assert!(!node.settle([gone(&claims[1], NOW + SECOND)]).await.disabled);
        let disabled = node.subscription(&subscription).await;
        assert_eq!((disabled.disabled.unwrap().0, disabled.revision), (NOW, 2));
        assert_eq!(node.interests(&default_tenant()).await.version, version);
    }

    async fn gone_does_not_bring_a_deleted_subscription_back(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        node.delete(&subscription).await;
        let successor = node.subscribe("sub").await;
        assert!(!node.settle([gone(&claim, NOW)]).await.disabled);
        assert_eq!(node.subscription(&successor).await.disabled, None);
    }

    async fn receivers_gone_on_two_nodes_at_once_are_disabled_without_a_deadlock(kind: Kind) {
        // Each node hears 410 from all of them, in an order of its own.
        let a = Node::new(kind).await;
        let b = a.another().await;
        let tenants = [tenant("one"), tenant("two"), tenant("three")];
        let mut subscriptions = Vec::new();
        for n in 0..30 {
            subscriptions.push(a.subscribe_in(&tenants[n % 3], &format!("s{n}")).await);
        }
        for _ in 0..5 {
            let forwards = claim_each(&a, &subscriptions).await;
            let mut backwards = claim_each(&b, &subscriptions).await;
            reverse(&mut backwards, &forwards, |claim| claim.target.uid);
            let forwards: Vec<_> = forwards.iter().map(|claim| gone(claim, NOW)).collect();
            let backwards: Vec<_> = backwards.iter().map(|claim| gone(claim, NOW)).collect();
            let (one, other) = tokio::join!(a.store.settle(&forwards), b.store.settle(&backwards));
            assert!(one.unwrap().lost.is_empty());
            assert!(other.unwrap().lost.is_empty());
            assert_eq!(a.count("subscriptions WHERE disabled_at IS NOT NULL").await, 30);
            a.execute("UPDATE subscriptions SET disabled_at = NULL, disabled_reason = NULL").await;
        }
    }

    async fn an_attempt_whose_lease_was_lost_changes_nothing_but_is_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.claimed(&node.subscribe("sub").await).await;
        let second = node.claim(NOW + LEASE, 1).await.remove(0);
        let late = NOW + LEASE + SECOND;
        let settling = node.settle([acknowledged(&first, late)]).await;
        assert_eq!(settling.lost, [first.delivery]);
        let delivery = node.delivery(first.delivery).await;
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 2));
        assert_eq!(delivery.due_at, second.leased_until);
        let attempts = node.attempts(first.delivery).await;
        assert_eq!(attempts.iter().map(|attempt| attempt.number.get()).collect::<Vec<_>>(), [1]);
        // The one who owns it goes on undisturbed.
        assert!(node.settle([exhausted(&second, late)]).await.lost.is_empty());
        assert_eq!(node.delivery(first.delivery).await.state, ended(late, EndReason::Exhausted));
        assert_eq!(node.attempts(first.delivery).await.len(), 2);
    }

    async fn an_attempt_that_outlasts_its_lease_still_counts_if_nobody_has_taken_over(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        let late = NOW + LEASE + SECOND;
        assert!(node.settle([acknowledged(&claim, late)]).await.lost.is_empty());
        assert_eq!(node.delivery(claim.delivery).await.state, ended(late, EndReason::Acknowledged));
    }

    async fn a_retry_that_was_cancelled_meanwhile_stays_cancelled(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.cancel(claim.delivery, NOW).await;
        assert_eq!(node.settle([retried(&claim, NOW, NOW + SECOND)]).await.lost, [claim.delivery]);
        assert_eq!(node.delivery(claim.delivery).await.state, ended(NOW, EndReason::Cancelled));
        assert_eq!(node.attempts(claim.delivery).await.len(), 1);
        assert!(node.claim(NOW + LEASE, 10).await.is_empty());
    }

    async fn settling_the_same_batch_again_is_harmless(kind: Kind) {
        let node = Node::new(kind).await;
        let subscriptions = [node.subscribe("a").await, node.subscribe("b").await, node.subscribe("c").await];
        let claims = claim_each(&node, &subscriptions).await;
        let batch =
            || [acknowledged(&claims[0], NOW), retried(&claims[1], NOW, NOW + SECOND), gone(&claims[2], NOW)];
        assert!(node.settle(batch()).await.disabled);
        let read = async || {
            let mut states = Vec::new();
            for claim in &claims {
                let delivery = node.delivery(claim.delivery).await;
                states.push((delivery.state, delivery.attempt_count, delivery.due_at));
                assert_eq!(node.attempts(claim.delivery).await.len(), 1);
            }
            states
        };
        let before = read().await;
        assert!(!node.settle(batch()).await.disabled);
        assert_eq!(read().await, before);
    }

    async fn of_two_ends_in_one_batch_the_one_of_the_attempt_that_counts_is_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.claimed(&node.subscribe("sub").await).await;
        let later = NOW + LEASE;
        let second = node.claim(later, 1).await.remove(0);
        assert_eq!((second.delivery, second.attempt.get()), (first.delivery, 2));
        // The outcome of the first could not be recorded before its lease was over.
        node.settle([acknowledged(&second, later), exhausted(&first, later)]).await;
        let delivery = node.delivery(first.delivery).await;
        assert_eq!(delivery.state, ended(later, EndReason::Acknowledged));
        assert_eq!(delivery.attempt_count, 2);
        assert_eq!(node.attempts(first.delivery).await.len(), 2);
    }

    async fn more_settlements_than_one_statement_takes_are_recorded(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish((0..700).map(|_| a_draft().to([&subscription]))).await;
        let ask = Ask { max_per_subscription: 1_000, ..ask(NOW, 1_000) };
        let mut claims = node.claim_as(&ask).await;
        claims.extend(node.claim_as(&ask).await);
        assert_eq!(claims.len(), 700);
        let (lost, kept) = claims.split_at(350);
        for claim in lost.iter().take(2) {
            node.cancel(claim.delivery, NOW).await;
        }
        let settling = node.settle(claims.iter().map(|claim| acknowledged(claim, NOW + SECOND))).await;
        let cancelled: Vec<_> = lost.iter().take(2).map(|claim| claim.delivery).collect();
        assert_eq!(settling.lost, cancelled);
        assert_eq!(node.count("attempts").await, 700);
        for claim in [&kept[0], &kept[149], &kept[150], &kept[349]] {
            let delivery = node.delivery(claim.delivery).await;
            assert_eq!(delivery.state, ended(NOW + SECOND, EndReason::Acknowledged));
        }
        assert_eq!(node.count("deliveries WHERE state = 1").await, 698);
    }

    async fn two_nodes_settle_the_same_deliveries_at_once_without_a_deadlock(kind: Kind) {
        // The leases of the first node have run out; it comes back while the second one settles.
        let a = Node::new(kind).await;
        let b = a.another().await;
        let subscription = a.subscribe("sub").await;
        a.publish((0..100).map(|_| a_draft().to([&subscription]))).await;
        let late = a.claim(NOW, 100).await;
        let mut owned = b.claim(NOW + LEASE, 100).await;
        reverse(&mut owned, &late, |claim| claim.delivery);
        let late: Vec<_> = late.iter().map(|claim| acknowledged(claim, NOW)).collect();
        let owned: Vec<_> = owned.iter().map(|claim| exhausted(claim, NOW)).collect();
        assert_eq!((late.len(), owned.len()), (100, 100));
        let (one, other) = tokio::join!(a.store.settle(&late), b.store.settle(&owned));
        assert_eq!(one.unwrap().lost.len(), 100);
        assert_eq!(other.unwrap().lost.len(), 0);
    }

    async fn settling_nothing_is_no_error(kind: Kind) {
        let node = Node::new(kind).await;
        let settling = node.settle([]).await;
        assert!(settling.lost.is_empty() && !settling.disabled);
    }

    async fn a_settlement_of_an_unknown_delivery_is_lost(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let mut claim = node.claimed(&subscription).await;
        let known = claim.delivery;
        claim.delivery = DeliveryId::new(NOW + SECOND);
        assert_eq!(node.settle([acknowledged(&claim, NOW)]).await.lost, [claim.delivery]);
        assert_eq!(node.delivery(known).await.state, DeliveryState::Pending);
    }

    async fn a_settlement_is_not_held_up_by_a_rotated_secret(kind: Kind) {
        // The claim's copy of the subscription is older than the row: only the target URL counts.
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        let (tenant, id) = (&subscription.tenant, &subscription.id);
        node.store.rotate_secret(tenant, id, &a_secret(2), over(SECOND), NOW).await.unwrap();
        let claim = Claim { target: Arc::clone(&target(&subscription)), ..claim };
        assert!(node.settle([gone(&claim, NOW)]).await.disabled);
    }
}
