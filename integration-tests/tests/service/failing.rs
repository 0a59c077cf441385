//! Receivers that fail for days: warned of, disabled, probed and found again, and all of it told to whoever asked to be told.

use std::time::Duration;

use postrider_integration_tests::{Receiver, Request, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{DisabledReason, FailurePolicy, SubscriptionState},
};
use serde_json::Value;

use crate::retry::now;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The types and the data of what a receiver of operational events has got.
fn told(requests: &[Request]) -> Vec<(String, Value)> {
    let one = |request: &Request| {
        let envelope = request.envelope();
        (envelope["type"].as_str().unwrap().to_owned(), envelope["data"].clone())
    };
    requests.iter().map(one).collect()
}

/// Subscribes a receiver to operational events.
async fn listen(app: &TestApp, receiver: &Receiver) {
    let operational = Subscription::to(receiver.url()).event_types(["postrider.**"]).id("operations");
    app.client.subscriptions().create(operational).await.unwrap();
}

/// Subscribes a receiver to orders by the name `orders`, with this policy.
async fn subscribe(app: &TestApp, receiver: &Receiver, policy: FailurePolicy) {
    let orders = Subscription::to(receiver.url()).event_types(["**"]).id("orders").failure_policy(policy);
    app.client.subscriptions().create(orders).await.unwrap();
}

async fn orders(app: &TestApp) -> postrider_sdk::Subscription {
    app.client.subscriptions().get("orders").await.unwrap()
}

/// Has one event fail until it is certain that there is nothing but failure: now.
async fn begin_to_fail(app: &TestApp) {
    app.client.publish(an_event()).await.unwrap();
    app.run_until_idle().await;
    for pause in [Duration::from_secs(5), MINUTE * 5] {
        assert_eq!(orders(app).await.failing, None);
        app.advance(pause);
        app.run_until_idle().await;
    }
}

/// Lets time pass, hour by hour, with whatever is due in it.
async fn pass(app: &TestApp, hours: u32) {
    for _ in 0..hours {
        app.advance(HOUR);
        app.run_until_idle().await;
    }
}

/// Publishes operational events and delivers them. Returns how many.
async fn announce(app: &TestApp) -> usize {
    let announced = app.announce().await;
    app.run_until_idle().await;
    announced
}

on_both_databases! {
    async fn a_receiver_that_fails_for_days_is_announced_disabled_probed_and_found_again(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, operations, other) =
            (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        receiver.always(500);
        listen(&app, &operations).await;
        subscribe(&app, &receiver, FailurePolicy::disable_after(2 * DAY).probe_every(HOUR)).await;
        app.subscribe(&other).await;
        let before = orders(&app).await;
        begin_to_fail(&app).await;
        let since = now(&app);
        assert_eq!(app.look_after_failing().await.found, 1);
        let failing = orders(&app).await.failing.unwrap();
        assert_eq!((failing.since, failing.last_failed_at), (since, Some(since)));
        assert_eq!(failing.disable_at, Some(since + 2 * DAY));
        assert_eq!(failing.last_failure, "status 500");
        let after = orders(&app).await;
        assert_eq!((after.etag, after.updated_at), (before.etag, before.updated_at));

        // A day before: the notice.
        pass(&app, 23).await;
        assert_eq!(app.look_after_failing().await.found, 0);
        assert_eq!(announce(&app).await, 0);
        pass(&app, 1).await;
        assert_eq!(app.look_after_failing().await.announced, 1);
        assert_eq!(app.look_after_failing().await.announced, 0, "once is enough");
        assert_eq!(announce(&app).await, 1);
        let (what, data) = told(&operations.requests()).remove(0);
        assert_eq!(what, "postrider.subscription.failing");
        assert_eq!(data["subscription"], "tenants/default/subscriptions/orders");
        assert_eq!(data["last_failure"]["message"], "status 500");
        let rfc_3339 = &time::format_description::well_known::Rfc3339;
        assert_eq!(data["disable_time"], (since + 2 * DAY).format(rfc_3339).unwrap());
        assert_eq!(data["failing_since_time"], since.format(rfc_3339).unwrap());

        // The day itself.
        let waiting = app.client.publish(an_event()).await.unwrap();
        pass(&app, 23).await;
        assert_eq!(app.look_after_failing().await.found, 0);
        pass(&app, 1).await;
        assert_eq!(app.look_after_failing().await.disabled, 1);
        let disabled = orders(&app).await;
        assert_eq!(disabled.state, SubscriptionState::Disabled(DisabledReason::Failing));
        assert_eq!(disabled.disabled_at, Some(now(&app)));
        let failing = disabled.failing.unwrap();
        assert_eq!((failing.disable_at, failing.next_probe_at), (None, Some(now(&app) + HOUR)));
        assert!(failing.description.contains("no attempt has succeeded since 2026-01-01T00:05:05Z"), "{failing:?}");
        assert_eq!(app.sweep().await, 2, "{}", waiting.event);
        assert_eq!(announce(&app).await, 1);
        let (what, data) = told(&operations.requests()).remove(1);
        assert_eq!((what.as_str(), &data["reason"]), ("postrider.subscription.disabled", &"FAILING".into()));
        assert_eq!(data["next_probe_time"], (now(&app) + HOUR).format(rfc_3339).unwrap());

        // Probes, and the way back.
        let sent = receiver.requests().len();
        assert_eq!(app.probe().await, 0);
        app.advance(HOUR);
        assert_eq!(app.probe().await, 1);
        assert_eq!(app.probe().await, 0);
        let requests = receiver.requests();
        assert_eq!(requests.len(), sent + 1);
        assert_eq!(requests[sent].envelope()["type"], "postrider.test");
        assert!(requests[sent].header("webhook-signature").starts_with("v1,"));
        let failing = orders(&app).await.failing.unwrap();
        assert_eq!((failing.last_failed_at, failing.next_probe_at), (Some(now(&app)), Some(now(&app) + HOUR)));
        receiver.always(200);
        app.advance(HOUR);
        assert_eq!(app.probe().await, 1);
        let found = orders(&app).await;
        assert_eq!((found.state, found.failing), (SubscriptionState::Active, None));
        assert_eq!(announce(&app).await, 1);
        let (what, data) = told(&operations.requests()).remove(2);
        assert_eq!((what.as_str(), &data["enabled_by_probe"]), ("postrider.subscription.recovered", &true.into()));
        let sent = receiver.requests().len();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), sent + 1);
        // Who asked for everything was told of nothing.
        assert!(told(&other.requests()).iter().all(|(what, _)| !what.starts_with("postrider.")));
        assert_eq!(app.probe().await, 0);
        app.stop().await;
    }

    async fn a_short_policy_announces_at_once_and_a_success_is_told(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, operations) = (Receiver::start().await, Receiver::start().await);
        receiver.always(503);
        listen(&app, &operations).await;
        subscribe(&app, &receiver, FailurePolicy::disable_after(HOUR)).await;
        begin_to_fail(&app).await;
        let since = now(&app);
        assert_eq!(app.look_after_failing().await.announced, 1);
        assert_eq!(orders(&app).await.failing.unwrap().disable_at, Some(since + HOUR));
        receiver.always(200);
        app.advance(MINUTE * 30);
        app.run_until_idle().await;
        assert_eq!(orders(&app).await.failing, None);
        app.advance(DAY * 7);
        assert_eq!(app.look_after_failing().await.found, 0);
        assert_eq!(announce(&app).await, 2);
        let mut told = told(&operations.requests());
        // Both are on their way at once.
        told.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(told[0].0, "postrider.subscription.failing");
        assert_eq!((told[1].0.as_str(), &told[1].1["enabled_by_probe"]), ("postrider.subscription.recovered", &false.into()));
        assert_eq!(orders(&app).await.state, SubscriptionState::Active);
        app.stop().await;
    }

    async fn a_subscription_with_an_event_a_day_is_disabled_as_well(kind: Kind) {
        // Each event has a single attempt, and the breaker never opens.
        let app = TestApp::builder(kind).await.with(|config| config.retry.schedule = Vec::new()).start().await;
        let receiver = Receiver::start().await;
        receiver.always(404);
        app.client.subscriptions().create(Subscription::to(receiver.url()).event_types(["**"]).id("orders")).await.unwrap();
        for _ in 0..6 {
            assert_eq!(orders(&app).await.state, SubscriptionState::Active);
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            app.look_after_failing().await;
            app.advance(DAY);
        }
        assert_eq!(app.look_after_failing().await.disabled, 1);
        assert_eq!(orders(&app).await.state, SubscriptionState::Disabled(DisabledReason::Failing));
        assert_eq!(orders(&app).await.failing.unwrap().next_probe_at, None);
        app.advance(DAY * 30);
        assert_eq!(app.probe().await, 0);
        app.client.subscriptions().enable("orders").await.unwrap();
        assert_eq!(orders(&app).await.failing, None);
        app.stop().await;
    }

    async fn a_dead_receiver_with_a_backlog_is_disabled_by_its_probes(kind: Kind) {
        // Of so many events there is hardly ever a second attempt: the breaker lets through one probe after another.
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        subscribe(&app, &receiver, FailurePolicy::disable_after(DAY)).await;
        for _ in 0..60 {
            app.client.publish(an_event()).await.unwrap();
            app.drain().await;
        }
        for hour in 1..=26 {
            pass(&app, 1).await;
            let disabled = app.look_after_failing().await.disabled;
            assert_eq!(disabled, usize::from(hour == 26), "after {hour} hours");
        }
        let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
        assert!(deliveries.iter().all(|delivery| delivery.attempt_count <= 1));
        assert_eq!(orders(&app).await.state, SubscriptionState::Disabled(DisabledReason::Failing));
        app.stop().await;
    }

    async fn what_a_person_changes_begins_anew(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, other) = (Receiver::start().await, Receiver::start().await);
        receiver.always(500);
        other.always(500);
        subscribe(&app, &receiver, FailurePolicy::default()).await;
        let subscriptions = app.client.subscriptions();
        for nth in 0..4 {
            begin_to_fail(&app).await;
            assert!(orders(&app).await.failing.is_some());
            match nth {
                0 => drop(subscriptions.pause("orders").await.unwrap()),
                1 => drop(subscriptions.resume("orders").await.unwrap()),
                2 => drop(subscriptions.enable("orders").await.unwrap()),
                _ => drop(subscriptions.update("orders").target_url(other.url()).await.unwrap()),
            }
            assert_eq!(orders(&app).await.failing, None, "{nth}");
            subscriptions.resume("orders").await.unwrap();
            for delivery in app.client.deliveries().list().items().collect().await.unwrap() {
                // Some have ended.
                let _ = app.client.deliveries().cancel(&delivery.name).await;
            }
            app.advance(DAY * 30);
            app.run_until_idle().await;
            assert_eq!(app.look_after_failing().await.found, 0);
        }
        app.stop().await;
    }

    async fn a_policy_can_be_changed_on_the_way(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        subscribe(&app, &receiver, FailurePolicy::never_disable()).await;
        assert_eq!(orders(&app).await.failure_policy, Some(FailurePolicy::never_disable()));
        begin_to_fail(&app).await;
        let since = now(&app);
        pass(&app, 24 * 30).await;
        app.look_after_failing().await;
        let failing = orders(&app).await;
        assert_eq!((failing.state, failing.failing.unwrap().disable_at), (SubscriptionState::Active, None));
        let update = || app.client.subscriptions().update("orders");
        update().failure_policy(FailurePolicy::disable_after(DAY * 60)).await.unwrap();
        app.look_after_failing().await;
        assert_eq!(orders(&app).await.failing.unwrap().disable_at, Some(since + DAY * 60));
        // By the server's policy it would be disabled already; the notice is late, and leaves half a day.
        update().failure_policy(None).await.unwrap();
        assert_eq!(app.look_after_failing().await.announced, 1);
        assert_eq!(orders(&app).await.failing.unwrap().disable_at, Some(now(&app) + DAY / 2));
        app.advance(DAY / 2);
        assert_eq!(app.look_after_failing().await.disabled, 1);
        // Also one that is disabled can be given a way back.
        update().failure_policy(FailurePolicy::default().probe_every(MINUTE)).await.unwrap();
        receiver.always(204);
        app.advance(MINUTE);
        assert_eq!(app.probe().await, 1);
        assert_eq!(orders(&app).await.state, SubscriptionState::Active);
        app.stop().await;
    }

    async fn a_receiver_that_wants_nothing_more_is_probed_no_more(kind: Kind) {
        for (status, header, reason) in [(410, "", DisabledReason::Gone), (200, "disable", DisabledReason::Requested)] {
            let app = TestApp::start(kind).await;
            let receiver = Receiver::start().await;
            receiver.always(500);
            subscribe(&app, &receiver, FailurePolicy::disable_after(HOUR).probe_every(HOUR)).await;
            begin_to_fail(&app).await;
            app.look_after_failing().await;
            pass(&app, 1).await;
            assert_eq!(app.look_after_failing().await.disabled, 1);
            receiver.then(status, &[("webhook-delivery", header)], "");
            app.advance(HOUR);
            assert_eq!(app.probe().await, 1);
            let disabled = orders(&app).await;
            assert_eq!(disabled.state, SubscriptionState::Disabled(reason));
            app.advance(DAY);
            assert_eq!(app.probe().await, 0);
            app.stop().await;
        }
    }
}
