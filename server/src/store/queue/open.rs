//! Which subscriptions are open: those that something is due for and that may be sent to now, each with its room.
//!
//! They are found by skipping through the index of the queue, from one subscription to the next, whatever their
//! backlogs: one that is paused, blocked or saturated costs one step, also with a million deliveries waiting.
//!
//! A claim looks at some hundred of them, and the next one goes on where it ended, so that the cost of a claim has a bound
//! however many subscriptions wait.
//!
//! This is the beginning of two statements: the claim and the look for what is overdue.

use sea_orm::{ConnectionTrait, DbErr, Statement, Value, prelude::Uuid, sea_query::ArrayType};
use serde_json::json;

use super::special::Admitted;
use crate::{
    dispatch::{Ask, RECOVERY},
    domain::{handling::Priority, id::SubscriptionUid},
    store::{codes, sendable::SENDABLE},
};

/// The most deliveries of one claim: bounds its transaction, its memory, and how many values its statements carry.
pub(super) const MAX_CLAIMED: usize = 500;

/// How many subscriptions one claim looks at: bounds the time that it takes, and that others may have to wait for it.
const WINDOW: usize = 500;

/// Subscriptions with anything pending, from `$7` (exclusive) to `$8`: each step finds the next greater uid in `pending_deliveries_due`,
/// and asks for the whole order of that index.
///
/// Name it once in a statement that wants only the first of them: SQLite makes all rows of what is named twice.
const WAITING: &str = "
    waiting (uid) AS (
        SELECT * FROM (
            SELECT subscription_uid FROM pending_deliveries
            WHERE subscription_uid > $7 AND subscription_uid <= $8
            ORDER BY subscription_uid, priority, due_at LIMIT 1
        ) AS first
        UNION ALL
        SELECT (
            SELECT subscription_uid FROM pending_deliveries
            WHERE subscription_uid > waiting.uid AND subscription_uid <= $8
            ORDER BY subscription_uid, priority, due_at LIMIT 1
        )
        FROM waiting WHERE waiting.uid IS NOT NULL
    )";

/// What to make of subscriptions that are blocked or have a rate limit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Specials<'a> {
    /// They are open as far as they were admitted.
    Admitted(&'a Admitted),
    /// They are open if they could be admitted now.
    Admissible,
}

impl<'a> Specials<'a> {
    /// How much of each was admitted.
    fn rooms(self) -> &'a [(Uuid, usize)] {
        match self {
            Self::Admitted(admitted) => &admitted.rooms,
            Self::Admissible => &[],
        }
    }

    /// What must be true of an open one.
    const fn condition(self) -> &'static str {
        match self {
            Self::Admitted(_) => {
                "(admitted.uid IS NOT NULL OR blocked_until IS NULL AND rate_per_second IS NULL)"
            }
            Self::Admissible => {
                "COALESCE(blocked_until, 0) <= $1 AND (rate_per_second IS NULL OR COALESCE(throttled_until, 0) <= $1)"
            }
        }
    }
}

/// A range of subscriptions by their uids, without its beginning and with its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) after: Uuid,
    pub(super) until: Uuid,
    /// Whether none of them has anything pending.
    pub(super) is_empty: bool,
}

/// [`WAITING`] with other names for its parameters.
pub(in crate::store) fn waiting_between(after: &str, until: &str) -> String {
    WAITING.replace("$7", after).replace("$8", until)
}

impl Window {
    /// All there are.
    pub(super) const ALL: Self = Self { after: Uuid::nil(), until: Uuid::max(), is_empty: false };

    /// The next ones of those that have anything pending, as many as a claim looks at.
    pub(super) async fn after(connection: &impl ConnectionTrait, after: Uuid) -> Result<Self, DbErr> {
        let sql = format!(
            "WITH RECURSIVE {}
             SELECT (SELECT uid FROM waiting WHERE uid IS NOT NULL LIMIT 1 OFFSET {}) AS last,
                 NOT EXISTS (
                     SELECT 1 FROM pending_deliveries WHERE subscription_uid > $1 AND subscription_uid <= $2
                 ) AS is_empty",
            waiting_between("$1", "$2"),
            WINDOW - 1
        );
        let values = [after.into(), Uuid::max().into()];
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        let (mut last, mut is_empty) = (None, true);
        for row in connection.query_all_raw(statement).await? {
            (last, is_empty) = (row.try_get::<Option<Uuid>>("", "last")?, row.try_get("", "is_empty")?);
        }
        Ok(Self { after, until: last.unwrap_or(Uuid::max()), is_empty })
    }

    /// Whether it is the end of the range of all, behind which the first one comes.
    pub(super) fn is_last(self) -> bool {
        self.until == Uuid::max()
    }

    /// Whether a look that began behind `begin` is once around with it.
    pub(super) fn comes_around_to(self, begin: Uuid) -> bool {
        self.until >= begin && (self.after < begin || begin.is_nil() && self.is_last())
    }
}

/// Those of them that may be sent to: how many deliveries this node holds for each, and its room for more. One that was unblocked a short
/// while ago, and that this node has no limit for, begins with one. `{least}` is the dialect's name for the smallest of several,
/// `{lookup}` its way to the row of each subscription, `{sendable}` is [`SENDABLE`], `{special}` is of [`Specials`], `{due}` is [`is_due`].
const OPEN: &str = "
    open (uid, tenant_id, held, room, tenant_places) AS (
        SELECT * FROM (
            SELECT s.uid, s.tenant_id, COALESCE(held.deliveries, 0),
                {least}(
                    {least}(
                        $3,
                        COALESCE(s.max_in_flight, $3),
                        COALESCE(limits.most, CASE WHEN s.recovered_at > $5 THEN 1 ELSE $3 END)
                    ) - COALESCE(held.deliveries, 0),
                    COALESCE(admitted.room, $3),
                    $6 - COALESCE(tenants.places, 0)
                ) AS room,
                COALESCE(tenants.places, 0)
            FROM waiting
            {lookup}
            LEFT JOIN held ON held.uid = waiting.uid
            LEFT JOIN limits ON limits.uid = waiting.uid
            LEFT JOIN admitted ON admitted.uid = waiting.uid
            LEFT JOIN tenants ON tenants.id = s.tenant_id
            WHERE {sendable} AND {special}
        ) AS rooms
        WHERE room > 0 AND {due}
    )";

/// How many of its deliveries to look at for each open subscription: as many as there is room for, but not many more than its turns can come
/// to. With hundreds of backlogs, looking at all that there is room for is a thousand times the work. It is four times what its part would be,
/// since others may have less to send. The next claim takes what this one did not come to.
pub(super) fn shares(least: &str) -> String {
    format!(
        "shares AS MATERIALIZED (
            SELECT ranked.*, {least}(room, $4, 1 + 4 * $4 / (max(nth_tenant) OVER () * of_tenant)) AS share
            FROM (
                SELECT open.*, dense_rank() OVER (ORDER BY tenant_id) AS nth_tenant,
                    count(*) OVER (PARTITION BY tenant_id) AS of_tenant
                FROM open
            ) AS ranked
        )"
    )
}

/// Whether a subscription has anything due at `$1`: needs `levels`, of which each is a range of `pending_deliveries_due`. Without an order
/// a planner may look through all that is pending for one that is due.
pub(super) fn is_due(subscription: &str) -> String {
    format!(
        "EXISTS (
            SELECT 1 FROM levels WHERE (
                SELECT due_at FROM pending_deliveries
                WHERE subscription_uid = {subscription} AND priority = levels.priority AND due_at <= $1
                ORDER BY due_at LIMIT 1
            ) IS NOT NULL
        )"
    )
}

/// The levels of priority, each with its handicap in microseconds.
pub(super) fn levels() -> String {
    let level = |priority: Priority| {
        let handicap = priority.handicap().as_micros();
        format!("(CAST({} AS smallint), CAST({handicap} AS bigint))", codes::priority_code(priority))
    };
    format!("levels (priority, handicap) AS (VALUES {})", Priority::ALL.map(level).join(", "))
}

/// The tables `open` and `levels` of a statement, and its parameters.
pub(super) struct Open {
    /// What comes after `WITH RECURSIVE`.
    pub(super) with: String,
    /// `$1` now, `$2` the end of the lease, `$3` room per subscription, `$4` room of the node, `$5` since when a recovery is a
    /// recent one, `$6` room per tenant, `$7` and `$8` the window; then what is held, who is limited, who was admitted, and
    /// what is taken of tenants.
    pub(super) values: Vec<Value>,
}

impl Open {
    pub(super) fn postgres(ask: &Ask, window: Window, specials: Specials<'_>) -> Self {
        let mut values = parameters(ask, window);
        let mut list =
            |kind: ArrayType, items: Vec<Value>| values.push(Value::Array(kind, Some(Box::new(items))));
        let uid = |(uid, _): &(SubscriptionUid, usize)| Value::from(uid.uuid());
        list(ArrayType::Uuid, ask.held.iter().map(uid).collect());
        list(ArrayType::Int, ask.held.iter().map(|(_, count)| integer(*count)).collect());
        list(ArrayType::Uuid, ask.limits.iter().map(uid).collect());
        list(ArrayType::Int, ask.limits.iter().map(|(_, size)| integer(*size)).collect());
        list(ArrayType::Uuid, specials.rooms().iter().map(|(uid, _)| Value::from(*uid)).collect());
        list(ArrayType::Int, specials.rooms().iter().map(|(_, room)| integer(*room)).collect());
        list(ArrayType::String, ask.tenants.iter().map(|(id, _)| Value::from(id.as_str())).collect());
        list(ArrayType::Int, ask.tenants.iter().map(|(_, count)| integer(*count)).collect());
        // One look-up for each: a planner that knows nothing of the table may otherwise read all of it for each of them.
        let lookup = "CROSS JOIN LATERAL (SELECT * FROM subscriptions WHERE uid = waiting.uid LIMIT 1) AS s";
        let open = open("LEAST", lookup, specials);
        let with = format!(
            "held (uid, deliveries) AS (SELECT * FROM unnest($9::uuid[], $10::int[])),
             limits (uid, most) AS (SELECT * FROM unnest($11::uuid[], $12::int[])),
             admitted (uid, room) AS (SELECT * FROM unnest($13::uuid[], $14::int[])),
             tenants (id, places) AS (SELECT * FROM unnest($15::text[], $16::int[])),
             {}, {WAITING}, {open}",
            levels()
        );
        Self { with, values }
    }

    pub(super) fn sqlite(ask: &Ask, window: Window, specials: Specials<'_>) -> Self {
        let mut values = parameters(ask, window);
        // Materialised, and with types, so that SQLite can make an index for each; else it goes through all of one for each row of the
        // others. There are no arrays, and a statement takes no more than 32,766 values.
        let held = ask.held.iter().map(|(uid, count)| (uid.uuid(), *count));
        let limits = ask.limits.iter().map(|(uid, size)| (uid.uuid(), *size));
        values.extend([
            json_by_uid(held),
            json_by_uid(limits),
            json_by_uid(specials.rooms().iter().copied()),
        ]);
        values.push(json(ask.tenants.iter().map(|(id, count)| json!([id.as_str(), count]))));
        let by_uid = "SELECT CAST(unhex(value ->> 0) AS BLOB), value ->> 1";
        // In this order: it cannot know that there are far fewer of those that wait.
        let lookup = "CROSS JOIN subscriptions AS s ON s.uid = waiting.uid";
        let open = open("min", lookup, specials);
        let with = format!(
            "held (uid, deliveries) AS MATERIALIZED ({by_uid} FROM json_each($9)),
             limits (uid, most) AS MATERIALIZED ({by_uid} FROM json_each($10)),
             admitted (uid, room) AS MATERIALIZED ({by_uid} FROM json_each($11)),
             tenants (id, places) AS MATERIALIZED (SELECT CAST(value ->> 0 AS TEXT), value ->> 1 FROM json_each($12)),
             {}, {WAITING}, {open}",
            levels()
        );
        Self { with, values }
    }
}

fn open(least: &str, lookup: &str, specials: Specials<'_>) -> String {
    OPEN.replace("{least}", least)
        .replace("{lookup}", lookup)
        .replace("{due}", &is_due("rooms.uid"))
        .replace("{sendable}", SENDABLE)
        .replace("{special}", specials.condition())
}

fn parameters(ask: &Ask, window: Window) -> Vec<Value> {
    vec![
        ask.now.as_micros().into(),
        ask.leased_until.as_micros().into(),
        integer(ask.max_per_subscription),
        integer(ask.max.min(MAX_CLAIMED)),
        ask.now.before(RECOVERY).as_micros().into(),
        integer(ask.max_per_tenant),
        window.after.into(),
        window.until.into(),
    ]
}

/// A list of pairs.
fn json(pairs: impl Iterator<Item = serde_json::Value>) -> Value {
    pairs.collect::<serde_json::Value>().to_string().into()
}

fn json_by_uid(pairs: impl Iterator<Item = (Uuid, usize)>) -> Value {
    json(pairs.map(|(uid, number)| json!([uid.simple().to_string(), number])))
}

fn integer(count: usize) -> Value {
    i32::try_from(count).unwrap_or(i32::MAX).into()
}
