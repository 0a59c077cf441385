//! Receivers that do not agree, or not at once, and what happens around a handshake meanwhile.

use std::time::Duration;

use super::{
    handshake::{agreeing, asked, status, subscribe},
    retry::{now, the_delivery},
};
use postrider_integration_tests::{Receiver, TestApp, an_event, default_tenant, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{DeliveryState, DisabledReason, EndReason, Handshake, HandshakeState, SubscriptionState},
};
use postrider_server::{domain::id::SubscriptionId, handshakes::Made};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// The pauses of the documents.
const PAUSES: [u64; 7] = [5, 30, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 15 * HOUR];

fn awaited_until(subscription: &Subscription) -> Option<time::OffsetDateTime> {
    match subscription.handshake_status.as_ref().unwrap().state {
        HandshakeState::Awaited { next_attempt_at, .. } => next_attempt_at,
        _ => None,
    }
}

fn failure(subscription: &Subscription) -> &str {
    subscription.handshake_status.as_ref().unwrap().last_failure.as_deref().unwrap_or_default()
}

on_both_databases! {
    async fn whoever_does_not_agree_is_asked_for_a_day_and_then_disabled(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(404);
        let created = subscribe(&app, &receiver, Handshake::Trello).await;
        app.client.publish(an_event()).await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        for (nth, pause) in (1..).zip(PAUSES.map(Duration::from_secs)) {
            let waiting = asked(&app).await;
            assert_eq!(waiting.state, SubscriptionState::AwaitingHandshake);
            assert_eq!(failure(&waiting), "the receiver answered 404, and must answer 200");
            assert_eq!(waiting.handshake_status.as_ref().unwrap().attempts, nth);
            assert_eq!(awaited_until(&waiting), Some(now(&app) + pause));
            assert_eq!(waiting.etag, created.etag);
            app.advance(pause.checked_sub(Duration::from_micros(1)).unwrap());
            assert_eq!(app.shake_hands().await, 0, "it is not due yet");
            app.advance(Duration::from_micros(1));
            assert_eq!(app.shake_hands().await, 1);
        }
        let disabled = asked(&app).await;
        assert_eq!(disabled.state, SubscriptionState::Disabled(DisabledReason::HandshakeFailed));
        assert_eq!(disabled.disabled_at, Some(now(&app)));
        assert_ne!(disabled.etag, created.etag);
        assert_eq!(disabled.handshake_status.as_ref().unwrap().state, HandshakeState::Failed);
        assert_eq!(failure(&disabled), "the receiver answered 404, and must answer 200");
        app.advance(Duration::from_hours(100));
        assert_eq!((app.shake_hands().await, receiver.requests().len()), (0, 8));
        assert_eq!(app.sweep().await, 1);
        let delivery = the_delivery(&app).await;
        assert_eq!(delivery.end_reason, Some(EndReason::SubscriptionDisabled));

        // A person has mended it.
        receiver.always(200);
        let enabled = app.client.subscriptions().enable("asked").await.unwrap();
        let status = enabled.handshake_status.as_ref().unwrap();
        assert_eq!((enabled.state, status.attempts), (SubscriptionState::AwaitingHandshake, 0));
        assert_eq!(failure(&enabled), "");
        app.client.publish(an_event()).await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        assert_eq!(asked(&app).await.state, SubscriptionState::Active);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10);
        app.stop().await;
    }

    async fn a_wrong_answer_is_none(kind: Kind) {
        let app = TestApp::start(kind).await;
        for (handshake, reply, expected) in [
            (Handshake::cloud_events("a.com"), status(200), "the header `WebHook-Allowed-Origin` is missing"),
            (
                Handshake::cloud_events("a.com"),
                (200, vec![("webhook-allowed-origin", "b.com".to_owned())], String::new()),
                "the header `WebHook-Allowed-Origin` is neither our origin nor `*`",
            ),
            (
                Handshake::HookSecret,
                (200, vec![("x-hook-secret", "whsec_guessed".to_owned())], String::new()),
                "the header `X-Hook-Secret` is not what was sent",
            ),
            (Handshake::slack_url_verification(), (200, vec![], "ok".to_owned()), "the body is not the `challenge`"),
            (Handshake::meta("token"), (200, vec![], "s3cret".to_owned()), "the body is not `hub.challenge`"),
            (Handshake::ebay("x".repeat(32)), (200, vec![], "{}".to_owned()), "the body has no `challengeResponse`"),
            (
                Handshake::Trello,
                (302, vec![("location", "/agreed".to_owned())], String::new()),
                "the receiver answered 302, a redirect, which is not followed, and must answer 200",
            ),
        ] {
            let receiver = Receiver::start().await;
            receiver.answer_by(move |request| if request.path == "/agreed" { status(200) } else { reply.clone() });
            let new = Subscription::to(receiver.url()).event_types(["**"]).handshake(handshake);
            let name = app.client.subscriptions().create(new).await.unwrap().subscription.name;
            assert_eq!(app.shake_hands().await, 1);
            let waiting = app.client.subscriptions().get(&name).await.unwrap();
            assert_eq!((waiting.state, failure(&waiting)), (SubscriptionState::AwaitingHandshake, expected));
            assert_eq!(receiver.requests().len(), 1);
            app.client.subscriptions().delete(name).await.unwrap();
        }
        app.advance(Duration::from_hours(1));
        assert_eq!(app.shake_hands().await, 0, "whoever is deleted is not asked");
        app.stop().await;
    }

    async fn nobody_is_asked_at_an_address_that_is_refused(kind: Kind) {
        let app = TestApp::start(kind).await;
        let strict = app.another().with(|config| config.sender.allowed_networks.clear()).start().await;
        let receiver = Receiver::start().await;
        receiver.always(200);
        for target in [receiver.url(), receiver.url().replace("127.0.0.1", "localhost")] {
            let new = Subscription::to(target).event_types(["**"]).handshake(Handshake::Trello);
            let name = app.client.subscriptions().create(new).await.unwrap().subscription.name;
            assert_eq!(strict.shake_hands().await, 1);
            let waiting = app.client.subscriptions().get(&name).await.unwrap();
            assert!(failure(&waiting).contains("server does not send to"), "{}", failure(&waiting));
        }
        assert!(receiver.requests().is_empty());
        strict.stop().await;
        app.stop().await;
    }

    async fn consent_of_a_target_that_was_left_meanwhile_does_not_count(kind: Kind) {
        let app = TestApp::start(kind).await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        old.always(200);
        new.always(403);
        let gate = old.gate();
        subscribe(&app, &old, Handshake::Trello).await;
        app.client.publish(an_event()).await.unwrap();
        assert_eq!(app.begin_handshakes().await, 1);
        old.arrived(1).await;
        app.client.subscriptions().update("asked").target_url(new.url()).await.unwrap();
        gate.open();
        // At the same moment, and with the old one still under way or just done.
        assert_eq!(app.shake_hands().await, 1);
        let waiting = asked(&app).await;
        assert_eq!(waiting.state, SubscriptionState::AwaitingHandshake);
        assert_eq!(failure(&waiting), "the receiver answered 403, and must answer 200");
        app.run_until_idle().await;
        assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
        app.stop().await;
    }

    async fn two_servers_ask_once(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        receiver.always(200);
        let gate = receiver.gate();
        for _ in 0..5 {
            let new = Subscription::to(receiver.url()).event_types(["**"]).handshake(Handshake::Trello);
            one.client.subscriptions().create(new).await.unwrap();
        }
        let (here, there) = tokio::join!(one.begin_handshakes(), two.begin_handshakes());
        assert_eq!(here + there, 5);
        receiver.arrived(5).await;
        gate.open();
        let (here, there) = tokio::join!(one.shake_hands(), two.shake_hands());
        assert_eq!((here + there, receiver.requests().len()), (0, 5));
        // The other server has its match table from before: what is published there is sent.
        assert_eq!(two.client.publish(an_event()).await.unwrap().delivery_count, 5);
        two.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 10);
        two.stop().await;
        one.stop().await;
    }

    async fn a_match_table_of_before_does_not_send_to_whoever_is_asked(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let receiver = Receiver::start().await;
        one.subscribe(&receiver).await;
        let new = Subscription::to(receiver.url()).event_types(["**"]).id("asked");
        one.client.subscriptions().create(new).await.unwrap();
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        one.client.subscriptions().update("asked").handshake(Handshake::Trello).await.unwrap();
        two.client.publish(an_event()).await.unwrap();
        two.run_until_idle().await;
        one.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 3, "the other one's");
        // It need not be asked any longer.
        one.client.subscriptions().update("asked").handshake(None).await.unwrap();
        two.run_until_idle().await;
        let after = asked(&one).await;
        assert_eq!((after.state, after.handshake_status), (SubscriptionState::Active, None));
        assert_eq!(receiver.requests().len(), 4);
        two.stop().await;
        one.stop().await;
    }

    async fn a_handshake_whose_server_died_is_made_by_another_when_its_lease_is_over(kind: Kind) {
        let one = TestApp::start(kind).await;
        let two = one.another().start().await;
        let (dead, receiver) = (Receiver::start().await, Receiver::start().await);
        let gate = dead.gate();
        subscribe(&one, &dead, Handshake::Trello).await;
        assert_eq!(one.begin_handshakes().await, 1);
        dead.arrived(1).await;
        assert_eq!(two.shake_hands().await, 0);
        let lease_ends = awaited_until(&asked(&two).await).unwrap() - now(&two);
        two.advance(lease_ends.try_into().unwrap());
        dead.always(200);
        assert_eq!(two.begin_handshakes().await, 1);
        dead.arrived(2).await;
        gate.open();
        one.shake_hands().await;
        two.shake_hands().await;
        let agreed = asked(&two).await;
        assert_eq!((agreed.state, agreed.handshake_status.unwrap().attempts), (SubscriptionState::Active, 2));
        drop(receiver);
        two.stop().await;
        one.stop().await;
    }

    async fn a_person_need_not_wait_for_the_next_attempt(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let receiver = Receiver::start().await;
        receiver.always(500);
        subscribe(&app, &receiver, Handshake::Trello).await;
        app.shake_hands().await;
        let due = awaited_until(&asked(&app).await);
        app.advance(Duration::from_secs(1));
        let waiting = subscriptions.verify("asked").await.unwrap();
        assert_eq!(waiting.handshake_status.as_ref().unwrap().attempts, 2);
        assert_eq!((failure(&waiting), awaited_until(&waiting)), ("the receiver answered 500, and must answer 200", due));
        receiver.always(200);
        let agreed = subscriptions.verify("asked").await.unwrap();
        assert_eq!((agreed.state, receiver.requests().len()), (SubscriptionState::Active, 3));
        // Once more is nothing.
        assert_eq!(subscriptions.verify("asked").await.unwrap().state, SubscriptionState::Active);
        assert_eq!(receiver.requests().len(), 3);

        let plain = app.subscribe(&receiver).await.subscription.name;
        let refused = subscriptions.verify(plain).await.unwrap_err();
        assert!(refused.is_failed_precondition() && refused.to_string().contains("no handshake"), "{refused}");
        assert!(subscriptions.verify("nobody").await.unwrap_err().is_not_found());
        app.stop().await;
    }

    async fn who_asks_for_one_that_is_under_way_waits_for_it(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(500);
        let gate = receiver.gate();
        subscribe(&app, &receiver, Handshake::Trello).await;
        app.begin_handshakes().await;
        receiver.arrived(1).await;
        let (tenant, id) = (default_tenant(), SubscriptionId::parse("asked").unwrap());
        let mut made = Box::pin(app.handshakes().make_now(&tenant, &id));
        assert!(futures_util::poll!(&mut made).is_pending());
        gate.open();
        assert_eq!(made.await.unwrap(), Made::Yes);
        let verified = asked(&app).await;
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(verified.handshake_status.as_ref().unwrap().attempts, 1);
        assert_eq!(awaited_until(&verified), Some(now(&app) + Duration::from_secs(5)), "by the schedule");
        app.stop().await;
    }

    async fn a_test_event_is_refused_until_the_receiver_agrees(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(200);
        subscribe(&app, &receiver, Handshake::Trello).await;
        let refused = app.client.subscriptions().send_test_event("asked").await.unwrap_err();
        assert!(refused.to_string().contains("awaits its handshake"), "{refused}");
        assert!(refused.is_failed_precondition());
        app.shake_hands().await;
        app.client.subscriptions().send_test_event("asked").await.unwrap();
        app.stop().await;
    }

    async fn a_pause_and_a_handshake_hold_back_each_by_itself(kind: Kind) {
        let app = TestApp::start(kind).await;
        let subscriptions = app.client.subscriptions();
        let receiver = Receiver::start().await;
        receiver.always(200);
        subscribe(&app, &receiver, Handshake::Trello).await;
        app.client.publish(an_event()).await.unwrap();
        assert_eq!(subscriptions.pause("asked").await.unwrap().state, SubscriptionState::Paused);
        assert_eq!(subscriptions.resume("asked").await.unwrap().state, SubscriptionState::AwaitingHandshake);
        app.run_until_idle().await;
        subscriptions.pause("asked").await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        let paused = asked(&app).await;
        assert_eq!(paused.state, SubscriptionState::Paused);
        assert!(matches!(paused.handshake_status.unwrap().state, HandshakeState::Done { .. }));
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 1);
        subscriptions.resume("asked").await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 2);
        assert_eq!(the_delivery(&app).await.state, DeliveryState::Succeeded);
        app.stop().await;
    }

    async fn what_is_mended_is_asked_at_once(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let meta = Handshake::meta("v&rify=me");
        receiver.answer_by(agreeing(&meta, String::new()));
        subscribe(&app, &receiver, Handshake::meta("wrong")).await;
        app.shake_hands().await;
        assert_eq!(failure(&asked(&app).await), "the receiver answered 403, and must answer 200");
        app.client.subscriptions().update("asked").handshake(meta).await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        assert_eq!(asked(&app).await.state, SubscriptionState::Active);

        // A handshake that is awaited is begun again also when what it is made with changes; one that is done is not.
        receiver.answer_by(|_| status(500));
        app.client.subscriptions().update("asked").target_url(receiver.url() + "/new").await.unwrap();
        app.shake_hands().await;
        assert_eq!(app.shake_hands().await, 0);
        app.client.subscriptions().update("asked").timeout(Duration::from_secs(2)).await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        app.client.subscriptions().update("asked").description("x").await.unwrap();
        assert_eq!(app.shake_hands().await, 0);
        app.stop().await;
    }

    async fn an_event_to_very_many_waits_too(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(200);
        subscribe(&app, &receiver, Handshake::Trello).await;
        let everything = || Subscription::to(receiver.url()).event_types(["**"]);
        for _ in 0..500 {
            app.client.subscriptions().create(everything()).await.unwrap();
        }
        let new = everything().handshake(Handshake::Trello).id("last");
        app.client.subscriptions().create(new).await.unwrap();
        assert_eq!(app.client.publish(an_event()).await.unwrap().delivery_count, 502);
        while app.fan_out().await.is_some() {}
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 500);
        assert_eq!(app.shake_hands().await, 2);
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), 504);
        app.stop().await;
    }
}
