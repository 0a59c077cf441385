//! The database is locked, full or gone: nothing is promised that is not kept, and when it is back, so are we.

use std::time::Duration;

use postrider_integration_tests::{Kind, Receiver, Refusal, Refused, TestApp, an_event};
use postrider_proto::v1 as pb;
use postrider_sdk::{Reason, RetryPolicy, model::DeliveryState};
use postrider_server::readiness::NotReady;
use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tonic::Code;
use tonic_types::StatusExt;

use crate::ways::Way;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_gone_publishing_is_unavailable_and_afterwards_it_is_not() {
    let app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    let name = app.subscribe(&receiver).await.subscription.name;
    app.tick().await;
    app.look().await.unwrap();

    app.database.go_away().await;
    assert_unavailable(&app).await;
    for error in [
        app.client.events().list().page().await.unwrap_err(),
        app.client.subscriptions().get(&name).await.unwrap_err(),
        app.client.subscriptions().pause(&name).await.unwrap_err(),
        app.client.deliveries().list().page().await.unwrap_err(),
    ] {
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(error.reason(), Some(&Reason::StoreUnavailable));
    }
    app.try_tick().await.unwrap_err();
    assert_eq!(app.look().await, Err(NotReady::Database));

    app.database.come_back().await;
    assert_works(&app, &receiver).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_ended_while_postgres_was_gone_is_recorded_when_it_is_back() {
    let app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    let gate = receiver.gate();
    app.subscribe(&receiver).await;
    app.client.publish(an_event()).await.unwrap();
    receiver.arrived(1).await;
    app.database.go_away().await;
    gate.open();
    app.try_tick().await.unwrap_err();
    app.database.come_back().await;
    app.run_until_idle().await;
    let delivery = app.client.deliveries().list().page().await.unwrap().items.remove(0);
    assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 1));
    assert_eq!(receiver.requests().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_tries_again_until_postgres_is_back() {
    let app = TestApp::start(Kind::Postgres).await;
    let patient = app.client.with_retry(RetryPolicy::default().with_max_tries(100));
    app.database.go_away().await;
    let (published, ()) = tokio::join!(Way::One.publish(&patient, an_event()), async {
        // Answered after the first try of the other, as it came after it.
        app.client.publish(an_event()).await.unwrap_err();
        app.database.come_back().await;
    });
    let published = published.unwrap();
    assert_eq!(app.client.events().get(&published.event).await.unwrap().event_type, "order.created");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_table_is_locked_in_postgres_publishing_is_unavailable() {
    let app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    app.subscribe(&receiver).await;
    let lock = app.database.connect().await.begin().await.unwrap();
    let sql = "LOCK TABLE pending_deliveries IN ACCESS EXCLUSIVE MODE";
    lock.execute_unprepared(sql).await.unwrap();
    let (refused, tick) = tokio::join!(refusal(&app), app.try_tick());
    assert_eq!(refused, unavailable());
    tick.unwrap_err();
    app.advance(Duration::from_secs(11));
    assert_eq!(app.look().await, Err(NotReady::Starting), "it has never claimed");
    lock.rollback().await.unwrap();
    assert_works(&app, &receiver).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sqlite_is_locked_publishing_is_unavailable_and_afterwards_it_is_not() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    app.subscribe(&receiver).await;
    app.tick().await;
    app.look().await.unwrap();

    let exclusive = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Exclusive),
        ..TransactionOptions::default()
    };
    let lock = app.database.connect().await.begin_with_options(exclusive).await.unwrap();
    let (refused, tick) = tokio::join!(refusal(&app), app.try_tick());
    assert_eq!(refused, unavailable());
    assert_eq!(tick.unwrap(), 0, "nothing is due, and looking needs no lock");
    assert!(app.client.events().list().page().await.unwrap().items.is_empty(), "what only looks goes on");
    assert_eq!(app.look().await, Err(NotReady::Database));

    lock.rollback().await.unwrap();
    assert_works(&app, &receiver).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_full_publishing_is_unavailable() {
    let app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    app.subscribe(&receiver).await;
    let connection = app.database.connect().await;
    refuse_events(&connection, "disk_full").await;
    assert_unavailable(&app).await;
    connection.execute_unprepared("DROP TRIGGER refuse ON events").await.unwrap();
    assert_works(&app, &receiver).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_for_no_passing_reason_is_our_defect() {
    let app = TestApp::start(Kind::Postgres).await;
    refuse_events(&app.database.connect().await, "check_violation").await;
    assert_eq!(refusal(&app).await, Refusal::new(Code::Internal, "INTERNAL"));
    let error = app.client.publish(an_event()).await.unwrap_err();
    assert!(!error.to_string().contains("refuse"), "what the database said is for the log: {error}");
    app.stop().await;
}

/// Nothing can be published, in no way, and the caller is told when to come again.
async fn assert_unavailable(app: &TestApp) {
    let status = app.raw().events.publish_event(publish()).await.unwrap_err();
    assert_eq!(Refusal::from(&status), unavailable());
    let retry = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(retry > Duration::ZERO && retry <= Duration::from_mins(1), "{retry:?}");
    for way in Way::ALL {
        let error = way.publish(&app.client, an_event()).await.unwrap_err();
        assert!(error.is_unavailable(), "{way:?}: {error}");
        assert_eq!(error.reason(), Some(&Reason::StoreUnavailable), "{way:?}");
    }
}

/// Publishing, delivering and readiness are back, and what was refused has left nothing behind.
async fn assert_works(app: &TestApp, receiver: &Receiver) {
    assert!(app.client.events().list().page().await.unwrap().items.is_empty());
    for way in Way::ALL {
        way.publish(&app.client, an_event()).await.unwrap();
    }
    app.run_until_idle().await;
    assert_eq!(receiver.requests().len(), 3);
    assert_eq!(app.look().await, Ok(()));
}

fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "STORE_UNAVAILABLE")
}

fn publish() -> pb::PublishEventRequest {
    let event = pb::Event { r#type: "a.b".to_owned(), data: "{}".into(), ..pb::Event::default() };
    pb::PublishEventRequest {
        parent: "tenants/default".to_owned(),
        event: Some(event),
        request_id: String::new(),
    }
}

async fn refusal(app: &TestApp) -> Refusal {
    app.raw().events.publish_event(publish()).await.refusal()
}

/// Makes PostgreSQL refuse every new event with this condition (its manual's appendix A).
async fn refuse_events(connection: &sea_orm::DatabaseConnection, condition: &str) {
    let function = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{condition}'; END $$"
    );
    connection.execute_unprepared(&function).await.unwrap();
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON events EXECUTE FUNCTION refuse()";
    connection.execute_unprepared(trigger).await.unwrap();
}
