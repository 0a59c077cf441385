//! What an error tells.

use std::{error::Error as _, time::Duration};

use postrider_sdk::{Client, Code, Error, Event, Reason};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::Fake;

async fn error_of(status: Status) -> Error {
    let server = Fake::start().await;
    server.fail_next([status]);
    server.client().subscriptions().update("orders").target_url("?").await.unwrap_err()
}

#[tokio::test]
async fn the_wrong_fields_and_the_reason_are_told() {
    let mut details = ErrorDetails::with_bad_request_violation("subscription.target_url", "is not absolute");
    details.set_error_info("INVALID_FIELD", "postrider", std::collections::HashMap::new());
    let status =
        Status::with_error_details(tonic::Code::InvalidArgument, "the subscription is not valid", details);
    let error = error_of(status).await;

    assert!(error.is_invalid_argument());
    assert_eq!(error.reason(), Some(&Reason::InvalidField));
    assert_eq!(error.field_violations().len(), 1);
    assert_eq!(error.field_violations()[0].field, "subscription.target_url");
    assert_eq!(error.field_violations()[0].description, "is not absolute");
    assert_eq!(
        error.to_string(),
        "invalid argument: the subscription is not valid; subscription.target_url: is not absolute"
    );
}

#[tokio::test]
async fn an_error_without_details_still_has_its_code_and_message() {
    let error = error_of(Status::failed_precondition("it is disabled")).await;
    assert!(error.is_failed_precondition());
    assert_eq!((error.message(), error.reason()), ("it is disabled", None));
    assert!(error.source().is_none());
}

#[tokio::test]
async fn the_time_to_wait_is_told() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
    let error = error_of(Status::with_error_details(tonic::Code::Unavailable, "stopping", details)).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn every_predicate_knows_its_code() {
    type Predicate = fn(&Error) -> bool;
    let expected: [(tonic::Code, Code, Predicate); 9] = [
        (tonic::Code::InvalidArgument, Code::InvalidArgument, Error::is_invalid_argument),
        (tonic::Code::NotFound, Code::NotFound, Error::is_not_found),
        (tonic::Code::AlreadyExists, Code::AlreadyExists, Error::is_already_exists),
        (tonic::Code::FailedPrecondition, Code::FailedPrecondition, Error::is_failed_precondition),
        (tonic::Code::Aborted, Code::Aborted, Error::is_aborted),
        (tonic::Code::Unauthenticated, Code::Unauthenticated, Error::is_unauthenticated),
        (tonic::Code::PermissionDenied, Code::PermissionDenied, Error::is_permission_denied),
        (tonic::Code::Unavailable, Code::Unavailable, Error::is_unavailable),
        (tonic::Code::DeadlineExceeded, Code::DeadlineExceeded, Error::is_deadline_exceeded),
    ];
    for (sent, code, predicate) in expected {
        let error = error_of(Status::new(sent, "no")).await;
        assert_eq!(error.code(), code);
        assert!(predicate(&error), "{code}");
        let others = expected.iter().filter(|(other, ..)| *other != sent);
        assert!(others.clone().all(|(.., predicate)| !predicate(&error)), "{code}");
    }
}

#[tokio::test]
async fn a_broken_connection_keeps_its_cause() {
    let error = Client::connect("http://127.0.0.1:9").await.unwrap_err();
    assert!(error.source().is_some());
    assert_eq!(error.reason(), None);
}

#[test]
fn data_that_is_no_json_is_refused_before_anything_is_sent() {
    let not_json = std::collections::HashMap::from([((1, 2), 3)]);
    let error = Event::new("order.created").json(&not_json).unwrap_err();
    assert!(error.is_invalid_argument());
    assert!(error.source().is_some());
}
