//! The rows of a batch, as they are inserted.

use sea_orm::Value;

use crate::{
    domain::timestamp::Timestamp,
    publish::{Batch, Entry},
    store::{
        bulk::{Column, Inserted},
        codes,
    },
};

pub(super) static EVENTS: Inserted<14> = Inserted::new(
    "events",
    [
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
        Column::int("delivery_count"),
        Column::big_int("created_at"),
    ],
    "ON CONFLICT DO NOTHING",
);

pub(super) static PAYLOADS: Inserted<2> =
    Inserted::new("payloads", [Column::uuid("event_id"), Column::bytes("data")], "");

pub(super) static DELIVERIES: Inserted<8> = Inserted::new(
    "deliveries",
    [
        Column::uuid("id"),
        Column::uuid("event_id"),
        Column::uuid("subscription_uid"),
        Column::text("tenant_id"),
        Column::small_int("state"),
        Column::int("attempt_count"),
        Column::big_int("due_at"),
        Column::big_int("created_at"),
    ],
    "",
);

pub(super) fn events(entries: &[Entry]) -> Vec<[Value; 14]> {
    let mut in_order: Vec<_> = entries.iter().collect();
    // All nodes in one order, so that two that bring the same request ids wait for each other and do not deadlock.
    in_order
        .sort_by_key(|entry| (&entry.event.tenant, entry.event.request_id.as_ref().map(|id| id.as_str())));
    in_order.into_iter().map(event).collect()
}

fn event(entry: &Entry) -> [Value; 14] {
    let event = &entry.event;
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
        event.request_id.as_ref().map(|id| id.as_str()).into(),
        entry.fingerprint.map(|fingerprint| fingerprint.0.to_vec()).into(),
        event.trace.as_ref().map(|trace| trace.traceparent()).into(),
        event.trace.as_ref().map(|trace| trace.tracestate()).into(),
        i32::try_from(entry.deliveries.len()).unwrap_or(i32::MAX).into(),
        event.created_at.as_micros().into(),
    ]
}

pub(super) fn payloads(entries: &[&Entry]) -> Vec<[Value; 2]> {
    let row =
        |entry: &&Entry| [entry.event.id.uuid().into(), entry.event.content.payload.data.to_vec().into()];
    entries.iter().map(row).collect()
}

pub(super) fn deliveries(entries: &[&Entry], batch: &Batch) -> Vec<[Value; 8]> {
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        for delivery in &entry.deliveries {
            // A claimed one is already in its first attempt: due again only if this node dies.
            let (attempt_count, due_at) =
                if delivery.claimed { (1, batch.leased_until) } else { (0, batch.due_at) };
            rows.push([
                delivery.id.uuid().into(),
                entry.event.id.uuid().into(),
                delivery.target.uid.uuid().into(),
                entry.event.tenant.as_str().into(),
                codes::PENDING.into(),
                attempt_count.into(),
                due_at.as_micros().into(),
                entry.event.created_at.as_micros().into(),
            ]);
        }
    }
    rows
}
