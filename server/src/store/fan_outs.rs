//! The parts of fan-outs: deliveries that events are owed, some hundred to a row. What becomes of them is told in
//! [`publish::fan_out`](crate::publish::fan_out).

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, Statement, prelude::Uuid};

use super::{
    Error, STEP_TIMEOUT, Store,
    publish::insert::{self, DELIVERIES},
    sendable, sending, within,
};
use crate::{
    domain::{
        id::{EventId, SubscriptionUid, TenantId},
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
    RETURNING event_id, number, subscriptions";

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
        let rows = self.connections.writer.query_all_raw(take).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let event_id: Uuid = row.try_get("", "event_id")?;
        let corrupt = |cause: String| Error::Corrupt { table: "fan_outs", cause };
        let number = u32::try_from(row.try_get::<i32>("", "number")?);
        let number = number.map_err(|cause| corrupt(cause.to_string()))?;
        let uids: Vec<u8> = row.try_get("", "subscriptions")?;
        let uids: Vec<_> = uids.chunks_exact(16).filter_map(|uid| Uuid::from_slice(uid).ok()).collect();
        let reader = &self.connections.reader;
        let event = sending::events(reader, [event_id].into_iter()).await?.remove(&event_id);
        // Retention spares what is still to be fanned out.
        let unreadable =
            |cause: &dyn std::fmt::Display| corrupt(format!("{}: {cause}", EventId::from_uuid(event_id)));
        let event = event.ok_or_else(|| unreadable(&"the event is missing"))?;
        let event = event.map_err(|cause| unreadable(&cause))?;
        let open = sendable::condition();
        let targets = sending::targets(reader, &self.keyring, uids.iter().copied(), open).await?;
        let recipient = |uid| match targets.get(&uid) {
            Some(Ok(target)) => Recipient::Open(target.clone()),
            // Whoever claims what is for one that cannot be read ends it.
            Some(Err(_)) | None => Recipient::Closed(SubscriptionUid::from_uuid(uid)),
        };
        Ok(Some(Part { event, number, recipients: uids.into_iter().map(recipient).collect() }))
    }

    async fn insert_part(&self, part: &Part, deliveries: &PartDeliveries) -> Result<Finish, Error> {
        let transaction = self.connections.begin().await?;
        let number = i32::try_from(part.number).unwrap_or(i32::MAX);
        let delete = Statement::from_sql_and_values(
            self.connections.backend(),
            "DELETE FROM fan_outs WHERE event_id = $1 AND number = $2",
            [part.event.id.uuid().into(), number.into()],
        );
        if transaction.execute_raw(delete).await?.rows_affected() != 1 {
            transaction.rollback().await?;
            return Ok(Finish::DoneBefore);
        }
        let PartDeliveries { entry, due_at, leased_until } = deliveries;
        let rows = insert::deliveries(&[entry], &HashMap::new(), *due_at, *leased_until);
        DELIVERIES.insert(&transaction, rows).await?;
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
        let Some(row) = self.connections.reader.query_one_raw(look).await? else {
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
