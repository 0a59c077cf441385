//! What passes is told from what does not: the database locked, read-only, gone, or holding nonsense.
//!
//! A full disk is not here: a test without privileges has no honest way to fill one. That the codes for it pass is
//! tested where the codes are, in the server's `store/error.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use postrider_integration_tests::{Kind, TestDatabase, default_tenant, on_both_databases};
use postrider_server::{
    dispatch::{Queue, QueueError},
    domain::{catalogue::TypeSpec, event_type::EventType, subscription::Description},
    publish::{Fate, Journal, JournalError, fan_out::FanOuts},
    store::{
        self, Error, OpenError, Retention,
        deliveries::DeliveryFilter,
        event_types::Creation,
        keyring::{EncryptionKey, Keyring},
    },
};
use sea_orm::{
    ConnectionTrait, DbBackend, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

use crate::{
    fixtures::{DAY, NOW, a_draft, a_secret, a_spec, acknowledged, ask, name, one_page, tenant},
    node::Node,
};

/// As `store::database::PATIENCE`, less what a coarse clock may miss.
const PATIENCE: Duration = Duration::from_millis(4_900);

/// Cuts the node's connections to PostgreSQL, as a restart of the server would.
async fn cut_connections(node: &Node) {
    let connection = node.database.connect().await;
    let cut = Statement::from_string(
        DbBackend::Postgres,
        "SELECT pg_terminate_backend(pid, 5000) AS cut FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'postrider'",
    );
    let cut = connection.query_all_raw(cut).await.unwrap();
    assert!(!cut.is_empty(), "the node has connections");
    assert!(cut.iter().all(|row| row.try_get::<bool>("", "cut").unwrap()));
}

async fn set_read_only(node: &Node, read_only: &str) {
    let name = node.database.url().rsplit('/').next().unwrap();
    let alter = format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}");
    let connection = node.database.connect().await;
    let transaction = connection.begin().await.unwrap();
    transaction.execute_unprepared("SET TRANSACTION READ WRITE").await.unwrap();
    transaction.execute_unprepared(&alter).await.unwrap();
    transaction.commit().await.unwrap();
    cut_connections(node).await;
}

fn a_keyring() -> Keyring {
    Keyring::new(EncryptionKey::generate(), Vec::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_is_unavailable_and_recovers() {
    let node = Node::new(Kind::Sqlite).await;
    let subscription = node.subscribe("sub").await;
    let batch = node.batch([a_draft().to([&subscription])]).await;
    let other = node.database.connect().await;
    let exclusive = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Exclusive),
        ..TransactionOptions::default()
    };
    let lock = other.begin_with_options(exclusive).await.unwrap();
    let begun = Instant::now();
    let refused = node.store.commit(&batch).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() > PATIENCE, "{:?}", begun.elapsed());
    let pinged = node.store.ping().await;
    assert!(matches!(pinged, Err(Error::Unavailable(_))), "{pinged:?}");
    node.subscription(&subscription).await;
    lock.rollback().await.unwrap();
    assert_eq!(node.commit_batch(&batch).await, [Fate::Stored]);
    assert_eq!(node.claim(NOW, 10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_for_what_is_old_needs_nobody_to_stop_writing() {
    let node = Node::new(Kind::Sqlite).await;
    // It waits, however old it is.
    node.publish([a_draft().to([&node.subscribe("sub").await])]).await;
    let other = node.database.connect().await;
    let writing = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let lock = other.begin_with_options(writing).await.unwrap();
    assert_eq!(node.store.prune(&Retention::default(), NOW + DAY * 100).await.unwrap(), 0);
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_postgres_is_unavailable_and_recovers() {
    let node = Node::new(Kind::Postgres).await;
    let subscription = node.subscribe("sub").await;
    let claim = node.claimed(&subscription).await;
    let batch = node.batch([a_draft().to([&subscription])]).await;
    let settled = [acknowledged(&claim, NOW)];
    let (tenant, id, spec, secret) = (default_tenant(), name("late"), a_spec(), a_secret(1));
    let (filter, retention, asked) = (DeliveryFilter::default(), Retention::default(), ask(NOW, 10));
    let other = node.database.connect().await;
    let lock = other.begin().await.unwrap();
    let tables = "tenants, subscriptions, subscription_secrets, events, payloads, deliveries, attempts";
    lock.execute_unprepared(&format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    let begun = Instant::now();
    let (commit, claimed, settling, created, listed, steered, swept, pruned) = tokio::join!(
        node.store.commit(&batch),
        node.store.claim(&asked),
        node.store.settle(&settled),
        node.store.create_subscription(&tenant, Some(id.clone()), &spec, &secret, NOW),
        node.store.deliveries(&filter, one_page()),
        node.store.cancel(&tenant, claim.delivery, NOW),
        node.store.sweep(NOW),
        node.store.prune(&retention, NOW + DAY * 100),
    );
    assert!(begun.elapsed() > PATIENCE, "{:?}", begun.elapsed());
    assert!(matches!(commit, Err(JournalError::Unavailable(_))), "{commit:?}");
    assert!(matches!(claimed, Err(QueueError::Unavailable(_))), "{claimed:?}");
    assert!(matches!(settling, Err(QueueError::Unavailable(_))), "{settling:?}");
    assert!(matches!(created, Err(Error::Unavailable(_))), "{created:?}");
    assert!(matches!(listed, Err(Error::Unavailable(_))), "{listed:?}");
    assert!(matches!(steered, Err(Error::Unavailable(_))), "{steered:?}");
    assert!(matches!(swept, Err(Error::Unavailable(_))), "{swept:?}");
    assert!(matches!(pruned, Err(Error::Unavailable(_))), "{pruned:?}");
    node.store.ping().await.unwrap();
    lock.rollback().await.unwrap();
    assert_eq!(node.commit_batch(&batch).await, [Fate::Stored]);
    assert!(node.settle(settled).await.lost.is_empty());
    assert_eq!(node.claim(NOW, 10).await.len(), 1);
    let created = node.store.create_subscription(&tenant, Some(id), &spec, &secret, NOW).await;
    created.unwrap().expect("nothing of the first try was left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_listings_use_all_connections_that_read_all_else_goes_on() {
    let node = Node::new(Kind::Postgres).await;
    let subscription = node.subscribe("sub").await;
    node.publish([a_draft().later_to([&subscription])]).await;
    node.pause(&subscription).await;
    let other = node.database.connect().await;
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let filter = DeliveryFilter::default();
    let listings = join_all((0..10).map(|_| node.store.deliveries(&filter, one_page())));
    let begun = Instant::now();
    let asked = ask(NOW, 10);
    // In this order: the listings wait for the lock when all else begins.
    let (listed, pinged, overdue, backlog, part, swept, expired, orphans, hint) = tokio::join!(
        listings,
        node.store.ping(),
        node.store.overdue(&asked),
        node.store.fan_out_backlog(NOW),
        node.store.take_parts(None, NOW, NOW + DAY),
        node.store.sweep(NOW),
        node.store.expire(NOW),
        node.store.end_orphans(NOW),
        node.store.hint(),
    );
    assert!(begun.elapsed() > PATIENCE, "{:?}", begun.elapsed());
    assert!(listed.iter().all(|listed| matches!(listed, Err(Error::Unavailable(_)))), "{listed:?}");
    pinged.unwrap();
    overdue.unwrap();
    backlog.unwrap();
    assert_eq!(part.unwrap().len(), 1, "the event is owed to a subscription");
    assert_eq!((swept.unwrap(), expired.unwrap(), orphans.unwrap()), (0, 0, 0));
    hint.unwrap();
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_changes_wait_for_a_lock_claims_go_on() {
    let node = Node::new(Kind::Postgres).await;
    let (locked, quiet) = (node.subscribe("locked").await, node.subscribe("quiet").await);
    node.publish([a_draft().to([&quiet])]).await;
    let other = node.database.connect().await;
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("SELECT 1 FROM subscriptions WHERE id = 'locked' FOR UPDATE").await.unwrap();
    let tenant = default_tenant();
    let changes = join_all((0..10).map(|_| node.store.pause_subscription(&tenant, &locked.id, NOW)));
    let asked = ask(NOW, 10);
    let (changes, trouble, claimed) =
        tokio::join!(changes, node.store.trouble(NOW), node.store.claim(&asked));
    assert!(changes.iter().all(|change| matches!(change, Err(Error::Unavailable(_)))), "{changes:?}");
    assert!(trouble.unwrap().blocked.is_empty());
    assert_eq!(claimed.unwrap().claims.len(), 1);
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_catalogue_locks_tenants_in_the_order_of_everybody() {
    let node = Node::new(Kind::Postgres).await;
    // In the table they stand the other way round.
    for id in ["b", "a"] {
        node.subscribe_in(&tenant(id), "sub").await;
    }
    let other = node.database.connect().await;
    let lock = other.begin().await.unwrap();
    let raise = |id: &str| format!("UPDATE tenants SET subscriptions_version = 9 WHERE id = '{id}'");
    lock.execute_unprepared(&raise("a")).await.unwrap();
    let event_type = EventType::parse("order.created").unwrap();
    let spec = TypeSpec {
        description: Description::parse("").unwrap(),
        group: String::new(),
        schemas: BTreeMap::new(),
        current_version: None,
        enforce: false,
        deprecated: false,
    };
    let goes_on = async {
        let waits = "SELECT 1 AS one FROM pg_locks WHERE NOT granted";
        while lock.query_one_raw(Statement::from_string(DbBackend::Postgres, waits)).await.unwrap().is_none()
        {
            tokio::task::yield_now().await;
        }
        lock.execute_unprepared(&raise("b")).await?;
        lock.commit().await
    };
    let (created, went_on) = tokio::join!(node.store.create_event_type(&event_type, &spec, NOW), goes_on);
    went_on.unwrap();
    assert!(matches!(created, Ok(Creation::Done(_))), "{created:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_connections_were_cut_the_next_call_succeeds() {
    let node = Node::new(Kind::Postgres).await;
    let subscription = node.subscribe("sub").await;
    let batch = node.batch([a_draft().to([&subscription])]).await;
    cut_connections(&node).await;
    assert_eq!(node.commit_batch(&batch).await, [Fate::Stored]);
    cut_connections(&node).await;
    assert_eq!(node.claim(NOW, 10).await.len(), 1);
    cut_connections(&node).await;
    node.store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_has_become_read_only_is_unavailable_and_recovers() {
    // As after a failover to a standby.
    let node = Node::new(Kind::Postgres).await;
    let subscription = node.subscribe("sub").await;
    let claim = node.claimed(&subscription).await;
    let batch = node.batch([a_draft().to([&subscription])]).await;
    set_read_only(&node, "on").await;
    let refused = node.store.commit(&batch).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    let refused = node.store.claim(&ask(NOW, 10)).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    let settled = [acknowledged(&claim, NOW)];
    let refused = node.store.settle(&settled).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    let refused = node.store.pause_subscription(&subscription.tenant, &subscription.id, NOW).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    node.subscription(&subscription).await;
    set_read_only(&node, "off").await;
    assert_eq!(node.commit_batch(&batch).await, [Fate::Stored]);
    assert!(node.settle(settled).await.lost.is_empty());
}

#[tokio::test]
async fn an_sqlite_that_may_only_be_read_is_not_opened() {
    let database = TestDatabase::new(Kind::Sqlite).await;
    store::migrate(&database.config(), &database.folder()).await.unwrap();
    let config = store::Config { url: format!("{}?mode=ro", database.url()), ..database.config() };
    let opened = store::Store::open(&config, &database.folder(), a_keyring(), NOW).await;
    assert!(matches!(opened, Err(OpenError::Database(_))), "{opened:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_not_opened_and_not_touched() {
    let database = TestDatabase::new(Kind::Sqlite).await;
    let file = database.folder().join("postrider.db");
    let text = "Dear diary, ".repeat(1_000);
    std::fs::write(&file, &text).unwrap();
    let migrated = store::migrate(&database.config(), &database.folder()).await;
    assert!(matches!(migrated, Err(OpenError::Database(_))), "{migrated:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

on_both_databases! {
    async fn a_database_that_is_not_there_is_not_opened(kind: Kind) {
        let database = TestDatabase::new(kind).await;
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", database.folder().join("missing/postrider.db").display()),
            Kind::Postgres => format!("{}_missing", database.url()),
        };
        let config = store::Config { url, ..database.config() };
        let opened = store::Store::open(&config, &database.folder(), a_keyring(), NOW).await;
        assert!(matches!(opened, Err(OpenError::Database(_))), "{opened:?}");
    }

    async fn a_closed_store_is_unavailable(kind: Kind) {
        let node = Node::new(kind).await;
        let batch = node.batch([a_draft()]).await;
        node.store.clone().close().await;
        let refused = node.store.commit(&batch).await;
        assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
        let refused = node.store.ping().await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert_eq!(node.another().await.commit_batch(&batch).await, [Fate::Stored]);
    }

    async fn a_missing_table_does_not_pass(kind: Kind) {
        let node = Node::new(kind).await;
        let batch = node.batch([a_draft()]).await;
        node.execute("DROP TABLE payloads").await;
        let refused = node.store.commit(&batch).await;
        assert!(matches!(refused, Err(JournalError::Broken(_))), "{refused:?}");
        assert_eq!(node.count("events").await, 0);
    }

    async fn a_row_that_makes_no_sense_is_named(kind: Kind) {
        let node = Node::new(kind).await;
        let claim = node.claimed(&node.subscribe("sub").await).await;
        node.settle([acknowledged(&claim, NOW)]).await;
        node.execute("UPDATE deliveries SET end_reason = 99").await;
        let read = node.store.delivery(&default_tenant(), claim.delivery).await;
        assert!(matches!(read, Err(Error::Corrupt { table: "deliveries", .. })), "{read:?}");
        // Failed, but because it was acknowledged?
        node.execute("UPDATE deliveries SET end_reason = 1, state = 2").await;
        let read = node.store.delivery(&default_tenant(), claim.delivery).await;
        assert!(matches!(read, Err(Error::Corrupt { table: "deliveries", .. })), "{read:?}");
        node.execute("UPDATE deliveries SET state = 1; UPDATE attempts SET outcome = 3").await;
        let read = node.store.attempts(&default_tenant(), claim.delivery, 0, 10).await;
        assert!(matches!(read, Err(Error::Corrupt { table: "attempts", .. })), "{read:?}");
    }

    async fn a_subscription_that_cannot_be_read_keeps_no_other_from_being_served(kind: Kind) {
        let node = Node::new(kind).await;
        let (broken, whole) = (node.subscribe("broken").await, node.subscribe("whole").await);
        node.publish([a_draft().to([&broken, &whole])]).await;
        node.execute("UPDATE subscriptions SET target_url = 'nonsense' WHERE id = 'broken'").await;
        let claims = node.claim(NOW, 10).await;
        assert_eq!(claims.iter().map(|claim| &claim.target.id).collect::<Vec<_>>(), [&whole.id]);
    }
}
