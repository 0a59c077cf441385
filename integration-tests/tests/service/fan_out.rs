//! One event for more subscriptions than a publish serves at once: the rest follows, on whichever server.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{Client, Subscription, model::DeliveryState};
use postrider_server::readiness::NotReady;

/// How many subscriptions there are: the first 500 get their deliveries with the event.
const MANY: usize = 620;

async fn subscribe_many(client: &Client, receiver: &Receiver) {
    let subscriptions = client.subscriptions();
    let create = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let target = format!("{}?sub={number}", receiver.url());
            let wanted = Subscription::to(target).event_types(["**"]).id(format!("sub-{number}"));
            subscriptions.create(wanted).await.unwrap();
        }
    };
    let half = MANY / 2;
    tokio::join!(Box::pin(create(0..half)), Box::pin(create(half..MANY)));
}

on_both_databases! {
    async fn an_event_that_very_many_want_reaches_them_all(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe_many(&app.client, &receiver).await;
        let event = an_event().request_id("r");
        let published = app.client.publish(event.clone()).await.unwrap();
        assert_eq!(published.delivery_count, 620);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 500);

        // Between the parts others are served, and a repetition changes nothing.
        let again = app.client.publish(event).await.unwrap();
        assert_eq!((again.event_id(), again.delivery_count), (published.event_id(), 620));
        let other = app.client.tenant("other");
        assert_eq!(other.publish(an_event()).await.unwrap().delivery_count, 0);

        assert_eq!(app.fan_out().await, Some(120));
        assert_eq!(app.fan_out().await, None);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 620);
        let deliveries: Vec<_> = app.client.deliveries().list().items().collect().await.unwrap();
        assert!(deliveries.iter().all(|delivery| delivery.state == DeliveryState::Succeeded));
        let reached: HashSet<_> = deliveries.iter().map(|delivery| delivery.subscription.clone()).collect();
        assert_eq!((deliveries.len(), reached.len()), (620, 620));
        app.stop().await;
    }

    async fn events_with_one_ordering_key_reach_everybody_in_their_order(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe_many(&app.client, &receiver).await;
        let publish = async || app.client.publish(an_event().ordering_key("k")).await.unwrap();
        let first = publish().await;
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 500);
        // The last 120 have not got the first event yet.
        let second = publish().await;
        assert_eq!(second.delivery_count, 620);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 500, "nobody gets the second event");

        let mut made = Vec::new();
        while let Some(deliveries) = app.fan_out().await {
            made.push(deliveries);
            app.run_until_idle().await;
        }
        assert_eq!(made, [120, 500, 120]);
        let third = publish().await;
        while app.fan_out().await.is_some() {}
        app.run_until_idle().await;
        let mut received: HashMap<String, Vec<String>> = HashMap::new();
        for request in receiver.requests() {
            received.entry(request.path.clone()).or_default().push(request.webhook_id().to_owned());
        }
        assert_eq!(received.len(), MANY);
        let in_order = [first, second, third].map(|published| published.event_id().to_owned());
        for (subscription, events) in received {
            assert_eq!(events, in_order, "{subscription}");
        }
        app.stop().await;
    }

    async fn what_a_server_leaves_when_it_stops_is_fanned_out_by_another(kind: Kind) {
        let one = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe_many(&one.client, &receiver).await;
        one.client.publish(an_event()).await.unwrap();
        let next = one.another();
        one.stop().await;
        let two = next.start().await;
        assert_eq!(two.fan_out().await, Some(120));
        two.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 620);
        two.stop().await;
    }

    async fn a_server_that_fans_nothing_out_is_not_ready(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe_many(&app.client, &receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let mut looks = Vec::new();
        for _ in 0..8 {
            app.advance(Duration::from_secs(4));
            app.tick().await;
            looks.push(app.look().await);
        }
        assert_eq!(looks[0], Ok(()));
        assert_eq!(looks.last(), Some(&Err(NotReady::FanningOut)));
        assert_eq!(app.metric("postrider_fan_out_parts").await, "1");
        assert_eq!(app.metric("postrider_oldest_due_seconds").await, "32.0");

        assert_eq!(app.fan_out().await, Some(120));
        app.run_until_idle().await;
        app.advance(Duration::from_secs(4));
        app.tick().await;
        assert_eq!(app.look().await, Ok(()));
        assert_eq!(app.metric("postrider_fan_out_parts").await, "0");
        app.stop().await;
    }
}
