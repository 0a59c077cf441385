//! What is old is deleted; what is pending is spared, however old.

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{claim::Claim, delivery::DeliveryState, event::Event, timestamp::Timestamp},
    publish::Fate,
    store::Retention,
};

use crate::{
    fixtures::{DAY, NOW, SECOND, a_draft, acknowledged, retried},
    node::Node,
};

/// Deletes all that has passed its retention; answers how many rows.
async fn prune(node: &Node, now: Timestamp) -> u64 {
    let mut total = 0;
    loop {
        match node.store.prune(&Retention::default(), now).await.unwrap() {
            0 => return total,
            pruned => total += pruned,
        }
    }
}

/// How many events, payloads, deliveries and attempts there are.
async fn counts(node: &Node) -> [i64; 4] {
    let mut counts = [0; 4];
    for (count, table) in counts.iter_mut().zip(["events", "payloads", "deliveries", "attempts"]) {
        *count = node.count(table).await;
    }
    counts
}

async fn data(node: &Node, event: &Event) -> bytes::Bytes {
    let stored = node.store.event(&default_tenant(), event.id).await.unwrap().unwrap();
    stored.event.content.payload.data
}

on_both_databases! {
    async fn nothing_is_deleted_before_its_time(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        assert_eq!(prune(&node, NOW + DAY * 30).await, 0);
        assert_eq!(counts(&node).await, [1, 1, 1, 1]);
    }

    async fn data_and_attempts_go_first_and_the_rest_later(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        assert_eq!(prune(&node, NOW + DAY * 30 + SECOND).await, 2);
        assert_eq!(counts(&node).await, [1, 0, 1, 0]);
        assert_eq!(data(&node, &claim.event).await, "");
        assert!(node.attempts(claim.delivery).await.is_empty());
        assert_eq!(prune(&node, NOW + DAY * 90).await, 0);
        assert_eq!(prune(&node, NOW + DAY * 90 + SECOND).await, 2);
        assert_eq!(counts(&node).await, [0, 0, 0, 0]);
    }

    async fn what_is_younger_stays(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let claim = node.claimed(&subscription).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        let young = a_draft().at(NOW + DAY).data("young").claimed_to([&subscription]);
        let young = node.publish([young]).await.remove(0);
        let delivery = node.deliveries_of(&young).await.remove(0);
        let again = Claim { delivery: delivery.id, ..claim.clone() };
        node.settle([acknowledged(&again, NOW + DAY)]).await;
        assert_eq!(prune(&node, NOW + DAY * 30 + SECOND).await, 2);
        assert_eq!((data(&node, &young).await, data(&node, &claim.event).await), ("young".into(), "".into()));
        assert_eq!(
            (node.attempts(delivery.id).await.len(), node.attempts(claim.delivery).await.len()),
            (1, 0)
        );
        assert_eq!(prune(&node, NOW + DAY * 90 + SECOND).await, 4);
        assert_eq!(counts(&node).await, [1, 0, 1, 0]);
        assert_eq!(node.deliveries_of(&young).await.len(), 1);
        assert!(node.store.delivery(&default_tenant(), claim.delivery).await.unwrap().is_none());
    }

    async fn what_a_pending_delivery_needs_is_spared(kind: Kind) {
        let node = Node::new(kind).await;
        let (paused, other) = (node.subscribe("paused").await, node.subscribe("other").await);
        node.pause(&paused).await;
        let event = node.publish([a_draft().data("kept").to([&paused, &other])]).await.remove(0);
        let claim = node.claim(NOW, 10).await.remove(0);
        node.settle([acknowledged(&claim, NOW)]).await;
        prune(&node, NOW + DAY * 365).await;
        assert_eq!(counts(&node).await, [1, 1, 1, 0], "the delivery that ended is gone");
        assert_eq!(data(&node, &event).await, "kept");
        let waiting = node.deliveries_of(&event).await.remove(0);
        assert_eq!((waiting.state, &waiting.subscription), (DeliveryState::Pending, &paused.id));
        node.resume(&paused).await;
        let claims = node.claim(NOW + DAY * 365, 10).await;
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0].event.content.payload.data, "kept");
        node.settle([acknowledged(&claims[0], NOW + DAY * 365)]).await;
        prune(&node, NOW + DAY * 366).await;
        assert_eq!(counts(&node).await, [0, 0, 0, 1], "the attempt was made a day ago");
    }

    async fn a_retry_finds_its_data_however_old_it_is(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([retried(&claim, NOW, NOW + DAY * 100)]).await;
        prune(&node, NOW + DAY * 100).await;
        let retry = node.claim(NOW + DAY * 100, 10).await;
        assert_eq!(retry.len(), 1);
        assert_eq!((retry[0].attempt.get(), &retry[0].event.content.payload.data[..]), (2, &b"{}"[..]));
    }

    async fn an_event_that_nobody_wanted_is_deleted_too(kind: Kind) {
        let node = Node::new(kind).await;
        node.publish([a_draft()]).await;
        prune(&node, NOW + DAY * 91).await;
        assert_eq!(counts(&node).await, [0, 0, 0, 0]);
    }

    async fn a_request_id_is_free_again_when_its_event_is_deleted(kind: Kind) {
        let node = Node::new(kind).await;
        let draft = |at, data: &'static str| a_draft().at(at).request_id("r").data(data);
        node.publish([draft(NOW, "first")]).await;
        let almost = NOW + DAY * 90;
        prune(&node, almost).await;
        let fates = node.commit([draft(almost, "first"), draft(almost, "other")]).await;
        assert!(matches!(fates[0], Fate::Repeated { .. }), "{fates:?}");
        assert_eq!(fates[1], Fate::RequestIdReused, "though the data is gone");
        prune(&node, almost + SECOND).await;
        node.publish([draft(almost + SECOND, "other")]).await;
    }

    async fn a_large_past_is_deleted_in_batches(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        node.publish((0..1_200).map(|_| a_draft().to([&subscription, &subscription]))).await;
        node.delete(&subscription).await;
        while node.store.sweep(NOW).await.unwrap() > 0 {}
        let first = node.store.prune(&Retention::default(), NOW + DAY * 91).await.unwrap();
        assert!((1_000..=4_000).contains(&first), "{first}");
        assert!(node.count("deliveries").await >= 1_400, "a batch has at most a thousand of each kind");
        assert_eq!(first + prune(&node, NOW + DAY * 91).await, 1_200 * 4);
        assert_eq!(counts(&node).await, [0, 0, 0, 0]);
    }

    async fn pending_deliveries_do_not_stand_in_the_way_of_what_is_younger(kind: Kind) {
        let node = Node::new(kind).await;
        let paused = node.subscribe("paused").await;
        node.pause(&paused).await;
        node.publish((0..1_500).map(|_| a_draft().to([&paused]))).await;
        node.publish((0..3).map(|_| a_draft().at(NOW + SECOND))).await;
        prune(&node, NOW + DAY * 91).await;
        assert_eq!(counts(&node).await, [1_500, 1_500, 1_500, 0]);
    }

    async fn two_nodes_prune_at_once(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        a.publish((0..1_500).map(|_| a_draft())).await;
        let (one, other) = tokio::join!(prune(&a, NOW + DAY * 91), prune(&b, NOW + DAY * 91));
        assert_eq!(one + other, 3_000);
        assert_eq!(counts(&a).await, [0, 0, 0, 0]);
    }
}
