//! The queue in a table of its own: what changes while a delivery is pending, and is found by its due date, is apart from what is kept of
//! it. A row of `deliveries` is written twice, once when it is published and once when it ends; no index knows of the second time, so
//! PostgreSQL changes the row in its place. That an ended delivery left the index of what is pending made it write every index again,
//! which was half of what a delivery cost it.
//!
//! Makes the whole table anew. Nodes of an earlier version can do nothing meanwhile, and nothing afterwards: stop them first.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend, Statement},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The indexes of what was pending in `deliveries`.
const INDEXES: [(&str, &[&str], &str); 3] = [
    ("deliveries_pending", &["subscription_uid", "priority", "due_at"], "state = 0"),
    (
        "deliveries_lanes",
        &["subscription_uid", "ordering_key", "position"],
        "state = 0 AND position IS NOT NULL",
    ),
    ("deliveries_expiring", &["expire_at"], "state = 0 AND expire_at IS NOT NULL"),
];

/// What PostgreSQL does first: whoever publishes or settles now has to wait, or it would be lost between two looks. (SQLite has one writer.)
const ALONE: &str = "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE";

/// Puts everything that is pending into the queue.
const ENQUEUE: &str = "
    INSERT INTO pending_deliveries (id, event_id, subscription_uid, attempt_count, due_at, priority, ordering_key, position, expire_at,
        last_traceparent)
    SELECT id, event_id, subscription_uid, attempt_count, due_at, priority, ordering_key, position, expire_at, last_traceparent
    FROM deliveries WHERE state = 0";

/// A row of `deliveries` as it becomes, in the order of [`after`].
const AFTER: &str = "
    SELECT id, event_id, subscription_uid, tenant_id, state, created_at, end_reason, ended_at,
        CASE WHEN state <> 0 THEN attempt_count END AS attempt_count,
        CASE WHEN due_at > ended_at THEN due_at END AS leased_until,
        CASE WHEN state <> 0 THEN last_traceparent END AS last_traceparent
    FROM deliveries_kept";

/// A row of `deliveries` as it was, in the order of [`before`].
const BEFORE: &str = "
    SELECT d.id, d.event_id, d.subscription_uid, d.tenant_id, d.state, d.created_at, d.end_reason, d.ended_at,
        COALESCE(p.attempt_count, d.attempt_count, 0) AS attempt_count,
        COALESCE(p.due_at, d.leased_until, d.ended_at, d.created_at) AS due_at,
        COALESCE(p.last_traceparent, d.last_traceparent) AS last_traceparent, COALESCE(p.priority, e.priority, 0) AS priority,
        COALESCE(p.ordering_key, e.ordering_key) AS ordering_key, p.position, COALESCE(p.expire_at, e.expire_at) AS expire_at
    FROM deliveries_kept AS d LEFT JOIN pending_deliveries AS p ON p.id = d.id LEFT JOIN events AS e ON e.id = d.event_id";

/// Room in each block for its rows to change in their place, also if they get the span of an attempt (188 bytes instead of 108). And the queue
/// turns over all the time: it is rid of what has ended nearly whenever PostgreSQL looks.
const POSTGRES: &str = "
    ALTER TABLE deliveries SET (fillfactor = 35);
    ALTER TABLE pending_deliveries SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000);
    ANALYZE deliveries, pending_deliveries";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock(manager).await?;
        create_queue(manager).await?;
        manager.get_connection().execute_unprepared(ENQUEUE).await?;
        replace(manager, clustered(manager, after()), AFTER).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(POSTGRES).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock(manager).await?;
        replace(manager, before(), BEFORE).await?;
        for (name, columns, condition) in INDEXES {
            let mut index = Index::create();
            index.name(name).table("deliveries").and_where(Expr::cust(condition));
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        manager.drop_table(Table::drop().table("pending_deliveries").to_owned()).await
    }
}

async fn lock(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DbBackend::Postgres => manager.get_connection().execute_unprepared(ALONE).await.map(drop),
        _ => Ok(()),
    }
}

async fn create_queue(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut queue = Table::create();
    queue
        .table("pending_deliveries")
        // The delivery's.
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("event_id").uuid().not_null())
        .col(ColumnDef::new("subscription_uid").uuid().not_null())
        .col(ColumnDef::new("attempt_count").integer().not_null())
        .col(ColumnDef::new("due_at").big_integer().not_null())
        .col(ColumnDef::new("priority").small_integer().not_null())
        .col(ColumnDef::new("ordering_key").text())
        .col(ColumnDef::new("position").big_integer())
        .col(ColumnDef::new("expire_at").big_integer())
        // The span of the latest attempt, for the next one to link to.
        .col(ColumnDef::new("last_traceparent").text())
        .check(Expr::cust("attempt_count >= 0"))
        .check(Expr::cust("position IS NULL OR ordering_key IS NOT NULL"));
    manager.create_table(clustered(manager, queue)).await?;
    // The claim reads this one: which subscriptions have something pending, and what of each is due.
    let due = Index::create()
        .name("pending_deliveries_due")
        .table("pending_deliveries")
        .col("subscription_uid")
        .col("priority")
        .col("due_at")
        .to_owned();
    manager.create_index(due).await?;
    // Finds the next one of a lane.
    let lanes = Index::create()
        .name("pending_deliveries_lanes")
        .table("pending_deliveries")
        .col("subscription_uid")
        .col("ordering_key")
        .col("position")
        .and_where(Expr::col("position").is_not_null())
        .to_owned();
    manager.create_index(lanes).await?;
    // Finds what has expired, without a look at what never expires.
    let expiring = Index::create()
        .name("pending_deliveries_expiring")
        .table("pending_deliveries")
        .col("expire_at")
        .and_where(Expr::col("expire_at").is_not_null())
        .to_owned();
    manager.create_index(expiring).await
}

/// SQLite keeps the rows of a table in the index of their ids if it is told to; else it keeps both. PostgreSQL cannot.
fn clustered(manager: &SchemaManager<'_>, mut table: TableCreateStatement) -> TableCreateStatement {
    if manager.get_database_backend() == DbBackend::Sqlite {
        table.extra("WITHOUT ROWID");
    }
    table
}

/// Columns that `deliveries` has before and after.
fn common() -> TableCreateStatement {
    Table::create()
        .table("deliveries")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("event_id").uuid().not_null())
        .col(ColumnDef::new("subscription_uid").uuid().not_null())
        .col(ColumnDef::new("tenant_id").text().not_null())
        .col(ColumnDef::new("state").small_integer().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("end_reason").small_integer())
        .col(ColumnDef::new("ended_at").big_integer())
        // State 0 is pending; every other state is an end and has a reason and a time.
        .check(Expr::cust("(state = 0) = (end_reason IS NULL)"))
        .check(Expr::cust("(state = 0) = (ended_at IS NULL)"))
        .check(Expr::cust("attempt_count >= 0"))
        .to_owned()
}

fn after() -> TableCreateStatement {
    common()
        // How many there were in the end.
        .col(ColumnDef::new("attempt_count").integer())
        // If it was ended while an attempt may have been under way: until when that may go on.
        .col(ColumnDef::new("leased_until").big_integer())
        .col(ColumnDef::new("last_traceparent").text())
        .check(Expr::cust("(state = 0) = (attempt_count IS NULL)"))
        .to_owned()
}

fn before() -> TableCreateStatement {
    common()
        .col(ColumnDef::new("attempt_count").integer().not_null())
        .col(ColumnDef::new("due_at").big_integer().not_null())
        .col(ColumnDef::new("last_traceparent").text())
        .col(ColumnDef::new("priority").small_integer().not_null().default(0))
        .col(ColumnDef::new("ordering_key").text())
        .col(
            ColumnDef::new("position")
                .big_integer()
                .check(Expr::cust("position IS NULL OR ordering_key IS NOT NULL")),
        )
        .col(ColumnDef::new("expire_at").big_integer())
        .to_owned()
}

/// Makes `deliveries` anew: SQLite cannot change what a column may hold.
async fn replace(manager: &SchemaManager<'_>, table: TableCreateStatement, rows: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    for index in connection.query_all_raw(indexes(manager.get_database_backend())).await? {
        let name: String = index.try_get("", "name")?;
        connection.execute_unprepared(&format!("DROP INDEX {name}")).await?;
    }
    manager.rename_table(Table::rename().table("deliveries", "deliveries_kept").to_owned()).await?;
    if manager.get_database_backend() == DbBackend::Postgres {
        // Its name is taken otherwise.
        let rename = "ALTER INDEX deliveries_pkey RENAME TO deliveries_kept_pkey";
        connection.execute_unprepared(rename).await?;
    }
    manager.create_table(table).await?;
    connection.execute_unprepared(&format!("INSERT INTO deliveries {rows}")).await?;
    manager.drop_table(Table::drop().table("deliveries_kept").to_owned()).await?;
    for (name, column) in [
        ("deliveries_event_id_id", "event_id"),
        ("deliveries_subscription_uid_id", "subscription_uid"),
        ("deliveries_tenant_id_id", "tenant_id"),
    ] {
        let listing = Index::create().name(name).table("deliveries").col(column).col("id").to_owned();
        manager.create_index(listing).await?;
    }
    Ok(())
}

/// Asks for the indexes of `deliveries` but that of its ids.
fn indexes(backend: DbBackend) -> Statement {
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT indexname::text AS name FROM pg_indexes
             WHERE schemaname = current_schema() AND tablename = 'deliveries' AND indexname <> 'deliveries_pkey'"
        }
        _ => "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'deliveries' AND sql IS NOT NULL",
    };
    Statement::from_string(backend, sql)
}
