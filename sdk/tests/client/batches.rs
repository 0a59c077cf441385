//! Batches: an answer for each event, and as many calls as it takes.

use postrider_proto::v1 as pb;
use postrider_sdk::{Event, Reason};

use crate::fake::{Fake, unavailable};

fn item_error(code: tonic::Code, reason: pb::ErrorReason) -> pb::ItemError {
    let violation = pb::FieldViolation { field: "event.type".to_owned(), description: "is empty".to_owned() };
    pb::ItemError {
        code: code.into(),
        message: "no".to_owned(),
        reason: reason.into(),
        field_violations: vec![violation],
    }
}

fn numbered(events: usize) -> impl Iterator<Item = Event> {
    (0..events).map(|n| Event::new(format!("type.{n}")).request_id(n.to_string()))
}

#[tokio::test]
async fn a_large_batch_goes_out_in_several_calls_and_comes_back_in_order() {
    let server = Fake::start().await;
    let results = server.client().publish_batch(numbered(2_500)).await;
    assert_eq!(results.len(), 2_500);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.as_ref().unwrap().event_id(), n.to_string());
    }
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn an_event_that_is_refused_does_not_fail_its_neighbours() {
    let server = Fake::start().await;
    server.refuse_next("type.1", item_error(tonic::Code::InvalidArgument, pb::ErrorReason::InvalidField));
    let results = server.client().publish_batch(numbered(3)).await;
    let error = results[1].as_ref().unwrap_err();
    assert!(error.is_invalid_argument());
    assert_eq!(error.reason(), Some(&Reason::InvalidField));
    assert_eq!(error.field_violations()[0].field, "event.type");
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn only_what_could_not_be_stored_at_the_moment_is_sent_again() {
    let server = Fake::start().await;
    server.refuse_next("type.1", item_error(tonic::Code::Unavailable, pb::ErrorReason::StoreUnavailable));
    let results = server.client().publish_batch(numbered(3)).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|published| !published.duplicate)));
    let sent: Vec<_> = server.calls().into_iter().map(|call| call.request_ids).collect();
    assert_eq!(sent, [vec!["0", "1", "2"], vec!["1"]]);
}

#[tokio::test]
async fn a_batch_whose_call_fails_is_tried_again_with_the_same_request_ids() {
    let server = Fake::start().await;
    server.fail_next([unavailable()]);
    let results = server.client().publish_batch((0..3).map(|_| Event::new("order.created"))).await;
    assert!(results.iter().all(Result::is_ok));
    let calls = server.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].request_ids, calls[1].request_ids);
}

#[tokio::test]
async fn a_batch_that_cannot_be_published_fails_every_event() {
    let server = Fake::start().await;
    server.fail_next(std::iter::repeat_with(unavailable).take(5));
    let results = server.client().publish_batch(numbered(2)).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|error| error.tries() == 5)));
}

#[tokio::test]
async fn an_empty_batch_makes_no_call() {
    let server = Fake::start().await;
    assert!(server.client().publish_batch([]).await.is_empty());
    assert!(server.calls().is_empty());
}
