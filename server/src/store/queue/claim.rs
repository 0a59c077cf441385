//! Takes due deliveries over.
//!
//! One statement: find the subscriptions that have anything pending (skipping through the index from one to the next, whatever
//! their backlogs), leave out those that may not or cannot be sent to, take the most overdue of each as far as it has
//! room, round by round until the node has none (an attempt that is under way counts as a round that the subscription has had),
//! and push their due date behind the lease. A paused or saturated
//! subscription with a million deliveries costs one step.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Statement, Value,
    prelude::Uuid, sea_query::ArrayType,
};

use crate::{
    dispatch::Ask,
    domain::{
        attempt::AttemptNumber,
        claim::{Claim, Target},
        event::Event,
        id::{DeliveryId, SubscriptionUid},
        secret::SecretSet,
        trace_context::TraceContext,
    },
    store::{
        Error, Store,
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
    ),
    -- With how much room each has.
    open (uid, room) AS (
        SELECT subscriptions.uid, $3 - COALESCE(busy.attempts, 0)
        FROM waiting
        JOIN subscriptions ON subscriptions.uid = waiting.uid
        LEFT JOIN busy ON busy.uid = waiting.uid
        WHERE deleted_at IS NULL AND disabled_at IS NULL AND paused_at IS NULL
            AND COALESCE(busy.attempts, 0) < $3
            AND EXISTS (SELECT 1 FROM deliveries WHERE subscription_uid = subscriptions.uid AND state = 0 AND due_at <= $1)
    )";

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
    pub(super) async fn claim_due(&self, ask: &Ask) -> Result<Vec<Claim>, Error> {
        let transaction = self.connections.begin().await?;
        let statement = match self.connections.backend() {
            DbBackend::Sqlite => sqlite(ask),
            _ => postgres(ask),
        };
        let taken = Taken::find_by_statement(statement).all(&transaction).await?;
        if taken.is_empty() {
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
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
            let previous_span =
                taken.last_traceparent.map(|span| TraceContext::from_stored(span, String::new()));
            Some(Claim { delivery, attempt, event, target, leased_until, previous_span })
        };
        Ok(taken.into_iter().filter_map(claim).collect())
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

/// The parameters that both dialects share: `$1` now, `$2` the end of the lease, `$3` room per subscription, `$4` room of the node.
pub(super) fn parameters(ask: &Ask) -> Vec<Value> {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    vec![
        ask.now.as_micros().into(),
        ask.leased_until.as_micros().into(),
        number(ask.max_per_subscription).into(),
        number(ask.max.min(MAX_CLAIMED)).into(),
    ]
}

/// How many attempts are under way, as a query for a subscription's uid and its number; adds its parameters to `values`.
pub(super) fn busy(backend: DbBackend, ask: &Ask, values: &mut Vec<Value>) -> String {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    if backend == DbBackend::Sqlite {
        // No arrays. `VALUES`, because a compound `SELECT` has at most 500 terms.
        let mut busy = String::from("VALUES (NULL, 0)");
        for (uid, attempts) in &ask.in_flight {
            let n = values.len();
            // Writing to a string does not fail.
            let _ = write!(busy, ", (${}, ${})", n + 1, n + 2);
            values.extend([uid.uuid().into(), count(*attempts).into()]);
        }
        return busy;
    }
    let uids = ask.in_flight.iter().map(|(uid, _)| Value::from(uid.uuid())).collect();
    let counts = ask.in_flight.iter().map(|(_, attempts)| Value::from(count(*attempts))).collect();
    values.push(Value::Array(ArrayType::Uuid, Some(Box::new(uids))));
    values.push(Value::Array(ArrayType::Int, Some(Box::new(counts))));
    let n = values.len();
    format!("SELECT * FROM unnest(${}::uuid[], ${}::int[])", n - 1, n)
}

fn postgres(ask: &Ask) -> Statement {
    let mut values = parameters(ask);
    let busy = busy(DbBackend::Postgres, ask, &mut values);
    let sql = format!(
        "WITH RECURSIVE busy (uid, attempts) AS ({busy}), {WAITING},
         due AS (
             SELECT ranked.id FROM open CROSS JOIN LATERAL (
                 SELECT id, due_at, row_number() OVER (ORDER BY due_at) + $3 - open.room AS round FROM (
                     SELECT id, due_at FROM deliveries
                     WHERE subscription_uid = open.uid AND state = 0 AND due_at <= $1
                     ORDER BY due_at LIMIT open.room
                 ) AS most_overdue
             ) AS ranked
             ORDER BY ranked.round, ranked.due_at LIMIT $4
         ),
         -- Rows that another node is claiming at this moment are left to it. Locking sees the latest version of a
         -- row, so what was claimed since `due` was read is no longer due and drops out.
         locked AS (
             SELECT id FROM deliveries WHERE id IN (SELECT id FROM due) AND state = 0 AND due_at <= $1
             FOR UPDATE SKIP LOCKED
         )
         UPDATE deliveries SET attempt_count = attempt_count + 1, due_at = $2
         FROM locked WHERE deliveries.id = locked.id
         RETURNING deliveries.id, event_id, subscription_uid, attempt_count, last_traceparent"
    );
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// SQLite has no `LATERAL` and no `LIMIT` that differs from row to row.
fn sqlite(ask: &Ask) -> Statement {
    let mut values = parameters(ask);
    let busy = busy(DbBackend::Sqlite, ask, &mut values);
    let sql = format!(
        "WITH RECURSIVE busy (uid, attempts) AS ({busy}), {WAITING},
         ranked AS (
             SELECT d.id, d.due_at,
                 row_number() OVER (PARTITION BY d.subscription_uid ORDER BY d.due_at) + $3 - open.room AS round
             FROM open JOIN deliveries AS d ON d.id IN (
                 SELECT id FROM deliveries
                 WHERE subscription_uid = open.uid AND state = 0 AND due_at <= $1
                 ORDER BY due_at LIMIT $3
             )
         )
         UPDATE deliveries SET attempt_count = attempt_count + 1, due_at = $2
         WHERE id IN (SELECT id FROM ranked WHERE round <= $3 ORDER BY round, due_at LIMIT $4)
         RETURNING id, event_id, subscription_uid, attempt_count, last_traceparent"
    );
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}
