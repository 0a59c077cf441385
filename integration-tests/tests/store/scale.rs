//! With a million deliveries waiting, the statements of the hot path do no more work than with none: what PostgreSQL counts of their
//! blocks and rows is in proportion to what they return, and their [plans] go by indexes. So it is for a table that was never analysed, for
//! one that was, and with the plans that PostgreSQL makes for whatever values may come.

use postrider_integration_tests::Kind;
use postrider_server::{
    dispatch::{Ask, Queue},
    domain::{subscription::Subscription, trace_context::TraceContext},
    publish::fan_out::FanOuts,
    store::Retention,
};
use sea_orm::{ConnectionTrait, Statement};

use crate::{
    fixtures::{LEASE, NOW, a_draft, acknowledged, ask, name},
    node::Node,
    plans::{self, Plan},
};

/// How many of one event's deliveries wait for each of two subscriptions, of which one is blocked.
const WAITING: u64 = 500_000;
/// How many of them have ended for the third.
const HISTORY: u64 = 200_000;
/// How many subscriptions more have backlogs in the end, and how long these are.
const BACKLOGS: u64 = 200;
const BACKLOG: u64 = 500;
/// How many subscriptions have ended, and nothing waits for them.
const ENDED: u64 = 10_000;
/// What a row may cost, in blocks: a descent in each index of its table, and room for what the tables of a new database cost by themselves.
const BLOCKS_PER_ROW: i64 = 60;
/// What a row may cost, in rows that are looked at: those of the event, its data, its delivery and those beside it in the index.
const ROWS_PER_ROW: f64 = 6.0;
/// The tables that grow with what is published.
const LARGE: [&str; 5] = ["events", "payloads", "deliveries", "pending_deliveries", "attempts"];
/// Small tables may be read as a whole.
const ROWS_READ_IN_PASSING: i64 = 100;

/// What PostgreSQL has done for the tables of a database.
struct Work {
    blocks: i64,
    rows_of_scans: i64,
}

/// How many rows were read by scans of whole tables so far.
pub(crate) async fn rows_of_scans(node: &Node) -> i64 {
    work(node).await.rows_of_scans
}

/// What has been done so far. Connections tell of their work when they end, so they are ended.
async fn work(node: &Node) -> Work {
    let connection = node.database.connect().await;
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    connection.execute_unprepared(end).await.unwrap();
    let sql = "SELECT
            (SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint FROM pg_statio_user_tables
             WHERE relname IN ('deliveries', 'pending_deliveries', 'events', 'payloads', 'attempts')) AS blocks,
            (SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables) AS rows";
    let row = connection.query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, sql)).await;
    let row = row.unwrap().unwrap();
    Work { blocks: row.try_get("", "blocks").unwrap(), rows_of_scans: row.try_get("", "rows").unwrap() }
}

/// Does something, and judges what it cost.
async fn costs<T>(node: &Node, what: &str, rows: i64, step: impl AsyncFnOnce(&Node) -> T) -> T {
    let before = work(node).await;
    plans::take();
    let result = step(node).await;
    go_by_indexes(what, rows, &plans::take());
    let after = work(node).await;
    let (blocks, scanned) = (after.blocks - before.blocks, after.rows_of_scans - before.rows_of_scans);
    assert!(blocks > 0, "{what}: nothing was counted");
    assert!(blocks <= rows * BLOCKS_PER_ROW, "{what}: {blocks} blocks for {rows} rows");
    assert!(scanned <= ROWS_READ_IN_PASSING, "{what}: {scanned} rows were read by scans of whole tables");
    result
}

/// Judges the plans of what was done.
fn go_by_indexes(what: &str, rows: i64, plans: &[Plan]) {
    let steps = plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| (step, &plan.statement)));
    let mut looked_at = 0.0;
    for (step, statement) in steps.filter(|(step, _)| LARGE.contains(&&*step.table)) {
        assert!(!step.way.starts_with("Seq Scan"), "{what}: {step:?} of {statement}");
        looked_at += step.rows;
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let most = rows as f64 * ROWS_PER_ROW;
    assert!(looked_at <= most, "{what}: {looked_at} rows were looked at for {rows}: {plans:#?}");
    assert!(
        plans.iter().any(|plan| LARGE.iter().any(|table| plan.statement.contains(table))),
        "{what}: none was told"
    );
}

/// Adds many deliveries of one event: `ended` has their state, reason, time and number of attempts. Those that have not ended wait in the queue.
async fn pile_up(node: &Node, subscription: &Subscription, deliveries: u64, ended: &str) {
    let events = node.publish([a_draft().to([subscription])]).await;
    node.execute(&format!(
        "WITH new AS (
             INSERT INTO deliveries (id, event_id, subscription_uid, tenant_id, created_at, state, end_reason, ended_at, attempt_count)
             SELECT gen_random_uuid(), '{}', '{}', 'default', 0, {ended} FROM generate_series(1, {deliveries})
             RETURNING *
         )
         INSERT INTO pending_deliveries (id, event_id, subscription_uid, attempt_count, due_at, priority)
         SELECT id, event_id, subscription_uid, 0, {} - row_number() OVER (), 0 FROM new WHERE state = 0",
        events[0].id.uuid(),
        subscription.uid.uuid(),
        NOW.as_micros(),
    ))
    .await;
}

async fn the_hot_path(node: &Node, quiet: &Subscription) {
    let drafts = || (0..100).map(|_| a_draft().to([quiet]));
    costs(node, "publish", 100, async |node| node.publish(drafts()).await).await;
    let keyed = || (0..100).map(|nth| a_draft().keyed(&format!("key {}", nth % 20)).to([quiet]));
    costs(node, "publish in order", 100, async |node| node.publish(keyed()).await).await;
    let claims = costs(node, "claim", 200, async |node| node.claim_as(&ask(NOW, 200)).await).await;
    assert_eq!(claims.len(), 200);
    let settled = claims.iter().map(|claim| acknowledged(claim, NOW));
    let settling = costs(node, "settle", 200, async |node| node.settle(settled).await).await;
    assert!(settling.lost.is_empty());
    let overdue = ask(NOW, 1);
    costs(node, "look for what is overdue", 10, async |node| node.store.overdue(&overdue).await.unwrap())
        .await;
}

/// Many subscriptions have more waiting than a claim can take of all of them.
async fn many_backlogs(node: &Node, waiting: &Subscription) {
    node.execute(&format!(
        "INSERT INTO subscriptions
         SELECT (jsonb_populate_record(s, jsonb_build_object('uid', gen_random_uuid(), 'id', 'backlog' || n))).*
         FROM subscriptions AS s, generate_series(1, {BACKLOGS}) AS n WHERE s.id = '{}'",
        waiting.id.as_str(),
    ))
    .await;
    node.execute(&format!(
        "WITH new AS (
             INSERT INTO deliveries (id, event_id, subscription_uid, tenant_id, created_at, state)
             SELECT gen_random_uuid(), (SELECT id FROM events LIMIT 1), uid, tenant_id, 0, 0
             FROM subscriptions, generate_series(1, {BACKLOG}) WHERE id LIKE 'backlog%'
             RETURNING *
         )
         INSERT INTO pending_deliveries (id, event_id, subscription_uid, attempt_count, due_at, priority)
         SELECT id, event_id, subscription_uid, 0, {} - row_number() OVER (), 0 FROM new",
        NOW.as_micros(),
    ))
    .await;
    // Each subscription is a row as well: it is looked at whether anything is due for it.
    let rows = i64::try_from(BACKLOGS).unwrap() + 100;
    let wide = Ask { max_per_subscription: 1_000, ..ask(NOW, 100) };
    let claims = costs(node, "claim of many backlogs", rows, async |node| node.claim_as(&wide).await).await;
    assert_eq!(claims.len(), 100);
}

/// Looks that find nothing: nobody's deliveries are to end, and nothing is old.
async fn housekeeping(node: &Node) {
    let (store, retention) = (&node.store, Retention::default());
    costs(node, "look for who has ended", 10, async |_| store.sweep(NOW).await.unwrap()).await;
    costs(node, "look for orphans", 10, async |_| store.end_orphans(NOW).await.unwrap()).await;
    costs(node, "look for what has expired", 10, async |_| store.expire(NOW).await.unwrap()).await;
    costs(node, "look for what is old", 10, async |_| store.prune(&retention, NOW).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_deliveries_make_nothing_slower() {
    let node = Node::new(Kind::Postgres).await;
    let (busy, dead, quiet) =
        (node.subscribe("busy").await, node.subscribe("dead").await, node.subscribe("quiet").await);
    let limited = node.subscribe("limited").await;
    node.subscribe("ended").await;
    for waiting in [&busy, &dead] {
        pile_up(&node, waiting, WAITING, "0, NULL, NULL, NULL").await;
    }
    pile_up(&node, &quiet, HISTORY, "1, 1, 0, 1").await;
    let _told = plans::tell(&node).await;
    node.execute(&format!(
        "UPDATE subscriptions SET blocked_until = {}, blocked_reason = 'it is dead', failing_since = 0 WHERE id = '{}'",
        i64::MAX,
        name("dead").as_str()
    ))
    .await;
    // Claims have to look whom they may send to.
    pile_up(&node, &limited, 10, "0, NULL, NULL, NULL").await;
    node.execute("UPDATE subscriptions SET rate_per_second = 100, rate_burst = 100 WHERE id = 'limited'")
        .await;
    node.execute("UPDATE subscriptions SET disabled_at = 0, disabled_reason = 1 WHERE id = 'ended'").await;
    node.execute(&format!(
        "INSERT INTO subscriptions
         SELECT (jsonb_populate_record(s, jsonb_build_object('uid', gen_random_uuid(), 'deleted_at', 1))).*
         FROM subscriptions AS s, generate_series(1, {ENDED}) WHERE s.id = 'ended'"
    ))
    .await;
    the_hot_path(&node, &quiet).await;
    housekeeping(&node).await;
    node.execute("ANALYZE").await;
    the_hot_path(&node, &quiet).await;
    housekeeping(&node).await;
    plans::set(&node, "plan_cache_mode", "force_generic_plan").await;
    the_hot_path(&node, &quiet).await;
    housekeeping(&node).await;
    many_backlogs(&node, &quiet).await;
}

/// An event with the key of a long line of parts goes behind them, and the first of them is taken with those that come along.
async fn the_ends_of_a_line(node: &Node, subscription: &Subscription) {
    // By new connections, which know what is to be told.
    work(node).await;
    plans::take();
    let keyed = || (0..10).map(|nth| a_draft().keyed(&format!("key {}", nth % 5)).to([subscription]));
    node.publish(keyed()).await;
    let leased_until = NOW + LEASE;
    let parts = node.store.take_parts(None, NOW, leased_until).await.unwrap();
    assert_eq!(parts.len(), 101);
    node.store.give_back(&parts[0], leased_until).await.unwrap();
    let plans = plans::take();
    let steps = plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| (step, &plan.statement)));
    let mut looked_at = 0.0;
    for (step, statement) in steps.filter(|(step, _)| step.table == "fan_outs") {
        assert!(!step.way.starts_with("Seq Scan"), "{step:?} of {statement}");
        looked_at += step.rows;
    }
    // What came along was looked at once; the rest are the ends of lines.
    assert!((101.0..150.0).contains(&looked_at), "{looked_at} rows: {plans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_of_parts_makes_its_ends_no_slower() {
    let node = Node::new(Kind::Postgres).await;
    let subscription = node.subscribe("sub").await;
    node.publish([a_draft().keyed("key 0").later_to([&subscription])]).await;
    node.execute(
        "INSERT INTO fan_outs (event_id, number, tenant_id, due_at, subscriptions, ordering_key, position)
         SELECT event_id, nth, tenant_id, due_at, subscriptions, ordering_key, nth
         FROM fan_outs, generate_series(2, 20000) AS nth",
    )
    .await;
    let _told = plans::tell(&node).await;
    the_ends_of_a_line(&node, &subscription).await;
    node.execute("ANALYZE").await;
    the_ends_of_a_line(&node, &subscription).await;
    plans::set(&node, "plan_cache_mode", "force_generic_plan").await;
    the_ends_of_a_line(&node, &subscription).await;
}

#[tokio::test]
async fn what_ends_changes_in_its_place() {
    let node = Node::new(Kind::Postgres).await;
    let sub = node.subscribe("sub").await;
    node.publish((0..100).map(|_| a_draft().to([&sub]))).await;
    let claims = node.claim(NOW, 100).await;
    // With the spans of their attempts they grow most.
    let span = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "");
    let settled = claims.iter().map(|claim| {
        let mut settled = acknowledged(claim, NOW);
        settled.attempt.as_mut().unwrap().span.clone_from(&span);
        settled
    });
    node.settle(settled).await;
    // Connections tell of their work when they end.
    work(&node).await;
    let sql = "SELECT n_tup_upd AS changed, n_tup_hot_upd AS in_place FROM pg_stat_user_tables WHERE relname = 'deliveries'";
    let connection = node.database.connect().await;
    let row = connection.query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, sql)).await;
    let row = row.unwrap().unwrap();
    let (changed, in_place): (i64, i64) =
        (row.try_get("", "changed").unwrap(), row.try_get("", "in_place").unwrap());
    assert_eq!((changed, in_place), (100, 100), "an index was written again for each of the others");
}
