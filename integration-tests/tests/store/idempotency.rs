//! A publish that is repeated with the same request id is one event.

use std::collections::HashMap;

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{event::RequestId, id::EventId, trace_context::TraceContext},
    publish::{Batch, Commit, Fate, Journal},
    store::events::EventFilter,
};

use crate::{
    fixtures::{NOW, SECOND, a_draft, one_page, tenant},
    node::Node,
};

/// What a repeated publish is told of the first one.
fn repeated(event: EventId, delivery_count: u32) -> Fate {
    Fate::Repeated { event, created_at: NOW, delivery_count }
}

on_both_databases! {
    async fn a_repeated_publish_is_told_of_the_first_event(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        let first = node.publish([a_draft().request_id("r").to([&a, &b])]).await.remove(0);
        let again = a_draft().request_id("r").at(NOW + SECOND).to([&a]);
        assert_eq!(node.commit([again]).await, [repeated(first.id, 2)]);
        assert_eq!((node.count("events").await, node.count("payloads").await), (1, 1));
        assert_eq!(node.count("deliveries").await, 2);
    }

    async fn a_request_id_does_not_serve_for_another_event(kind: Kind) {
        let node = Node::new(kind).await;
        node.publish([a_draft().request_id("r").data("1")]).await;
        assert_eq!(node.commit([a_draft().request_id("r").data("2")]).await, [Fate::RequestIdReused]);
        assert_eq!(node.count("events").await, 1);
    }

    async fn the_trace_of_a_call_does_not_make_another_event(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.publish([a_draft().request_id("r")]).await.remove(0);
        let mut traced = a_draft().request_id("r");
        traced.trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "");
        assert_eq!(node.commit([traced]).await, [repeated(first.id, 0)]);
    }

    async fn the_same_request_id_in_another_tenant_is_another_event(kind: Kind) {
        let node = Node::new(kind).await;
        let other = tenant("other");
        node.publish([a_draft().request_id("r"), a_draft().of(&other).request_id("r")]).await;
        node.publish([a_draft().of(&tenant("third")).request_id("r").data("3")]).await;
        let filter =
            EventFilter { request_id: Some(RequestId::parse("r").unwrap()), ..EventFilter::default() };
        assert_eq!(node.store.events(&filter, one_page()).await.unwrap().items.len(), 3);
    }

    async fn events_without_a_request_id_are_all_different(kind: Kind) {
        let node = Node::new(kind).await;
        node.publish([a_draft(), a_draft()]).await;
        node.publish([a_draft()]).await;
        assert_eq!(node.count("events").await, 3);
    }

    async fn a_request_id_twice_in_one_batch_is_one_event(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let draft = || a_draft().request_id("r").to([&subscription]);
        let batch = node.batch([draft(), draft(), draft().data("other")]).await;
        let first = batch.entries[0].event.id;
        let fates = node.commit_batch(&batch).await;
        assert_eq!(fates, [Fate::Stored, repeated(first, 1), Fate::RequestIdReused]);
        assert_eq!((node.count("events").await, node.count("deliveries").await), (1, 1));
    }

    async fn each_event_of_a_mixed_batch_has_its_own_fate(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let first = node.publish([a_draft().request_id("known").to([&subscription])]).await.remove(0);
        let fates = node
            .commit([
                a_draft().request_id("new").to([&subscription]),
                a_draft().request_id("known").to([&subscription]),
                a_draft().to([&subscription]),
                a_draft().request_id("known").data("other").to([&subscription]),
                a_draft().of(&tenant("other")).request_id("known").to([&subscription]),
            ])
            .await;
        let expected =
            [Fate::Stored, repeated(first.id, 1), Fate::Stored, Fate::RequestIdReused, Fate::Stored];
        assert_eq!(fates, expected);
        assert_eq!((node.count("events").await, node.count("deliveries").await), (4, 4));
    }

    async fn a_large_batch_may_be_repeated_as_a_whole(kind: Kind) {
        let node = Node::new(kind).await;
        let drafts = || (0..1_100).map(|n: usize| a_draft().request_id(&n.to_string()));
        let first = node.publish(drafts()).await;
        let expected: Vec<_> = first.iter().map(|event| repeated(event.id, 0)).collect();
        assert_eq!(node.commit(drafts()).await, expected);
        assert_eq!(node.count("events").await, 1_100);
    }

    async fn a_request_id_holds_after_a_restart(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.publish([a_draft().request_id("r")]).await.remove(0);
        let restarted = node.another().await;
        node.store.close().await;
        assert_eq!(restarted.commit([a_draft().request_id("r")]).await, [repeated(first.id, 0)]);
    }

    async fn two_nodes_with_the_same_request_ids_in_opposite_orders_store_each_once(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        for round in 0..5 {
            let id = |n: usize| format!("{round}-{n}");
            let forwards = a.batch((0..300).map(|n| a_draft().request_id(&id(n)))).await;
            let backwards = b.batch((0..300).rev().map(|n| a_draft().request_id(&id(n)))).await;
            let (one, other) = tokio::join!(a.commit_batch(&forwards), b.commit_batch(&backwards));
            let mut told: HashMap<_, Vec<(Fate, EventId)>> = HashMap::new();
            let pairs = |batch: &Batch, fates: Vec<Fate>| {
                let events = batch.entries.iter().map(|entry| entry.event.clone());
                events.zip(fates).collect::<Vec<_>>()
            };
            for (event, fate) in pairs(&forwards, one).into_iter().chain(pairs(&backwards, other)) {
                told.entry(event.request_id.clone().unwrap()).or_default().push((fate, event.id));
            }
            assert_eq!(told.len(), 300);
            for answers in told.values() {
                let stored: Vec<_> = answers.iter().filter(|(fate, _)| *fate == Fate::Stored).collect();
                assert_eq!(stored.len(), 1, "{answers:?}");
                assert!(answers.iter().any(|(fate, _)| *fate == repeated(stored[0].1, 0)), "{answers:?}");
            }
        }
        assert_eq!(a.count("events").await, 1_500);
    }

    async fn many_callers_with_one_request_id_make_one_event(kind: Kind) {
        let a = Node::new(kind).await;
        let b = a.another().await;
        let mut batches = Vec::new();
        for _ in 0..4 {
            batches.push(a.batch([a_draft().request_id("r")]).await);
        }
        let (w, x, y, z) = tokio::join!(
            a.store.commit(&batches[0]),
            b.store.commit(&batches[1]),
            a.store.commit(&batches[2]),
            b.store.commit(&batches[3]),
        );
        let mut stored = 0;
        for commit in [w, x, y, z] {
            match commit.unwrap() {
                Commit::Done { fates, .. } => stored += fates.iter().filter(|fate| **fate == Fate::Stored).count(),
                Commit::Stale(tenants) => panic!("stale: {tenants:?}"),
            }
        }
        assert_eq!(stored, 1);
    }

    async fn an_event_is_found_by_its_request_id(kind: Kind) {
        let node = Node::new(kind).await;
        let events = node.publish([a_draft().request_id("one"), a_draft().request_id("two")]).await;
        let filter = EventFilter {
            tenant: Some(default_tenant()),
            request_id: Some(RequestId::parse("two").unwrap()),
            ..EventFilter::default()
        };
        let found = node.store.events(&filter, one_page()).await.unwrap().items;
        assert_eq!(found.iter().map(|stored| stored.event.id).collect::<Vec<_>>(), [events[1].id]);
    }
}
