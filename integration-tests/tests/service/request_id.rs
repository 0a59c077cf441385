//! A publish that is repeated with its `request_id` is one event.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::Reason;

use crate::{retry::now, ways::Way};

const SECOND: Duration = Duration::from_secs(1);

on_both_databases! {
    async fn a_publish_that_is_repeated_is_one_event_whichever_way_it_comes(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        for first_way in Way::ALL {
            let event = || an_event().request_id(format!("order-17-{first_way:?}"));
            let first = first_way.publish(&app.client, event()).await.unwrap();
            assert!(!first.duplicate);
            assert_eq!(first.delivery_count, 1);
            app.advance(std::time::Duration::from_secs(1));
            for way in Way::ALL {
                let again = way.publish(&app.client, event()).await.unwrap();
                assert!(again.duplicate, "{first_way:?}, then {way:?}");
                assert_eq!(again.event, first.event);
                assert_eq!(again.created_at, first.created_at);
                assert_eq!(again.delivery_count, 1);
            }
        }
        app.run_until_idle().await;
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 3);
        assert_eq!(receiver.requests().len(), 3);
        app.stop().await;
    }

    async fn a_request_id_that_comes_with_another_event_is_refused(kind: Kind) {
        let app = TestApp::start(kind).await;
        let when = time::OffsetDateTime::UNIX_EPOCH;
        let event = || an_event().request_id("order-17");
        app.client.publish(event()).await.unwrap();
        let others = [
            event().data("{}", "application/json"),
            event().data(r#"{"order": 1} "#, "application/json"),
            event().data(r#"{"order": 1}"#, "text/json"),
            event().source("shop"),
            event().subject("order/1"),
            event().time(when),
            event().attribute("region", "eu"),
        ];
        for way in Way::ALL {
            for other in &others {
                let error = way.publish(&app.client, other.clone()).await.unwrap_err();
                assert!(error.is_already_exists(), "{way:?}: {other:?}: {error}");
                assert_eq!(error.reason(), Some(&Reason::RequestIdReused));
            }
        }
        let events = app.client.events().list().request_id("order-17").items().collect().await.unwrap();
        assert_eq!(events.len(), 1);
        app.stop().await;
    }

    async fn a_publish_that_is_repeated_after_its_times_have_passed_is_the_first_event_too(kind: Kind) {
        let app = TestApp::start(kind).await;
        let begin = now(&app);
        let event = |way: Way| {
            let request_id = format!("order-17-{way:?}");
            an_event().request_id(request_id).deliver_at(begin + SECOND).expire_at(begin + SECOND * 2)
        };
        let mut first = Vec::new();
        for way in Way::ALL {
            first.push(way.publish(&app.client, event(way)).await.unwrap());
        }
        app.advance(Duration::from_hours(1));
        for (first, first_way) in first.iter().zip(Way::ALL) {
            for way in Way::ALL {
                let again = way.publish(&app.client, event(first_way)).await.unwrap();
                assert!(again.duplicate, "{first_way:?}, then {way:?}");
                assert_eq!((&again.event, again.created_at), (&first.event, first.created_at));
                let other = event(first_way).subject("another");
                let reused = way.publish(&app.client, other).await.unwrap_err();
                assert_eq!(reused.reason(), Some(&Reason::RequestIdReused), "{way:?}: {reused}");
            }
        }
        for way in Way::ALL {
            for new in [event(way).request_id("new"), an_event().expire_at(begin)] {
                let refused = way.publish(&app.client, new).await.unwrap_err();
                let fields: Vec<_> = refused.field_violations().iter().map(|violation| violation.field.as_str()).collect();
                assert_eq!(fields, ["event.expire_time"], "{way:?}: {refused}");
            }
        }
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 3);
        app.stop().await;
    }

    async fn within_a_batch_the_first_with_a_request_id_counts(kind: Kind) {
        let app = TestApp::start(kind).await;
        let event = || an_event().request_id("twice");
        for way in [Way::Batch, Way::Stream] {
            let events = [
                an_event(),
                event().subject(format!("{way:?}")).request_id(format!("{way:?}")),
                event().subject(format!("{way:?}")).request_id(format!("{way:?}")),
                event().subject("another").request_id(format!("{way:?}")),
                an_event(),
            ];
            let results = way.publish_all(&app.client, events).await;
            let (first, second) = (results[1].as_ref().unwrap(), results[2].as_ref().unwrap());
            assert!(results[0].is_ok() && results[4].is_ok());
            assert_eq!((first.duplicate, second.duplicate), (false, true), "{way:?}");
            assert_eq!(first.event, second.event);
            assert_eq!(results[3].as_ref().unwrap_err().reason(), Some(&Reason::RequestIdReused));
        }
        app.stop().await;
    }

    async fn concurrent_publishes_with_one_request_id_are_one_event(kind: Kind) {
        let app = TestApp::start(kind).await;
        let other = app.another().start().await;
        let event = || an_event().request_id("at-once");
        let publish = |nth: usize| {
            let client = if nth.is_multiple_of(2) { &app.client } else { &other.client };
            client.publish(event())
        };
        let published = futures_util::future::join_all((0..20).map(publish)).await;
        let published: Vec<_> = published.into_iter().map(Result::unwrap).collect();
        assert_eq!(published.iter().filter(|published| !published.duplicate).count(), 1);
        assert!(published.iter().all(|other| other.event == published[0].event));
        app.stop().await;
        other.stop().await;
    }

    async fn tenants_do_not_share_request_ids(kind: Kind) {
        let app = TestApp::start(kind).await;
        let event = || an_event().request_id("order-17");
        let ours = app.client.publish(event()).await.unwrap();
        let theirs = app.client.tenant("acme").publish(event()).await.unwrap();
        assert!(!theirs.duplicate);
        assert_ne!(ours.event_id(), theirs.event_id());
        app.stop().await;
    }

    async fn a_repeated_publish_does_not_reach_who_subscribed_in_between(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.client.publish(an_event().request_id("order-17")).await.unwrap();
        app.subscribe(&receiver).await;
        let again = app.client.publish(an_event().request_id("order-17")).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(again.delivery_count, 0);
        assert!(receiver.requests().is_empty());
        app.stop().await;
    }
}
