//! Takes due deliveries over.
//!
//! One statement: find the subscriptions that have anything pending (skipping through the index from one to the next, whatever
//! their backlogs), leave out those that may not or cannot be sent to, take the most overdue of each as far as it has
//! room, round by round until the node has none (an attempt that is under way counts as a round that the subscription has had),
//! tenants taking turns in the same way, and push their due date behind the lease. A paused, blocked or saturated
//! subscription with a million deliveries costs one step. Who is blocked or limited to a rate is looked at
//! before ([`health`]).
//!
//! The most overdue of a subscription are found level by level of their [`Priority`], each a range of the index, and put in one order
//! by their due dates with the handicap of their level. What waits for an earlier delivery of its lane is never due. What has expired is
//! ended instead of returned.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Statement, Value,
    prelude::Uuid, sea_query::ArrayType,
};

use super::health::{self, Admitted};
use crate::{
    dispatch::{Ask, Claimed, RECOVERY, Settled},
    domain::{
        attempt::AttemptNumber,
        claim::{Claim, Target},
        event::Event,
        handling::Priority,
        id::{DeliveryId, SubscriptionUid},
        secret::SecretSet,
        trace_context::TraceContext,
    },
    store::{
        Error, Store, codes,
        entity::{events, payloads, subscription_secrets, subscriptions},
        rows,
    },
};

/// The most deliveries of one claim: bounds its transaction, its memory, and how many values its statements carry.
const MAX_CLAIMED: usize = 500;

/// Subscriptions with anything pending: each step finds the next greater uid in `deliveries_pending`.
pub(super) const WAITING: &str = "
    waiting (uid) AS (
        SELECT * FROM (
            SELECT subscription_uid FROM deliveries WHERE state = 0 ORDER BY subscription_uid LIMIT 1
        ) AS first
        UNION ALL
        SELECT (
            SELECT subscription_uid FROM deliveries
            WHERE state = 0 AND subscription_uid > waiting.uid ORDER BY subscription_uid LIMIT 1
        )
        FROM waiting WHERE waiting.uid IS NOT NULL
    )";

/// Those of them that may be sent to: how many attempts are under way, and with how much room. Where one was unblocked a
/// short while ago and this node has no window for it, that begins with one. `{least}` is the dialect's name for the smallest of several,
/// `{lookup}` its way to the row of each subscription.
const OPEN: &str = "
    open (uid, tenant_id, attempts, room, tenant_attempts) AS (
        SELECT * FROM (
            SELECT s.uid, s.tenant_id, COALESCE(busy.attempts, 0),
                {least}(
                    {least}(
                        $3,
                        COALESCE(s.max_in_flight, $3),
                        COALESCE(windows.size, CASE WHEN s.recovered_at > $5 THEN 1 ELSE $3 END)
                    ) - COALESCE(busy.attempts, 0),
                    COALESCE(admitted.room, $3),
                    $6 - COALESCE(tenants.attempts, 0)
                ) AS room,
                COALESCE(tenants.attempts, 0)
            FROM waiting
            {lookup}
            LEFT JOIN busy ON busy.uid = waiting.uid
            LEFT JOIN windows ON windows.uid = waiting.uid
            LEFT JOIN admitted ON admitted.uid = waiting.uid
            LEFT JOIN tenants ON tenants.id = s.tenant_id
            WHERE deleted_at IS NULL AND disabled_at IS NULL AND paused_at IS NULL
                AND (admitted.uid IS NOT NULL OR blocked_until IS NULL AND rate_per_second IS NULL)
        ) AS rooms
        WHERE room > 0
            AND EXISTS (
                SELECT 1 FROM deliveries
                WHERE subscription_uid = rooms.uid AND state = 0 AND priority IN (-1, 0, 1) AND due_at <= $1
            )
    )";

/// The levels of priority, each with its handicap in microseconds.
fn levels() -> String {
    let level = |priority: Priority| {
        let handicap = priority.handicap().as_micros();
        format!("(CAST({} AS smallint), CAST({handicap} AS bigint))", codes::priority_code(priority))
    };
    format!("levels (priority, handicap) AS (VALUES {})", Priority::ALL.map(level).join(", "))
}

/// What is read of a delivery that was taken over.
#[derive(Debug, FromQueryResult)]
struct Taken {
    id: Uuid,
    event_id: Uuid,
    subscription_uid: Uuid,
    attempt_count: i32,
    last_traceparent: Option<String>,
}

impl Store {
    pub(super) async fn claim_due(&self, ask: &Ask) -> Result<Claimed, Error> {
        let mut ended = 0;
        loop {
            let taken = self.take_due(ask).await?;
            let (expired, claims): (Vec<_>, Vec<_>) =
                taken.claims.into_iter().partition(|claim| claim.expired(ask.now));
            let none_expired = expired.is_empty();
            if !none_expired {
                ended += expired.len();
                // We hold them now like any attempt, and give them back the same way: it releases what waits for them.
                let expired: Vec<_> =
                    expired.into_iter().map(|claim| Settled::expired(claim, ask.now)).collect();
                self.settle_batch(&expired).await?;
            }
            if none_expired || !claims.is_empty() {
                return Ok(Claimed { claims, throttled: taken.throttled, expired: ended });
            }
            // Behind those there may be others that are due. Each round ends some, so there is a last one.
        }
    }

    /// Takes due deliveries over, also such as have expired.
    async fn take_due(&self, ask: &Ask) -> Result<Claimed, Error> {
        let transaction = self.connections.begin().await?;
        let mut admitted = health::admit(&transaction, ask).await?;
        let statement = match self.connections.backend() {
            DbBackend::Sqlite => sqlite(ask, &admitted),
            _ => postgres(ask, &admitted),
        };
        let taken = Taken::find_by_statement(statement).all(&transaction).await?;
        if taken.is_empty() {
            transaction.rollback().await?;
            return Ok(Claimed { throttled: admitted.throttled, ..Claimed::default() });
        }
        let uids = taken.iter().map(|taken| taken.subscription_uid);
        let probes = health::take(&transaction, ask, &mut admitted, uids).await?;
        let events = self.events_of(&transaction, &taken).await?;
        let targets = self.targets_of(&transaction, &taken).await?;
        transaction.commit().await?;
        let claim = |taken: Taken| {
            let event = events.get(&taken.event_id).cloned();
            let target = targets.get(&taken.subscription_uid).cloned();
            let attempt = u32::try_from(taken.attempt_count).ok().and_then(AttemptNumber::new);
            let delivery = DeliveryId::from_uuid(taken.id);
            let (Some(event), Some(target), Some(attempt)) = (event, target, attempt) else {
                // Retention spares what is pending and rows are written by us, so this is our defect. The others must
                // not suffer for it.
                tracing::error!(delivery.id = %delivery, "the event or the subscription of a pending delivery is missing or cannot be read");
                return None;
            };
            let leased_until = ask.leased_until;
            let probe = probes.get(&taken.subscription_uid).copied();
            let previous_span =
                taken.last_traceparent.map(|span| TraceContext::from_stored(span, String::new()));
            Some(Claim { delivery, attempt, event, target, leased_until, previous_span, probe })
        };
        let claims = taken.into_iter().filter_map(claim).collect();
        Ok(Claimed { claims, throttled: admitted.throttled, expired: 0 })
    }

    async fn events_of(
        &self,
        transaction: &DatabaseTransaction,
        taken: &[Taken],
    ) -> Result<HashMap<Uuid, Arc<Event>>, Error> {
        let mut ids: Vec<_> = taken.iter().map(|taken| taken.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = events::Entity::find()
            .filter(events::Column::Id.is_in(ids.iter().copied()))
            .all(transaction)
            .await?;
        let payloads =
            payloads::Entity::find().filter(payloads::Column::EventId.is_in(ids)).all(transaction).await?;
        let mut data: HashMap<_, _> = payloads.into_iter().map(|row| (row.event_id, row.data)).collect();
        let mut found = HashMap::new();
        for row in rows {
            if let Some(data) = data.remove(&row.id) {
                let id = row.id;
                if let Ok(event) = rows::event(row, Some(data)) {
                    found.insert(id, Arc::new(event));
                }
            }
        }
        Ok(found)
    }

    async fn targets_of(
        &self,
        transaction: &DatabaseTransaction,
        taken: &[Taken],
    ) -> Result<HashMap<Uuid, Arc<Target>>, Error> {
        let mut uids: Vec<_> = taken.iter().map(|taken| taken.subscription_uid).collect();
        uids.sort_unstable();
        uids.dedup();
        let rows = subscriptions::Entity::find()
            .filter(subscriptions::Column::Uid.is_in(uids.iter().copied()))
            .all(transaction)
            .await?;
        let secrets = subscription_secrets::Entity::find()
            .filter(subscription_secrets::Column::SubscriptionUid.is_in(uids))
            .all(transaction)
            .await?;
        let mut secrets = rows::secrets(secrets, &self.keyring);
        let mut found = HashMap::new();
        for row in rows {
            // Without a secret the attempt fails as our defect, and says so in its record.
            let held = secrets
                .remove(&SubscriptionUid::from_uuid(row.uid))
                .unwrap_or_else(|| SecretSet::newest_first(Vec::new()));
            // One that cannot be read is missed by its claims alone, which say so.
            if let Ok(target) = rows::target(&row, held) {
                found.insert(row.uid, target);
            }
        }
        Ok(found)
    }
}

/// The parameters that both dialects share: `$1` now, `$2` the end of the lease, `$3` room per subscription, `$4` room of the node,
/// `$5` since when a recovery is a recent one, `$6` room per tenant.
fn parameters(ask: &Ask) -> Vec<Value> {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    vec![
        ask.now.as_micros().into(),
        ask.leased_until.as_micros().into(),
        number(ask.max_per_subscription).into(),
        number(ask.max.min(MAX_CLAIMED)).into(),
        ask.now.before(RECOVERY).as_micros().into(),
        number(ask.max_per_tenant).into(),
    ]
}

fn postgres(ask: &Ask, admitted: &Admitted) -> Statement {
    // One look-up for each: a planner that knows nothing of the table may otherwise read all of it for each of them.
    let lookup = "CROSS JOIN LATERAL (SELECT * FROM subscriptions WHERE uid = waiting.uid LIMIT 1) AS s";
    let open = OPEN.replace("{least}", "LEAST").replace("{lookup}", lookup);
    let sql = format!(
        "WITH RECURSIVE busy (uid, attempts) AS (SELECT * FROM unnest($7::uuid[], $8::int[])),
         windows (uid, size) AS (SELECT * FROM unnest($9::uuid[], $10::int[])),
         admitted (uid, room) AS (SELECT * FROM unnest($11::uuid[], $12::int[])),
         tenants (id, attempts) AS (SELECT * FROM unnest($13::text[], $14::int[])),
         {}, {WAITING}, {open},
         due AS (
             SELECT id FROM (
                 SELECT ranked.id, ranked.turn_at, ranked.round, open.tenant_attempts,
                     row_number() OVER (PARTITION BY open.tenant_id ORDER BY ranked.round, ranked.turn_at) AS turn
                 FROM open CROSS JOIN LATERAL (
                     SELECT id, turn_at, row_number() OVER (ORDER BY turn_at) + open.attempts AS round
                     FROM (
                         SELECT id, due_at + handicap AS turn_at FROM levels CROSS JOIN LATERAL (
                             SELECT id, due_at FROM deliveries
                             WHERE subscription_uid = open.uid AND state = 0 AND priority = levels.priority
                                 AND due_at <= $1
                             ORDER BY due_at LIMIT open.room
                         ) AS most_overdue
                         ORDER BY turn_at LIMIT open.room
                     ) AS first
                 ) AS ranked
             ) AS candidates
             WHERE turn + tenant_attempts <= $6
             ORDER BY turn + tenant_attempts, round, turn_at LIMIT $4
         ),
         -- Rows that another node is claiming at this moment are left to it. Locking sees the latest version of a
         -- row, so what was claimed since `due` was read is no longer due and drops out. (The sums hide the columns from
         -- the planner, which would otherwise take the index of everything that is due.)
         locked AS (
             SELECT id FROM deliveries
             WHERE id = ANY (ARRAY(SELECT id FROM due)) AND (state + 0) = 0 AND (due_at + 0) <= $1
             FOR UPDATE SKIP LOCKED
         )
         UPDATE deliveries SET attempt_count = attempt_count + 1, due_at = $2
         WHERE id = ANY (ARRAY(SELECT id FROM locked))
         RETURNING id, event_id, subscription_uid, attempt_count, last_traceparent",
         levels()
    );
    let mut values = parameters(ask);
    let mut list =
        |kind: ArrayType, items: Vec<Value>| values.push(Value::Array(kind, Some(Box::new(items))));
    let uid = |(uid, _): &(SubscriptionUid, usize)| Value::from(uid.uuid());
    list(ArrayType::Uuid, ask.in_flight.iter().map(uid).collect());
    list(ArrayType::Int, ask.in_flight.iter().map(|(_, count)| integer(*count)).collect());
    list(ArrayType::Uuid, ask.windows.iter().map(uid).collect());
    list(ArrayType::Int, ask.windows.iter().map(|(_, size)| integer(*size)).collect());
    list(ArrayType::Uuid, admitted.rooms.iter().map(|(uid, _)| Value::from(*uid)).collect());
    list(ArrayType::Int, admitted.rooms.iter().map(|(_, room)| integer(*room)).collect());
    list(ArrayType::String, ask.tenants.iter().map(|(id, _)| Value::from(id.as_str())).collect());
    list(ArrayType::Int, ask.tenants.iter().map(|(_, count)| integer(*count)).collect());
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

fn integer(count: usize) -> Value {
    i32::try_from(count).unwrap_or(i32::MAX).into()
}

/// SQLite has no `LATERAL`, no arrays, and no `LIMIT` that differs from row to row.
fn sqlite(ask: &Ask, admitted: &Admitted) -> Statement {
    let mut values = parameters(ask);
    // `VALUES`, because a compound `SELECT` has at most 500 terms.
    let mut list = |items: &mut dyn Iterator<Item = (Value, usize)>| {
        let mut list = String::from("VALUES (NULL, 0)");
        for (id, number) in items {
            let n = values.len();
            // Writing to a string does not fail.
            let _ = write!(list, ", (${}, ${})", n + 1, n + 2);
            values.extend([id, integer(number)]);
        }
        list
    };
    let busy = list(&mut ask.in_flight.iter().map(|(uid, count)| (uid.uuid().into(), *count)));
    let windows = list(&mut ask.windows.iter().map(|(uid, size)| (uid.uuid().into(), *size)));
    let admitted = list(&mut admitted.rooms.iter().map(|(uid, room)| ((*uid).into(), *room)));
    let tenants = list(&mut ask.tenants.iter().map(|(id, count)| (id.as_str().into(), *count)));
    let lookup = "JOIN subscriptions AS s ON s.uid = waiting.uid";
    let open = OPEN.replace("{least}", "min").replace("{lookup}", lookup);
    let sql = format!(
        "WITH RECURSIVE busy (uid, attempts) AS ({busy}), windows (uid, size) AS ({windows}),
         admitted (uid, room) AS ({admitted}), tenants (id, attempts) AS ({tenants}),
         {}, {WAITING}, {open},
         most_overdue AS (
             SELECT d.id, d.due_at + handicap AS turn_at, open.*
             FROM open CROSS JOIN levels CROSS JOIN deliveries AS d
             WHERE d.id IN (
                 SELECT id FROM deliveries
                 WHERE subscription_uid = open.uid AND state = 0 AND priority = levels.priority AND due_at <= $1
                 ORDER BY due_at LIMIT $3
             )
         ),
         ranked AS (
             SELECT id, turn_at, tenant_id, tenant_attempts, attempts + room AS last_round,
                 row_number() OVER (PARTITION BY uid ORDER BY turn_at) + attempts AS round
             FROM most_overdue
         ),
         candidates AS (
             SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY round, turn_at) AS turn
             FROM ranked WHERE round <= last_round
         )
         UPDATE deliveries SET attempt_count = attempt_count + 1, due_at = $2
         WHERE id IN (
             SELECT id FROM candidates WHERE turn + tenant_attempts <= $6
             ORDER BY turn + tenant_attempts, round, turn_at LIMIT $4
         )
         RETURNING id, event_id, subscription_uid, attempt_count, last_traceparent",
         levels()
    );
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}
