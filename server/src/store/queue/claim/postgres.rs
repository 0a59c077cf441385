//! The claim as PostgreSQL takes it.

use sea_orm::{DbBackend, Statement};

use super::Sorted;
use crate::{
    dispatch::Ask,
    store::{
        Error, Store,
        queue::{
            bound::{LEASED_UNTIL, NOW, PER_TENANT, ROOM},
            open::{Open, Specials, shares},
            special::{self, Admitted},
            stretch::Stretch,
        },
    },
};

impl Store {
    /// All at once.
    pub(super) async fn take_due_on_postgres(&self, ask: &Ask, stretch: Stretch) -> Result<Sorted, Error> {
        let transaction = self.connections.begin_engine().await?;
        let admitted = special::admit(&transaction, ask, stretch).await?;
        let statement = find_and_take(ask, stretch, &admitted);
        self.take_over(transaction, statement, admitted, ask, stretch).await
    }
}

/// Finds what is due, and takes it over.
fn find_and_take(ask: &Ask, stretch: Stretch, admitted: &Admitted) -> Statement {
    let Open { with, values } = Open::postgres(ask, stretch, Specials::Admitted(admitted));
    let shares = shares("LEAST");
    let sql = format!(
        "WITH RECURSIVE {with}, {shares},
         due AS (
             SELECT id FROM (
                 SELECT ranked.id, ranked.turn_at, ranked.round, shares.tenant_places,
                     row_number() OVER (PARTITION BY shares.tenant_id ORDER BY ranked.round, ranked.turn_at) AS turn
                 FROM shares CROSS JOIN LATERAL (
                     SELECT id, turn_at, row_number() OVER (ORDER BY turn_at) + shares.held AS round
                     FROM (
                         SELECT id, due_at + handicap AS turn_at FROM levels CROSS JOIN LATERAL (
                             SELECT id, due_at FROM pending_deliveries
                             WHERE subscription_uid = shares.uid AND priority = levels.priority
                                 AND due_at <= {NOW}
                             ORDER BY due_at LIMIT shares.share
                         ) AS most_overdue
                         ORDER BY turn_at LIMIT shares.share
                     ) AS first
                 ) AS ranked
             ) AS candidates
             WHERE turn + tenant_places <= {PER_TENANT}
             ORDER BY turn + tenant_places, round, turn_at LIMIT {ROOM}
         ),
         -- Rows that another node is claiming at this moment are left to it. Locking sees the latest version of a
         -- row, so what was claimed since `due` was read is no longer due and drops out. (The sum hides the column from
         -- the planner, which would otherwise take the index of everything that is due.)
         locked AS (
             SELECT id FROM pending_deliveries
             WHERE id = ANY (ARRAY(SELECT id FROM due)) AND (due_at + 0) <= {NOW}
             FOR UPDATE SKIP LOCKED
         )
         UPDATE pending_deliveries SET attempt_count = attempt_count + 1, due_at = {LEASED_UNTIL}
         WHERE id = ANY (ARRAY(SELECT id FROM locked))
         RETURNING id, event_id, subscription_uid, attempt_count, last_traceparent"
    );
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
