//! The parts of fan-outs: deliveries that events are owed, some hundred to a row. What becomes of them is told in
//! [`publish::fan_out`](crate::publish::fan_out).

use std::{collections::HashMap, fmt::Display, sync::Arc};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Statement, prelude::Uuid};

use super::{Error, STEP_TIMEOUT, Store, publish::insert::NewDeliveries, sendable, sending, within};
use crate::{
    domain::{
        event::Event,
        id::{DeliveryId, EventId, SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    publish::{
        JournalError,
        fan_out::{FanOuts, Finish, OverduePart, Part, PartDeliveries, Recipient},
    },
};

/// Takes one row over. Its due date is looked at again when the row is locked: another node may have been quicker.
const TAKE: &str = "
    WITH next AS MATERIALIZED (
        SELECT event_id, number FROM fan_outs WHERE tenant_id > $3 AND due_at <= $1
        ORDER BY tenant_id, due_at, event_id, number LIMIT 1
    )
    UPDATE fan_outs SET due_at = $2
    WHERE (event_id, number) IN (SELECT event_id, number FROM next) AND due_at <= $1
    RETURNING event_id, number, tenant_id, subscriptions";

/// A row: the deliveries of one part.
struct Owed {
    event: Uuid,
    number: i32,
    tenant: String,
    /// To whom.
    to: Vec<Uuid>,
}

impl Owed {
    fn read(row: &QueryResult) -> Result<Self, Error> {
        let uids: Vec<u8> = row.try_get("", "subscriptions")?;
        Ok(Self {
            event: row.try_get("", "event_id")?,
            number: row.try_get("", "number")?,
            tenant: row.try_get("", "tenant_id")?,
            to: uids.chunks_exact(16).filter_map(|uid| Uuid::from_slice(uid).ok()).collect(),
        })
    }
}

fn corrupt(cause: &dyn Display) -> Error {
    Error::Corrupt { table: "fan_outs", cause: cause.to_string() }
}

/// Removes a row, which is the right to make its deliveries; says whether it was there.
async fn delete(transaction: &DatabaseTransaction, event: Uuid, number: i32) -> Result<bool, DbErr> {
    let delete = Statement::from_sql_and_values(
        transaction.get_database_backend(),
        "DELETE FROM fan_outs WHERE event_id = $1 AND number = $2",
        [event.into(), number.into()],
    );
    Ok(transaction.execute_raw(delete).await?.rows_affected() == 1)
}

/// How fan-outs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOutBacklog {
    /// How many parts there are.
    pub parts: u64,
    /// Of those that are due and that nobody has taken, the one that has been due for longest.
    pub overdue: Option<OverduePart>,
}

impl FanOuts for Store {
    async fn take_part(
        &self,
        after: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Option<Part>, JournalError> {
        Ok(within(STEP_TIMEOUT, self.take_due_part(after, now, leased_until)).await?)
    }

    async fn finish_part(&self, part: &Part, deliveries: &PartDeliveries) -> Result<Finish, JournalError> {
        Ok(within(STEP_TIMEOUT, self.insert_part(part, deliveries)).await?)
    }
}

impl Store {
    async fn take_due_part(
        &self,
        after: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Option<Part>, Error> {
        let values = [
            now.as_micros().into(),
            leased_until.as_micros().into(),
            after.map_or("", TenantId::as_str).into(),
        ];
        let take = Statement::from_sql_and_values(self.connections.backend(), TAKE, values);
        loop {
            let Some(row) = self.connections.writer.query_one_raw(take.clone()).await? else {
                return Ok(None);
            };
            let owed = Owed::read(&row)?;
            let event = sending::events(&self.connections.matcher, [owed.event].into_iter()).await?;
            match event.get(&owed.event) {
                Some(Ok(event)) => return self.part(event, &owed).await.map(Some),
                // Retention spares what is still to be fanned out, so this is a defect, and will be the same at the next look.
                Some(Err(cause)) => self.make_plain(&owed, cause, now).await?,
                None => self.make_plain(&owed, &"the event is missing", now).await?,
            }
        }
    }

    /// What is owed, with all that its deliveries need.
    async fn part(&self, event: &Arc<Event>, owed: &Owed) -> Result<Part, Error> {
        let open = sendable::condition();
        let matcher = &self.connections.matcher;
        let targets = sending::targets(matcher, &self.keyring, owed.to.iter().copied(), open).await?;
        let recipient = |uid: &Uuid| match targets.get(uid) {
            Some(Ok(target)) => Recipient::Open(target.clone()),
            // Whoever claims what is for one that cannot be read ends it.
            Some(Err(_)) | None => Recipient::Closed(SubscriptionUid::from_uuid(*uid)),
        };
        let number = u32::try_from(owed.number).map_err(|cause| corrupt(&cause))?;
        Ok(Part { event: Arc::clone(event), number, recipients: owed.to.iter().map(recipient).collect() })
    }

    /// Makes the deliveries of an event that nobody can read, without looking at it: whoever claims them finds that out once more, and ends
    /// each as unreadable.
    async fn make_plain(
        &self,
        owed: &Owed,
        cause: &(dyn Display + Sync),
        now: Timestamp,
    ) -> Result<(), Error> {
        tracing::error!(
            cause = %cause,
            event.id = %EventId::from_uuid(owed.event),
            deliveries = owed.to.len(),
            "an event that is to be fanned out cannot be read"
        );
        let transaction = self.connections.begin().await?;
        if delete(&transaction, owed.event, owed.number).await? {
            let ids = (0..).map(|nth| DeliveryId::nth(now, nth));
            NewDeliveries::plain(owed.event, &owed.tenant, ids.zip(&owed.to), now)
                .insert(&transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn insert_part(&self, part: &Part, deliveries: &PartDeliveries) -> Result<Finish, Error> {
        let transaction = self.connections.begin().await?;
        let number = i32::try_from(part.number).unwrap_or(i32::MAX);
        if !delete(&transaction, part.event.id.uuid(), number).await? {
            transaction.rollback().await?;
            return Ok(Finish::DoneBefore);
        }
        let PartDeliveries { entry, due_at, leased_until } = deliveries;
        NewDeliveries::of(&[entry], &HashMap::new(), *due_at, *leased_until).insert(&transaction).await?;
        transaction.commit().await?;
        Ok(Finish::Done)
    }

    /// How fan-outs stand.
    pub async fn fan_out_backlog(&self, now: Timestamp) -> Result<FanOutBacklog, Error> {
        let sql = "SELECT (SELECT COUNT(*) FROM fan_outs) AS parts, head.event_id, head.number, head.due_at
             FROM (SELECT 1 AS one) AS one LEFT JOIN (
                 SELECT event_id, number, due_at FROM fan_outs WHERE due_at <= $1
                 ORDER BY due_at, event_id, number LIMIT 1
             ) AS head ON TRUE";
        let look = Statement::from_sql_and_values(self.connections.backend(), sql, [now.as_micros().into()]);
        let Some(row) = self.connections.keeper.query_one_raw(look).await? else {
            return Ok(FanOutBacklog { parts: 0, overdue: None });
        };
        let event: Option<Uuid> = row.try_get("", "event_id")?;
        let number: Option<i32> = row.try_get("", "number")?;
        let since: Option<i64> = row.try_get("", "due_at")?;
        let overdue = match (event, number.map(u32::try_from), since) {
            (Some(event), Some(Ok(number)), Some(since)) => Some(OverduePart {
                event: EventId::from_uuid(event),
                number,
                since: Timestamp::from_micros(since),
            }),
            _ => None,
        };
        Ok(FanOutBacklog { parts: u64::try_from(row.try_get::<i64>("", "parts")?).unwrap_or(0), overdue })
    }
}
