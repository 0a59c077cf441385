//! Lists, their pages and their filters.

use std::time::Duration;

use postrider_sdk::model::{AttemptFailure, AttemptOutcome, DeliveryState, EndReason, StoredEvent};
use time::macros::datetime;

use crate::fake::{Fake, unavailable};

#[tokio::test]
async fn items_are_read_across_pages() {
    let server = Fake::start().await;
    let events = server.client().events().list().event_type("order.created").items().collect().await.unwrap();
    let ids: Vec<_> = events.iter().map(StoredEvent::id).collect();
    assert_eq!(ids, ["evt_3", "evt_2", "evt_1"]);
    assert!(events.iter().all(|event| event.event_type == "order.created"));
    assert_eq!(server.methods(), ["ListEvents", "ListEvents"]);
}

#[tokio::test]
async fn a_page_says_where_the_next_one_begins() {
    let server = Fake::start().await;
    let list = server.client().events().list().page_size(2);
    let first = list.page().await.unwrap();
    let second = list.page_token(first.next_page_token.unwrap()).page().await.unwrap();
    assert_eq!((first.items.len(), second.items.len()), (2, 1));
    assert_eq!(second.next_page_token, None);
}

#[tokio::test]
async fn after_an_error_a_list_goes_on_where_it_was() {
    let server = Fake::start().await;
    let client = server.client().with_retry(postrider_sdk::RetryPolicy::never());
    let mut events = client.events().list().items();
    assert_eq!(events.next().await.unwrap().unwrap().id(), "evt_3");
    assert_eq!(events.next().await.unwrap().unwrap().id(), "evt_2");
    server.fail_next([unavailable()]);
    assert!(events.next().await.is_err());
    assert_eq!(events.next().await.unwrap().unwrap().id(), "evt_1");
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn deliveries_are_filtered_by_name_or_id() {
    let server = Fake::start().await;
    let acme = server.client().tenant("acme");
    let list = acme.deliveries().list().event("evt_1").subscription("tenants/acme/subscriptions/orders");
    let page = list.state(DeliveryState::Pending).page().await.unwrap();
    let found = &page.items[0];
    assert_eq!(found.name, "tenants/acme/deliveries/dlv_1");
    assert_eq!(found.event, "tenants/acme/events/evt_1");
    assert_eq!(found.subscription, "tenants/acme/subscriptions/orders");
    assert_eq!(found.state, DeliveryState::Pending);
}

#[tokio::test]
async fn a_delivery_tells_how_it_ended() {
    let server = Fake::start().await;
    let delivery = server.client().deliveries().get("dlv_1").await.unwrap();
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(delivery.end_reason, Some(EndReason::Exhausted));
    assert_eq!(delivery.attempt_count, 3);
    assert_eq!((delivery.due_at, delivery.ended_at), (None, Some(datetime!(2024-11-21 11:00 UTC))));
}

#[tokio::test]
async fn attempts_tell_what_they_came_to() {
    let server = Fake::start().await;
    let attempts = server.client().deliveries().attempts("dlv_1").items().collect().await.unwrap();
    assert_eq!(attempts[0].outcome, AttemptOutcome::Rejected { status: 503 });
    assert_eq!(attempts[0].status(), Some(503));
    assert_eq!(attempts[0].response_headers[0].name, "retry-after");
    assert_eq!(attempts[0].response_body, "later");
    assert_eq!(attempts[0].total_duration, Duration::from_millis(1_500));
    let no_such_host =
        AttemptOutcome::Failed { failure: AttemptFailure::Dns, message: "no such host".to_owned() };
    assert_eq!(attempts[1].outcome, no_such_host);
    assert_eq!(attempts[1].status(), None);
}
