//! What is tried again, and what is not.

use std::time::Duration;

use postrider_sdk::{Client, Event, RetryPolicy, Subscription};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::{Fake, impatient, unavailable};

#[tokio::test]
async fn every_try_of_a_publish_carries_the_same_request_id() {
    let server = Fake::start().await;
    server.fail_next([unavailable(), unavailable()]);
    let published = server.client().publish(Event::new("order.created")).await.unwrap();

    let calls = server.calls();
    assert_eq!(calls.len(), 3);
    assert!(!calls[0].request_ids[0].is_empty());
    assert!(calls.iter().all(|call| call.request_ids == calls[0].request_ids));
    assert_eq!(published.event_id(), calls[0].request_ids[0]);
}

#[tokio::test]
async fn a_request_id_that_the_caller_chose_is_kept() {
    let server = Fake::start().await;
    server.client().publish(Event::new("order.created").request_id("order-17")).await.unwrap();
    assert_eq!(server.stored(), ["order-17"]);
}

#[tokio::test]
async fn two_events_have_different_request_ids() {
    let server = Fake::start().await;
    let event = Event::new("order.created");
    server.client().publish(event.clone()).await.unwrap();
    server.client().publish(event).await.unwrap();
    assert_eq!(server.stored().len(), 2);
}

#[tokio::test]
async fn the_last_error_says_how_many_tries_there_were() {
    let server = Fake::start().await;
    server.fail_next(std::iter::repeat_with(unavailable).take(5));
    let error = server.client().publish(Event::new("order.created")).await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.tries(), 5);
    assert_eq!(error.to_string(), "unavailable: the store cannot be reached (after 5 tries)");
    assert_eq!(server.calls().len(), 5);
}

#[tokio::test]
async fn reading_and_what_has_no_effect_twice_is_tried_again() {
    let server = Fake::start().await;
    let client = server.client();
    let (subscriptions, deliveries) = (client.subscriptions(), client.deliveries());
    macro_rules! is_tried_again {
        ($($call:expr),* $(,)?) => { $(
            server.fail_next([unavailable()]);
            assert!($call.await.is_ok(), stringify!($call));
        )* };
    }
    is_tried_again!(
        client.events().get("evt_1"),
        client.events().list().page(),
        subscriptions.get("orders"),
        subscriptions.list().page(),
        subscriptions.pause("orders"),
        subscriptions.resume("orders"),
        subscriptions.enable("orders"),
        subscriptions.verify("orders"),
        subscriptions.secret("orders"),
        deliveries.get("dlv_1"),
        deliveries.list().page(),
        deliveries.attempts("dlv_1").page(),
        deliveries.cancel("dlv_1"),
    );
    assert_eq!(server.calls().len(), 26);
}

#[tokio::test]
async fn what_would_happen_twice_is_not_tried_again() {
    let server = Fake::start().await;
    let client = server.client();
    let (subscriptions, deliveries) = (client.subscriptions(), client.deliveries());
    macro_rules! is_tried_once {
        ($($call:expr),* $(,)?) => { $(
            server.fail_next([unavailable()]);
            let error = $call.await.unwrap_err();
            assert!(error.is_unavailable() && error.tries() == 1, stringify!($call));
        )* };
    }
    is_tried_once!(
        subscriptions.create(Subscription::to("https://example.com").event_types(["**"])),
        subscriptions.update("orders").description("new"),
        subscriptions.delete("orders"),
        subscriptions.rotate_secret("orders"),
        subscriptions.send_test_event("orders"),
        deliveries.redeliver("dlv_1"),
    );
    assert_eq!(server.calls().len(), 6);
}

#[tokio::test]
async fn an_error_that_another_try_cannot_mend_is_not_tried_again() {
    for code in [Code::InvalidArgument, Code::AlreadyExists, Code::Internal, Code::Unauthenticated] {
        let server = Fake::start().await;
        server.fail_next([Status::new(code, "no")]);
        let error = server.client().publish(Event::new("order.created")).await.unwrap_err();
        assert_eq!((error.tries(), server.calls().len()), (1, 1), "{code:?}");
    }
}

#[tokio::test]
async fn a_server_that_has_too_much_in_hand_is_asked_again_if_it_says_when() {
    let server = Fake::start().await;
    let busy = |details| Status::with_error_details(Code::ResourceExhausted, "busy", details);
    server.fail_next([busy(ErrorDetails::with_retry_info(Some(Duration::ZERO))), busy(ErrorDetails::new())]);
    let error = server.client().publish(Event::new("order.created")).await.unwrap_err();
    assert_eq!(error.tries(), 2);
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_not_begun_if_it_would_outlast_the_deadline() {
    let server = Fake::start().await;
    let in_an_hour = ErrorDetails::with_retry_info(Some(Duration::from_hours(1)));
    server.fail_next([Status::with_error_details(Code::Unavailable, "busy", in_an_hour)]);
    let client = server.client();
    let publish = tokio::time::timeout(Duration::from_secs(10), client.publish(Event::new("order.created")));
    let error = publish.await.expect("it gives up at once").unwrap_err();
    assert_eq!((error.tries(), error.retry_after()), (1, Some(Duration::from_hours(1))));
}

#[tokio::test]
async fn a_client_can_be_told_not_to_try_again() {
    let server = Fake::start().await;
    server.fail_next([unavailable()]);
    let client = server.client().with_retry(RetryPolicy::never());
    assert_eq!(client.publish(Event::new("order.created")).await.unwrap_err().tries(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let nobody = "http://127.0.0.1:9";
    assert!(Client::connect(nobody).await.unwrap_err().is_unavailable());
    let client = impatient(Client::builder(nobody)).connect_lazy().unwrap();
    let error = client.publish(Event::new("order.created")).await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.tries(), 5);
    assert!(error.to_string().contains("the connection to the server failed"), "{error}");
}
