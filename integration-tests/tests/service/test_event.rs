//! `SendTestEvent`: what a caller is told of the event that was sent.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postrider_integration_tests::{Receiver, Refusal, Refused, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;
use postrider_sdk::{
    Subscription,
    model::{
        AttemptFailure, AttemptOutcome, DeliveryState, RateLimit, TargetOutcome, TestEventStanding,
        TlsProblem,
    },
};

/// Less than a call would wait.
const SOON: Duration = Duration::from_secs(5);

on_both_databases! {
    async fn the_first_attempt_is_the_answer(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        receiver.then(200, &[("x-seen", "yes")], "thanks");
        let sent = app.client.subscriptions().send_test_event(&name).await.unwrap();
        assert_eq!(sent.standing, TestEventStanding::Attempted);
        assert!(sent.summary.contains("acknowledged the event with 200"), "{}", sent.summary);
        let attempt = sent.attempt.unwrap();
        assert_eq!(attempt.outcome, AttemptOutcome::Acknowledged { status: 200 });
        assert_eq!((&attempt.response_body[..], attempt.number), (&b"thanks"[..], 1));
        assert_eq!(sent.check, None);
        let stored = app.client.deliveries().attempts(&sent.delivery).page().await.unwrap().items;
        assert_eq!(stored, [attempt]);
        assert!(sent.event.ends_with(receiver.requests()[0].webhook_id()));

        receiver.always(500);
        let sent = app.client.subscriptions().send_test_event(&name).await.unwrap();
        assert_eq!(sent.attempt.unwrap().outcome, AttemptOutcome::Rejected { status: 500 });
        assert!(sent.summary.contains("500"), "{}", sent.summary);
        let check = sent.check.unwrap();
        assert!(matches!(check.outcome, TargetOutcome::Answered { status: 500, .. }), "{check:?}");
        assert_eq!(app.client.deliveries().get(&sent.delivery).await.unwrap().state, DeliveryState::Pending);
        app.stop().await;
    }

    async fn a_redirect_is_named_and_comes_with_a_check_but_is_not_followed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
        let name = app.subscribe(&receiver).await.subscription.name;
        let to = elsewhere.url();
        receiver.then(308, &[("location", &to)], "");
        receiver.then(308, &[("location", &to)], "");
        let sent = app.client.subscriptions().send_test_event(&name).await.unwrap();
        assert_eq!(sent.standing, TestEventStanding::Attempted);
        assert_eq!(sent.attempt.unwrap().outcome, AttemptOutcome::Rejected { status: 308 });
        let expected = format!("answered 308, a redirect to {to} that was not followed,");
        assert!(sent.summary.contains(&expected), "{}", sent.summary);
        let check = sent.check.unwrap();
        let redirected = matches!(&check.outcome,
            TargetOutcome::Answered { status: 308, redirect: Some(seen), .. } if *seen == to);
        assert!(redirected, "{check:?}");
        let methods: Vec<_> = receiver.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, ["POST", "HEAD"]);
        assert!(elsewhere.requests().is_empty());
        app.stop().await;
    }

    async fn a_receiver_that_wants_nothing_more_is_not_sent_a_check_either(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        for (status, headers) in [(410, [].as_slice()), (500, &[("webhook-delivery", "disable")])] {
            let name = app.subscribe(&receiver).await.subscription.name;
            receiver.then(status, headers, "");
            let sent = app.client.subscriptions().send_test_event(&name).await.unwrap();
            assert_eq!(sent.attempt.unwrap().outcome, AttemptOutcome::Rejected { status });
            assert_eq!(sent.check, None);
        }
        let methods: Vec<_> = receiver.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, ["POST", "POST"]);
        app.stop().await;
    }

    async fn each_of_many_at_once_is_answered_with_its_own_attempt(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let subscriptions = app.client.subscriptions();
        let calls = (0..60).map(|_| subscriptions.send_test_event(&name).into_future());
        for sent in join_all(calls).await {
            let sent = sent.unwrap();
            assert_eq!(sent.standing, TestEventStanding::Attempted, "{}", sent.summary);
            let stored = app.client.deliveries().attempts(&sent.delivery).page().await.unwrap().items;
            assert_eq!(stored, [sent.attempt.unwrap()]);
        }
        app.stop().await;
    }

    async fn an_attempt_without_an_answer_comes_with_a_check_of_the_target(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let new = Subscription::to(receiver.url().replace("http:", "https:")).event_types(["**"]).id("tls");
        app.client.subscriptions().create(new).await.unwrap();
        let sent = app.client.subscriptions().send_test_event("tls").await.unwrap();
        let AttemptOutcome::Failed { failure: AttemptFailure::Tls, .. } = sent.attempt.unwrap().outcome else {
            panic!("{}", sent.summary);
        };
        let check = sent.check.unwrap();
        assert_eq!(check.tls.as_ref().unwrap().problem, Some(TlsProblem::NotTls));
        assert_eq!(check.connected_address, Some(receiver.address().ip()));

        // Allowed when it was subscribed, and no longer.
        let strict = app.another().with(|config| config.sender.allowed_networks.clear()).start().await;
        let sent = strict.client.subscriptions().send_test_event("tls").await.unwrap();
        let check = sent.check.unwrap();
        let refused = matches!(&check.outcome,
            TargetOutcome::Failed { failure: AttemptFailure::AddressRefused, .. });
        assert!(refused && check.connected_address.is_none(), "{check:?}");
        assert_eq!(check.addresses[0].refused_as.as_deref(), Some("loopback"));
        strict.stop().await;
        app.stop().await;
    }

    async fn one_that_is_held_back_is_told_at_once_and_why(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let subscriptions = app.client.subscriptions();
        let name = app.subscribe(&receiver).await.subscription.name;
        subscriptions.pause(&name).await.unwrap();
        let begun = Instant::now();
        let sent = subscriptions.send_test_event(&name).await.unwrap();
        assert_eq!((sent.standing, &sent.attempt), (TestEventStanding::Paused, &None));
        assert!(sent.summary.contains("paused since 2026-01-01T00:00:00Z"), "{}", sent.summary);
        subscriptions.resume(&name).await.unwrap();
        app.run_until_idle().await;

        receiver.always(500);
        for _ in 0..10 {
            app.client.publish(an_event()).await.unwrap();
            app.drain().await;
        }
        let sent = subscriptions.send_test_event(&name).await.unwrap();
        assert_eq!((sent.standing, &sent.attempt), (TestEventStanding::Blocked, &None));
        let expected = "blocked, as its receiver fails since 2026-01-01T00:00:00Z (";
        assert!(sent.summary.contains(expected), "{}", sent.summary);
        assert!(sent.summary.contains("due at 2026-01-01T00:00:05Z"), "{}", sent.summary);
        assert!(begun.elapsed() < SOON);
        assert_eq!(app.client.deliveries().get(&sent.delivery).await.unwrap().state, DeliveryState::Pending);
        app.stop().await;
    }

    async fn who_does_not_wait_or_not_for_long_enough_is_told_that_it_is_pending(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let gate = receiver.gate();
        let begun = Instant::now();
        let subscriptions = app.client.subscriptions();
        let none = subscriptions.send_test_event(&name).wait(Duration::ZERO).await.unwrap();
        let little = subscriptions.send_test_event(&name).wait(Duration::from_millis(50)).await.unwrap();
        // Or it would be an error, although the event is stored.
        let hasty = app.client.with_timeout(Duration::from_millis(900));
        let deadline = hasty.subscriptions().send_test_event(&name).await.unwrap();
        assert!(begun.elapsed() < SOON);
        for sent in [&none, &little, &deadline] {
            assert_eq!((sent.standing, &sent.attempt), (TestEventStanding::Pending, &None));
        }
        gate.open();
        app.drain().await;
        for sent in [none, little, deadline] {
            assert_eq!(app.client.deliveries().get(&sent.delivery).await.unwrap().state, DeliveryState::Succeeded);
        }
        app.stop().await;
    }

    async fn one_that_may_wait_for_a_rate_limit_is_told_of_it(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let new = Subscription::to(receiver.url()).event_types(["**"]).id("slow").rate_limit(RateLimit::per_second(0.01).burst(1));
        app.client.subscriptions().create(new).await.unwrap();
        let sent = app.client.subscriptions().send_test_event("slow").wait(Duration::ZERO).await.unwrap();
        assert_eq!(sent.standing, TestEventStanding::Pending);
        assert!(sent.summary.contains("no more than 0.01 deliveries a second"), "{}", sent.summary);
        app.stop().await;
    }

    async fn who_hangs_up_leaves_the_event_to_be_delivered(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let gate = receiver.gate();
        let subscriptions = app.client.subscriptions();
        tokio::select! {
            sent = subscriptions.send_test_event(&name) => panic!("{sent:?}"),
            () = receiver.arrived(1) => {}
        }
        gate.open();
        app.drain().await;
        let delivery = app.client.deliveries().list().page().await.unwrap().items.remove(0);
        assert_eq!(delivery.state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn an_attempt_of_another_node_is_seen_too(kind: Kind) {
        let one = TestApp::builder(kind).await.with(|config| config.dispatch.max_in_flight_per_subscription = 1);
        let one = one.start().await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        let name = one.subscribe(&receiver).await.subscription.name;
        let gate = receiver.gate();
        // The first node has its hands full with this one, and leaves what follows to others.
        one.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        let elsewhere = async {
            while two.tick().await == 0 {
                tokio::task::yield_now().await;
            }
            receiver.arrived(2).await;
            gate.let_go(2);
        };
        let subscriptions = one.client.subscriptions();
        let (sent, ()) = tokio::join!(subscriptions.send_test_event(&name).into_future(), elsewhere);
        let sent = sent.unwrap();
        assert_eq!(sent.standing, TestEventStanding::Attempted);
        assert_eq!(sent.attempt.unwrap().outcome, AttemptOutcome::Acknowledged { status: 204 });
        gate.open();
        one.stop().await;
        two.stop().await;
    }

    async fn one_that_is_cancelled_while_it_is_waited_for_is_told_as_ended(kind: Kind) {
        let app = TestApp::builder(kind).await.with(|config| config.dispatch.max_in_flight_per_subscription = 1);
        let app = app.start().await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let gate = receiver.gate();
        app.client.publish(an_event()).await.unwrap();
        receiver.arrived(1).await;
        let deliveries = app.client.deliveries();
        let cancel = async {
            loop {
                let listed = deliveries.list().page().await.unwrap().items;
                if let [test, _] = listed.as_slice() {
                    return deliveries.cancel(&test.name).await.unwrap();
                }
            }
        };
        let subscriptions = app.client.subscriptions();
        let (sent, cancelled) = tokio::join!(subscriptions.send_test_event(&name).into_future(), cancel);
        let sent = sent.unwrap();
        assert_eq!((sent.standing, &sent.delivery), (TestEventStanding::Ended, &cancelled.name));
        gate.open();
        app.stop().await;
    }

    async fn a_server_that_stops_lets_nobody_wait(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        let gate = receiver.gate();
        let subscriptions = app.client.subscriptions();
        let stop = async {
            receiver.arrived(1).await;
            app.stop().await;
        };
        let open = async |sent| {
            gate.open();
            sent
        };
        let call = async { open(subscriptions.send_test_event(&name).await).await };
        let (sent, ()) = tokio::join!(call, stop);
        assert_eq!(sent.unwrap().standing, TestEventStanding::Pending);
    }

    async fn a_wait_has_limits(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let name = app.subscribe(&receiver).await.subscription.name;
        for (seconds, nanos) in [(-1, 0), (0, -1), (60, 1), (61, 0), (i64::MAX, 0)] {
            let wait = Some(prost_types::Duration { seconds, nanos });
            let request = pb::SendTestEventRequest { name: name.clone(), wait, ..pb::SendTestEventRequest::default() };
            let refused = app.raw().subscriptions.send_test_event(request).await;
            assert_eq!(refused.refusal(), Refusal::invalid("wait"), "{seconds} {nanos}");
        }
        assert!(app.client.events().list().page().await.unwrap().items.is_empty(), "what is refused is not stored");
        let longest = app.client.subscriptions().send_test_event(&name).wait(Duration::from_mins(1)).await;
        assert_eq!(longest.unwrap().standing, TestEventStanding::Attempted);
        app.stop().await;
    }
}
