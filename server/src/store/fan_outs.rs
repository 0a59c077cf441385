//! The parts of fan-outs: deliveries that events are owed, some hundred to a row. What becomes of them is told in
//! [`publish::fan_out`](crate::publish::fan_out).

use std::{
    fmt::Display,
    sync::{Arc, LazyLock},
};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Statement, Value, prelude::Uuid};

use super::{Error, STEP_TIMEOUT, Store, lanes, publish::insert::NewDeliveries, sendable, sending, within};
use crate::{
    domain::{
        id::{DeliveryId, EventId, SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    publish::{
        AT_ONCE, JournalError,
        fan_out::{FanOuts, Finish, OverduePart, Part, PartDeliveries, Recipient},
    },
};

/// That no part of an event is there any more that has to come before the row `part`.
const IS_NEXT: &str = "(part.position IS NULL OR NOT EXISTS (
        SELECT 1 FROM fan_outs AS earlier
        WHERE earlier.tenant_id = part.tenant_id AND earlier.ordering_key = part.ordering_key
            AND earlier.position < part.position
    ))";

/// Takes one row over. Its due date is looked at again when the row is locked: another node may have been quicker.
static TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH next AS MATERIALIZED (
             SELECT event_id, number FROM fan_outs AS part WHERE tenant_id > $3 AND due_at <= $1 AND {IS_NEXT}
             ORDER BY tenant_id, due_at, event_id, number LIMIT 1
         )
         UPDATE fan_outs SET due_at = $2
         WHERE (event_id, number) IN (SELECT event_id, number FROM next) AND due_at <= $1
         RETURNING event_id, number, tenant_id, subscriptions, ordering_key, position"
    )
});

/// What comes next with its ordering key, behind a row that is the last one of its event. Nobody else takes these while that row is there.
static BEHIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT event_id, number, tenant_id, subscriptions, ordering_key, position FROM fan_outs
         WHERE tenant_id = $1 AND ordering_key = $2 AND position > $3 AND 1 = (
             SELECT COUNT(*) FROM fan_outs WHERE tenant_id = $1 AND ordering_key = $2 AND position <= $3
         )
         ORDER BY position, event_id, number LIMIT {MAX_BEHIND}"
    )
});

/// The most parts that come along behind another. All together have [`AT_ONCE`] deliveries at most.
const MAX_BEHIND: usize = 100;
/// The most data that their events have.
const MAX_BYTES: usize = 4 << 20;

/// A row: the deliveries of one part.
struct Owed {
    event: Uuid,
    number: i32,
    tenant: String,
    /// To whom.
    to: Vec<Uuid>,
    /// Its ordering key, and where it stands with that.
    place: Option<(String, i64)>,
}

impl Owed {
    fn read(row: &QueryResult) -> Result<Self, Error> {
        let uids: Vec<u8> = row.try_get("", "subscriptions")?;
        let key: Option<String> = row.try_get("", "ordering_key")?;
        let position: Option<i64> = row.try_get("", "position")?;
        Ok(Self {
            event: row.try_get("", "event_id")?,
            number: row.try_get("", "number")?,
            tenant: row.try_get("", "tenant_id")?,
            to: uids.chunks_exact(16).filter_map(|uid| Uuid::from_slice(uid).ok()).collect(),
            place: key.zip(position),
        })
    }
}

fn corrupt(cause: &dyn Display) -> Error {
    Error::Corrupt { table: "fan_outs", cause: cause.to_string() }
}

/// Removes rows, which is the right to make their deliveries; says whether they were all there.
async fn delete(
    transaction: &DatabaseTransaction,
    rows: impl ExactSizeIterator<Item = (Uuid, i32)>,
) -> Result<bool, DbErr> {
    let wanted = rows.len();
    let values: Vec<Value> = rows.flat_map(|(event, number)| [event.into(), number.into()]).collect();
    if values.is_empty() {
        return Ok(true);
    }
    let sql = format!(
        "DELETE FROM fan_outs WHERE (event_id, number) IN (SELECT column1, column2 FROM ({}) AS v)",
        lanes::rows_of(2, wanted)
    );
    let delete = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
    Ok(transaction.execute_raw(delete).await?.rows_affected() == wanted as u64)
}

/// What a part is known by here.
fn id_of(part: &Part) -> (Uuid, i32) {
    (part.event.id.uuid(), i32::try_from(part.number).unwrap_or(i32::MAX))
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
    async fn take_parts(
        &self,
        after: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Vec<Part>, JournalError> {
        Ok(within(STEP_TIMEOUT, self.take_due_parts(after, now, leased_until)).await?)
    }

    async fn finish_parts(
        &self,
        parts: &[Part],
        deliveries: &PartDeliveries,
    ) -> Result<Finish, JournalError> {
        Ok(within(STEP_TIMEOUT, self.insert_parts(parts, deliveries)).await?)
    }

    async fn give_back(&self, part: &Part, leased_until: Timestamp) -> Result<(), JournalError> {
        let (event, number) = id_of(part);
        let due_at = part.event.created_at.as_micros();
        let values = [event.into(), number.into(), leased_until.as_micros().into(), due_at.into()];
        let give_back = "UPDATE fan_outs SET due_at = $4 WHERE event_id = $1 AND number = $2 AND due_at = $3";
        let give_back = Statement::from_sql_and_values(self.connections.backend(), give_back, values);
        let given = async { Ok(self.connections.writer.execute_raw(give_back).await?) };
        within(STEP_TIMEOUT, given).await?;
        Ok(())
    }
}

impl Store {
    async fn take_due_parts(
        &self,
        after: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Vec<Part>, Error> {
        let values = [
            now.as_micros().into(),
            leased_until.as_micros().into(),
            after.map_or("", TenantId::as_str).into(),
        ];
        let take = Statement::from_sql_and_values(self.connections.backend(), TAKE.as_str(), values);
        // Until there is none, or one that can be read: what cannot is no longer there afterwards.
        loop {
            let Some(row) = self.connections.writer.query_one_raw(take.clone()).await? else {
                return Ok(Vec::new());
            };
            let mut owed = vec![Owed::read(&row)?];
            owed.extend(self.behind(&owed[0]).await?);
            if let Some(parts) = self.parts(&owed, now).await? {
                return Ok(parts);
            }
        }
    }

    /// What can become deliveries together with a part that was taken.
    async fn behind(&self, first: &Owed) -> Result<Vec<Owed>, Error> {
        let Some((key, position)) = &first.place else { return Ok(Vec::new()) };
        let matcher = &self.connections.matcher;
        let values = [first.tenant.as_str().into(), key.as_str().into(), (*position).into()];
        let look = Statement::from_sql_and_values(self.connections.backend(), BEHIND.as_str(), values);
        let rows = matcher.query_all_raw(look).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut behind = rows.iter().map(Owed::read).collect::<Result<Vec<_>, _>>()?;
        let sizes = sending::sizes(matcher, behind.iter().map(|owed| owed.event)).await?;
        let (mut deliveries, mut bytes) = (first.to.len(), 0);
        let mut fits = |owed: &Owed| {
            deliveries += owed.to.len();
            bytes += sizes.get(&owed.event).copied().unwrap_or(0);
            deliveries <= AT_ONCE && bytes <= MAX_BYTES
        };
        let fitting = behind.iter().take_while(|owed| fits(owed)).count();
        behind.truncate(fitting);
        Ok(behind)
    }

    /// What is owed, with all that its deliveries need. What nobody can read becomes deliveries here; nothing is left to do if that is the
    /// first one, by which the others are held.
    async fn parts(&self, owed: &[Owed], now: Timestamp) -> Result<Option<Vec<Part>>, Error> {
        let matcher = &self.connections.matcher;
        let events = sending::events(matcher, owed.iter().map(|owed| owed.event)).await?;
        let uids = owed.iter().flat_map(|owed| owed.to.iter().copied());
        let targets = sending::targets(matcher, &self.keyring, uids, sendable::condition()).await?;
        let recipient = |uid: &Uuid| match targets.get(uid) {
            Some(Ok(target)) => Recipient::Open(target.clone()),
            // Whoever claims what is for one that cannot be read ends it.
            Some(Err(_)) | None => Recipient::Closed(SubscriptionUid::from_uuid(*uid)),
        };
        let mut parts = Vec::with_capacity(owed.len());
        for (nth, owed) in owed.iter().enumerate() {
            // Retention spares what is still to be fanned out, so what cannot be read is a defect, and will be the same at the next look.
            let event = match events.get(&owed.event) {
                Some(Ok(event)) => Ok(event),
                Some(Err(cause)) => Err(cause as &(dyn Display + Sync)),
                None => Err(&"the event is missing" as _),
            };
            match event {
                Ok(event) => {
                    let number = u32::try_from(owed.number).map_err(|cause| corrupt(&cause))?;
                    let recipients = owed.to.iter().map(recipient).collect();
                    parts.push(Part { event: Arc::clone(event), number, recipients });
                }
                Err(cause) => {
                    self.make_plain(owed, cause, now).await?;
                    if nth == 0 {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(parts))
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
        if delete(&transaction, std::iter::once((owed.event, owed.number))).await? {
            let ids = (0..).map(|nth| DeliveryId::nth(now, nth));
            NewDeliveries::plain(owed.event, &owed.tenant, ids.zip(&owed.to), now)
                .insert(&transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn insert_parts(&self, parts: &[Part], deliveries: &PartDeliveries) -> Result<Finish, Error> {
        let transaction = self.connections.begin().await?;
        // The first one by itself: whoever has the others, too, waits for it there, and nobody in a circle.
        for rows in [&parts[..1], &parts[1..]] {
            if !delete(&transaction, rows.iter().map(id_of)).await? {
                transaction.rollback().await?;
                return Ok(Finish::DoneBefore);
            }
        }
        let PartDeliveries { entries, due_at, leased_until } = deliveries;
        let entries: Vec<_> = entries.iter().collect();
        let places = lanes::enter(&transaction, lanes::of(&entries), *due_at).await?;
        NewDeliveries::of(&entries, &places, *due_at, *leased_until).insert(&transaction).await?;
        transaction.commit().await?;
        Ok(Finish::Done { parked: lanes::parked(&places).collect() })
    }

    /// How fan-outs stand.
    pub async fn fan_out_backlog(&self, now: Timestamp) -> Result<FanOutBacklog, Error> {
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM fan_outs) AS parts, head.event_id, head.number, head.due_at
             FROM (SELECT 1 AS one) AS one LEFT JOIN (
                 SELECT event_id, number, due_at FROM fan_outs AS part WHERE due_at <= $1 AND {IS_NEXT}
                 ORDER BY due_at, event_id, number LIMIT 1
             ) AS head ON TRUE"
        );
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
