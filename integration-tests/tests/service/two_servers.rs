//! Several servers on one database, at once and one after another.

use std::{sync::Arc, time::Duration};

use postrider_integration_tests::{Builder, Kind, Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Event, Subscription,
    model::{DeliveryState, SubscriptionState},
};
use postrider_server::clock::ManualClock;

on_both_databases! {
    async fn a_change_of_subscriptions_counts_at_once_on_every_server(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        let subscriptions = one.client.subscriptions();
        // Both servers have read the tenant's subscriptions and keep what they have read.
        let publish = async |event_type: &str| {
            let here = one.client.publish(Event::new(event_type)).await.unwrap().delivery_count;
            let there = two.client.publish(Event::new(event_type)).await.unwrap().delivery_count;
            assert_eq!(here, there);
            there
        };
        assert_eq!(publish("order.created").await, 0);

        let new = Subscription::to(receiver.url()).event_types(["order.*"]).id("orders");
        subscriptions.create(new).await.unwrap();
        assert_eq!(two.client.publish(Event::new("order.created")).await.unwrap().delivery_count, 1);
        assert_eq!(publish("order.created").await, 1);

        subscriptions.update("orders").event_types(["invoice.*"]).await.unwrap();
        assert_eq!(two.client.publish(Event::new("order.created")).await.unwrap().delivery_count, 0);
        assert_eq!(publish("invoice.paid").await, 1);

        subscriptions.delete("orders").await.unwrap();
        assert_eq!(two.client.publish(Event::new("invoice.paid")).await.unwrap().delivery_count, 0);
        one.stop().await;
        two.stop().await;
    }

    async fn a_pause_counts_at_once_on_every_server(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        let name = one.subscribe(&receiver).await.subscription.name;
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        one.client.subscriptions().pause(&name).await.unwrap();
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        one.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        two.client.subscriptions().resume(&name).await.unwrap();
        // Batches of one instant are a microsecond apart.
        one.advance(Duration::from_millis(1));
        // Whoever looks first sends it.
        one.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        one.stop().await;
        two.stop().await;
    }

    async fn a_new_target_and_a_new_secret_count_at_once_on_every_server(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        let name = one.subscribe(&old).await.subscription.name;
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        one.client.subscriptions().update(&name).target_url(new.url()).await.unwrap();
        one.client.subscriptions().rotate_secret(&name).await.unwrap();
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
        assert_eq!(new.requests()[0].header("webhook-signature").split(' ').count(), 2);
        one.stop().await;
        two.stop().await;
    }

    async fn a_subscription_that_one_server_disabled_is_disabled_on_the_other(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::answering([204, 410]).await;
        let name = one.subscribe(&receiver).await.subscription.name;
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        one.client.publish(an_event()).await.unwrap();
        one.run_until_idle().await;
        assert_eq!(two.client.publish(an_event()).await.unwrap().delivery_count, 0);
        two.client.subscriptions().enable(&name).await.unwrap();
        assert_eq!(one.client.publish(an_event()).await.unwrap().delivery_count, 1);
        one.stop().await;
        two.stop().await;
    }

    async fn what_one_server_tells_of_the_other_tells_too(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        let created = one.subscribe(&receiver).await;
        let event = one.client.publish(an_event().request_id("order-17")).await.unwrap();
        one.run_until_idle().await;
        let subscriptions = two.client.subscriptions();
        assert_eq!(subscriptions.get(&created.subscription.name).await.unwrap(), created.subscription);
        assert_eq!(subscriptions.secret(&created.subscription.name).await.unwrap(), created.secret);
        assert_eq!(two.client.events().get(&event.event).await.unwrap().created_at, event.created_at);
        let deliveries = two.client.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries[0].state, DeliveryState::Succeeded);
        assert_eq!(
            two.client.deliveries().attempts(&deliveries[0].name).page().await.unwrap().items.len(),
            1
        );
        let again = two.client.publish(an_event().request_id("order-17")).await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.event, event.event);
        one.stop().await;
        two.stop().await;
    }

    async fn page_tokens_of_one_server_are_good_on_the_other(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        for _ in 0..3 {
            one.client.publish(an_event()).await.unwrap();
        }
        let first = one.client.events().list().page_size(2).page().await.unwrap();
        let rest =
            two.client.events().list().page_token(first.next_page_token.unwrap()).page().await.unwrap();
        assert_eq!((first.items.len(), rest.items.len(), rest.next_page_token), (2, 1, None));
        one.stop().await;
        two.stop().await;
    }

    async fn two_servers_share_the_work_and_do_it_once(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        let name = one.subscribe(&receiver).await.subscription.name;
        one.client.subscriptions().pause(&name).await.unwrap();
        let events = (0..200).map(|_| an_event());
        for published in one.client.publish_batch(events).await {
            assert_eq!(published.unwrap().delivery_count, 1);
        }
        one.client.subscriptions().resume(&name).await.unwrap();
        // Batches of one instant are a microsecond apart.
        one.advance(Duration::from_millis(1));
        tokio::join!(one.run_until_idle(), two.run_until_idle());
        let mut sent = receiver.webhook_ids();
        sent.sort_unstable();
        sent.dedup();
        assert_eq!((sent.len(), receiver.requests().len()), (200, 200));
        one.stop().await;
        two.stop().await;
    }

    async fn a_server_that_is_started_anew_goes_on_where_it_was(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([503, 503]).await;
        let created = app.subscribe(&receiver).await;
        let first = app.client.publish(an_event().request_id("order-17")).await.unwrap();
        app.run_until_idle().await;
        let paused = Subscription::to(receiver.url()).event_types(["**"]).id("paused");
        app.client.subscriptions().create(paused).await.unwrap();
        app.client.subscriptions().pause("paused").await.unwrap();
        let second = app.client.publish(an_event()).await.unwrap();
        let next = app.another();
        app.stop().await;

        let app = next.start().await;
        let subscriptions = app.client.subscriptions();
        assert_eq!(subscriptions.get(&created.subscription.name).await.unwrap(), created.subscription);
        assert_eq!(subscriptions.secret(&created.subscription.name).await.unwrap(), created.secret);
        assert_eq!(subscriptions.get("paused").await.unwrap().state, SubscriptionState::Paused);
        assert!(app.client.publish(an_event().request_id("order-17")).await.unwrap().duplicate);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2, "nothing more is due");
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let mut sent = receiver.webhook_ids().split_off(2);
        sent.sort_unstable();
        assert_eq!(sent, [first.event_id(), second.event_id()]);
        app.client.subscriptions().resume("paused").await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 5);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_key_does_not_start_on_a_database_that_it_could_not_read() {
    let app = TestApp::start(postrider_integration_tests::Kind::Postgres).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = postrider_server::config::Config::default();
    config.database = app.database.config();
    config.data.dir = folder.path().to_owned();
    config.grpc.listen.set_port(0);
    config.http.listen.set_port(0);
    let world = postrider_server::app::World::bind(&config, app.clock.clone()).await.unwrap();
    let refused = postrider_server::app::App::build(config, world).await.err().unwrap();
    assert!(refused.to_string().contains("encryption key"), "{refused}");
    app.stop().await;
}

/// The clocks of the machines are an hour apart; a lease is a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_judged_by_the_databases_clock_whatever_the_nodes_clocks_say() {
    let behind = TestApp::builder(Kind::Postgres).await.telling_time().start().await;
    let ahead = Arc::new(ManualClock::at(behind.now() + Duration::from_hours(1)));
    let ahead = Builder::on(Arc::clone(&behind.database), ahead).telling_time().start().await;
    let receiver = Receiver::start().await;
    let gate = receiver.gate();
    behind.subscribe(&receiver).await;
    for (sender, other) in [(&behind, &ahead), (&ahead, &behind)] {
        sender.client.publish(an_event()).await.unwrap();
        assert_eq!(other.tick().await, 0, "it is being sent by the other one");
    }
    receiver.arrived(2).await;
    gate.open();
    behind.drain().await;
    ahead.drain().await;
    for delivery in behind.client.deliveries().list().items().collect().await.unwrap() {
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 1));
    }
    behind.stop().await;
    ahead.stop().await;
}
