//! Where is my webhook? Finding deliveries and changing their course.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Event, Reason, Subscription,
    model::{Attempt, AttemptOutcome, Delivery, DeliveryState, EndReason},
};
use time::macros::datetime;

on_both_databases! {
    async fn a_delivery_tells_what_it_connects(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&receiver).await.subscription;
        app.client.subscriptions().pause(&subscription.name).await.unwrap();
        let event = app.client.publish(an_event()).await.unwrap();
        let pending = app.client.deliveries().list().page().await.unwrap().items.remove(0);
        assert!(pending.name.starts_with("tenants/default/deliveries/dlv_"), "{}", pending.name);
        assert_eq!((&pending.event, &pending.subscription), (&event.event, &subscription.name));
        assert_eq!(pending.event_type, "order.created");
        assert_eq!(
            (pending.state, pending.end_reason, pending.ended_at),
            (DeliveryState::Pending, None, None)
        );
        assert_eq!((pending.attempt_count, pending.due_at), (0, Some(event.created_at)));
        assert_eq!(pending.created_at, event.created_at);
        app.client.subscriptions().resume(&subscription.name).await.unwrap();
        app.advance(Duration::from_mins(1));
        app.run_until_idle().await;
        let done = app.client.deliveries().get(pending.id()).await.unwrap();
        assert_eq!((done.state, done.end_reason), (DeliveryState::Succeeded, Some(EndReason::Acknowledged)));
        assert_eq!((done.attempt_count, done.due_at), (1, None));
        assert_eq!(done.ended_at, Some(datetime!(2026-01-01 00:01 UTC)));
        app.stop().await;
    }

    async fn a_delivery_under_way_is_due_when_its_lease_ends(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        app.subscribe(&receiver).await;
        let event = app.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        let delivery = app.client.deliveries().list().page().await.unwrap().items.remove(0);
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
        assert_eq!(delivery.due_at, Some(event.created_at + Duration::from_mins(1)));
        assert!(app.client.deliveries().attempts(&delivery.name).page().await.unwrap().items.is_empty());
        let refused = app.client.deliveries().redeliver(&delivery.name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");
        assert!(refused.message().contains("under way"), "{refused}");
        gate.open();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        app.stop().await;
    }

    async fn deliveries_are_found_by_event_subscription_state_and_time(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (good, bad) = (Receiver::start().await, Receiver::start().await);
        bad.always(500);
        for (id, receiver) in [("good", &good), ("bad", &bad)] {
            let new = Subscription::to(receiver.url()).event_types(["**"]).id(id);
            app.client.subscriptions().create(new).await.unwrap();
        }
        let mut events = Vec::new();
        for _ in 0..3 {
            app.advance(Duration::from_secs(1));
            events.push(app.client.publish(an_event()).await.unwrap());
            app.run_until_idle().await;
        }
        let list = || app.client.deliveries().list();
        let found = async |list: postrider_sdk::List<Delivery>| {
            let deliveries = list.items().collect().await.unwrap();
            let names: Vec<_> = deliveries.iter().map(|delivery| &delivery.name).collect();
            assert!(names.iter().rev().is_sorted(), "newest first");
            let nth =
                |delivery: &Delivery| events.iter().position(|event| event.event == delivery.event).unwrap();
            let mut found: Vec<_> = deliveries
                .iter()
                .map(|delivery| (nth(delivery), delivery.subscription.rsplit('/').next().unwrap().to_owned()))
                .collect();
            found.sort_unstable();
            found.into_iter().map(|(nth, to)| format!("{nth} {to}")).collect::<Vec<_>>()
        };
        let all = ["0 bad", "0 good", "1 bad", "1 good", "2 bad", "2 good"];
        assert_eq!(found(list()).await, all);
        assert_eq!(found(list().page_size(4)).await, all);
        assert_eq!(found(list().event(&events[1].event)).await, all[2..4]);
        assert_eq!(found(list().event(events[1].event_id())).await, all[2..4]);
        assert_eq!(found(list().subscription("good")).await, ["0 good", "1 good", "2 good"]);
        assert_eq!(found(list().state(DeliveryState::Pending)).await, ["0 bad", "1 bad", "2 bad"]);
        assert_eq!(found(list().state(DeliveryState::Succeeded)).await, ["0 good", "1 good", "2 good"]);
        assert!(found(list().state(DeliveryState::Failed)).await.is_empty());
        assert!(found(list().state(DeliveryState::Cancelled)).await.is_empty());
        assert_eq!(found(list().event(&events[2].event).subscription("bad")).await, ["2 bad"]);
        assert!(found(list().event(&events[2].event).subscription("nobody")).await.is_empty());
        let second = events[1].created_at;
        assert_eq!(found(list().created_from(second)).await, all[2..]);
        assert_eq!(found(list().created_until(second)).await, all[..2]);
        let microsecond = Duration::from_micros(1);
        assert_eq!(found(list().created_from(second).created_until(second + microsecond)).await, all[2..4]);
        assert_eq!(found(list().created_from(second + microsecond)).await, all[4..]);
        assert!(found(list().created_from(second).created_until(second)).await.is_empty());
        app.stop().await;
    }

    async fn events_are_found_by_type_request_id_and_time(kind: Kind) {
        let app = TestApp::start(kind).await;
        for (nth, event_type) in
            ["order.created", "order.paid", "order.created", "order"].into_iter().enumerate()
        {
            app.advance(Duration::from_millis(1));
            let event =
                Event::new(event_type).request_id(format!("r{nth}")).data("\"data\"", "application/json");
            app.client.publish(event).await.unwrap();
        }
        let list = || app.client.events().list();
        let found = async |list: postrider_sdk::List<postrider_sdk::model::StoredEvent>| {
            let events = list.items().collect().await.unwrap();
            assert!(events.iter().all(|event| event.data.is_empty()), "a list has no data");
            events.into_iter().filter_map(|event| event.request_id).collect::<Vec<_>>()
        };
        assert_eq!(found(list()).await, ["r3", "r2", "r1", "r0"]);
        assert_eq!(found(list().page_size(1)).await, ["r3", "r2", "r1", "r0"]);
        assert_eq!(found(list().event_type("order.created")).await, ["r2", "r0"]);
        assert_eq!(found(list().event_type("order")).await, ["r3"]);
        assert!(found(list().event_type("order.lost")).await.is_empty());
        assert_eq!(found(list().request_id("r1")).await, ["r1"]);
        assert!(found(list().request_id("r1").event_type("order")).await.is_empty());
        let second = datetime!(2026-01-01 00:00:00.002 UTC);
        assert_eq!(found(list().created_from(second)).await, ["r3", "r2", "r1"]);
        assert_eq!(found(list().created_until(second)).await, ["r0"]);
        app.stop().await;
    }

    async fn a_dash_lists_the_events_and_deliveries_of_all_tenants(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        for tenant in ["default", "acme"] {
            let client = app.client.tenant(tenant);
            let new = Subscription::to(receiver.url()).event_types(["**"]).id("orders");
            client.subscriptions().create(new).await.unwrap();
            client.publish(an_event()).await.unwrap();
        }
        app.run_until_idle().await;
        let all = app.client.tenant("-");
        assert_eq!(all.events().list().items().collect().await.unwrap().len(), 2);
        assert_eq!(all.deliveries().list().items().collect().await.unwrap().len(), 2);
        let of_acme = all.deliveries().list().subscription("tenants/acme/subscriptions/orders");
        let of_acme = of_acme.items().collect().await.unwrap();
        assert_eq!(of_acme.len(), 1);
        assert!(of_acme[0].name.starts_with("tenants/acme/"));
        app.stop().await;
    }

    async fn a_delivery_that_is_cancelled_is_not_sent_and_can_be_redelivered(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let deliveries = app.client.deliveries();
        let pending = deliveries.list().page().await.unwrap().items.remove(0);
        let cancelled = deliveries.cancel(&pending.name).await.unwrap();
        let end = (cancelled.state, cancelled.end_reason);
        assert_eq!(end, (DeliveryState::Cancelled, Some(EndReason::Cancelled)));
        assert_eq!(cancelled.ended_at, Some(pending.created_at));
        app.advance(Duration::from_secs(5));
        assert_eq!(deliveries.cancel(&pending.name).await.unwrap(), cancelled, "once is enough");
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        let due = deliveries.redeliver(&pending.name).await.unwrap();
        assert_eq!((due.state, due.attempt_count), (DeliveryState::Pending, 1));
        app.run_until_idle().await;
        let done = deliveries.get(&pending.name).await.unwrap();
        assert_eq!((done.state, done.attempt_count), (DeliveryState::Succeeded, 2));
        let refused = deliveries.cancel(&pending.name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");
        assert_eq!(refused.reason(), Some(&Reason::WrongState));
        app.stop().await;
    }

    async fn an_attempt_under_way_is_recorded_although_its_delivery_was_cancelled(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        app.client.deliveries().cancel(&name).await.unwrap();
        gate.open();
        app.run_until_idle().await;
        let delivery = app.client.deliveries().get(&name).await.unwrap();
        assert_eq!(delivery.state, DeliveryState::Cancelled);
        let attempts = app.client.deliveries().attempts(&name).page().await.unwrap().items;
        assert_eq!(attempts[0].outcome, AttemptOutcome::Acknowledged { status: 204 });
        app.stop().await;
    }

    async fn a_delivery_that_waits_is_redelivered_at_once(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        app.client.deliveries().redeliver(&name).await.unwrap();
        app.run_until_idle().await;
        let delivery = app.client.deliveries().get(&name).await.unwrap();
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 2));
        app.stop().await;
    }

    async fn what_has_arrived_is_redelivered_with_the_same_id(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([204, 500]).await;
        app.subscribe(&receiver).await;
        let event = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        app.client.deliveries().redeliver(&name).await.unwrap();
        app.run_until_idle().await;
        let delivery = app.client.deliveries().get(&name).await.unwrap();
        assert_eq!(delivery.state, DeliveryState::Pending, "its schedule was not used up");
        app.advance(Duration::from_mins(5));
        app.run_until_idle().await;
        assert_eq!(app.client.deliveries().get(&name).await.unwrap().state, DeliveryState::Succeeded);
        assert_eq!(receiver.webhook_ids(), [event.event_id(); 3]);
        app.stop().await;
    }

    async fn one_that_has_used_up_its_schedule_gets_one_more_attempt(kind: Kind) {
        let app = TestApp::builder(kind).await.with(|config| config.retry.schedule.truncate(1)).start().await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        for attempts in 3..=4 {
            app.client.deliveries().redeliver(&name).await.unwrap();
            app.run_until_idle().await;
            let delivery = app.client.deliveries().get(&name).await.unwrap();
            assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Failed, attempts));
            assert_eq!(delivery.end_reason, Some(EndReason::Exhausted));
        }
        app.stop().await;
    }

    async fn attempts_are_listed_oldest_first_and_page_by_page(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500, 501, 502, 503, 504]).await;
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        for _ in 0..4 {
            app.client.deliveries().redeliver(&name).await.unwrap();
            app.run_until_idle().await;
        }
        let expected = [500, 501, 502, 503, 504].map(Some);
        for size in [1, 2, 5, 50] {
            let attempts =
                app.client.deliveries().attempts(&name).page_size(size).items().collect().await.unwrap();
            assert_eq!(attempts.iter().map(Attempt::status).collect::<Vec<_>>(), expected, "{size}");
        }
        let exact = app.client.deliveries().attempts(&name).page_size(5).page().await.unwrap();
        assert_eq!((exact.items.len(), exact.next_page_token), (5, None));

        let token =
            app.client.deliveries().attempts(&name).page_size(2).page().await.unwrap().next_page_token;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let other = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        let strange = app.client.deliveries().attempts(&other).page_token(token.unwrap()).page().await;
        assert_eq!(strange.unwrap_err().field_violations()[0].field, "page_token");
        app.stop().await;
    }

    async fn one_that_has_waited_for_a_month_can_be_redelivered(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        let subscription = app.subscribe(&receiver).await.subscription.name;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.client.subscriptions().pause(&subscription).await.unwrap();
        app.advance(Duration::from_hours(24 * 31));
        assert_eq!(app.prune().await, 0, "what is pending is spared, and what belongs to it");
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        let due = app.client.deliveries().redeliver(&name).await.unwrap();
        assert_eq!((due.state, due.attempt_count), (DeliveryState::Pending, 1));
        app.client.subscriptions().resume(&subscription).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(app.client.deliveries().get(&name).await.unwrap().state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn what_has_passed_its_retention_is_gone_and_cannot_be_redelivered(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let event = app.client.publish(an_event().request_id("order-17")).await.unwrap();
        app.run_until_idle().await;
        let name = app.client.deliveries().list().page().await.unwrap().items.remove(0).name;
        let days = |days: u64| Duration::from_hours(24 * days);
        app.advance(days(30) + Duration::from_secs(1));
        assert_eq!(app.prune().await, 2, "its data and its attempt");
        let stored = app.client.events().get(&event.event).await.unwrap();
        assert!(stored.data.is_empty());
        assert_eq!(stored.request_id.as_deref(), Some("order-17"));
        let refused = app.client.deliveries().redeliver(&name).await.unwrap_err();
        assert!(refused.is_failed_precondition());
        assert_eq!(refused.reason(), Some(&Reason::DataExpired));
        assert!(app.client.publish(an_event().request_id("order-17")).await.unwrap().duplicate);
        app.advance(days(60));
        app.prune().await;
        assert!(app.client.events().get(&event.event).await.unwrap_err().is_not_found());
        assert!(app.client.deliveries().get(&name).await.unwrap_err().is_not_found());
        assert!(!app.client.publish(an_event().request_id("order-17")).await.unwrap().duplicate);
        app.stop().await;
    }
}
