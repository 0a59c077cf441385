//! Pages and filters.

use postrider_integration_tests::{Kind, Raw, Refusal, Refused, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;

use super::{NO_DELIVERY, NO_EVENT, a_subscription, create};

on_both_databases! {
    async fn a_page_token_is_good_for_its_own_query_only(kind: Kind) {
        let app = TestApp::start(kind).await;
        let mut raw = app.raw();
        for nth in 0..3 {
            app.client.publish(an_event().request_id(nth.to_string())).await.unwrap();
            app.client.tenant("acme").publish(an_event()).await.unwrap();
            create(&raw, a_subscription()).await.unwrap();
        }
        let list = |parent: &str, kind: &str, token: &str| pb::ListEventsRequest {
            parent: parent.to_owned(),
            page_size: 1,
            page_token: token.to_owned(),
            r#type: kind.to_owned(),
            ..pb::ListEventsRequest::default()
        };
        let first = raw.events.list_events(list("tenants/default", "", "")).await.unwrap().into_inner();
        let token = first.next_page_token;
        assert!(!token.is_empty());
        for other in [
            list("tenants/acme", "", &token),
            list("tenants/-", "", &token),
            list("tenants/default", "order.created", &token),
            pb::ListEventsRequest { request_id: "1".to_owned(), ..list("tenants/default", "", &token) },
            pb::ListEventsRequest {
                create_time_from: Some(prost_types::Timestamp::default()),
                ..list("tenants/default", "", &token)
            },
        ] {
            let refused = raw.events.list_events(other).await;
            assert_eq!(refused.refusal(), Refusal::invalid("page_token"));
        }
        for (list, page) in pages(&raw, "tenants/default", 1, &token).await {
            let expected = if list == "events" { Ok(()) } else { Err(Refusal::invalid("page_token")) };
            assert_eq!(page, expected, "{list}");
        }
        // With its own query it is good, whatever the size of the page.
        let mut again = list("tenants/default", "", &token);
        again.page_size = 50;
        assert_eq!(raw.events.list_events(again).await.unwrap().into_inner().events.len(), 2);
        app.stop().await;
    }
}

#[tokio::test]
async fn page_tokens_and_sizes_that_are_made_up_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let attempts = async |page_size, page_token: &str| {
        let request = pb::ListAttemptsRequest {
            parent: format!("tenants/default/deliveries/{NO_DELIVERY}"),
            page_size,
            page_token: page_token.to_owned(),
        };
        raw.deliveries.clone().list_attempts(request).await.refusal()
    };
    for size in [-1, i32::MIN] {
        assert_eq!(attempts(size, "").await, Refusal::invalid("page_size"));
        for (list, page) in pages(&raw, "tenants/default", size, "").await {
            assert_eq!(page, Err(Refusal::invalid("page_size")), "{list}");
        }
    }
    for token in ["x", "AAAA", "not base64!", "0", &"A".repeat(43), &"A".repeat(100_000), "1 OR 1=1"] {
        assert_eq!(attempts(0, token).await, Refusal::invalid("page_token"), "{token}");
        for (list, page) in pages(&raw, "tenants/default", 0, token).await {
            assert_eq!(page, Err(Refusal::invalid("page_token")), "{list}: {token}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn filters_that_are_malformed_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let mut raw = app.raw();
    let events =
        || pb::ListEventsRequest { parent: "tenants/default".to_owned(), ..pb::ListEventsRequest::default() };
    let never = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    for (field, request) in [
        ("type", pb::ListEventsRequest { r#type: "order.*".to_owned(), ..events() }),
        ("request_id", pb::ListEventsRequest { request_id: "a b".to_owned(), ..events() }),
        ("create_time_from", pb::ListEventsRequest { create_time_from: never, ..events() }),
        ("create_time_until", pb::ListEventsRequest { create_time_until: never, ..events() }),
    ] {
        assert_eq!(raw.events.list_events(request).await.refusal(), Refusal::invalid(field));
    }
    let deliveries = || pb::ListDeliveriesRequest {
        parent: "tenants/default".to_owned(),
        ..pb::ListDeliveriesRequest::default()
    };
    for (field, request) in [
        ("state", pb::ListDeliveriesRequest { state: 99, ..deliveries() }),
        ("state", pb::ListDeliveriesRequest { state: -1, ..deliveries() }),
        ("event", pb::ListDeliveriesRequest { event: NO_EVENT.to_owned(), ..deliveries() }),
        (
            "event",
            pb::ListDeliveriesRequest { event: format!("tenants/acme/events/{NO_EVENT}"), ..deliveries() },
        ),
        ("subscription", pb::ListDeliveriesRequest { subscription: "orders".to_owned(), ..deliveries() }),
        (
            "subscription",
            pb::ListDeliveriesRequest {
                subscription: "tenants/acme/subscriptions/a".to_owned(),
                ..deliveries()
            },
        ),
        ("create_time_from", pb::ListDeliveriesRequest { create_time_from: never, ..deliveries() }),
        ("create_time_until", pb::ListDeliveriesRequest { create_time_until: never, ..deliveries() }),
    ] {
        assert_eq!(raw.deliveries.list_deliveries(request).await.refusal(), Refusal::invalid(field));
    }
    app.stop().await;
}

/// Asks for a page of every list that a tenant has.
pub(super) async fn pages(
    raw: &Raw,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> [(&'static str, Result<(), Refusal>); 3] {
    let (parent, page_token) = (parent.to_owned(), page_token.to_owned());
    let events = pb::ListEventsRequest {
        parent: parent.clone(),
        page_size,
        page_token: page_token.clone(),
        ..pb::ListEventsRequest::default()
    };
    let deliveries = pb::ListDeliveriesRequest {
        parent: parent.clone(),
        page_size,
        page_token: page_token.clone(),
        ..pb::ListDeliveriesRequest::default()
    };
    let subscriptions = pb::ListSubscriptionsRequest { parent, page_size, page_token };
    let refusal = |status: tonic::Status| Refusal::from(&status);
    [
        ("events", raw.events.clone().list_events(events).await.map(drop).map_err(refusal)),
        ("deliveries", raw.deliveries.clone().list_deliveries(deliveries).await.map(drop).map_err(refusal)),
        (
            "subscriptions",
            raw.subscriptions.clone().list_subscriptions(subscriptions).await.map(drop).map_err(refusal),
        ),
    ]
}
