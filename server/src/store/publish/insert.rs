//! The rows of a batch, as they are inserted.

use std::collections::HashMap;

use sea_orm::{DatabaseTransaction, DbErr, prelude::Uuid};

use super::owing::NewPart;
use crate::{
    domain::{
        event::RequestId,
        handling::{OrderingKey, Priority},
        id::DeliveryId,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    publish::{Beginning, Entry},
    store::{
        bulk::{Cell, Column, Inserted},
        codes,
        lanes::Place,
    },
};

const EVENT: [Column; 18] = [
    Column::uuid("id"),
    Column::text("tenant_id"),
    Column::text("type"),
    Column::text("source"),
    Column::text("subject"),
    Column::big_int("occurred_at").or_null(),
    Column::text("content_type"),
    Column::text("attributes").or_null(),
    Column::text("request_id").or_null(),
    Column::bytes("fingerprint").or_null(),
    Column::text("traceparent").or_null(),
    Column::text("tracestate").or_null(),
    Column::text("ordering_key").or_null(),
    Column::big_int("deliver_at").or_null(),
    Column::big_int("expire_at").or_null(),
    Column::small_int("priority"),
    Column::int("delivery_count"),
    Column::big_int("created_at"),
];

pub(super) static EVENTS: Inserted<18> = Inserted::new("events", EVENT, "ON CONFLICT DO NOTHING");

/// The same where a request id that is known already is an error.
pub(super) static NEW_EVENTS: Inserted<18> = Inserted::new("events", EVENT, "");

pub(super) static PAYLOADS: Inserted<2> =
    Inserted::new("payloads", [Column::uuid("event_id"), Column::bytes("data")], "");

pub(super) static FAN_OUTS: Inserted<7> = Inserted::new(
    "fan_outs",
    [
        Column::uuid("event_id"),
        Column::int("number"),
        Column::text("tenant_id"),
        Column::big_int("due_at"),
        Column::bytes("subscriptions"),
        Column::text("ordering_key").or_null(),
        Column::big_int("position").or_null(),
    ],
    "",
);

pub(super) static DELIVERIES: Inserted<6> = Inserted::new(
    "deliveries",
    [
        Column::uuid("id"),
        Column::uuid("event_id"),
        Column::uuid("subscription_uid"),
        Column::text("tenant_id"),
        Column::small_int("state"),
        Column::big_int("created_at"),
    ],
    "",
);

pub(super) static PENDING_DELIVERIES: Inserted<9> = Inserted::new(
    "pending_deliveries",
    [
        Column::uuid("id"),
        Column::uuid("event_id"),
        Column::uuid("subscription_uid"),
        Column::int("attempt_count"),
        Column::big_int("due_at"),
        Column::small_int("priority"),
        Column::text("ordering_key").or_null(),
        Column::big_int("position").or_null(),
        Column::big_int("expire_at").or_null(),
    ],
    "",
);

/// The rows of deliveries that come into being: what is kept of them, and their places in the queue.
#[derive(Default)]
pub(in crate::store) struct NewDeliveries<'a> {
    pub(super) kept: Vec<[Cell<'a>; 6]>,
    pub(super) pending: Vec<[Cell<'a>; 9]>,
}

impl<'a> NewDeliveries<'a> {
    /// `places` are those of deliveries that stand in a lane. Those that neither wait there, nor are claimed or put off, are due `at`.
    pub(in crate::store) fn of(
        entries: &[&'a Entry],
        places: &HashMap<DeliveryId, Place>,
        at: Timestamp,
        leased_until: Timestamp,
    ) -> Self {
        let count = entries.iter().map(|entry| entry.deliveries.len()).sum();
        let mut new = Self { kept: Vec::with_capacity(count), pending: Vec::with_capacity(count) };
        for entry in entries {
            let handling = &entry.event.content.handling;
            for delivery in &entry.deliveries {
                let place = places.get(&delivery.id);
                let put_off = || handling.put_off(at).unwrap_or(at);
                let (attempt_count, due_at) = if let Some(until) = place.and_then(|place| place.waits_until) {
                    (0, until.max(put_off()))
                } else if delivery.beginning == Beginning::Claimed {
                    // It is already in its first attempt: due again only if this node dies.
                    (1, leased_until)
                } else {
                    (0, put_off())
                };
                new.kept.push([
                    delivery.id.uuid().into(),
                    entry.event.id.uuid().into(),
                    delivery.subscription.uuid().into(),
                    entry.event.tenant.as_str().into(),
                    codes::PENDING.into(),
                    entry.event.created_at.as_micros().into(),
                ]);
                new.pending.push([
                    delivery.id.uuid().into(),
                    entry.event.id.uuid().into(),
                    delivery.subscription.uuid().into(),
                    attempt_count.into(),
                    due_at.as_micros().into(),
                    codes::priority_code(handling.priority).into(),
                    handling.ordering_key.as_ref().map(OrderingKey::as_str).into(),
                    place.map(|place| place.position).into(),
                    handling.expire_at.map(Timestamp::as_micros).into(),
                ]);
            }
        }
        new
    }

    /// Of an event of which nothing is known but its id, due `at`.
    pub(in crate::store) fn plain(
        event: Uuid,
        tenant: &'a str,
        to: impl Iterator<Item = (DeliveryId, &'a Uuid)>,
        at: Timestamp,
    ) -> Self {
        let mut new = Self::default();
        for (id, subscription) in to {
            new.kept.push([
                id.uuid().into(),
                event.into(),
                (*subscription).into(),
                tenant.into(),
                codes::PENDING.into(),
                at.as_micros().into(),
            ]);
            new.pending.push([
                id.uuid().into(),
                event.into(),
                (*subscription).into(),
                0.into(),
                at.as_micros().into(),
                codes::priority_code(Priority::Normal).into(),
                Cell::Null,
                Cell::Null,
                Cell::Null,
            ]);
        }
        new
    }

    pub(in crate::store) async fn insert(self, transaction: &DatabaseTransaction) -> Result<(), DbErr> {
        DELIVERIES.insert(transaction, self.kept).await?;
        PENDING_DELIVERIES.insert(transaction, self.pending).await?;
        Ok(())
    }
}

pub(super) fn events(entries: &[Entry]) -> Vec<[Cell<'_>; 18]> {
    let mut in_order: Vec<_> = entries.iter().collect();
    // All nodes in one order, so that two that bring the same request ids wait for each other and do not deadlock.
    in_order
        .sort_by_key(|entry| (&entry.event.tenant, entry.event.request_id.as_ref().map(RequestId::as_str)));
    in_order.into_iter().map(event).collect()
}

fn event(entry: &Entry) -> [Cell<'_>; 18] {
    let event = &entry.event;
    let handling = &event.content.handling;
    let attributes = event.content.attributes.as_map();
    // Strings always serialise.
    let attributes = (!attributes.is_empty()).then(|| serde_json::to_string(attributes).unwrap_or_default());
    [
        event.id.uuid().into(),
        event.tenant.as_str().into(),
        event.content.event_type.as_str().into(),
        event.content.source.as_str().into(),
        event.content.subject.as_str().into(),
        event.content.time.map(Timestamp::as_micros).into(),
        event.content.payload.content_type.as_str().into(),
        attributes.into(),
        event.request_id.as_ref().map(RequestId::as_str).into(),
        entry.fingerprint.as_ref().map(|fingerprint| fingerprint.0.as_slice()).into(),
        event.trace.as_ref().map(TraceContext::traceparent).into(),
        event.trace.as_ref().map(TraceContext::tracestate).into(),
        handling.ordering_key.as_ref().map(OrderingKey::as_str).into(),
        handling.deliver_at.map(Timestamp::as_micros).into(),
        handling.expire_at.map(Timestamp::as_micros).into(),
        codes::priority_code(handling.priority).into(),
        i32::try_from(entry.delivery_count()).unwrap_or(i32::MAX).into(),
        event.created_at.as_micros().into(),
    ]
}

pub(super) fn payloads<'a>(entries: &[&'a Entry]) -> Vec<[Cell<'a>; 2]> {
    let row = |entry: &&'a Entry| {
        let event = &entry.event;
        [event.id.uuid().into(), event.content.payload.data.as_ref().into()]
    };
    entries.iter().map(row).collect()
}

/// What is still owed, due `at`.
pub(super) fn fan_outs<'a>(parts: &[NewPart<'a>], at: Timestamp) -> Vec<[Cell<'a>; 7]> {
    let row = |part: &NewPart<'a>| {
        let event = &part.entry.event;
        let uids: Vec<u8> = part.to.iter().copied().flat_map(Uuid::into_bytes).collect();
        [
            event.id.uuid().into(),
            part.number.into(),
            event.tenant.as_str().into(),
            at.as_micros().into(),
            uids.into(),
            event.content.handling.ordering_key.as_ref().map(OrderingKey::as_str).into(),
            part.position.into(),
        ]
    };
    parts.iter().map(row).collect()
}
