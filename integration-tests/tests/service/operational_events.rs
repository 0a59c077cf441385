//! What Postrider tells tenants of their own subscriptions and deliveries.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Event, Subscription,
    model::{DeliveryRetryPolicy, EventFilter, EventType, Verdict},
    verify::Verifier,
};
use postrider_server::{config::Config, domain::catalogue::UnknownTypes};

use crate::retry::now;

/// Subscribes a receiver to these event types, with a single attempt for each event.
async fn subscribe(app: &TestApp, receiver: &Receiver, id: &str, event_types: &str) {
    let new = Subscription::to(receiver.url())
        .event_types([event_types])
        .id(id)
        .retry_policy(DeliveryRetryPolicy::schedule([]));
    app.client.subscriptions().create(new).await.unwrap();
}

fn types(receiver: &Receiver) -> Vec<String> {
    let of = |request: &postrider_integration_tests::Request| {
        request.envelope()["type"].as_str().unwrap().to_owned()
    };
    receiver.requests().iter().map(of).collect()
}

/// Publishes operational events and delivers them. Returns how many.
async fn announce(app: &TestApp) -> usize {
    let announced = app.announce().await;
    app.run_until_idle().await;
    announced
}

on_both_databases! {
    async fn a_delivery_that_has_used_up_its_schedule_is_told_and_the_telling_is_not(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, operations) = (Receiver::start().await, Receiver::start().await);
        receiver.always(500);
        operations.always(500);
        subscribe(&app, &receiver, "orders", "order.*").await;
        subscribe(&app, &operations, "operations", "postrider.delivery.*").await;
        let published = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let delivery = app.client.deliveries().list().items().collect().await.unwrap().remove(0);
        assert_eq!(announce(&app).await, 1);
        let told = operations.requests().remove(0).envelope();
        assert_eq!(told["type"], "postrider.delivery.exhausted");
        let data = &told["data"];
        assert_eq!(data["delivery"], delivery.name);
        assert_eq!(data["event"], published.event);
        assert_eq!(data["subscription"], "tenants/default/subscriptions/orders");
        assert_eq!((&data["event_type"], &data["attempt_count"]), (&"order.created".into(), &1.into()));
        assert_eq!(data["last_failure"]["message"], "status 500");
        // Nobody tells that this could not be told.
        assert_eq!(announce(&app).await, 0);
        assert_eq!(types(&operations), ["postrider.delivery.exhausted"]);
        let event = app.client.events().list().items().collect().await.unwrap().remove(0);
        assert_eq!((event.source.as_deref(), event.subject), (Some("postrider"), Some(delivery.name)));
        app.stop().await;
    }

    async fn what_nobody_asks_for_is_not_even_stored(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, everything) = (Receiver::start().await, Receiver::start().await);
        receiver.always(500);
        subscribe(&app, &receiver, "orders", "order.*").await;
        subscribe(&app, &everything, "everything", "**").await;
        subscribe(&app, &everything, "subscriptions", "postrider.subscription.*").await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(announce(&app).await, 0);
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 1);
        assert_eq!(types(&everything), ["order.created"]);
        // It is not kept for whoever asks later.
        subscribe(&app, &everything, "deliveries", "postrider.delivery.*").await;
        assert_eq!(announce(&app).await, 0);
        app.stop().await;
    }

    async fn every_disabling_is_told(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, operations) = (Receiver::start().await, Receiver::start().await);
        subscribe(&app, &receiver, "orders", "order.*").await;
        subscribe(&app, &operations, "operations", "postrider.subscription.disabled").await;
        for (status, header, reason) in [(410, "", "GONE"), (500, "disable", "REQUESTED")] {
            receiver.then(status, &[("webhook-delivery", header)], "");
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            assert_eq!(announce(&app).await, 1);
            let told = operations.requests().pop().unwrap().envelope();
            assert_eq!(told["data"]["reason"], reason);
            assert_eq!(told["data"]["subscription"], "tenants/default/subscriptions/orders");
            app.client.subscriptions().enable("orders").await.unwrap();
        }
        app.stop().await;
    }

    async fn they_are_matched_signed_repeated_and_filtered_like_all_others(kind: Kind) {
        let refusing = |config: &mut Config| config.events.unknown_types = UnknownTypes::Refuse;
        let app = TestApp::builder(kind).await.with(refusing).start().await;
        app.client.event_types().create(EventType::named("order.created")).await.unwrap();
        let (receiver, operations) = (Receiver::start().await, Receiver::answering([500]).await);
        receiver.always(500);
        subscribe(&app, &receiver, "orders", "order.*").await;
        subscribe(&app, &receiver, "more-orders", "order.*").await;
        let filter = EventFilter::new().expression("data.subscription.endsWith('/more-orders')");
        let new = Subscription::to(operations.url()).event_types(["postrider.**"]).filter(filter);
        let secret = app.client.subscriptions().create(new).await.unwrap().secret;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(announce(&app).await, 2);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let requests = operations.requests();
        assert_eq!(requests.iter().map(|request| request.answered).collect::<Vec<_>>(), [500, 204]);
        let verifier = Verifier::new([secret.expose()]).unwrap();
        verifier.verify_at(&requests[1].headers, &requests[1].body, now(&app)).unwrap();
        assert_eq!(requests[1].envelope()["data"]["subscription"], "tenants/default/subscriptions/more-orders");
        app.stop().await;
    }

    async fn two_servers_tell_once(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let (receiver, operations) = (Receiver::start().await, Receiver::start().await);
        receiver.always(500);
        subscribe(&one, &receiver, "orders", "order.*").await;
        subscribe(&one, &operations, "operations", "postrider.**").await;
        for _ in 0..5 {
            one.client.publish(an_event()).await.unwrap();
            one.drain().await;
        }
        tokio::join!(one.announce(), two.announce());
        one.run_until_idle().await;
        two.run_until_idle().await;
        assert_eq!(operations.requests().len(), 5);
        assert_eq!(one.announce().await + two.announce().await, 0);
        two.stop().await;
        one.stop().await;
    }

    async fn they_can_be_explained_before_there_are_any(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        for (id, pattern) in [("all", "**"), ("operations", "postrider.subscription.*")] {
            subscribe(&app, &receiver, id, pattern).await;
        }
        let event = |event_type: &str| Event::new(event_type).json(&1).unwrap();
        let explained = app.client.events().explain(event("postrider.subscription.failing")).await.unwrap();
        let verdict = |id: &str| {
            let name = format!("tenants/default/subscriptions/{id}");
            explained.subscriptions.iter().find(|one| one.subscription == name).map(|one| &one.verdict)
        };
        assert_eq!(verdict("operations"), Some(&Verdict::Matches));
        assert_eq!(verdict("all"), Some(&Verdict::EventType));
        let refused = app.client.events().explain(event("postrider.anything")).await.unwrap_err();
        assert!(refused.to_string().contains("reserved"), "{refused}");
        app.stop().await;
    }

    async fn nobody_else_publishes_them(kind: Kind) {
        let app = TestApp::start(kind).await;
        for event_type in ["postrider.subscription.failing", "postrider.anything"] {
            let refused = app.client.publish(Event::new(event_type).json(&1).unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("reserved"), "{refused}");
        }
        assert!(app.client.publish(Event::new("postrider").json(&1).unwrap()).await.is_ok());
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, "orders", "order.*").await;
        app.client.subscriptions().send_test_event("orders").await.unwrap();
        app.run_until_idle().await;
        assert_eq!(types(&receiver), ["postrider.test"]);
        app.stop().await;
    }
}
