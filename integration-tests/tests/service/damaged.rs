//! Rows are missing or damaged: whoever looks is told, and the others get their events.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::model::{DeliveryState, EndReason};
use sea_orm::ConnectionTrait;

use crate::retry::the_delivery;

async fn execute(app: &TestApp, sql: &str) {
    app.database.connect().await.execute_unprepared(sql).await.unwrap();
}

on_both_databases! {
    async fn a_delivery_that_nobody_can_read_is_shown_with_its_reason_and_counted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        execute(&app, "DELETE FROM payloads").await;
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let delivery = the_delivery(&app).await;
        assert_eq!(
            (delivery.state, delivery.end_reason, delivery.attempt_count),
            (DeliveryState::Failed, Some(EndReason::Unreadable), 1)
        );
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(app.metric("postrider_deliveries_unreadable_total").await, "1");
        app.stop().await;
    }

    async fn what_waits_for_a_subscription_that_is_missing_is_shown_and_counted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        execute(&app, "DELETE FROM subscriptions").await;
        execute(&app, "DELETE FROM events").await;
        assert_eq!(app.end_orphans().await, 1);
        let delivery = the_delivery(&app).await;
        assert_eq!(delivery.end_reason, Some(EndReason::Unreadable));
        assert!(delivery.subscription.starts_with("tenants/default/subscriptions/sub_"));
        assert_eq!(app.metric("postrider_deliveries_unreadable_total").await, "1");
        app.stop().await;
    }

    async fn events_that_a_damaged_subscription_may_miss_are_counted_and_the_others_get_them(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (missing_out, receiver) = (Receiver::start().await, Receiver::start().await);
        let damaged = app.subscribe(&missing_out).await.subscription.name;
        let id = damaged.rsplit('/').next().unwrap();
        execute(&app, &format!("UPDATE subscriptions SET event_types = '[' WHERE id = '{id}'")).await;
        app.subscribe(&receiver).await;
        for request_id in ["a", "b", "b"] {
            let published = app.client.publish(an_event().request_id(request_id)).await.unwrap();
            assert_eq!(published.delivery_count, 1);
        }
        app.run_until_idle().await;
        assert_eq!((missing_out.requests().len(), receiver.requests().len()), (0, 2));
        assert_eq!(app.metric("postrider_subscriptions_left_out_total").await, "2");
        app.stop().await;
    }
}
