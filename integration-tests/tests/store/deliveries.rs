//! Deliveries are found, read.

use std::collections::HashSet;

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{
    domain::{
        delivery::{Delivery, DeliveryState, DeliveryStatus},
        event::Event,
        id::{DeliveryId, EventId, TenantId},
        page::Page,
    },
    store::{deliveries::DeliveryFilter, events::EventFilter, steering::Steered},
};

use crate::{
    fixtures::{
        DAY, NOW, SECOND, TICK, a_draft, a_page, acknowledged, exhausted, gone, name, one_page, retried,
        tenant,
    },
    node::Node,
};

fn everything() -> DeliveryFilter {
    DeliveryFilter::default()
}

fn of_tenant(tenant: &TenantId) -> DeliveryFilter {
    DeliveryFilter { tenant: Some(tenant.clone()), ..everything() }
}

fn ids(page: &Page<Delivery>) -> Vec<DeliveryId> {
    page.items.iter().map(|delivery| delivery.id).collect()
}

fn events(page: &Page<Delivery>) -> Vec<EventId> {
    page.items.iter().map(|delivery| delivery.event).collect()
}

async fn only_delivery(node: &Node, event: &Event) -> Delivery {
    let mut deliveries = node.deliveries_of(event).await;
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

on_both_databases! {
    async fn deliveries_are_found_by_what_they_connect(kind: Kind) {
        let node = Node::new(kind).await;
        let other = tenant("other");
        let (a, b) = (node.subscribe("a").await, node.subscribe("b").await);
        let theirs = node.subscribe_in(&other, "a").await;
        let first = node.publish([a_draft().to([&a, &b])]).await.remove(0);
        let second = node.publish([a_draft().at(NOW + SECOND).to([&a])]).await.remove(0);
        let foreign = node.publish([a_draft().of(&other).at(NOW + SECOND * 2).to([&theirs])]).await.remove(0);
        let found = async |filter: DeliveryFilter| events(&node.list(&filter).await);
        assert_eq!(found(everything()).await, [foreign.id, second.id, first.id, first.id]);
        assert_eq!(found(of_tenant(&default_tenant())).await, [second.id, first.id, first.id]);
        assert_eq!(found(of_tenant(&other)).await, [foreign.id]);
        assert_eq!(found(of_tenant(&tenant("nobody"))).await, []);
        let of_event = |event: &Event| DeliveryFilter { event: Some(event.id), ..everything() };
        assert_eq!(found(of_event(&second)).await, [second.id]);
        let of_subscription = |tenant: &TenantId, id| DeliveryFilter {
            subscription: Some((tenant.clone(), name(id))),
            ..everything()
        };
        assert_eq!(found(of_subscription(&default_tenant(), "a")).await, [second.id, first.id]);
        assert_eq!(found(of_subscription(&default_tenant(), "b")).await, [first.id]);
        assert_eq!(found(of_subscription(&other, "a")).await, [foreign.id]);
        assert_eq!(found(of_subscription(&other, "b")).await, []);
        let both = DeliveryFilter { event: Some(first.id), ..of_subscription(&default_tenant(), "a") };
        assert_eq!(found(both).await, [first.id]);
        let across = DeliveryFilter { event: Some(first.id), ..of_tenant(&other) };
        assert_eq!(found(across).await, [], "all conditions count");
    }

    async fn deliveries_to_a_deleted_subscription_are_found_by_its_name(kind: Kind) {
        let node = Node::new(kind).await;
        let first = node.subscribe("sub").await;
        let before = node.publish([a_draft().to([&first])]).await.remove(0);
        node.delete(&first).await;
        let second = node.subscribe("sub").await;
        let after = node.publish([a_draft().at(NOW + SECOND).to([&second])]).await.remove(0);
        let filter = DeliveryFilter { subscription: Some((default_tenant(), name("sub"))), ..everything() };
        let page = node.list(&filter).await;
        assert_eq!(events(&page), [after.id, before.id]);
        assert!(page.items.iter().all(|delivery| delivery.subscription == name("sub")));
    }

    async fn deliveries_are_found_by_how_they_stand(kind: Kind) {
        let node = Node::new(kind).await;
        let (sub, leaving) = (node.subscribe("sub").await, node.subscribe("leaving").await);
        let mut claims = Vec::new();
        for _ in 0..4 {
            claims.push(node.claimed(&sub).await);
        }
        let last = node.claimed(&leaving).await;
        let waiting = node.publish([a_draft().at(NOW + SECOND).to([&sub])]).await.remove(0);
        node.settle([
            acknowledged(&claims[0], NOW),
            exhausted(&claims[1], NOW),
            retried(&claims[2], NOW, NOW + DAY),
            gone(&last, NOW),
        ])
        .await;
        node.cancel(claims[3].delivery, NOW).await;
        let standing = async |status| {
            let filter = DeliveryFilter { status: Some(status), ..everything() };
            ids(&node.list(&filter).await).into_iter().collect::<HashSet<_>>()
        };
        let waiting = only_delivery(&node, &waiting).await.id;
        assert_eq!(standing(DeliveryStatus::Pending).await, HashSet::from([claims[2].delivery, waiting]));
        assert_eq!(standing(DeliveryStatus::Succeeded).await, HashSet::from([claims[0].delivery]));
        assert_eq!(
            standing(DeliveryStatus::Failed).await,
            HashSet::from([claims[1].delivery, last.delivery])
        );
        assert_eq!(standing(DeliveryStatus::Cancelled).await, HashSet::from([claims[3].delivery]));
    }

    async fn deliveries_and_events_are_found_by_when_they_were_made_to_the_microsecond(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let times = [NOW, NOW + TICK, NOW + TICK * 2, NOW + SECOND];
        let made = node.publish(times.map(|at| a_draft().at(at).to([&sub]))).await;
        let expect = |numbers: &[usize]| numbers.iter().map(|n| made[*n].id).collect::<Vec<_>>();
        for (from, until, found) in [
            (Some(NOW), None, &[3, 2, 1, 0][..]),
            (Some(NOW + TICK), None, &[3, 2, 1]),
            (None, Some(NOW + TICK * 2), &[1, 0]),
            (Some(NOW + TICK), Some(NOW + TICK * 2), &[1]),
            (Some(NOW + TICK * 3), Some(NOW + SECOND), &[]),
            (Some(NOW + SECOND), Some(NOW + SECOND + TICK), &[3]),
            (None, Some(NOW), &[]),
        ] {
            let page = node.list(&DeliveryFilter { from, until, ..everything() }).await;
            assert_eq!(events(&page), expect(found), "deliveries from {from:?} until {until:?}");
            let filter = EventFilter { from, until, ..EventFilter::default() };
            let page = node.store.events(&filter, one_page()).await.unwrap();
            let listed: Vec<_> = page.items.iter().map(|stored| stored.event.id).collect();
            assert_eq!(listed, expect(found), "events from {from:?} until {until:?}");
        }
    }

    async fn pages_of_deliveries_hold_still_while_new_ones_come_in(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let publish = async |at| node.publish([a_draft().at(at).to([&sub])]).await.remove(0).id;
        let mut expected = Vec::new();
        for n in 0..10 {
            expected.insert(0, publish(NOW + SECOND * n).await);
        }
        let (mut listed, mut seen, mut after, mut newer) = (Vec::new(), Vec::new(), None, 11);
        loop {
            let page = node.store.deliveries(&everything(), a_page(3, after)).await.unwrap();
            assert!(page.items.len() <= 3);
            listed.extend(events(&page));
            seen.extend(ids(&page));
            publish(NOW + SECOND * newer).await;
            newer += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, expected);
        assert!(seen.iter().rev().is_sorted());
    }

    async fn a_full_last_page_has_no_next(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        node.publish([a_draft().to([&sub]), a_draft().to([&sub])]).await;
        let page = node.store.deliveries(&everything(), a_page(2, None)).await.unwrap();
        assert_eq!((page.items.len(), page.next), (2, None));
        let page = node.store.events(&EventFilter::default(), a_page(2, None)).await.unwrap();
        assert_eq!((page.items.len(), page.next), (2, None));
    }

    async fn the_deliveries_of_another_tenant_are_not_there(kind: Kind) {
        let node = Node::new(kind).await;
        let other = tenant("other");
        let sub = node.subscribe_in(&other, "sub").await;
        node.publish([a_draft().of(&other).to([&sub])]).await;
        let claim = node.claim(NOW, 1).await.remove(0);
        node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        for id in [claim.delivery, DeliveryId::new(NOW)] {
            assert!(node.store.delivery(&default_tenant(), id).await.unwrap().is_none());
            assert!(node.store.attempts(&default_tenant(), id, 0, 10).await.unwrap().is_none());
            assert!(matches!(node.redeliver(id, NOW).await, Steered::NotFound));
            assert!(matches!(node.cancel(id, NOW).await, Steered::NotFound));
        }
        let untouched = node.store.delivery(&other, claim.delivery).await.unwrap().unwrap();
        assert_eq!((untouched.state, untouched.due_at), (DeliveryState::Pending, NOW + SECOND));
        assert_eq!(node.store.attempts(&other, claim.delivery, 0, 10).await.unwrap().unwrap().len(), 1);
    }
}
