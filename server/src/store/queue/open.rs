//! Which subscriptions are open: those that something is due for and that may be sent to now, each with its room.
//!
//! This is the beginning of two statements: the claim and the look for what is overdue. Their parameters are in [`bound`], by name.

use sea_orm::{Value, prelude::Uuid, sea_query::ArrayType};
use serde_json::json;

use super::{
    bound::{self, AFTER, NOW, PER_SUBSCRIPTION, PER_TENANT, RECENTLY, ROOM, UNTIL},
    special::Admitted,
    stretch::{Stretch, waiting},
};
use crate::{
    dispatch::Ask,
    domain::{handling::Priority, id::SubscriptionUid},
    store::{codes, sendable::SENDABLE},
};

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
    fn condition(self) -> String {
        match self {
            Self::Admitted(_) => {
                "(admitted.uid IS NOT NULL OR blocked_until IS NULL AND rate_per_second IS NULL)".to_owned()
            }
            Self::Admissible => format!(
                "COALESCE(blocked_until, 0) <= {NOW}
                AND (rate_per_second IS NULL OR COALESCE(throttled_until, 0) <= {NOW})"
            ),
        }
    }
}

/// Those of them that may be sent to: how many deliveries this node holds for each, and its room for more. One that was unblocked a short
/// while ago, and that this node has no limit for, begins with one. `least` is the dialect's name for the smallest of several, `lookup` its way
/// to the row of each subscription.
fn open(least: &str, lookup: &str, specials: Specials<'_>) -> String {
    let (special, due) = (specials.condition(), is_due("rooms.uid"));
    format!(
        "open (uid, tenant_id, held, room, tenant_places) AS (
            SELECT * FROM (
                SELECT s.uid, s.tenant_id, COALESCE(held.deliveries, 0),
                    {least}(
                        {least}(
                            {PER_SUBSCRIPTION},
                            COALESCE(s.max_in_flight, {PER_SUBSCRIPTION}),
                            COALESCE(
                                limits.most,
                                CASE WHEN s.recovered_at > {RECENTLY} THEN 1 ELSE {PER_SUBSCRIPTION} END
                            )
                        ) - COALESCE(held.deliveries, 0),
                        COALESCE(admitted.room, {PER_SUBSCRIPTION}),
                        {PER_TENANT} - COALESCE(tenants.places, 0)
                    ) AS room,
                    COALESCE(tenants.places, 0)
                FROM waiting
                {lookup}
                LEFT JOIN held ON held.uid = waiting.uid
                LEFT JOIN limits ON limits.uid = waiting.uid
                LEFT JOIN admitted ON admitted.uid = waiting.uid
                LEFT JOIN tenants ON tenants.id = s.tenant_id
                WHERE {SENDABLE} AND {special}
            ) AS rooms
            WHERE room > 0 AND {due}
        )"
    )
}

/// How many of its deliveries to look at for each open subscription: as many as there is room for, but not many more than its turns can come
/// to. With hundreds of backlogs, looking at all that there is room for is a thousand times the work. It is four times what its part would be,
/// since others may have less to send. The next claim takes what this one did not come to.
pub(super) fn shares(least: &str) -> String {
    format!(
        "shares AS MATERIALIZED (
            SELECT ranked.*, {least}(room, {ROOM}, 1 + 4 * {ROOM} / (max(nth_tenant) OVER () * of_tenant)) AS share
            FROM (
                SELECT open.*, dense_rank() OVER (ORDER BY tenant_id) AS nth_tenant,
                    count(*) OVER (PARTITION BY tenant_id) AS of_tenant
                FROM open
            ) AS ranked
        )"
    )
}

/// Whether a subscription has anything due by now: needs `levels`, of which each is a range of `pending_deliveries_due`. Without an order
/// a planner may look through all that is pending for one that is due.
pub(super) fn is_due(subscription: &str) -> String {
    format!(
        "EXISTS (
            SELECT 1 FROM levels WHERE (
                SELECT due_at FROM pending_deliveries
                WHERE subscription_uid = {subscription} AND priority = levels.priority AND due_at <= {NOW}
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
    /// Those that have [names](bound); then what is held, who is limited, who was admitted, and what is taken of tenants.
    pub(super) values: Vec<Value>,
}

impl Open {
    pub(super) fn postgres(ask: &Ask, stretch: Stretch, specials: Specials<'_>) -> Self {
        let mut values = bound::values(ask, stretch);
        let mut list =
            |kind: ArrayType, items: Vec<Value>| values.push(Value::Array(kind, Some(Box::new(items))));
        let uid = |(uid, _): &(SubscriptionUid, usize)| Value::from(uid.uuid());
        list(ArrayType::Uuid, ask.held.iter().map(uid).collect());
        list(ArrayType::Int, ask.held.iter().map(|(_, count)| bound::integer(*count)).collect());
        list(ArrayType::Uuid, ask.limits.iter().map(uid).collect());
        list(ArrayType::Int, ask.limits.iter().map(|(_, size)| bound::integer(*size)).collect());
        list(ArrayType::Uuid, specials.rooms().iter().map(|(uid, _)| Value::from(*uid)).collect());
        list(ArrayType::Int, specials.rooms().iter().map(|(_, room)| bound::integer(*room)).collect());
        list(ArrayType::String, ask.tenants.iter().map(|(id, _)| Value::from(id.as_str())).collect());
        list(ArrayType::Int, ask.tenants.iter().map(|(_, count)| bound::integer(*count)).collect());
        // One look-up for each: a planner that knows nothing of the table may otherwise read all of it for each of them.
        let lookup = "CROSS JOIN LATERAL (SELECT * FROM subscriptions WHERE uid = waiting.uid LIMIT 1) AS s";
        let open = open("LEAST", lookup, specials);
        let with = format!(
            "held (uid, deliveries) AS (SELECT * FROM unnest($9::uuid[], $10::int[])),
             limits (uid, most) AS (SELECT * FROM unnest($11::uuid[], $12::int[])),
             admitted (uid, room) AS (SELECT * FROM unnest($13::uuid[], $14::int[])),
             tenants (id, places) AS (SELECT * FROM unnest($15::text[], $16::int[])),
             {}, {}, {open}",
            levels(),
            waiting(AFTER, UNTIL)
        );
        Self { with, values }
    }

    pub(super) fn sqlite(ask: &Ask, stretch: Stretch, specials: Specials<'_>) -> Self {
        let mut values = bound::values(ask, stretch);
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
             {}, {}, {open}",
            levels(),
            waiting(AFTER, UNTIL)
        );
        Self { with, values }
    }
}

/// A list of pairs.
fn json(pairs: impl Iterator<Item = serde_json::Value>) -> Value {
    pairs.collect::<serde_json::Value>().to_string().into()
}

fn json_by_uid(pairs: impl Iterator<Item = (Uuid, usize)>) -> Value {
    json(pairs.map(|(uid, number)| json!([uid.simple().to_string(), number])))
}
