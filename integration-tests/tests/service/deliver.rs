//! From a publish to the callback.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::model::DeliveryState;

on_both_databases! {
    async fn an_event_is_delivered_to_whoever_subscribed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let published = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.webhook_ids(), [published.event_id()]);
        let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries.len(), 1);
        assert_eq!(deliveries[0].state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn a_delivery_that_failed_is_retried_on_schedule(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([503, 500]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        app.advance(Duration::from_mins(5) - Duration::from_micros(1));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2, "it is not due yet");
        app.advance(Duration::from_micros(1));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 3);
        app.stop().await;
    }
}
