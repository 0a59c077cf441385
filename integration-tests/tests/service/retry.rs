//! What follows from an attempt: the schedule, `Retry-After`, 410, pauses, and attempts that got lost.

use std::time::Duration;

use postrider_integration_tests::{Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{
        Attempt, AttemptOutcome, Delivery, DeliveryRetryPolicy, DeliveryState, DisabledReason, EndReason,
        SubscriptionState,
    },
};
use time::OffsetDateTime;

on_both_databases! {
    async fn a_receiver_that_never_recovers_is_tried_ten_times_on_schedule(kind: Kind) {
        const HOUR: u64 = 3_600;
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let mut begun = vec![now(&app)];
        let pauses = [5, 300, 1_800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
        for (nth, pause) in (1..).zip(pauses.map(Duration::from_secs)) {
            let delivery = the_delivery(&app).await;
            assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, nth));
            assert_eq!(delivery.due_at, Some(now(&app) + pause));
            app.advance(pause.checked_sub(Duration::from_micros(1)).unwrap());
            app.run_until_idle().await;
            assert_eq!(receiver.requests().len(), nth as usize, "it is not due yet");
            app.advance(Duration::from_micros(1));
            app.run_until_idle().await;
            assert_eq!(receiver.requests().len(), nth as usize + 1);
            begun.push(now(&app));
        }
        let delivery = the_delivery(&app).await;
        assert_eq!(
            (delivery.state, delivery.end_reason),
            (DeliveryState::Failed, Some(EndReason::Exhausted))
        );
        assert_eq!(delivery.attempt_count, 10);
        assert_eq!((delivery.due_at, delivery.ended_at), (None, Some(now(&app))));
        let attempts = attempts(&app, &delivery).await;
        assert_eq!(
            attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(),
            (1..=10).collect::<Vec<_>>()
        );
        assert_eq!(attempts.iter().map(|attempt| attempt.started_at).collect::<Vec<_>>(), begun);
        assert!(attempts.iter().all(|attempt| attempt.outcome == AttemptOutcome::Rejected { status: 500 }));
        app.advance(Duration::from_hours(1_000));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10, "it is over");
        app.stop().await;
    }

    async fn a_subscription_has_its_own_schedule_and_its_deliveries_grow_no_older_than_it_says(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        let policy = DeliveryRetryPolicy::exponential(Duration::from_secs(10), 50)
            .multiplier(3.0)
            .max_pause(Duration::from_mins(1))
            .max_age(Duration::from_secs(225));
        let new = Subscription::to(receiver.url()).event_types(["**"]).retry_policy(policy.clone()).id("own");
        let created = app.client.subscriptions().create(new).await.unwrap().subscription;
        let shown = created.retry_policy.clone().unwrap();
        assert_eq!(shown, policy);

        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        for (nth, pause) in (1..).zip([10, 30, 60, 60, 60].map(Duration::from_secs)) {
            let delivery = the_delivery(&app).await;
            assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, nth));
            assert_eq!(delivery.due_at, Some(now(&app) + pause));
            app.advance(pause);
            app.run_until_idle().await;
        }
        let delivery = the_delivery(&app).await;
        assert_eq!(
            (delivery.state, delivery.end_reason, delivery.attempt_count),
            (DeliveryState::Failed, Some(EndReason::Exhausted), 6),
            "the seventh would come at 280 seconds"
        );

        // One attempt, and none after it.
        let single = DeliveryRetryPolicy::schedule([]);
        app.client.subscriptions().update("own").retry_policy(single.clone()).await.unwrap();
        assert_eq!(app.client.subscriptions().get("own").await.unwrap().retry_policy, Some(single));
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.end_reason, Some(EndReason::Exhausted));

        // What is taken away is the server's again.
        app.client.subscriptions().update("own").retry_policy(None).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(the_delivery(&app).await.due_at, Some(now(&app) + Duration::from_secs(5)));
        app.stop().await;
    }

    async fn retry_after_lengthens_the_pause_where_it_means_that(kind: Kind) {
        // Sixteen failures in a row: when the receiver would be left alone is told elsewhere.
        let app =
            TestApp::builder(kind).await.with(|config| config.breaker.consecutive_failures = 17).start().await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        for (status, retry_after, expected) in [
            (429, "120", 120),
            (503, "120", 120),
            (429, "5", 5),
            (429, "4", 5),
            (503, "0", 5),
            (429, "86399", 86_399),
            (429, "86400", 86_400),
            (429, "86401", 86_400),
            (503, "99999999999999999999", 86_400),
            (503, "-1", 5),
            (429, "soon", 5),
            (503, "Wed, 31 Dec 2025 23:59:00 GMT", 5),
            (503, "Fri, 01 Jan 2027 00:00:00 GMT", 86_400),
            (500, "120", 5),
            (404, "120", 5),
            (301, "120", 5),
        ] {
            receiver.then(status, &[("retry-after", retry_after)], "");
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            let due_at = the_delivery(&app).await.due_at.unwrap();
            assert_eq!(due_at - now(&app), Duration::from_secs(expected), "{status} with {retry_after}");
        }
        app.stop().await;
    }

    async fn retry_after_may_be_a_date(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        receiver.then(503, &[("retry-after", "Thu, 01 Jan 2026 00:02:00 GMT")], "");
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        // The answer arrived a moment after the attempt began, by as much as the exchange really took.
        let pause = the_delivery(&app).await.due_at.unwrap() - now(&app);
        assert!(pause <= Duration::from_mins(2) && pause > Duration::from_mins(1), "{pause}");
        app.advance(Duration::from_mins(2));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        app.stop().await;
    }

    async fn a_redirect_is_a_failure_and_is_not_followed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
        app.subscribe(&receiver).await;
        for (nth, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
            receiver.then(status, &[("location", &elsewhere.url())], "");
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            assert_eq!(receiver.requests().len(), nth + 1);
            let delivery = the_delivery(&app).await;
            assert_eq!(delivery.state, DeliveryState::Pending);
            let attempt = &attempts(&app, &delivery).await[0];
            assert_eq!(attempt.outcome, AttemptOutcome::Rejected { status });
            assert!(attempt.response_headers.iter().any(|header| header.value == elsewhere.url()));
        }
        assert!(elsewhere.requests().is_empty());
        app.stop().await;
    }

    async fn any_2xx_is_an_acknowledgement(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        for status in [200, 201, 202, 204, 299] {
            receiver.then(status, &[], "");
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            let delivery = the_delivery(&app).await;
            let end = (delivery.state, delivery.end_reason);
            assert_eq!(end, (DeliveryState::Succeeded, Some(EndReason::Acknowledged)), "{status}");
            assert_eq!(attempts(&app, &delivery).await[0].outcome, AttemptOutcome::Acknowledged { status });
        }
        app.stop().await;
    }

    async fn gone_disables_the_subscription_and_enabling_brings_it_back(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500, 410]).await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let waiting = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let gone = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;

        let subscription = app.client.subscriptions().get(&name).await.unwrap();
        assert_eq!(subscription.state, SubscriptionState::Disabled(DisabledReason::Gone));
        assert_eq!(subscription.disabled_at, Some(now(&app)));
        let gone = delivery_of(&app, &gone.event).await;
        assert_eq!((gone.state, gone.end_reason), (DeliveryState::Failed, Some(EndReason::Gone)));

        app.advance(Duration::from_hours(1));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2, "nothing is sent any more");
        assert_eq!(app.sweep().await, 1);
        let waiting = delivery_of(&app, &waiting.event).await;
        let end = (waiting.state, waiting.end_reason);
        assert_eq!(end, (DeliveryState::Cancelled, Some(EndReason::SubscriptionDisabled)));
        assert_eq!(
            app.client.publish(an_event()).await.unwrap().delivery_count,
            0,
            "nothing is matched any more"
        );
        let refused = app.client.deliveries().redeliver(&waiting.name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");

        let enabled = app.client.subscriptions().enable(&name).await.unwrap();
        assert_eq!((enabled.state, enabled.disabled_at), (SubscriptionState::Active, None));
        assert_eq!(app.sweep().await, 0);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2, "what was cancelled stays cancelled");
        for delivery in [&waiting, &gone] {
            let due = app.client.deliveries().redeliver(&delivery.name).await.unwrap();
            assert_eq!((due.state, due.end_reason, due.ended_at), (DeliveryState::Pending, None, None));
            app.run_until_idle().await;
            let done = app.client.deliveries().get(&delivery.name).await.unwrap();
            assert_eq!((done.state, done.attempt_count), (DeliveryState::Succeeded, 2));
        }
        assert_eq!(app.client.publish(an_event()).await.unwrap().delivery_count, 1);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 5);
        app.stop().await;
    }

    async fn gone_from_where_events_no_longer_go_disables_nothing(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (old, new) = (Receiver::answering([410]).await, Receiver::start().await);
        let gate = old.gate();
        let name = app.subscribe(&old).await.subscription.name;
        app.client.publish(an_event()).await.unwrap();
        old.arrived(1).await;
        app.client.subscriptions().update(&name).target_url(new.url()).await.unwrap();
        gate.open();
        app.run_until_idle().await;
        assert_eq!(app.client.subscriptions().get(&name).await.unwrap().state, SubscriptionState::Active);
        app.stop().await;
    }

    async fn what_is_paused_waits_and_is_sent_when_it_is_resumed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let tried = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let paused = app.client.subscriptions().pause(&name).await.unwrap();
        assert_eq!((paused.state, paused.paused_at), (SubscriptionState::Paused, Some(now(&app))));
        let new = app.client.publish(an_event()).await.unwrap();
        assert_eq!(new.delivery_count, 1, "it is matched");
        app.advance(Duration::from_hours(24 * 7));
        app.run_until_idle().await;
        assert_eq!((app.sweep().await, receiver.requests().len()), (0, 1));
        for event in [&tried, &new] {
            assert_eq!(delivery_of(&app, &event.event).await.state, DeliveryState::Pending);
        }
        let resumed = app.client.subscriptions().resume(&name).await.unwrap();
        assert_eq!((resumed.state, resumed.paused_at), (SubscriptionState::Active, None));
        app.run_until_idle().await;
        let mut sent = receiver.webhook_ids().split_off(1);
        sent.sort_unstable();
        assert_eq!(sent, [tried.event_id(), new.event_id()]);
        app.stop().await;
    }

    async fn what_waits_goes_to_the_new_target(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (old, new) = (Receiver::answering([500]).await, Receiver::start().await);
        let name = app.subscribe(&old).await.subscription.name;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        app.client.subscriptions().update(&name).target_url(new.url()).await.unwrap();
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
        let targets: Vec<_> = attempts(&app, &the_delivery(&app).await)
            .await
            .into_iter()
            .map(|attempt| attempt.target_url)
            .collect();
        assert_eq!(targets, [old.url(), new.url()]);
        app.stop().await;
    }

    async fn a_delivery_whose_lease_ran_out_is_sent_again_and_the_late_outcome_changes_nothing(kind: Kind) {
        let app = TestApp::start(kind).await;
        let other = app.another().start().await;
        let receiver = Receiver::answering([500, 204]).await;
        let gate = receiver.gate();
        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        app.advance(Duration::from_mins(1) - Duration::from_micros(1));
        assert_eq!(other.tick().await, 0, "the lease still holds");
        app.advance(Duration::from_micros(1));
        assert_eq!(other.tick().await, 1);
        receiver.arrived(2).await;
        let ids = receiver.webhook_ids();
        assert_eq!(ids[0], ids[1]);

        gate.let_go(1);
        app.drain().await;
        let delivery = the_delivery(&app).await;
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 2));
        assert_eq!(delivery.due_at, Some(now(&app) + Duration::from_mins(1)), "the second lease holds");

        gate.open();
        other.run_until_idle().await;
        app.run_until_idle().await;
        let delivery = the_delivery(&app).await;
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 2));
        let outcomes: Vec<_> =
            attempts(&app, &delivery).await.into_iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(
            outcomes,
            [AttemptOutcome::Rejected { status: 500 }, AttemptOutcome::Acknowledged { status: 204 },]
        );
        assert_eq!(receiver.requests().len(), 2);
        app.stop().await;
        other.stop().await;
    }
}

pub(crate) fn now(app: &TestApp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(app.now().as_micros()) * 1_000).unwrap()
}

/// The latest delivery.
pub(crate) async fn the_delivery(app: &TestApp) -> Delivery {
    app.client.deliveries().list().page_size(1).page().await.unwrap().items.remove(0)
}

async fn delivery_of(app: &TestApp, event: &str) -> Delivery {
    let mut page = app.client.deliveries().list().event(event).page().await.unwrap();
    assert_eq!(page.items.len(), 1);
    page.items.remove(0)
}

pub(crate) async fn attempts(app: &TestApp, delivery: &Delivery) -> Vec<Attempt> {
    app.client.deliveries().attempts(&delivery.name).items().collect().await.unwrap()
}
