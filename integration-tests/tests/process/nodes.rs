//! Several nodes on one database.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use postrider_integration_tests::{Kind, ProcessBuilder, Receiver, TestDatabase, an_event};
use postrider_sdk::Subscription;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

/// What all nodes of one database must be told.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn node(database: &TestDatabase) -> ProcessBuilder {
    ProcessBuilder::serve(database).with("POSTRIDER_SECRETS_KEYS", KEY)
}

#[tokio::test]
async fn nodes_that_start_at_once_on_an_empty_database_do_not_collide() {
    let database = TestDatabase::new(Kind::Postgres).await;
    let (a, b, c) = tokio::join!(node(&database).start(), node(&database).start(), node(&database).start());
    for process in [a, b, c] {
        process.client().await.subscriptions().list().page().await.unwrap();
        assert_eq!(process.stop().await.code, Some(0));
    }
}

#[tokio::test]
async fn a_node_that_is_killed_leaves_its_deliveries_to_the_others() {
    let database = TestDatabase::new(Kind::Postgres).await;
    let short = |node: ProcessBuilder| {
        node.with("POSTRIDER_SENDER_TIMEOUT", "1s")
            .with("POSTRIDER_SENDER_CONNECT_TIMEOUT", "1s")
            .with("POSTRIDER_DISPATCH_LEASE", "6s")
    };
    let (doomed, other) = tokio::join!(short(node(&database)).start(), short(node(&database)).start());
    let receiver = Receiver::start().await;
    let gate = receiver.gate();
    let client = doomed.client().await;
    client.subscriptions().create(Subscription::to(receiver.url()).event_types(["**"])).await.unwrap();
    let mut published = HashSet::new();
    for _ in 0..10 {
        published.insert(client.publish(an_event()).await.unwrap().event_id().to_owned());
    }
    receiver.arrived(10).await;
    doomed.kill().await;
    gate.open();
    receiver.arrived(20).await;
    let again: HashSet<_> = receiver.webhook_ids().split_off(10).into_iter().collect();
    assert_eq!(again, published);
    assert_eq!(other.stop().await.code, Some(0));
}

#[tokio::test]
async fn what_a_full_node_leaves_over_goes_to_another_one_before_its_poll() {
    let database = TestDatabase::new(Kind::Postgres).await;
    let busy = |node: ProcessBuilder| {
        node.with("POSTRIDER_DISPATCH_POLL_INTERVAL", "1m")
            // The attempt that fills the node does not end by itself while we look.
            .with("POSTRIDER_SENDER_TIMEOUT", "50s")
            .with("POSTRIDER_DISPATCH_MAX_IN_FLIGHT", "1")
            .with("POSTRIDER_DISPATCH_MAX_IN_FLIGHT_PER_TENANT", "1")
            .with("POSTRIDER_DISPATCH_MAX_IN_FLIGHT_PER_SUBSCRIPTION", "1")
            .with("POSTRIDER_DISPATCH_MAX_QUEUED", "0")
            .with("POSTRIDER_DISPATCH_MAX_QUEUED_PER_SUBSCRIPTION", "0")
    };
    let (full, free) = tokio::join!(busy(node(&database)).start(), busy(node(&database)).start());
    let receiver = Receiver::start().await;
    let gate = receiver.gate();
    let client = full.client().await;
    client.subscriptions().create(Subscription::to(receiver.url()).event_types(["**"])).await.unwrap();
    // Whoever has only just started may not listen yet.
    let listening = database.connect().await;
    let count = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    while listening
        .query_one_raw(Statement::from_string(DbBackend::Postgres, count))
        .await
        .unwrap()
        .unwrap()
        .try_get::<i64>("", "n")
        .unwrap()
        < 2
    {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    client.publish(an_event()).await.unwrap();
    client.publish(an_event()).await.unwrap();
    receiver.arrived(2).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it was left to the poll");
    gate.open();
    assert_eq!(full.stop().await.code, Some(0));
    assert_eq!(free.stop().await.code, Some(0));
}
