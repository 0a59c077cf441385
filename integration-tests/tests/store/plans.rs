//! The plans that PostgreSQL went by. Its module `auto_explain` tells each to the connection that ran the statement, as a notice, with
//! the rows that each step had to do with: so they are those of the very statements, prepared and with their values.

use std::sync::{Mutex, OnceLock, PoisonError};

use sea_orm::ConnectionTrait;
use serde_json::Value;
use tokio::sync::MutexGuard;
use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::{
    Layer, filter,
    layer::{Context, SubscriberExt},
    registry,
};

use crate::node::Node;

/// Whose notices the database's driver reports.
const NOTICES: &str = "sqlx::postgres::notice";

/// All that were told since they were last taken, by whichever test has the turn.
static TOLD: OnceLock<Mutex<Vec<Plan>>> = OnceLock::new();

/// How one statement was run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) statement: String,
    pub(crate) steps: Vec<Step>,
}

/// One step of a plan that reads a table.
#[derive(Debug)]
pub(crate) struct Step {
    /// As PostgreSQL calls it: `Seq Scan`, or `Index Only Scan` with the index and the conditions.
    pub(crate) way: String,
    pub(crate) table: String,
    /// How many rows it looked at, also in vain.
    pub(crate) rows: f64,
}

/// Makes PostgreSQL tell the plan of every statement on connections of this database that are opened from now on. One test at a time is told,
/// until it drops the guard.
pub(crate) async fn tell(node: &Node) -> MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = TURN.lock().await;
    TOLD.get_or_init(|| {
        let notices =
            Notices.with_filter(filter::Targets::new().with_target(NOTICES, filter::LevelFilter::INFO));
        tracing::subscriber::set_global_default(registry().with(notices)).unwrap();
        Mutex::default()
    });
    for (name, value) in [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_level", "notice"),
    ] {
        set(node, name, value).await;
    }
    turn
}

/// Sets a parameter for connections of this database that are opened from now on.
pub(crate) async fn set(node: &Node, name: &str, value: &str) {
    let sql = format!(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = %L', current_database(), '{value}'); END $$"
    );
    node.database.connect().await.execute_unprepared(&sql).await.unwrap();
}

/// The plans of what was run since the last time.
pub(crate) fn take() -> Vec<Plan> {
    let told = TOLD.get().expect("somebody has asked for them");
    std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Listens to the driver.
struct Notices;

impl<S: Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message);
    }
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        read(&format!("{value:?}"));
    }

    fn record_str(&mut self, _: &tracing::field::Field, value: &str) {
        read(value);
    }
}

/// Reads a notice: `duration: 0.1 ms  plan:` and then the plan.
fn read(notice: &str) {
    let Some((_, json)) = notice.split_once("plan:") else { return };
    let plan: Value = serde_json::from_str(json).unwrap();
    let mut steps = Vec::new();
    collect(&plan["Plan"], &mut steps);
    let plan = Plan { statement: plan["Query Text"].as_str().unwrap().to_owned(), steps };
    TOLD.get().unwrap().lock().unwrap_or_else(PoisonError::into_inner).push(plan);
}

/// The steps below a node of a plan.
fn collect(node: &Value, steps: &mut Vec<Step>) {
    let kind = node["Node Type"].as_str().unwrap();
    if let (Some(table), true) = (node["Relation Name"].as_str(), kind.ends_with("Scan")) {
        // Those of each run, which there are several of.
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        let seen = number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck")
            + number("Rows Removed by Join Filter");
        let rows = seen * number("Actual Loops");
        let way = ["Node Type", "Index Name", "Index Cond", "Filter"];
        let way = way.map(|name| node[name].as_str().unwrap_or_default()).join(" | ");
        steps.push(Step { way, table: table.to_owned(), rows });
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        collect(below, steps);
    }
}
