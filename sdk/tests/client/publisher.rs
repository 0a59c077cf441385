//! The streaming publisher: backpressure, and no loss when the stream breaks.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use postrider_proto::v1 as pb;
use postrider_sdk::Event;
use tonic::Status;

use crate::fake::{Fake, unavailable};

fn numbered(n: usize) -> Event {
    Event::new(format!("type.{n}")).request_id(n.to_string())
}

fn item_error(code: tonic::Code) -> pb::ItemError {
    pb::ItemError { code: code.into(), message: "no".to_owned(), ..pb::ItemError::default() }
}

#[tokio::test]
async fn events_are_answered_one_by_one_over_one_stream() {
    let server = Fake::start().await;
    let publisher = server.client().publisher();
    for n in 0..3 {
        let ack = publisher.publish(numbered(n)).await.unwrap();
        assert_eq!(ack.await.unwrap().event_id(), n.to_string());
    }
    publisher.close().await.unwrap();
    assert_eq!(server.methods(), ["PublishEventStream"]);
}

#[tokio::test]
async fn publish_waits_while_too_many_events_are_without_an_answer() {
    let server = Fake::start().await;
    server.hold_answers();
    let publisher = server.client().publisher().with_max_in_flight(2);
    let first = publisher.publish(numbered(0)).await.unwrap();
    let _second = publisher.publish(numbered(1)).await.unwrap();
    let mut third = pin!(publisher.publish(numbered(2)));
    assert!(third.as_mut().now_or_never().is_none());
    server.answer(1);
    first.await.unwrap();
    let third = third.await.unwrap();
    server.answer(2);
    third.await.unwrap();
}

#[tokio::test]
async fn a_publish_that_was_given_up_while_it_waited_takes_nothing() {
    let server = Fake::start().await;
    server.hold_answers();
    let publisher = server.client().publisher().with_max_in_flight(1);
    let first = publisher.publish(numbered(0)).await.unwrap();
    assert!(publisher.publish(numbered(1)).now_or_never().is_none());
    server.answer(2);
    first.await.unwrap();
    publisher.publish(numbered(2)).await.unwrap().await.unwrap();
    assert_eq!(server.stored(), ["0", "2"]);
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_nothing_is_lost_or_doubled() {
    let server = Fake::start().await;
    server.break_next_stream(2, unavailable());
    server.break_next_stream(0, unavailable());
    server.break_next_stream(3, Status::unavailable("stopping"));
    let publisher = server.client().publisher();
    let mut acks = Vec::new();
    for n in 0..20 {
        acks.push(publisher.publish(numbered(n)).await.unwrap());
    }
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.request_id(), n.to_string());
        assert_eq!(ack.await.unwrap().event_id(), n.to_string());
    }
    publisher.close().await.unwrap();
    assert_eq!(server.methods().len(), 4);
    assert_eq!(server.stored(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_sets_the_count_of_tries_back() {
    let server = Fake::start().await;
    for _ in 0..10 {
        server.break_next_stream(1, unavailable());
    }
    let publisher = server.client().publisher();
    let mut acks = Vec::new();
    for n in 0..11 {
        acks.push(publisher.publish(numbered(n)).await.unwrap());
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_makes_no_progress_is_given_up_and_the_publisher_stays_usable() {
    let server = Fake::start().await;
    for _ in 0..5 {
        server.break_next_stream(0, unavailable());
    }
    let publisher = server.client().publisher();
    let error = publisher.publish(numbered(0)).await.unwrap().await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.tries(), 5);
    publisher.publish(numbered(1)).await.unwrap().await.unwrap();
    publisher.close().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_is_not_opened_again() {
    let server = Fake::start().await;
    server.break_next_stream(0, Status::unauthenticated("who are you"));
    let publisher = server.client().publisher();
    let error = publisher.publish(numbered(0)).await.unwrap().await.unwrap_err();
    assert!(error.is_unauthenticated());
    assert_eq!(server.methods().len(), 1);
}

#[tokio::test]
async fn an_event_that_is_refused_does_not_end_the_stream() {
    let server = Fake::start().await;
    server.refuse_next("type.0", item_error(tonic::Code::InvalidArgument));
    let publisher = server.client().publisher();
    let refused = publisher.publish(numbered(0)).await.unwrap();
    let taken = publisher.publish(numbered(1)).await.unwrap();
    assert!(refused.await.unwrap_err().is_invalid_argument());
    taken.await.unwrap();
    assert_eq!(server.methods().len(), 1);
}

#[tokio::test]
async fn an_event_that_could_not_be_stored_at_the_moment_is_sent_again() {
    let server = Fake::start().await;
    server.refuse_next("type.0", item_error(tonic::Code::Unavailable));
    let publisher = server.client().publisher();
    let first = publisher.publish(numbered(0)).await.unwrap();
    let second = publisher.publish(numbered(1)).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    publisher.close().await.unwrap();
    assert_eq!(server.methods().len(), 2);
}

#[tokio::test]
async fn close_waits_for_everything_and_tells_what_nobody_heard() {
    let server = Fake::start().await;
    server.refuse_next("type.1", item_error(tonic::Code::InvalidArgument));
    let publisher = server.client().publisher();
    for n in 0..3 {
        drop(publisher.publish(numbered(n)).await.unwrap());
    }
    assert!(publisher.close().await.unwrap_err().is_invalid_argument());
    assert_eq!(server.stored(), ["0", "2"]);
}

#[tokio::test]
async fn a_publisher_that_was_dropped_still_sends_what_it_took() {
    let server = Fake::start().await;
    let publisher = server.client().publisher();
    let ack = publisher.publish(numbered(0)).await.unwrap();
    drop(publisher);
    ack.await.unwrap();
}

#[tokio::test]
async fn a_server_that_falls_silent_is_tried_again_on_another_stream_and_given_up_in_the_end() {
    let server = Fake::start().await;
    server.hold_answers();
    let publisher = server.client().with_timeout(Duration::from_millis(20)).publisher();
    let error = publisher.publish(numbered(0)).await.unwrap().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(error.tries() > 1, "{error}");
}

#[tokio::test]
async fn a_stream_may_be_idle_for_longer_than_a_call_may_take() {
    let server = Fake::start().await;
    let client = server.client().with_timeout(Duration::from_millis(500));
    let publisher = client.publisher();
    publisher.publish(numbered(0)).await.unwrap().await.unwrap();
    server.hold_answers();
    assert!(client.events().get("evt_1").await.unwrap_err().is_deadline_exceeded());
    server.answer(10);
    publisher.publish(numbered(1)).await.unwrap().await.unwrap();
    assert_eq!(server.stored(), ["0", "1"]);
}

#[tokio::test]
async fn a_publisher_that_published_nothing_opens_no_stream() {
    let server = Fake::start().await;
    server.client().publisher().close().await.unwrap();
    assert!(server.calls().is_empty());
}
