//! Names that are malformed, or of what does not exist.

use postrider_integration_tests::{
    Kind, Raw, Receiver, Refusal, Refused, TestApp, an_event, on_both_databases,
};
use postrider_proto::v1 as pb;
use tonic::Code;

use super::{NO_DELIVERY, NO_EVENT, a_subscription, event, lists::pages};

on_both_databases! {
    async fn what_does_not_exist_is_not_found(kind: Kind) {
        let app = TestApp::start(kind).await;
        let mut raw = app.raw();
        for tenant in ["default", "nobody"] {
            let subscription = format!("tenants/{tenant}/subscriptions/nothing");
            for (method, refusal) in Box::pin(refusals_of_subscription(&raw, &subscription)).await {
                let field = if method == "update" { "subscription.name" } else { "name" };
                assert_eq!(refusal, Refusal::not_found(field), "{method} in {tenant}");
            }
            for (method, refusal) in
                refusals_of_delivery(&raw, &format!("tenants/{tenant}/deliveries/{NO_DELIVERY}")).await
            {
                let field = if method == "attempts" { "parent" } else { "name" };
                assert_eq!(refusal, Refusal::not_found(field), "{method} in {tenant}");
            }
            let name = format!("tenants/{tenant}/events/{NO_EVENT}");
            let refused = raw.events.get_event(pb::GetEventRequest { name }).await;
            assert_eq!(refused.refusal(), Refusal::not_found("name"));
        }
        for (list, page) in pages(&raw, "tenants/nobody", 0, "").await {
            assert_eq!(page, Err(Refusal::not_found("parent")), "{list}");
        }
        app.stop().await;
    }

    async fn a_refusal_tells_which_resource_is_not_there(kind: Kind) {
        let app = TestApp::start(kind).await;
        let name = "tenants/default/subscriptions/nothing".to_owned();
        let request = pb::GetSubscriptionRequest { name: name.clone() };
        let status = app.raw().subscriptions.get_subscription(request).await.unwrap_err();
        let details = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(details.error_info().unwrap().metadata["resource"], name);
        assert!(status.message().contains(&name), "{status}");
        app.stop().await;
    }

    async fn what_belongs_to_another_tenant_is_not_found(kind: Kind) {
        let app = TestApp::start(kind).await;
        let raw = app.raw();
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&receiver).await.subscription;
        let event = app.client.publish(an_event()).await.unwrap().event;
        app.run_until_idle().await;
        let delivery = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        // The other tenant exists.
        app.client.tenant("acme").publish(an_event()).await.unwrap();
        let of_acme = |name: &str| name.replace("tenants/default/", "tenants/acme/");
        for (method, refusal) in Box::pin(refusals_of_subscription(&raw, &of_acme(&subscription.name))).await {
            assert_eq!(refusal.code, Code::NotFound, "{method}");
        }
        for (method, refusal) in refusals_of_delivery(&raw, &of_acme(&delivery)).await {
            assert_eq!(refusal.code, Code::NotFound, "{method}");
        }
        let refused = raw.events.clone().get_event(pb::GetEventRequest { name: of_acme(&event) }).await;
        assert_eq!(refused.refusal(), Refusal::not_found("name"));
        app.stop().await;
    }
}

#[tokio::test]
async fn malformed_names_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let long = "a".repeat(64);
    for name in [
        String::new(),
        "orders".to_owned(),
        "subscriptions/orders".to_owned(),
        "tenants/default".to_owned(),
        "tenants/default/subscriptions".to_owned(),
        "tenants/default/subscriptions/".to_owned(),
        "tenants/default/subscriptions/orders/".to_owned(),
        "/tenants/default/subscriptions/orders".to_owned(),
        "tenants//subscriptions/orders".to_owned(),
        "tenants/-/subscriptions/orders".to_owned(),
        "tenants/DEFAULT/subscriptions/orders".to_owned(),
        "tenants/default/subscriptions/Orders".to_owned(),
        "tenants/default/subscriptions/1orders".to_owned(),
        "tenants/default/subscriptions/or ders".to_owned(),
        "tenants/default/subscriptions/ördérs".to_owned(),
        "tenants/default/subscriptions/a\0".to_owned(),
        "tenants/default/subscriptions/'; DROP TABLE events; --".to_owned(),
        format!("tenants/default/subscriptions/{long}"),
        format!("tenants/{long}/subscriptions/orders"),
        format!("tenants/default/deliveries/{NO_DELIVERY}"),
        "a/".repeat(100_000),
    ] {
        for (method, refusal) in Box::pin(refusals_of_subscription(&raw, &name)).await {
            let field = if method == "update" { "subscription.name" } else { "name" };
            assert_eq!(refusal, Refusal::invalid(field), "{method}: {}", &name[..name.len().min(100)]);
        }
    }
    for id in
        ["", "orders", "dlv_", "dlv_1", NO_EVENT, &NO_DELIVERY.to_uppercase(), &format!("{NO_DELIVERY}0")]
    {
        for (method, refusal) in refusals_of_delivery(&raw, &format!("tenants/default/deliveries/{id}")).await
        {
            let field = if method == "attempts" { "parent" } else { "name" };
            assert_eq!(refusal, Refusal::invalid(field), "{method}: {id}");
        }
    }
    for id in ["", "1", "evt_", NO_DELIVERY, &format!("{NO_EVENT}/x")] {
        let request = pb::GetEventRequest { name: format!("tenants/default/events/{id}") };
        assert_eq!(raw.events.clone().get_event(request).await.refusal(), Refusal::invalid("name"), "{id}");
    }
    app.stop().await;
}

#[tokio::test]
async fn malformed_tenants_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let mut raw = app.raw();
    for parent in
        ["", "default", "tenants/", "tenants/Acme", "tenants/a b", "tenants/a/b", "tenants/-1", "tenants/ä"]
    {
        let request = pb::PublishEventRequest {
            parent: parent.to_owned(),
            event: Some(event()),
            request_id: String::new(),
        };
        assert_eq!(raw.events.publish_event(request).await.refusal(), Refusal::invalid("parent"), "{parent}");
        let item = pb::PublishItem { event: Some(event()), ..pb::PublishItem::default() };
        let request = pb::PublishEventsRequest { parent: parent.to_owned(), items: vec![item] };
        assert_eq!(
            raw.events.publish_events(request).await.refusal(),
            Refusal::invalid("parent"),
            "{parent}"
        );
        let request = pb::CreateSubscriptionRequest {
            parent: parent.to_owned(),
            subscription: Some(a_subscription()),
            subscription_id: String::new(),
            ..pb::CreateSubscriptionRequest::default()
        };
        let refused = raw.subscriptions.create_subscription(request).await;
        assert_eq!(refused.refusal(), Refusal::invalid("parent"), "{parent}");
        for (list, page) in pages(&raw, parent, 0, "").await {
            assert_eq!(page, Err(Refusal::invalid("parent")), "{list}: {parent}");
        }
    }
    // All tenants are for reading.
    let request = pb::PublishEventRequest {
        parent: "tenants/-".to_owned(),
        event: Some(event()),
        request_id: String::new(),
    };
    assert_eq!(raw.events.publish_event(request).await.refusal(), Refusal::invalid("parent"));
    app.stop().await;
}

/// Names a subscription in every method that takes one.
async fn refusals_of_subscription(raw: &Raw, name: &str) -> Vec<(&'static str, Refusal)> {
    let mut rpc = raw.subscriptions.clone();
    let name = || name.to_owned();
    let subscription = Some(pb::Subscription { name: name(), ..pb::Subscription::default() });
    vec![
        ("get", rpc.get_subscription(pb::GetSubscriptionRequest { name: name() }).await.refusal()),
        (
            "update",
            rpc.update_subscription(pb::UpdateSubscriptionRequest { subscription, update_mask: None })
                .await
                .refusal(),
        ),
        (
            "delete",
            rpc.delete_subscription(pb::DeleteSubscriptionRequest { name: name(), etag: String::new() })
                .await
                .refusal(),
        ),
        ("pause", rpc.pause_subscription(pb::PauseSubscriptionRequest { name: name() }).await.refusal()),
        ("resume", rpc.resume_subscription(pb::ResumeSubscriptionRequest { name: name() }).await.refusal()),
        ("enable", rpc.enable_subscription(pb::EnableSubscriptionRequest { name: name() }).await.refusal()),
        ("verify", rpc.verify_subscription(pb::VerifySubscriptionRequest { name: name() }).await.refusal()),
        (
            "rotate",
            rpc.rotate_subscription_secret(pb::RotateSubscriptionSecretRequest {
                name: name(),
                ..pb::RotateSubscriptionSecretRequest::default()
            })
            .await
            .refusal(),
        ),
        (
            "secret",
            rpc.get_subscription_secret(pb::GetSubscriptionSecretRequest { name: name() }).await.refusal(),
        ),
        (
            "test",
            rpc.send_test_event(pb::SendTestEventRequest {
                name: name(),
                ..pb::SendTestEventRequest::default()
            })
            .await
            .refusal(),
        ),
    ]
}

/// Names a delivery in every method that takes one.
async fn refusals_of_delivery(raw: &Raw, name: &str) -> Vec<(&'static str, Refusal)> {
    let mut rpc = raw.deliveries.clone();
    let name = || name.to_owned();
    let attempts = pb::ListAttemptsRequest { parent: name(), ..pb::ListAttemptsRequest::default() };
    vec![
        ("get", rpc.get_delivery(pb::GetDeliveryRequest { name: name() }).await.refusal()),
        ("attempts", rpc.list_attempts(attempts).await.refusal()),
        ("redeliver", rpc.redeliver_delivery(pb::RedeliverDeliveryRequest { name: name() }).await.refusal()),
        ("cancel", rpc.cancel_delivery(pb::CancelDeliveryRequest { name: name() }).await.refusal()),
    ]
}
