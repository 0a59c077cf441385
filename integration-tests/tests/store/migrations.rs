//! The schema: made, taken down and made again, by several at once, and the same on both databases.

use std::{collections::BTreeMap, sync::Arc};

use postrider_integration_tests::{Kind, TestDatabase, default_tenant, on_both_databases};
use postrider_migrations::Migrator;
use postrider_server::{
    domain::{delivery::DeliveryStatus, event_type::EventType},
    store::{
        self,
        deliveries::DeliveryFilter,
        keyring::{EncryptionKey, Keyring},
        steering::{Refusal, Steered},
    },
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use sea_orm_migration::MigratorTrait;

use crate::{
    fixtures::{DAY, LEASE, NOW, SECOND, a_draft, a_secret, acknowledged, over, retried},
    node::{Node, count, open},
};

async fn migrate(database: &TestDatabase) -> Result<(), store::OpenError> {
    store::migrate(&database.config(), &database.folder()).await
}

/// The columns of each table, and whether they may be null.
async fn schema(kind: Kind, connection: &DatabaseConnection) -> BTreeMap<String, BTreeMap<String, bool>> {
    let sql = match kind {
        Kind::Sqlite => {
            r#"SELECT t.name AS "table", c.name AS "column", c."notnull" = 0 AND c.pk = 0 AS "nullable"
               FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c
               WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"#
        }
        Kind::Postgres => {
            r#"SELECT table_name::text AS "table", column_name::text AS "column", is_nullable = 'YES' AS "nullable"
               FROM information_schema.columns WHERE table_schema = 'public'"#
        }
    };
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let mut schema: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for row in connection.query_all_raw(statement).await.unwrap() {
        let column = row.try_get("", "column").unwrap();
        let table = schema.entry(row.try_get("", "table").unwrap()).or_default();
        table.insert(column, row.try_get("", "nullable").unwrap());
    }
    schema
}

/// Brings an event through every table.
async fn serve(database: &Arc<TestDatabase>) {
    let node = Node::on(Arc::clone(database), EncryptionKey::generate()).await;
    let claim = node.claimed(&node.subscribe("sub").await).await;
    node.settle([acknowledged(&claim, NOW)]).await;
    assert_eq!(node.delivery(claim.delivery).await.state.status(), DeliveryStatus::Succeeded);
    assert_eq!(node.attempts(claim.delivery).await.len(), 1);
    node.store.close().await;
}

on_both_databases! {
    async fn the_schema_is_made_taken_down_and_made_again(kind: Kind) {
        let database = Arc::new(TestDatabase::new(kind).await);
        migrate(&database).await.unwrap();
        serve(&database).await;
        let connection = database.connect().await;
        let first = schema(kind, &connection).await;
        assert_eq!(first.len(), 15, "{:?}", first.keys());
        Migrator::down(&connection, None).await.unwrap();
        let left = schema(kind, &connection).await;
        assert_eq!(left.keys().collect::<Vec<_>>(), ["seaql_migrations"]);
        migrate(&database).await.unwrap();
        assert_eq!(schema(kind, &connection).await, first);
        serve(&database).await;
    }

    async fn large_values_are_compressed_with_lz4_where_the_server_can(kind: Kind) {
        let node = Node::new(kind).await;
        if kind == Kind::Sqlite {
            // It compresses nothing.
            return;
        }
        let connection = node.database.connect().await;
        let sql = "SELECT count(*) FILTER (WHERE attcompression = 'l') AS compressed,
                       (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') AS can
                   FROM pg_attribute
                   WHERE attrelid IN ('payloads'::regclass, 'attempts'::regclass)
                       AND attname IN ('data', 'response_headers', 'response_body')";
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        let can = row.try_get::<bool>("", "can").unwrap();
        assert_eq!(row.try_get::<i64>("", "compressed").unwrap(), if can { 3 } else { 0 });
    }

    async fn indexes_sort_texts_by_their_bytes_whatever_the_locale(kind: Kind) {
        let node = Node::new(kind).await;
        if kind == Kind::Sqlite {
            // It knows no other order, if none is asked for.
            return;
        }
        let connection = node.database.connect().await;
        let sql = r#"SELECT indexrelid::regclass::text AS "index", '"C"'::regcollation = ALL (
                       array_remove(indcollation::oid[], 0::oid)
                   ) AS "by_bytes"
                   FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
                   WHERE relnamespace = current_schema()::regnamespace AND relname <> 'seaql_migrations'"#;
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let indexes = connection.query_all_raw(statement).await.unwrap();
        assert!(indexes.len() > 30, "{}", indexes.len());
        for index in indexes {
            let name: String = index.try_get("", "index").unwrap();
            assert!(index.try_get::<bool>("", "by_bytes").unwrap(), "{name}");
        }
    }

    async fn migrating_again_changes_nothing(kind: Kind) {
        let node = Node::new(kind).await;
        node.subscribe("sub").await;
        let event = node.publish([a_draft()]).await.remove(0);
        let before = schema(kind, &node.database.connect().await).await;
        migrate(&node.database).await.unwrap();
        assert_eq!(schema(kind, &node.database.connect().await).await, before);
        assert!(node.store.event(&default_tenant(), event.id).await.unwrap().is_some());
        node.claim(NOW, 1).await;
    }

    async fn several_nodes_may_migrate_at_once(kind: Kind) {
        let database = Arc::new(TestDatabase::new(kind).await);
        let (a, b, c) = tokio::join!(migrate(&database), migrate(&database), migrate(&database));
        for migrated in [a, b, c] {
            migrated.unwrap();
        }
        serve(&database).await;
    }

    async fn a_migration_that_failed_halfway_can_be_run_again(kind: Kind) {
        let database = Arc::new(TestDatabase::new(kind).await);
        if kind == Kind::Sqlite {
            std::fs::write(database.folder().join("postrider.db"), "").unwrap();
        }
        let connection = database.connect().await;
        // The last index of its migration finds its name taken.
        let in_the_way = "CREATE TABLE stray (id INT); CREATE INDEX deliveries_tenant_id_id ON stray (id)";
        connection.execute_unprepared(in_the_way).await.unwrap();
        let failed = migrate(&database).await;
        assert!(matches!(failed, Err(store::OpenError::Database(_))), "{failed:?}");
        connection.execute_unprepared("DROP TABLE stray").await.unwrap();
        migrate(&database).await.unwrap();
        serve(&database).await;
    }

    async fn what_is_pending_and_what_has_ended_outlive_the_making_of_the_queue(kind: Kind) {
        let node = Node::new(kind).await;
        let sub = node.subscribe("sub").await;
        let (done, retry) = (node.claimed(&sub).await, node.claimed(&sub).await);
        node.settle([acknowledged(&done, NOW), retried(&retry, NOW, NOW + SECOND)]).await;
        let keyed = || a_draft().keyed("key").to([&sub]);
        let in_order = node.publish([keyed(), keyed()]).await;
        let cancelled = node.claim(NOW, 1).await.remove(0);
        assert_eq!(cancelled.event.id, in_order[0].id);
        node.store.cancel(&default_tenant(), cancelled.delivery, NOW).await.unwrap();
        let before = node.list(&DeliveryFilter::default()).await.items;
        assert_eq!(before.len(), 4);

        let connection = node.database.connect().await;
        let before_queue = Migrator::migrations().iter().position(|migration| migration.name().contains("queue"));
        let later = u32::try_from(Migrator::migrations().len() - before_queue.unwrap()).unwrap();
        Migrator::down(&connection, Some(later)).await.unwrap();
        assert_eq!(count(&connection, "SELECT COUNT(*) AS n FROM deliveries WHERE due_at > 0").await, 4, "as it was");
        migrate(&node.database).await.unwrap();

        assert_eq!(format!("{:?}", node.list(&DeliveryFilter::default()).await.items), format!("{before:?}"));
        let refused = node.store.redeliver(&default_tenant(), cancelled.delivery, NOW).await.unwrap();
        assert!(matches!(refused, Steered::Refused(Refusal::AttemptUnderWay)), "{refused:?}");
        let claims = [node.claim(NOW + SECOND, 10).await, node.claim(NOW + LEASE, 1).await].concat();
        let due: Vec<_> = claims.iter().map(|claim| (claim.event.id, claim.attempt.get())).collect();
        assert_eq!(due, [(retry.event.id, 2), (in_order[1].id, 1)]);
    }

    async fn a_database_that_was_not_migrated_is_not_opened(kind: Kind) {
        let database = Arc::new(TestDatabase::new(kind).await);
        let opened = open(&database, Keyring::new(EncryptionKey::generate(), Vec::new())).await;
        assert!(matches!(opened, Err(store::OpenError::Database(_))), "{opened:?}");
    }

    async fn rows_that_contradict_themselves_are_refused_by_the_database(kind: Kind) {
        let node = Node::new(kind).await;
        let subscription = node.subscribe("sub").await;
        let id = &subscription.id;
        node.store.rotate_secret(&default_tenant(), id, &a_secret(2), over(DAY), NOW).await.unwrap();
        let claim = node.claimed(&subscription).await;
        node.settle([retried(&claim, NOW, NOW + SECOND)]).await;
        node.publish([a_draft().later_to([&subscription])]).await;
        let connection = node.database.connect().await;
        for contradiction in [
            "deliveries SET state = 1",
            "deliveries SET state = 1, end_reason = 1",
            "deliveries SET state = 1, ended_at = 1",
            "deliveries SET end_reason = 1",
            "deliveries SET ended_at = 1",
            "deliveries SET attempt_count = 1",
            "pending_deliveries SET attempt_count = -1",
            "pending_deliveries SET position = 1",
            "fan_outs SET position = 1",
            "fan_outs SET ordering_key = 'k'",
            "attempts SET number = 0",
            "attempts SET failure = 1",
            "attempts SET failure_message = 'why'",
            "events SET request_id = 'r'",
            "subscriptions SET disabled_at = 1",
            "subscriptions SET disabled_reason = 1",
            "subscriptions SET tenant_id = 'nobody'",
            "subscription_secrets SET expires_at = NULL",
        ] {
            let updated = connection.execute_unprepared(&format!("UPDATE {contradiction}")).await;
            assert!(updated.is_err(), "{contradiction}");
        }
        // And none of them spoiled anything.
        let retry = node.claim(NOW + SECOND, 1).await.remove(0);
        node.settle([acknowledged(&retry, NOW + SECOND)]).await;
        let ended = node.delivery(claim.delivery).await;
        assert_eq!(ended.state.status(), DeliveryStatus::Succeeded);
        assert_eq!(ended.event_type, EventType::parse("order.created").unwrap());
        assert_eq!(count(&connection, "SELECT COUNT(*) AS n FROM attempts").await, 2);
    }
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = (Node::new(Kind::Sqlite).await, Node::new(Kind::Postgres).await);
    let mut here = schema(Kind::Sqlite, &sqlite.database.connect().await).await;
    let mut there = schema(Kind::Postgres, &postgres.database.connect().await).await;
    // sea-orm's own.
    here.remove("seaql_migrations");
    there.remove("seaql_migrations");
    assert_eq!(here, there);
    assert!(here["deliveries"]["end_reason"], "it may be null");
    assert!(!here["deliveries"]["created_at"], "it may not be null");
}
