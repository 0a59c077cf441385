//! Events and their deliveries are committed together, or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{
        delivery::DeliveryState,
        event::{Attributes, EventContent, Payload, RequestId},
        event_type::EventType,
        handling::{Handling, OrderingKey, Priority},
        id::{DeliveryId, EventId},
        trace_context::TraceContext,
    },
    publish::{Batch, Beginning, Commit, Entry, Fate, Journal, JournalError, NewDelivery},
    store::deliveries::DeliveryFilter,
};

use crate::{
    fixtures::{LEASE, NOW, SECOND, a_draft, tenant},
    node::{Node, entries},
};

on_both_databases! {
    async fn an_event_is_read_as_it_was_published(kind: Kind) {
        let node = Node::new(kind).await;
        let mut draft = a_draft().request_id("order-7");
        draft.content = EventContent {
            event_type: EventType::parse("order.paid-1").unwrap(),
            source: "shop/Zürich".to_owned(),
            subject: "注文 ' \" \\ 7".to_owned(),
            time: Some(NOW.before(SECOND)),
            payload: Payload {
                data: Bytes::from((0..=255).collect::<Vec<u8>>()),
                content_type: "application/octet-stream".to_owned(),
            },
            attributes: Attributes::from_stored(BTreeMap::from([
                ("colour".to_owned(), "blau \u{1f600}".to_owned()),
                ("empty".to_owned(), String::new()),
            ])),
            handling: Handling {
                ordering_key: Some(OrderingKey::parse("order 7, ä".to_owned()).unwrap()),
                deliver_at: Some(NOW.before(SECOND)),
                expire_at: Some(NOW + SECOND),
                priority: Priority::Low,
            },
        };
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1,b=2");
        draft.trace.clone_from(&trace);
        let content = draft.content.clone();
        let published = node.publish([draft]).await.remove(0);
        let stored = node.store.event(&default_tenant(), published.id).await.unwrap().unwrap();
        assert_eq!(stored.delivery_count, 0);
        let event = stored.event;
        assert_eq!((event.id, event.created_at, event.time()), (published.id, NOW, NOW.before(SECOND)));
        assert_eq!(event.tenant, default_tenant());
        assert_eq!(event.request_id, Some(RequestId::parse("order-7").unwrap()));
        assert_eq!(event.trace, trace);
        assert_eq!(event.content.event_type, content.event_type);
        assert_eq!((event.content.source, event.content.subject), (content.source, content.subject));
        assert_eq!(event.content.payload, content.payload);
        assert_eq!(event.content.attributes, content.attributes);
        assert_eq!(event.content.handling, content.handling);
    }

    async fn an_event_without_the_optional_parts_is_read_as_it_was_published(kind: Kind) {
        let node = Node::new(kind).await;
        let published = node.publish([a_draft().data("")]).await.remove(0);
        let event = node.store.event(&default_tenant(), published.id).await.unwrap().unwrap().event;
        assert_eq!((event.request_id, event.trace, event.content.time), (None, None, None));
        assert_eq!(event.content.attributes, Attributes::default());
        assert_eq!(event.content.handling, Handling::default());
        assert_eq!(event.content.payload.data, Bytes::new());
    }

    async fn an_event_is_not_shown_to_another_tenant(kind: Kind) {
        let node = Node::new(kind).await;
        let event = node.publish([a_draft()]).await.remove(0);
        assert!(node.store.event(&tenant("other"), event.id).await.unwrap().is_none());
    }

    async fn a_delivery_that_is_not_claimed_is_due_at_once(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().to([&subscription])]).await.remove(0);
        let deliveries = node.deliveries_of(&event).await;
        assert_eq!(deliveries.len(), 1);
        let delivery = &deliveries[0];
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 0));
        assert_eq!((delivery.created_at, delivery.due_at), (NOW, NOW));
        assert_eq!((&delivery.subscription, &delivery.tenant), (&subscription.id, &default_tenant()));
        assert_eq!((delivery.event, &delivery.event_type), (event.id, &event.content.event_type));
    }

    async fn a_claimed_delivery_is_in_its_first_attempt_until_its_lease_runs_out(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().claimed_to([&subscription])]).await.remove(0);
        let delivery = node.deliveries_of(&event).await.remove(0);
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
        assert_eq!((delivery.created_at, delivery.due_at), (NOW, NOW + LEASE));
        assert!(node.claim(NOW + SECOND, 10).await.is_empty());
        assert_eq!(node.claim(NOW + LEASE, 10).await.len(), 1);
    }

    async fn nothing_of_a_batch_is_stored_if_one_of_its_match_tables_is_out_of_date(kind: Kind) {
        let node = Node::new(kind).await;
        let (changed, unborn) = (tenant("changed"), tenant("unborn"));
        let subscription = node.subscribe_in(&changed, "sub").await;
        let drafts = [a_draft(), a_draft().of(&changed).to([&subscription]), a_draft().of(&unborn)];
        let batch = node.batch(drafts).await;
        node.delete(&subscription).await;
        match node.store.commit(&batch).await.unwrap() {
            Commit::Stale(tenants) => assert_eq!(tenants, [changed]),
            Commit::Done { fates, .. } => panic!("{fates:?}"),
        }
        for table in ["events", "payloads", "deliveries"] {
            assert_eq!(node.count(table).await, 0, "{table}");
        }
        assert!(!node.store.tenant_exists(&unborn).await.unwrap());
    }

    async fn a_batch_is_told_of_all_tenants_that_changed(kind: Kind) {
        let node = Node::new(kind).await;
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        for changed in [&a, &b, &c] {
            node.subscribe_in(changed, "sub").await;
        }
        let batch = node.batch([&a, &b, &c].map(|tenant| a_draft().of(tenant))).await;
        node.subscribe_in(&a, "more").await;
        node.subscribe_in(&c, "more").await;
        match node.store.commit(&batch).await.unwrap() {
            Commit::Stale(mut tenants) => {
                tenants.sort();
                assert_eq!(tenants, [a, c]);
            }
            Commit::Done { fates, .. } => panic!("{fates:?}"),
        }
    }

    async fn a_tenant_comes_into_being_with_its_first_event(kind: Kind) {
        let node = Node::new(kind).await;
        let newcomer = tenant("newcomer");
        assert!(!node.store.tenant_exists(&newcomer).await.unwrap());
        assert_eq!(node.interests(&newcomer).await.version, None);
        node.publish([a_draft().of(&newcomer), a_draft().of(&newcomer)]).await;
        assert!(node.store.tenant_exists(&newcomer).await.unwrap());
        assert_eq!(node.interests(&newcomer).await.version, Some(0));
    }

    async fn the_tenant_default_exists_from_the_beginning(kind: Kind) {
        let node = Node::new(kind).await;
        assert!(node.store.tenant_exists(&default_tenant()).await.unwrap());
        assert_eq!(node.interests(&default_tenant()).await.version, Some(0));
    }

    async fn a_tenant_that_came_into_being_meanwhile_makes_the_batch_stale(kind: Kind) {
        let node = Node::new(kind).await;
        let newcomer = tenant("newcomer");
        let batch = node.batch([a_draft().of(&newcomer)]).await;
        node.another().await.subscribe_in(&newcomer, "sub").await;
        let committed = node.store.commit(&batch).await.unwrap();
        assert!(matches!(committed, Commit::Stale(tenants) if tenants == [newcomer]));
        assert_eq!(node.count("events").await, 0);
    }

    async fn two_nodes_may_publish_the_first_event_of_a_tenant_at_once(kind: Kind) {
        let (a, newcomer) = (Node::new(kind).await, tenant("newcomer"));
        let b = a.another().await;
        let batches = [a.batch([a_draft().of(&newcomer)]).await, b.batch([a_draft().of(&newcomer)]).await];
        let (one, other) = tokio::join!(a.store.commit(&batches[0]), b.store.commit(&batches[1]));
        let stale = |commit: &Commit| matches!(commit, Commit::Stale(_));
        let stale = usize::from(stale(&one.unwrap())) + usize::from(stale(&other.unwrap()));
        assert!(stale < 2, "at least one of them is stored");
        assert_eq!(a.count("events").await, 2 - i64::try_from(stale).unwrap());
    }

    async fn an_event_finds_a_subscription_that_another_node_has_just_made(kind: Kind) {
        let here = Node::new(kind).await;
        let there = here.another().await;
        let before = here.batch([a_draft()]).await;
        let subscription = there.subscribe("sub").await;
        assert!(matches!(here.store.commit(&before).await.unwrap(), Commit::Stale(_)));
        let interests = here.interests(&default_tenant()).await;
        let found: Vec<_> = interests.subscriptions.iter().map(|interest| interest.target.uid).collect();
        assert_eq!(found, [subscription.uid]);
        here.publish([a_draft().to([&subscription])]).await;
    }

    async fn more_events_than_one_statement_takes_are_stored(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let drafts = (0..1_200).map(|n: usize| a_draft().data(n.to_string()).to([&subscription]));
        let events = node.publish(drafts).await;
        for table in ["events", "payloads", "deliveries"] {
            assert_eq!(node.count(table).await, 1_200, "{table}");
        }
        for n in [0, 499, 500, 1_199] {
            let stored = node.store.event(&default_tenant(), events[n].id).await.unwrap().unwrap();
            assert_eq!(stored.event.content.payload.data, n.to_string());
            assert_eq!(stored.delivery_count, 1);
            assert_eq!(node.deliveries_of(&events[n]).await.len(), 1);
        }
    }

    async fn an_event_that_thousands_want_has_a_delivery_for_each(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let event = node.publish([a_draft().to(std::iter::repeat_n(&subscription, 3_000))]).await.remove(0);
        assert_eq!(node.count("deliveries").await, 3_000);
        let stored = node.store.event(&default_tenant(), event.id).await.unwrap().unwrap();
        assert_eq!(stored.delivery_count, 3_000);
    }

    async fn a_batch_that_fails_at_its_last_row_leaves_nothing_behind(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let newcomer = tenant("newcomer");
        let mut batch = node.batch([a_draft(), a_draft().of(&newcomer).to([&subscription])]).await;
        // The same delivery twice: a defect of ours, but not one that may cost half a batch.
        let Entry { deliveries, .. } = &mut batch.entries[1];
        deliveries.push(NewDelivery { id: deliveries[0].id, subscription: subscription.uid, beginning: Beginning::Unclaimed });
        let failed = node.store.commit(&batch).await;
        assert!(matches!(failed, Err(JournalError::Broken(_))), "{failed:?}");
        for table in ["events", "payloads", "deliveries"] {
            assert_eq!(node.count(table).await, 0, "{table}");
        }
        assert!(!node.store.tenant_exists(&newcomer).await.unwrap());
        batch.entries[1].deliveries.pop();
        assert_eq!(node.commit_batch(&batch).await, [Fate::Stored, Fate::Stored]);
    }

    async fn a_batch_of_nothing_is_stored_as_nothing(kind: Kind) {
        let node = Node::new(kind).await;
        let batch = Batch { versions: Vec::new(), entries: entries([]), due_at: NOW, leased_until: NOW };
        assert_eq!(node.commit_batch(&batch).await, []);
    }

    async fn ids_of_a_batch_are_in_the_order_of_its_events(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let events = node.publish((0..20).map(|_| a_draft().to([&subscription]))).await;
        let published: Vec<EventId> = events.iter().map(|event| event.id).collect();
        let listed = node.list(&DeliveryFilter::default()).await.items;
        assert!(listed.iter().map(|delivery| delivery.id).rev().collect::<Vec<DeliveryId>>().is_sorted());
        assert_eq!(listed.iter().map(|delivery| delivery.event).rev().collect::<Vec<_>>(), published);
    }
}
