//! Events are found and listed.

use postrider_integration_tests::{default_tenant, on_both_databases};
use postrider_server::{domain::event_type::EventType, store::events::EventFilter};

use crate::{
    fixtures::{NOW, SECOND, a_draft, a_page, one_page, tenant},
    node::Node,
};

on_both_databases! {
    async fn events_are_listed_newest_first_in_pages_without_their_data(kind: Kind) {
        let node = Node::new(kind).await;
        let other = tenant("other");
        let mut mine = Vec::new();
        for n in 0..5 {
            let at = NOW + SECOND * n;
            mine.insert(0, node.publish([a_draft().at(at), a_draft().of(&other).at(at)]).await[0].id);
        }
        let filter = EventFilter { tenant: Some(default_tenant()), ..EventFilter::default() };
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = node.store.events(&filter, a_page(2, after)).await.unwrap();
            assert!(page.items.iter().all(|stored| stored.event.content.payload.data.is_empty()));
            listed.extend(page.items.iter().map(|stored| stored.event.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, mine);
    }

    async fn events_are_found_by_exactly_their_type(kind: Kind) {
        let node = Node::new(kind).await;
        let typed = |text| {
            let mut draft = a_draft();
            draft.content.event_type = EventType::parse(text).unwrap();
            draft
        };
        let events = node.publish([typed("order"), typed("order.paid"), typed("Order")]).await;
        let filter =
            EventFilter { event_type: Some(events[0].content.event_type.clone()), ..EventFilter::default() };
        let page = node.store.events(&filter, one_page()).await.unwrap();
        assert_eq!(page.items.iter().map(|stored| stored.event.id).collect::<Vec<_>>(), [events[0].id]);
    }
}
