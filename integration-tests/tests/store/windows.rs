//! How many attempts at once a receiver can bear is kept in its subscription's row, for nodes that do not know.

use std::{collections::HashMap, time::Duration};

use postrider_integration_tests::on_both_databases;
use postrider_server::{
    dispatch::{Queue, Settled},
    domain::{
        claim::Claim, id::SubscriptionUid, kept_window::KeptWindow, subscription::Subscription,
        target_url::TargetUrl, timestamp::Timestamp,
    },
};

use crate::{
    fixtures::{NOW, SECOND, TICK, acknowledged, retried, set},
    node::{Node, done},
};

const UNTIL: Timestamp = Timestamp::from_micros(NOW.as_micros() + 600_000_000);

/// Settles an attempt that failed, after which this is kept.
async fn keep(node: &Node, claim: &Claim, size: u32, until: Timestamp) {
    let mut settled = retried(claim, NOW, NOW + Duration::from_hours(1));
    settled.window = Some(KeptWindow { size, until });
    assert!(node.settle([settled]).await.lost.is_empty());
}

async fn kept(node: &Node, now: Timestamp) -> HashMap<SubscriptionUid, KeptWindow> {
    node.store.trouble(now).await.unwrap().windows
}

fn one(subscription: &Subscription, size: u32, until: Timestamp) -> HashMap<SubscriptionUid, KeptWindow> {
    [(subscription.uid, KeptWindow { size, until })].into()
}

on_both_databases! {
    async fn a_window_is_kept_for_a_while_and_for_all_nodes(kind: Kind) {
        let node = Node::new(kind).await;
        let (sub, _) = (node.subscribe("sub").await, node.subscribe("other").await);
        assert!(kept(&node, NOW).await.is_empty());
        keep(&node, &node.claimed(&sub).await, 4, UNTIL).await;
        let other = node.another().await;
        assert_eq!(kept(&other, NOW).await, one(&sub, 4, UNTIL));
        assert_eq!(kept(&other, UNTIL.before(TICK)).await, one(&sub, 4, UNTIL));
        assert!(kept(&other, UNTIL).await.is_empty());
        let shown = other.subscription(&sub).await;
        assert_eq!((shown.etag(), shown.updated_at, shown.health), (sub.etag(), sub.updated_at, sub.health));
    }

    async fn the_smallest_counts_as_long_as_it_is_good(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let claims = [node.claimed(&sub).await, node.claimed(&sub).await];
        let [mut first, mut second] = claims.each_ref().map(|claim| acknowledged(claim, NOW));
        first.window = Some(KeptWindow { size: 4, until: UNTIL });
        second.window = Some(KeptWindow { size: 2, until: UNTIL });
        node.settle([second, first]).await;
        assert_eq!(kept(&node, NOW).await, one(&sub, 2, UNTIL));
        keep(&node, &node.claimed(&sub).await, 3, UNTIL + SECOND).await;
        assert_eq!(kept(&node, NOW).await, one(&sub, 2, UNTIL));
        let mut late = acknowledged(&node.claimed(&sub).await, UNTIL);
        late.window = Some(KeptWindow { size: 3, until: UNTIL + SECOND });
        node.settle([late]).await;
        assert_eq!(kept(&node, NOW).await, one(&sub, 3, UNTIL + SECOND));
    }

    async fn it_is_gone_with_its_target_or_when_a_person_says_that_all_is_well(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let (tenant, id) = (&sub.tenant, &sub.id);
        let [late, later] = [node.claimed(&sub).await, node.claimed(&sub).await];
        for way in ["resume", "enable", "target"] {
            keep(&node, &node.claimed(&sub).await, 4, UNTIL).await;
            assert_eq!(kept(&node, NOW).await.len(), 1, "{way}");
            let before = node.subscription(&sub).await;
            let after = match way {
                "resume" => node.store.resume_subscription(tenant, id, NOW).await,
                "enable" => node.store.enable_subscription(tenant, id, NOW).await,
                _ => {
                    let url = TargetUrl::parse("https://example.com/elsewhere").unwrap();
                    node.store.update_subscription(tenant, id, None, set(|spec| spec.target_url = url), NOW).await
                }
            };
            assert_eq!(done(after.unwrap()).etag() == before.etag(), way != "target", "{way}");
            assert!(kept(&node, NOW).await.is_empty(), "{way}");
        }
        keep(&node, &late, 4, UNTIL).await;
        assert!(kept(&node, NOW).await.is_empty(), "that was another target");
        let settled = [(&later, 2), (&node.claimed(&sub).await, 4)].map(|(claim, size)| {
            let window = Some(KeptWindow { size, until: UNTIL });
            Settled { window, ..acknowledged(claim, NOW) }
        });
        node.settle(settled).await;
        assert_eq!(kept(&node, NOW).await, one(&sub, 4, UNTIL), "the other's is not what counts in a batch either");
    }

    async fn nothing_is_asked_of_who_gets_nothing(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        keep(&node, &node.claimed(&sub).await, 4, UNTIL).await;
        node.execute("UPDATE subscriptions SET disabled_at = 1, disabled_reason = 1").await;
        assert!(kept(&node, NOW).await.is_empty());
    }
}
