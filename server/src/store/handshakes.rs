//! Handshakes: which are due, who makes them, and what follows.
//!
//! A handshake is taken over like a delivery: its due date goes behind the lease, and a *fence* in the row changes. What it came to is
//! written only if the fence is still that one. Whatever makes the answer worthless (another target, another handshake, another
//! secret, another attempt) changes the fence, and makes the handshake due at once.
//!
//! While `handshake_due_at` is set the subscription [may not be sent to](super::sendable). Beginning and ending raise the version of the
//! tenant's match tables, in the same transaction, so that every node's next publish knows.

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value,
    prelude::Uuid,
};

use super::{
    Error, STEP_TIMEOUT, Store,
    ending::parameters,
    entity::subscriptions::{Column, Model},
    failing, lookup, rates, sending, tenants, within,
};
use crate::domain::{
    claim::Target,
    handshake::{Consent, HandshakeState, HandshakeStatus, STEPS},
    id::{SubscriptionId, SubscriptionUid, TenantId},
    subscription::DisabledReason,
    timestamp::Timestamp,
};

/// The longest account of a failure that is kept, in characters.
const MAX_FAILURE: usize = 1_000;

/// The right and the duty to make a handshake before the lease runs out.
#[derive(Debug)]
pub struct Turn {
    /// Whom with.
    pub target: Arc<Target>,
    fence: i64,
    /// When it is tried again if it fails now, where that was decided before; it is not one of the schedule then.
    again_at: Option<Timestamp>,
}

/// What became of taking one over.
#[derive(Debug)]
pub enum Take {
    /// It is ours.
    Taken(Turn),
    /// It is not due, or somebody else has it.
    NotDue,
    /// It is ours, and cannot be made by this node: a later lease, or another node, may bring it about.
    Unreadable,
}

/// What followed from a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The receiver agrees: its deliveries go out.
    Agreed,
    /// It is tried again.
    Again(Timestamp),
    /// There is no use in trying it any longer: the subscription was disabled.
    Disabled,
    /// Nothing: it was made for what the subscription no longer is.
    Overtaken,
}

/// Takes the handshake of `$1` over until `$2`, on a condition.
const TAKE: &str = "
    UPDATE subscriptions SET handshake_due_at = $2, handshake_fence = handshake_fence + 1,
        handshake_attempts = handshake_attempts + 1
    WHERE uid = $1 AND disabled_at IS NULL AND deleted_at IS NULL AND ";
/// It is due at `$3`.
const IS_DUE: &str = "handshake_due_at <= $3";
/// It is awaited, and the fence is `$3`.
const IS_UNCHANGED: &str = "handshake_due_at IS NOT NULL AND handshake_fence = $3";

#[derive(FromQueryResult)]
struct Due {
    uid: Uuid,
    tenant_id: String,
}

/// Begins a subscription's handshake: due at once. Nothing is sent meanwhile, so it fails no longer.
pub(super) fn begin(row: &mut Model, now: Timestamp) {
    clear(row);
    failing::forget(row);
    row.handshake_due_at = Some(now.as_micros());
}

/// There is none, and nothing is known of one that there was.
pub(super) fn clear(row: &mut Model) {
    row.handshake_due_at = None;
    row.handshake_fence += 1;
    (row.handshake_attempts, row.handshake_step) = (0, 0);
    (row.handshake_failure, row.handshake_done_at) = (None, None);
    rates::set_allowed(row, None);
}

/// Begins it again where it had not been done.
pub(super) fn begin_again(row: &mut Model, now: Timestamp) {
    if status(row).is_some_and(|status| !matches!(status.state, HandshakeState::Done { .. })) {
        begin(row, now);
    }
}

/// How it stands.
pub(super) fn status(row: &Model) -> Option<HandshakeStatus> {
    let state = match (row.handshake_due_at, row.handshake_done_at) {
        (Some(at), _) => HandshakeState::Awaited { next_attempt_at: Timestamp::from_micros(at) },
        (None, Some(at)) => HandshakeState::Done { at: Timestamp::from_micros(at) },
        (None, None) if row.handshake_attempts > 0 => HandshakeState::Failed,
        (None, None) => return None,
    };
    Some(HandshakeStatus {
        state,
        attempts: u32::try_from(row.handshake_attempts).unwrap_or(0),
        last_failure: row.handshake_failure.clone(),
        allowed_rate: rates::allowed(row),
    })
}

impl Store {
    /// Handshakes that are due, the most overdue first, but for those of some tenants.
    pub async fn due_handshakes(
        &self,
        besides: &[TenantId],
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<(SubscriptionUid, TenantId)>, Error> {
        let mut values = vec![now.as_micros().into()];
        let besides = match parameters(&mut values, besides.iter().map(TenantId::as_str)) {
            places if places.is_empty() => String::new(),
            places => format!("AND tenant_id NOT IN ({places})"),
        };
        // The number is part of the text: SQLite prepares a statement again whenever it is told the parameter of a `LIMIT`.
        let sql = format!(
            "SELECT uid, tenant_id FROM subscriptions
             WHERE handshake_due_at <= $1 AND handshake_due_at IS NOT NULL
                 AND disabled_at IS NULL AND deleted_at IS NULL {besides}
             ORDER BY handshake_due_at LIMIT {most}"
        );
        let due = Statement::from_sql_and_values(self.connections.backend(), sql, values);
        // Not by the readers' connections: those may all be busy with listings.
        let looker = &self.connections.looker;
        let due = within(STEP_TIMEOUT, async { Ok(Due::find_by_statement(due).all(looker).await?) }).await?;
        let read = |due: Due| (SubscriptionUid::from_uuid(due.uid), TenantId::from_stored(&due.tenant_id));
        Ok(due.into_iter().map(read).collect())
    }

    /// Takes a handshake over that is due.
    pub async fn take_handshake(
        &self,
        subscription: SubscriptionUid,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Take, Error> {
        let taking = self.take(subscription, IS_DUE, now.as_micros(), leased_until, None);
        within(STEP_TIMEOUT, taking).await
    }

    /// Takes a handshake over that a person wants to be made now. It is none of the schedule unless it is due, and leaves the time of the
    /// next one as it is.
    pub async fn take_handshake_now(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Take, Error> {
        let Some(row) = lookup::living(tenant, id).one(&self.connections.writer).await? else {
            return Ok(Take::NotDue);
        };
        let subscription = SubscriptionUid::from_uuid(row.uid);
        let Some(due_at) = row.handshake_due_at.map(Timestamp::from_micros).filter(|due_at| *due_at > now)
        else {
            return self.take_handshake(subscription, now, leased_until).await;
        };
        let taking = self.take(subscription, IS_UNCHANGED, row.handshake_fence, leased_until, Some(due_at));
        within(STEP_TIMEOUT, taking).await
    }

    async fn take(
        &self,
        subscription: SubscriptionUid,
        condition: &str,
        bound: i64,
        leased_until: Timestamp,
        again_at: Option<Timestamp>,
    ) -> Result<Take, Error> {
        let sql = format!("{TAKE} {condition} RETURNING handshake_fence");
        let values: [Value; 3] = [subscription.uuid().into(), leased_until.as_micros().into(), bound.into()];
        let take = Statement::from_sql_and_values(self.connections.backend(), sql, values);
        let taken = self.connections.writer.query_all_raw(take).await?;
        let Some(row) = taken.first() else {
            return Ok(Take::NotDue);
        };
        let fence: i64 = row.try_get("", "handshake_fence")?;
        // Whatever has changed since has changed the fence too.
        let unchanged = Condition::all().add(Column::HandshakeFence.eq(fence));
        let uids = [subscription.uuid()].into_iter();
        let mut targets = sending::targets(&self.connections.writer, &self.keyring, uids, unchanged).await?;
        match targets.remove(&subscription.uuid()) {
            None => Ok(Take::NotDue),
            Some(Ok(target)) if target.settings.is_some() => {
                Ok(Take::Taken(Turn { target, fence, again_at }))
            }
            // What is wrong was logged, or is.
            Some(Ok(_)) => Ok(Take::Unreadable),
            Some(Err(cause)) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.uid = %subscription,
                    "a handshake cannot be made"
                );
                Ok(Take::Unreadable)
            }
        }
    }

    /// Writes what a handshake came to: consent, or what was wrong.
    pub async fn settle_handshake(
        &self,
        turn: &Turn,
        outcome: &Result<Consent, String>,
        now: Timestamp,
    ) -> Result<Followed, Error> {
        within(STEP_TIMEOUT, self.settle_turn(turn, outcome, now)).await
    }

    async fn settle_turn(
        &self,
        turn: &Turn,
        outcome: &Result<Consent, String>,
        now: Timestamp,
    ) -> Result<Followed, Error> {
        let Target { tenant, id, uid, .. } = &*turn.target;
        let transaction = self.connections.begin().await?;
        let row = lookup::locked(&transaction, tenant, id).await?;
        let Some(mut row) = row.filter(|row| {
            row.uid == uid.uuid() && row.handshake_fence == turn.fence && row.disabled_at.is_none()
        }) else {
            transaction.rollback().await?;
            return Ok(Followed::Overtaken);
        };
        let followed = match outcome {
            Ok(consent) => {
                (row.handshake_due_at, row.handshake_done_at) = (None, Some(now.as_micros()));
                row.handshake_failure = None;
                rates::set_allowed(&mut row, consent.allowed_rate);
                Followed::Agreed
            }
            Err(failure) => {
                row.handshake_failure = Some(shown(failure));
                let again_at = turn.again_at.or_else(|| step(&mut row, now));
                row.handshake_due_at = again_at.map(Timestamp::as_micros);
                again_at.map_or(Followed::Disabled, Followed::Again)
            }
        };
        write(&transaction, row, followed, now).await?;
        transaction.commit().await?;
        Ok(followed)
    }
}

/// Takes the next step of the schedule: when it is tried again. Attempts that came to nothing, as their nodes died, are no steps.
fn step(row: &mut Model, now: Timestamp) -> Option<Timestamp> {
    let pause = STEPS.get(usize::try_from(row.handshake_step).ok()?)?;
    row.handshake_step += 1;
    Some(now + *pause)
}

/// As it can be stored and shown.
fn shown(failure: &str) -> String {
    // The one character that PostgreSQL cannot store.
    failure.replace('\0', "\u{fffd}").chars().take(MAX_FAILURE).collect()
}

async fn write(
    transaction: &DatabaseTransaction,
    row: Model,
    followed: Followed,
    now: Timestamp,
) -> Result<(), Error> {
    let tenant = row.tenant_id.clone();
    match followed {
        // There is no use in trying it any longer.
        Followed::Disabled => {
            failing::disable(transaction, row, DisabledReason::HandshakeFailed, None, now).await?;
        }
        Followed::Agreed | Followed::Again(_) | Followed::Overtaken => {
            failing::store(transaction, row).await?;
        }
    }
    if matches!(followed, Followed::Agreed | Followed::Disabled) {
        tenants::raise_version(transaction, &tenant).await?;
    }
    Ok(())
}
