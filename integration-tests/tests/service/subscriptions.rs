//! The life of a subscription.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Reason, Subscription,
    model::{DeliveryState, EndReason, SubscriptionState},
};
use time::macros::datetime;

/// Nobody is ever sent anything there.
const URL: &str = "https://example.com/hook?token=a%20b";

on_both_databases! {
    async fn a_subscription_is_shown_as_it_was_created(kind: Kind) {
        let app = TestApp::start(kind).await;
        let new =
            Subscription::to(URL).event_types(["order.*", "**.paid"]).id("orders").description("the shop, √");
        let created = app.client.subscriptions().create(new).await.unwrap().subscription;
        assert_eq!(created.name, "tenants/default/subscriptions/orders");
        assert_eq!(created.id(), "orders");
        assert_eq!(created.target_url, URL);
        assert_eq!(created.event_types, ["order.*", "**.paid"]);
        assert_eq!(created.description, "the shop, √");
        assert_eq!(created.state, SubscriptionState::Active);
        assert_eq!((created.paused_at, created.disabled_at), (None, None));
        let begin = datetime!(2026-01-01 00:00 UTC);
        assert_eq!((created.created_at, created.updated_at), (begin, begin));
        for name in ["orders", "tenants/default/subscriptions/orders"] {
            assert_eq!(app.client.subscriptions().get(name).await.unwrap(), created);
        }
        app.stop().await;
    }

    async fn a_subscription_that_is_given_no_id_gets_one(kind: Kind) {
        let app = TestApp::start(kind).await;
        let create = async || {
            let new = Subscription::to(URL).event_types(["**"]);
            app.client.subscriptions().create(new).await.unwrap().subscription
        };
        let (one, two) = (create().await, create().await);
        assert!(one.id().starts_with("sub_") && two.id().starts_with("sub_"), "{} {}", one.id(), two.id());
        assert_ne!(one.id(), two.id());
        app.stop().await;
    }

    async fn an_id_is_free_again_after_its_subscription_was_deleted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let create = async || {
            let new = Subscription::to(URL).event_types(["**"]).id("orders");
            subscriptions.create(new).await
        };
        let first = create().await.unwrap();
        let taken = create().await.unwrap_err();
        assert!(taken.is_already_exists());
        assert_eq!(taken.reason(), Some(&Reason::IdTaken));
        subscriptions.delete("orders").await.unwrap();
        assert!(subscriptions.get("orders").await.unwrap_err().is_not_found());
        assert!(subscriptions.delete("orders").await.unwrap_err().is_not_found());
        let second = create().await.unwrap();
        assert_eq!(second.subscription.name, first.subscription.name);
        assert_ne!(second.subscription.uid, first.subscription.uid);
        assert_ne!(second.subscription.etag, first.subscription.etag);
        assert_ne!(second.secret, first.secret);
        app.stop().await;
    }

    async fn an_update_changes_what_it_names_and_nothing_else(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let new = Subscription::to(URL).event_types(["order.*"]).id("orders").description("the shop");
        let before = subscriptions.create(new).await.unwrap().subscription;
        app.advance(Duration::from_mins(1));
        let after = subscriptions.update("orders").event_types(["invoice.*"]).await.unwrap();
        assert_eq!(after.event_types, ["invoice.*"]);
        assert_eq!((&after.description, &after.target_url), (&before.description, &before.target_url));
        assert_eq!((&after.uid, after.created_at), (&before.uid, before.created_at));
        assert_eq!(after.updated_at, datetime!(2026-01-01 00:01 UTC));
        assert_ne!(after.etag, before.etag);
        assert_eq!(subscriptions.get("orders").await.unwrap(), after);
        let target = "https://example.com/other";
        let last = subscriptions
            .update("orders")
            .target_url(target)
            .description("")
            .etag(&after.etag)
            .await
            .unwrap();
        assert_eq!((last.target_url.as_str(), last.description.as_str()), (target, ""));
        assert!(
            subscriptions.update("orders").description("x").etag(&after.etag).await.unwrap_err().is_aborted()
        );
        app.advance(Duration::from_mins(1));
        let nothing = subscriptions.update("orders").target_url(target).await.unwrap();
        assert_eq!(nothing, last, "what changes nothing leaves no trace");
        app.stop().await;
    }

    async fn with_the_current_etag_a_subscription_is_deleted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let new = Subscription::to(URL).event_types(["**"]).id("orders");
        let before = subscriptions.create(new).await.unwrap().subscription;
        let after = subscriptions.pause("orders").await.unwrap();
        assert!(subscriptions.delete("orders").etag(&before.etag).await.unwrap_err().is_aborted());
        subscriptions.delete("orders").etag(&after.etag).await.unwrap();
        assert!(subscriptions.get("orders").await.unwrap_err().is_not_found());
        app.stop().await;
    }

    async fn deleting_a_subscription_cancels_what_waits_and_keeps_the_record(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([204, 500]).await;
        let new = Subscription::to(receiver.url()).event_types(["**"]).id("orders");
        app.client.subscriptions().create(new).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.client.subscriptions().delete("orders").await.unwrap();
        app.advance(Duration::from_hours(1));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        assert_eq!(app.sweep().await, 1);
        let deliveries =
            app.client.deliveries().list().subscription("orders").items().collect().await.unwrap();
        let ends: Vec<_> = deliveries.iter().map(|delivery| (delivery.state, delivery.end_reason)).collect();
        assert_eq!(
            ends,
            [
                (DeliveryState::Cancelled, Some(EndReason::SubscriptionDeleted)),
                (DeliveryState::Succeeded, Some(EndReason::Acknowledged)),
            ]
        );
        let refused = app.client.deliveries().redeliver(&deliveries[0].name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");
        app.stop().await;
    }

    async fn pausing_and_enabling_twice_is_the_same_as_once(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let active =
            subscriptions.create(Subscription::to(URL).event_types(["**"]).id("orders")).await.unwrap();
        assert_eq!(subscriptions.resume("orders").await.unwrap(), active.subscription);
        assert_eq!(subscriptions.enable("orders").await.unwrap(), active.subscription);
        app.advance(Duration::from_secs(1));
        let paused = subscriptions.pause("orders").await.unwrap();
        app.advance(Duration::from_secs(1));
        assert_eq!(subscriptions.pause("orders").await.unwrap(), paused);
        assert_eq!(paused.paused_at, Some(datetime!(2026-01-01 00:00:01 UTC)));
        app.stop().await;
    }

    async fn one_that_is_paused_and_disabled_stays_paused_when_it_is_enabled(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([410]).await;
        let gate = receiver.gate();
        let name = app.subscribe(&receiver).await.subscription.name;
        app.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        app.client.subscriptions().pause(&name).await.unwrap();
        gate.open();
        app.run_until_idle().await;
        let disabled = app.client.subscriptions().get(&name).await.unwrap();
        assert!(matches!(disabled.state, SubscriptionState::Disabled(_)));
        assert!(disabled.paused_at.is_some());
        assert_eq!(app.client.subscriptions().enable(&name).await.unwrap().state, SubscriptionState::Paused);
        app.stop().await;
    }

    async fn subscriptions_are_listed_newest_first_and_page_by_page(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        for nth in 0..5 {
            app.advance(Duration::from_millis(1));
            let new = Subscription::to(URL).event_types(["**"]).id(format!("s{nth}"));
            subscriptions.create(new).await.unwrap();
        }
        subscriptions.delete("s2").await.unwrap();
        let first = subscriptions.list().page_size(3).page().await.unwrap();
        assert_eq!(ids(&first.items), ["s4", "s3", "s1"]);
        let last = subscriptions
            .list()
            .page_size(3)
            .page_token(first.next_page_token.unwrap())
            .page()
            .await
            .unwrap();
        assert_eq!((ids(&last.items), last.next_page_token), (vec!["s0"], None));
        for size in [1, 2, 4, 1_000, u16::MAX] {
            let all = subscriptions.list().page_size(size).items().collect().await.unwrap();
            assert_eq!(ids(&all), ["s4", "s3", "s1", "s0"], "{size}");
        }
        app.stop().await;
    }

    async fn a_dash_lists_the_subscriptions_of_all_tenants(kind: Kind) {
        let app = TestApp::start(kind).await;
        for tenant in ["acme", "default", "zeta"] {
            app.advance(Duration::from_millis(1));
            let new = Subscription::to(URL).event_types(["**"]).id("orders");
            app.client.tenant(tenant).subscriptions().create(new).await.unwrap();
        }
        let all = app.client.tenant("-").subscriptions().list().page_size(2).items().collect().await.unwrap();
        let names: Vec<_> = all.iter().map(|subscription| subscription.name.as_str()).collect();
        assert_eq!(
            names,
            ["zeta", "default", "acme"].map(|tenant| format!("tenants/{tenant}/subscriptions/orders"))
        );
        let own = app.client.tenant("acme").subscriptions().list().items().collect().await.unwrap();
        assert_eq!(own.len(), 1);
        app.stop().await;
    }

    async fn a_test_event_goes_to_its_subscription_alone_whatever_its_patterns(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, bystander) = (Receiver::start().await, Receiver::start().await);
        let new = Subscription::to(receiver.url()).event_types(["nothing.ever"]).id("orders");
        app.client.subscriptions().create(new).await.unwrap();
        app.subscribe(&bystander).await;
        let plain = app.client.subscriptions().send_test_event("orders").await.unwrap();
        app.run_until_idle().await;
        let own = app
            .client
            .subscriptions()
            .send_test_event("orders")
            .event_type("order.created")
            .json(&[17])
            .unwrap();
        own.await.unwrap();
        app.run_until_idle().await;
        let seen: Vec<_> = receiver
            .requests()
            .iter()
            .map(|request| {
                let envelope = request.envelope();
                (envelope["type"].as_str().unwrap().to_owned(), envelope["data"].to_string())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("postrider.test".to_owned(), r#"{"test":true}"#.to_owned()),
                ("order.created".to_owned(), "[17]".to_owned()),
            ]
        );
        assert!(bystander.requests().is_empty());
        let delivery = app.client.deliveries().get(&plain.delivery).await.unwrap();
        assert_eq!((delivery.state, &delivery.event), (DeliveryState::Succeeded, &plain.event));
        assert_eq!(app.client.events().get(&plain.event).await.unwrap().delivery_count, 1);
        app.stop().await;
    }

    async fn a_test_event_waits_for_one_that_is_paused_and_is_refused_by_one_that_is_disabled(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([410]).await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let subscriptions = app.client.subscriptions();
        subscriptions.pause(&name).await.unwrap();
        let sent = subscriptions.send_test_event(&name).await.unwrap();
        app.run_until_idle().await;
        assert!(receiver.requests().is_empty());
        assert_eq!(app.client.deliveries().get(&sent.delivery).await.unwrap().state, DeliveryState::Pending);
        subscriptions.resume(&name).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        let refused = subscriptions.send_test_event(&name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");
        assert_eq!(refused.reason(), Some(&Reason::WrongState));
        app.stop().await;
    }
}

fn ids(subscriptions: &[Subscription]) -> Vec<&str> {
    subscriptions.iter().map(Subscription::id).collect()
}
