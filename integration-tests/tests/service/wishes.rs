//! What receivers ask for beside their status, by the header `webhook-delivery`.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::model::{DeliveryState, DisabledReason, EndReason, Health, SubscriptionState};

use crate::retry::the_delivery;

const HEADER: &str = "webhook-delivery";

on_both_databases! {
    async fn a_message_that_is_aborted_is_not_repeated_and_harms_nobody(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.then(422, &[(HEADER, "Abort-Message ")], "");
        let name = app.subscribe(&receiver).await.subscription.name;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let delivery = the_delivery(&app).await;
        assert_eq!((delivery.state, delivery.end_reason), (DeliveryState::Failed, Some(EndReason::Aborted)));
        // It says nothing bad about the receiver, however often it does so.
        for _ in 0..30 {
            receiver.then(500, &[(HEADER, "abort-message")], "");
            app.client.publish(an_event()).await.unwrap();
            app.drain().await;
        }
        let subscription = app.client.subscriptions().get(&name).await.unwrap();
        assert_eq!((subscription.state, subscription.health), (SubscriptionState::Active, Health::Healthy));
        assert_eq!(receiver.requests().len(), 31);
        app.stop().await;
    }

    async fn aborting_what_was_acknowledged_and_words_that_nobody_knows_change_nothing(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.then(500, &[(HEADER, "retry-never")], "");
        receiver.then(200, &[(HEADER, "abort-message")], "");
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Pending);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn a_receiver_can_ask_to_be_disabled_whatever_its_status(kind: Kind) {
        for (status, end) in [(204, EndReason::Acknowledged), (503, EndReason::Aborted), (410, EndReason::Gone)] {
            let app = TestApp::start(kind).await;
            let receiver = Receiver::answering([500]).await;
            receiver.then(status, &[(HEADER, " disable")], "");
            let name = app.subscribe(&receiver).await.subscription.name;
            let waiting = app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            let last = app.client.publish(an_event()).await.unwrap();
            app.drain().await;
            let reason = if status == 410 { DisabledReason::Gone } else { DisabledReason::Requested };
            let subscription = app.client.subscriptions().get(&name).await.unwrap();
            assert_eq!(subscription.state, SubscriptionState::Disabled(reason));
            assert_eq!(app.sweep().await, 1);
            let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
            let ends = [&last, &waiting].map(|published| {
                let of_event = deliveries.iter().find(|delivery| delivery.event == published.event);
                of_event.unwrap().end_reason.unwrap()
            });
            assert_eq!(ends, [end, EndReason::SubscriptionDisabled]);
            assert_eq!(app.client.publish(an_event()).await.unwrap().delivery_count, 0);
            app.client.subscriptions().enable(&name).await.unwrap();
            assert_eq!(app.client.publish(an_event()).await.unwrap().delivery_count, 1);
            app.stop().await;
        }
    }
}
