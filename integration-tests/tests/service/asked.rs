//! What events can ask for: order, a time before which and one after which nothing is sent, and priority.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use postrider_integration_tests::{Receiver, Request, TestApp, an_event, on_both_databases, send_http1};
use postrider_sdk::{
    Event, Reason,
    model::{Delivery, DeliveryState, EndReason, Priority},
};

use crate::{
    retry::{now, the_delivery},
    ways::Way,
};

const TICK: Duration = Duration::from_micros(1);

/// An event of a key, with its number.
fn nth(key: &str, number: usize) -> Event {
    an_event().ordering_key(key).data(format!(r#""{key} {number}""#), "application/json")
}

/// What arrived, as the data says.
fn data(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| request.envelope()["data"].as_str().unwrap().to_owned()).collect()
}

fn ended(delivery: &Delivery) -> (DeliveryState, Option<EndReason>) {
    (delivery.state, delivery.end_reason)
}

async fn metrics(app: &TestApp) -> String {
    let response = send_http1(app.http, http::Request::get("/metrics").body(Bytes::new()).unwrap()).await;
    String::from_utf8(response.into_body().to_vec()).unwrap()
}

const EXPIRED: (DeliveryState, Option<EndReason>) = (DeliveryState::Failed, Some(EndReason::Expired));

on_both_databases! {
    async fn events_of_one_key_arrive_in_order_however_they_are_published(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let mut expected = Vec::new();
        for (number, way) in Way::ALL.into_iter().enumerate() {
            let numbers = number * 10..(number + 1) * 10;
            expected.extend(numbers.clone().map(|number| format!("k {number}")));
            for published in way.publish_all(&app.client, numbers.map(|number| nth("k", number))).await {
                published.unwrap();
            }
            app.run_until_idle().await;
        }
        assert_eq!(data(&receiver.requests()), expected);
        app.stop().await;
    }

    async fn a_failing_event_holds_up_its_own_key_until_it_succeeds(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        for event in [nth("bad", 0), nth("bad", 1), nth("good", 0), nth("good", 1), an_event()] {
            app.client.publish(event).await.unwrap();
            // The first one has failed before the others come.
            app.drain().await;
        }
        app.run_until_idle().await;
        let arrived = |key: &str| {
            let requests = receiver.requests();
            let of_key = |request: &&Request| {
                request.envelope()["data"].as_str().is_some_and(|data| data.starts_with(key))
            };
            data(&requests.iter().filter(of_key).cloned().collect::<Vec<_>>())
        };
        assert_eq!(arrived("bad"), ["bad 0"]);
        assert_eq!(arrived("good"), ["good 0", "good 1"]);
        assert_eq!(receiver.requests().len(), 4);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(arrived("bad"), ["bad 0", "bad 0", "bad 1"]);
        app.stop().await;
    }

    async fn one_that_waits_behind_its_key_has_no_time_and_is_released_by_a_cancellation(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        app.client.publish(nth("k", 0)).await.unwrap();
        app.drain().await;
        let first = the_delivery(&app).await;
        app.client.publish(nth("k", 1)).await.unwrap();
        let second = the_delivery(&app).await;
        assert_eq!((second.state, second.due_at, second.attempt_count), (DeliveryState::Pending, None, 0));
        let refused = app.client.deliveries().redeliver(&second.name).await.unwrap_err();
        assert_eq!(refused.reason(), Some(&Reason::WrongState));
        receiver.always(204);
        app.client.deliveries().cancel(&first.name).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(data(&receiver.requests()), ["k 0", "k 1"]);
        app.stop().await;
    }

    async fn order_outlives_a_restart(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        for number in 0..5 {
            app.client.publish(nth("k", number)).await.unwrap();
        }
        app.drain().await;
        let next = app.another();
        app.stop().await;
        let app = next.start().await;
        app.client.publish(nth("k", 5)).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(data(&receiver.requests()), ["k 0"]);
        receiver.always(204);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!(data(&receiver.requests()), ["k 0", "k 0", "k 1", "k 2", "k 3", "k 4", "k 5"]);
        app.stop().await;
    }

    async fn order_is_kept_across_servers(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::answering([204, 500, 204, 503, 204, 500, 500]).await;
        one.subscribe(&receiver).await;
        for number in 0..20 {
            let (here, there) = if number % 3 == 0 { (&one, &two) } else { (&two, &one) };
            here.client.publish(nth("a", number)).await.unwrap();
            there.client.publish(nth("b", number)).await.unwrap();
            tokio::join!(one.tick(), two.tick());
        }
        for _ in 0..20 {
            tokio::join!(one.run_until_idle(), two.run_until_idle());
            one.advance(Duration::from_mins(5));
        }
        // Attempts that failed are there twice, in their place.
        let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for number in data(&receiver.requests()) {
            let of_key = arrived.entry(number[..1].to_owned()).or_default();
            if of_key.last() != Some(&number) {
                of_key.push(number);
            }
        }
        for key in ["a", "b"] {
            let expected: Vec<_> = (0..20).map(|number| format!("{key} {number}")).collect();
            assert_eq!(arrived[key], expected);
        }
        one.stop().await;
        two.stop().await;
    }

    async fn an_event_is_delivered_at_its_time(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let day = Duration::from_hours(24);
        let at = now(&app) + day;
        app.client.publish(an_event().deliver_at(at)).await.unwrap();
        let delivery = the_delivery(&app).await;
        assert_eq!((delivery.due_at, delivery.attempt_count), (Some(at), 0));
        app.advance(day.checked_sub(TICK).unwrap());
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 0);
        app.advance(TICK);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn an_event_whose_time_is_past_is_delivered_at_once(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event().deliver_at(now(&app) - Duration::from_hours(1))).await.unwrap();
        app.drain().await;
        assert_eq!(receiver.requests().len(), 1, "without a look at the database");
        app.stop().await;
    }

    async fn an_event_that_would_be_retried_too_late_has_expired(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        // The second retry would come after 5 s and 5 min.
        let expires = now(&app) + Duration::from_mins(5);
        app.client.publish(an_event().expire_at(expires)).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Pending);
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let delivery = the_delivery(&app).await;
        assert_eq!((ended(&delivery), delivery.attempt_count), (EXPIRED, 2));
        assert_eq!(delivery.ended_at, Some(now(&app)));
        app.stop().await;
    }

    async fn an_event_that_waited_too_long_is_not_sent(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        app.client.subscriptions().pause(&name).await.unwrap();
        let minute = Duration::from_mins(1);
        for minutes in 1..=2 {
            app.client.publish(an_event().expire_at(now(&app) + minute * minutes)).await.unwrap();
        }
        app.advance(minute);
        assert_eq!(app.expire().await, 1, "also while the subscription is paused");
        app.advance(minute);
        app.client.subscriptions().resume(&name).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 0);
        let metrics = metrics(&app).await;
        assert!(metrics.contains("\npostrider_deliveries_expired_total 2\n"), "{metrics}");
        for delivery in app.client.deliveries().list().items().collect().await.unwrap() {
            assert_eq!((ended(&delivery), delivery.attempt_count), (EXPIRED, 0));
        }
        let refused = app.client.deliveries().redeliver(&the_delivery(&app).await.name).await.unwrap_err();
        assert_eq!(refused.reason(), Some(&Reason::WrongState));
        app.stop().await;
    }

    async fn a_backlog_goes_out_by_priority(kind: Kind) {
        let room_for_one = |config: &mut postrider_server::config::Config| {
            config.dispatch.max_in_flight = 1;
            config.dispatch.max_in_flight_per_tenant = 1;
            config.dispatch.max_in_flight_per_subscription = 1;
        };
        let app = TestApp::builder(kind).await.with(room_for_one).start().await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        app.client.subscriptions().pause(&name).await.unwrap();
        let names = ["low", "normal", "high"];
        for (name, priority) in names.into_iter().zip([Priority::Low, Priority::Normal, Priority::High]) {
            let event = an_event().data(format!(r#""{name}""#), "application/json").priority(priority);
            let event = app.client.publish(event).await.unwrap().event;
            assert_eq!(app.client.events().get(&event).await.unwrap().priority, priority);
        }
        app.client.subscriptions().resume(&name).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(data(&receiver.requests()), ["high", "normal", "low"]);
        app.stop().await;
    }

    async fn an_event_shows_what_it_asked_for(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (deliver_at, expire_at) = (now(&app) + Duration::from_hours(1), now(&app) + Duration::from_hours(2));
        for way in Way::ALL {
            let event = an_event()
                .ordering_key("order 17, ä")
                .deliver_at(deliver_at)
                .expire_at(expire_at)
                .priority(Priority::Low);
            let name = way.publish(&app.client, event).await.unwrap().event;
            let event = app.client.events().get(&name).await.unwrap();
            assert_eq!(event.ordering_key.as_deref(), Some("order 17, ä"));
            assert_eq!((event.deliver_at, event.expire_at), (Some(deliver_at), Some(expire_at)));
            assert_eq!(event.priority, Priority::Low);
            let listed = app.client.events().list().page_size(1).page().await.unwrap().items.remove(0);
            assert_eq!((listed.ordering_key, listed.priority), (event.ordering_key, event.priority));
        }
        let plain = app.client.publish(an_event()).await.unwrap().event;
        let plain = app.client.events().get(&plain).await.unwrap();
        assert_eq!((plain.ordering_key, plain.deliver_at, plain.expire_at), (None, None, None));
        assert_eq!(plain.priority, Priority::Normal);
        app.stop().await;
    }

    async fn a_request_id_stands_for_what_was_asked_for_too(kind: Kind) {
        let app = TestApp::start(kind).await;
        let at = now(&app) + Duration::from_hours(1);
        let event = || an_event().request_id("r").ordering_key("k").deliver_at(at);
        app.client.publish(event()).await.unwrap();
        assert!(app.client.publish(event()).await.unwrap().duplicate);
        // Also when what was in the future is past.
        app.advance(Duration::from_hours(2));
        assert!(app.client.publish(event()).await.unwrap().duplicate);
        for other in [
            event().ordering_key("l"),
            event().deliver_at(at + TICK),
            event().expire_at(at + Duration::from_hours(24)),
            event().priority(Priority::High),
        ] {
            let refused = app.client.publish(other).await.unwrap_err();
            assert_eq!(refused.reason(), Some(&Reason::RequestIdReused));
        }
        app.stop().await;
    }
}
