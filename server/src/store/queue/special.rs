//! Who is blocked, or has a rate limit, is *special*: the claim leaves such subscriptions out unless they are admitted here
//! first, one probe of one, what the rate allows of the other. Their rows are locked while it decides, so that a probe goes out
//! once, and a rate holds, over all nodes. Where there is no special subscription this costs one look at two empty indexes.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, FromQueryResult,
    QueryFilter, Statement, prelude::Uuid, sea_query::Expr,
};

use super::{
    bound::NOW,
    open::{is_due, levels},
    stretch::{Stretch, waiting},
};
use crate::{
    dispatch::Ask,
    domain::{breaker::Probe, id::SubscriptionUid, rate_limit::RateLimit, timestamp::Timestamp},
    store::{entity::subscriptions, rows, sendable::SENDABLE},
};

/// The most special subscriptions that one claim admits.
const MAX_ADMITTED: usize = 500;

/// Special subscriptions with something due that the claim may take of.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// How much of each.
    pub(super) rooms: Vec<(Uuid, usize)>,
    /// Those that are left for their rates' sake, and when to look again.
    pub(super) throttled: Vec<(SubscriptionUid, Timestamp)>,
    specials: HashMap<Uuid, Special>,
}

impl Admitted {
    /// Whether no special subscription is admitted.
    pub(super) fn is_nobody(&self) -> bool {
        self.specials.is_empty()
    }
}

/// The row of a special subscription.
#[derive(Debug, FromQueryResult)]
struct Special {
    uid: Uuid,
    blocked_until: Option<i64>,
    block_pauses: i32,
    rate_per_second: Option<f64>,
    rate_burst: Option<i32>,
    rate_used_until: Option<i64>,
    throttled_until: Option<i64>,
}

impl Special {
    fn rate(&self) -> Option<RateLimit> {
        rows::rate_limit(self.rate_per_second, self.rate_burst)
    }

    fn used_until(&self) -> Option<Timestamp> {
        self.rate_used_until.map(Timestamp::from_micros)
    }
}

/// Finds and locks the special subscriptions that something may be claimed of.
pub(super) async fn admit(
    connection: &impl ConnectionTrait,
    ask: &Ask,
    stretch: Stretch,
) -> Result<Admitted, DbErr> {
    let backend = connection.get_database_backend();
    let mut admitted = Admitted::default();
    if !any_special(connection, ask.now).await? {
        return Ok(admitted);
    }
    // Those that another node is deciding on at this moment are left to it.
    let lock = if backend == DbBackend::Sqlite { "" } else { "FOR UPDATE OF s SKIP LOCKED" };
    let sql = format!(
        "WITH RECURSIVE {}, {}
         SELECT s.uid, blocked_until, block_pauses, rate_per_second, rate_burst, rate_used_until, throttled_until
         FROM waiting JOIN subscriptions AS s ON s.uid = waiting.uid
         WHERE {SENDABLE}
             AND (blocked_until <= {NOW} OR blocked_until IS NULL AND rate_per_second IS NOT NULL)
             AND {}
         ORDER BY COALESCE(throttled_until, 0), s.uid LIMIT {MAX_ADMITTED} {lock}",
        levels(),
        waiting("$2", "$3"),
        is_due("s.uid")
    );
    let values = [ask.now.as_micros().into(), stretch.after.into(), stretch.until.into()];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    for special in Special::find_by_statement(statement).all(connection).await? {
        if let Some(until) = special.throttled_until.map(Timestamp::from_micros)
            && special.rate().is_some()
            && until > ask.now
        {
            admitted.throttled.push((SubscriptionUid::from_uuid(special.uid), until));
            continue;
        }
        let mut room = ask.max_per_subscription;
        if special.blocked_until.is_some() {
            room = 1;
        }
        if let Some(rate) = special.rate() {
            room = room.min(rate.admits(special.used_until(), ask.now) as usize);
        }
        admitted.rooms.push((special.uid, room));
        admitted.specials.insert(special.uid, special);
    }
    Ok(admitted)
}

/// Whether there is any subscription that is blocked until a time that has come, or that has a rate limit.
async fn any_special(connection: &impl ConnectionTrait, now: Timestamp) -> Result<bool, DbErr> {
    const SQL: &str =
        "SELECT EXISTS (SELECT 1 FROM subscriptions WHERE blocked_until <= $1 AND disabled_at IS NULL)
            OR EXISTS (SELECT 1 FROM subscriptions WHERE rate_per_second IS NOT NULL) AS special";
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Sqlite => SQL.to_owned(),
        // The claim puts lists of ours side by side, which only hashing keeps from being compared each with each.
        _ => format!("{SQL}, set_config('enable_hashjoin', 'on', true)"),
    };
    let statement = Statement::from_sql_and_values(backend, sql, [now.as_micros().into()]);
    let row = connection.query_one_raw(statement).await?;
    row.map_or(Ok(false), |row| row.try_get("", "special"))
}

/// Writes down what was taken of those that were admitted. Returns the probes, by their subscriptions.
pub(super) async fn note_taken(
    transaction: &DatabaseTransaction,
    ask: &Ask,
    admitted: &mut Admitted,
    taken: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Probe>, DbErr> {
    let mut counts: HashMap<Uuid, u32> = HashMap::new();
    for uid in taken.filter(|uid| admitted.specials.contains_key(uid)) {
        *counts.entry(uid).or_default() += 1;
    }
    let mut probes = HashMap::new();
    for (uid, count) in counts {
        let special = &admitted.specials[&uid];
        let mut update = subscriptions::Entity::update_many().filter(subscriptions::Column::Uid.eq(uid));
        if special.blocked_until.is_some() {
            let held_until = ask.leased_until;
            update = update
                .col_expr(subscriptions::Column::BlockedUntil, Expr::value(Some(held_until.as_micros())));
            let pauses = u32::try_from(special.block_pauses).unwrap_or(0);
            probes.insert(uid, Probe { held_until, pauses });
        }
        if let Some(rate) = special.rate() {
            let used_until = rate.after(special.used_until(), count, ask.now);
            let is_used_up = rate.admits(Some(used_until), ask.now) == 0;
            let throttled_until = is_used_up.then(|| rate.again_at(used_until, ask.now));
            update = update
                .col_expr(subscriptions::Column::RateUsedUntil, Expr::value(Some(used_until.as_micros())))
                .col_expr(
                    subscriptions::Column::ThrottledUntil,
                    Expr::value(throttled_until.map(Timestamp::as_micros)),
                );
            admitted.throttled.extend(throttled_until.map(|at| (SubscriptionUid::from_uuid(uid), at)));
        }
        // The row is locked since it was admitted.
        update.exec(transaction).await?;
    }
    Ok(probes)
}
