//! Receivers that fail, or want less than there is: what is sent to them, and what the API says of it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases, send_http1};
use postrider_sdk::{
    Client, Subscription,
    model::{Delivery, DeliveryState, Health, RateLimit},
};

use crate::retry::now;

const SECOND: Duration = Duration::from_secs(1);

/// Publishes so many events, one after another, and waits for what is sent at once.
async fn publish(app: &TestApp, client: &Client, events: usize) {
    for _ in 0..events {
        client.publish(an_event()).await.unwrap();
        app.drain().await;
    }
}

/// Has ten attempts fail, which is when the breaker opens.
async fn fail_ten_times(app: &TestApp) {
    publish(app, &app.client, 10).await;
}

async fn health(app: &TestApp, name: &str) -> Health {
    app.client.subscriptions().get(name).await.unwrap().health
}

async fn deliveries(app: &TestApp) -> Vec<Delivery> {
    app.client.deliveries().list().items().collect().await.unwrap()
}

/// Takes over and finishes what is due, again and again; returns how many were under way together each time.
async fn rounds(app: &TestApp) -> Vec<usize> {
    let mut rounds = Vec::new();
    loop {
        match app.tick().await {
            0 => return rounds,
            claimed => rounds.push(claimed),
        }
        app.drain().await;
    }
}

#[track_caller]
fn reason(health: &Health) -> &str {
    match health {
        Health::Blocked { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

on_both_databases! {
    async fn a_receiver_that_fails_is_left_alone_and_asked_now_and_then(kind: Kind) {
        let app = TestApp::builder(kind).await.with(|config| config.dispatch.max_in_flight_per_subscription = 8).start().await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        let created = app.subscribe(&receiver).await.subscription;
        assert_eq!(created.health, Health::Healthy);
        publish(&app, &app.client, 9).await;
        assert_eq!(health(&app, &created.name).await, Health::Healthy);
        publish(&app, &app.client, 1).await;
        match health(&app, &created.name).await {
            Health::Blocked { failing_since, reason, next_probe_at, .. } => {
                assert_eq!(failing_since, Some(now(&app)));
                assert_eq!(reason, "10 attempts in a row failed; the last one: status 500");
                assert_eq!(next_probe_at, Some(now(&app) + 5 * SECOND));
            }
            other => panic!("{other:?}"),
        }
        let after = app.client.subscriptions().get(&created.name).await.unwrap();
        assert_eq!((after.etag, after.updated_at), (created.etag, created.updated_at));

        // What waits is not touched: it is neither sent nor does it use up its schedule.
        publish(&app, &app.client, 30).await;
        app.advance(Duration::from_micros(4_999_999));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10);
        assert_eq!(deliveries(&app).await.iter().filter(|delivery| delivery.attempt_count == 0).count(), 30);

        // One probe, a longer pause, one probe.
        app.advance(Duration::from_micros(1));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 11);
        assert_eq!(reason(&health(&app, &created.name).await), "the probe failed: status 500");
        app.advance(Duration::from_micros(9_999_999));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 11);
        receiver.always(204);
        app.advance(Duration::from_micros(1));
        assert_eq!(app.tick().await, 1);
        app.drain().await;
        assert_eq!(health(&app, &created.name).await, Health::Healthy);

        // The backlog goes out slowly at first and never faster than the limit.
        let rounds = rounds(&app).await;
        assert_eq!(rounds[..2], [1, 2]);
        assert!(rounds.is_sorted() || rounds[..rounds.len() - 1].is_sorted(), "{rounds:?}");
        assert!(rounds.iter().all(|round| *round <= 8), "{rounds:?}");
        app.advance(Duration::from_hours(1));
        app.run_until_idle().await;
        assert!(deliveries(&app).await.iter().all(|delivery| delivery.state == DeliveryState::Succeeded));
        app.stop().await;
    }

    async fn a_receiver_that_is_not_there_is_found_again(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let address = receiver.address();
        let name = app.subscribe(&receiver).await.subscription.name;
        drop(receiver);
        fail_ten_times(&app).await;
        let blocked = health(&app, &name).await;
        assert_eq!(reason(&blocked), "10 attempts in a row failed; the last one: the connection could not be opened");
        let receiver = Receiver::on(address).await;
        app.advance(5 * SECOND);
        app.run_until_idle().await;
        assert_eq!(health(&app, &name).await, Health::Healthy);
        assert_eq!(receiver.requests().len(), 10);
        app.stop().await;
    }

    async fn what_a_receiver_can_bear_at_once_outlives_a_restart(kind: Kind) {
        let app = TestApp::builder(kind).await.with(|config| config.dispatch.max_in_flight_per_subscription = 8);
        let app = app.start().await;
        let receiver = Receiver::answering([429]).await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let before = app.client.subscriptions().get(&name).await.unwrap();
        publish(&app, &app.client, 1).await;
        let next = app.another();
        app.stop().await;

        let app = next.start().await;
        assert_eq!(app.client.subscriptions().get(&name).await.unwrap(), before, "the API does not show it");
        app.tick().await;
        let gate = receiver.gate();
        for _ in 0..20 {
            app.client.publish(an_event()).await.unwrap();
        }
        receiver.arrived(1 + 4).await;
        assert_eq!(app.tick().await, 0);
        assert_eq!(receiver.requests().len(), 1 + 4, "half of the limit, as it was halved once");
        gate.open();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1 + 20);
        app.stop().await;
    }

    async fn a_block_outlives_a_restart(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(503);
        let name = app.subscribe(&receiver).await.subscription.name;
        fail_ten_times(&app).await;
        let blocked = health(&app, &name).await;
        let next = app.another();
        app.stop().await;
        let app = next.start().await;
        assert_eq!(health(&app, &name).await, blocked);
        publish(&app, &app.client, 3).await;
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10);
        app.advance(5 * SECOND);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 11);
        app.stop().await;
    }

    async fn what_one_server_finds_counts_for_the_others(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        let name = one.subscribe(&receiver).await.subscription.name;
        fail_ten_times(&one).await;
        one.advance(SECOND);
        two.run_until_idle().await;
        publish(&two, &two.client, 5).await;
        two.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10, "neither at once nor by a claim");
        // The probe of the one ends it for the other.
        receiver.always(204);
        let gate = receiver.gate();
        one.advance(4 * SECOND);
        assert_eq!(one.tick().await, 1);
        assert_eq!(two.tick().await, 0, "there is a probe under way");
        gate.open();
        one.drain().await;
        assert_eq!(health(&two, &name).await, Health::Healthy);
        one.advance(SECOND);
        assert_eq!(two.tick().await, 1, "slowly at first");
        two.run_until_idle().await;
        one.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10 + 15);
        one.stop().await;
        two.stop().await;
    }

    async fn a_person_who_says_that_it_is_mended_is_believed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        let name = app.subscribe(&receiver).await.subscription.name;
        fail_ten_times(&app).await;
        publish(&app, &app.client, 5).await;
        receiver.always(204);
        assert_eq!(app.client.subscriptions().resume(&name).await.unwrap().health, Health::Healthy);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 15, "what waited was sent; what failed has its schedule");
        app.stop().await;
    }

    async fn a_subscription_gets_no_more_a_second_than_it_wants(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let limited = Subscription::to(receiver.url()).event_types(["**"]).rate_limit(RateLimit::per_second(10.0).burst(2));
        let created = app.client.subscriptions().create(limited).await.unwrap().subscription;
        assert_eq!(created.rate_limit, Some(RateLimit::per_second(10.0).burst(2)));
        publish(&app, &app.client, 10).await;
        assert_eq!(receiver.requests().len(), 0, "nothing is sent past the claim");
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        for nth in 1..=5 {
            app.advance(Duration::from_millis(100));
            app.run_until_idle().await;
            assert_eq!(receiver.requests().len(), 2 + nth);
        }
        let subscriptions = app.client.subscriptions();
        let updated = subscriptions.update(&created.name).rate_limit(None).await.unwrap();
        assert_eq!(updated.rate_limit, None);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10);
        publish(&app, &app.client, 1).await;
        assert_eq!(receiver.requests().len(), 11, "at once");
        app.stop().await;
    }

    async fn a_subscription_gets_no_more_at_once_than_it_wants(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        let limited = Subscription::to(receiver.url()).event_types(["**"]).max_in_flight(2).id("limited");
        let created = app.client.subscriptions().create(limited).await.unwrap().subscription;
        assert_eq!(created.max_in_flight, Some(2));
        for _ in 0..6 {
            app.client.publish(an_event()).await.unwrap();
        }
        assert_eq!(app.tick().await, 0, "two were sent at once, and that is all");
        receiver.arrived(2).await;
        let updated = app.client.subscriptions().update("limited").max_in_flight(5).await.unwrap();
        assert_eq!(updated.max_in_flight, Some(5));
        assert_eq!(app.tick().await, 3);
        receiver.arrived(5).await;
        assert_eq!(app.client.subscriptions().update("limited").max_in_flight(None).await.unwrap().max_in_flight, None);
        gate.open();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 6);
        app.stop().await;
    }

    async fn a_tenant_at_its_limit_leaves_room_for_the_others(kind: Kind) {
        let app = TestApp::builder(kind)
            .await
            .with(|config| {
                config.dispatch.max_in_flight = 5;
                config.dispatch.max_in_flight_per_tenant = 3;
                config.dispatch.max_in_flight_per_subscription = 3;
            })
            .start()
            .await;
        let (slow, slow_too, quick) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        let gates = [slow.gate(), slow_too.gate()];
        app.subscribe(&slow).await;
        app.subscribe(&slow_too).await;
        let quiet = app.client.tenant("quiet");
        quiet.subscriptions().create(Subscription::to(quick.url()).event_types(["**"])).await.unwrap();
        for _ in 0..5 {
            app.client.publish(an_event()).await.unwrap();
        }
        assert_eq!(app.tick().await, 0, "three of ten are under way, and that is all");
        for nth in 1..=2 {
            quiet.publish(an_event()).await.unwrap();
            quick.arrived(nth).await;
        }
        for gate in &gates {
            gate.open();
        }
        app.run_until_idle().await;
        assert_eq!(slow.requests().len() + slow_too.requests().len(), 10);
        app.stop().await;
    }

    async fn what_becomes_of_receivers_is_counted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        fail_ten_times(&app).await;
        app.run_until_idle().await;
        let request = Request::get("/metrics").body(Bytes::new()).unwrap();
        let answer = send_http1(app.http, request).await.into_body().to_vec();
        let metrics = String::from_utf8(answer).unwrap();
        for line in [
            "postrider_breaker_openings_total 1",
            "postrider_subscriptions_blocked 1",
            "postrider_deliveries_held 0",
            "postrider_claims_throttled_total 0",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
        }
        app.stop().await;
    }
}
