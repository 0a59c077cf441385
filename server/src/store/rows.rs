//! Rows become domain values here, and nowhere else. A row that cannot be read is our defect and is named.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Error,
    bulk::Cell,
    codes,
    entity::{attempts, events, subscription_secrets, subscriptions},
    failing, handshakes,
    keyring::{Keyring, Sealed},
    rates,
};
use crate::domain::{
    attempt::{Attempt, AttemptNumber, Outcome, Response, Timings},
    breaker::Health,
    claim::Target,
    event::{Attributes, Event, EventContent, Payload, RequestId},
    event_type::EventType,
    handling::{Handling, OrderingKey},
    id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
    operational::About,
    rate_limit::RateLimit,
    secret::{SecretInForce, SecretSet},
    settings::Settings,
    subscription::{Description, Filter, Pace, Subscription, SubscriptionSpec},
    target_url::TargetUrl,
    timestamp::Timestamp,
    trace_context::TraceContext,
};

fn corrupt(table: &'static str, cause: &impl ToString) -> Error {
    Error::Corrupt { table, cause: cause.to_string() }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn filter(event_types: &str) -> Result<Filter, Error> {
    serde_json::from_str(event_types)
        .map(Filter::from_stored)
        .map_err(|cause| corrupt("subscriptions", &cause))
}

fn target_url(text: &str) -> Result<TargetUrl, Error> {
    TargetUrl::from_stored(text).map_err(|cause| corrupt("subscriptions", &cause))
}

pub(super) fn subscription(row: subscriptions::Model, keyring: &Keyring) -> Result<Subscription, Error> {
    let settings = settings(&row, keyring)?;
    let handshake = handshakes::status(&row);
    let disabled = match (row.disabled_at, row.disabled_reason) {
        (Some(at), Some(reason)) => Some((timestamp(at), codes::disabled_reason_of(reason)?)),
        _ => None,
    };
    let health = match row.blocked_until {
        Some(until) => Health::Blocked {
            failing_since: timestamp(row.failing_since.unwrap_or(row.updated_at)),
            reason: row.blocked_reason.clone().unwrap_or_default(),
            next_probe_at: timestamp(until),
        },
        None => Health::Healthy,
    };
    let failing = failing::of_row(&row);
    Ok(Subscription {
        uid: SubscriptionUid::from_uuid(row.uid),
        tenant: TenantId::from_stored(&row.tenant_id),
        id: SubscriptionId::from_stored(&row.id),
        spec: SubscriptionSpec {
            target_url: target_url(&row.target_url)?,
            filter: filter(&row.event_types)?,
            pace: pace(&row, rates::own(&row)),
            description: Description::from_stored(row.description),
            settings: Arc::unwrap_or_clone(settings),
        },
        health,
        failing,
        handshake,
        paused_at: row.paused_at.map(timestamp),
        disabled,
        revision: row.revision,
        created_at: timestamp(row.created_at),
        updated_at: timestamp(row.updated_at),
    })
}

/// Whose row it is, for those who tell of it.
pub(super) struct Named {
    pub(super) tenant: TenantId,
    pub(super) id: SubscriptionId,
    uid: SubscriptionUid,
}

impl Named {
    pub(super) fn of(row: &subscriptions::Model) -> Self {
        Self {
            tenant: TenantId::from_stored(&row.tenant_id),
            id: SubscriptionId::from_stored(&row.id),
            uid: SubscriptionUid::from_uuid(row.uid),
        }
    }

    pub(super) fn about(&self) -> About<'_> {
        About { tenant: &self.tenant, id: &self.id, uid: self.uid }
    }
}

fn pace(row: &subscriptions::Model, rate: Option<RateLimit>) -> Pace {
    Pace {
        rate,
        max_in_flight: row.max_in_flight.and_then(|most| u32::try_from(most).ok()).and_then(NonZeroU32::new),
    }
}

pub(super) fn rate_limit(per_second: Option<f64>, burst: Option<i32>) -> Option<RateLimit> {
    let burst = burst.and_then(|burst| u32::try_from(burst).ok()).unwrap_or(1);
    per_second.map(|per_second| RateLimit::from_stored(per_second, burst))
}

/// The part of a subscription that matching needs.
pub(super) fn wanted(row: &subscriptions::Model) -> Result<Filter, Error> {
    filter(&row.event_types)
}

/// What the owner has set.
pub(super) fn settings(row: &subscriptions::Model, keyring: &Keyring) -> Result<Arc<Settings>, Error> {
    let (Some(ciphertext), Some(key_id)) = (&row.settings, &row.settings_key_id) else {
        return Ok(Settings::plain());
    };
    let sealed = Sealed { key_id: key_id.clone(), ciphertext: ciphertext.clone() };
    let document = keyring.open_settings(&sealed, SubscriptionUid::from_uuid(row.uid))?;
    serde_json::from_slice(&document).map(Arc::new).map_err(|cause| corrupt("subscriptions", &cause))
}

/// The other way round: both columns.
pub(super) fn sealed_settings(
    settings: &Settings,
    owner: SubscriptionUid,
    keyring: &Keyring,
) -> Result<(Option<Vec<u8>>, Option<String>), Error> {
    if settings.is_plain() {
        return Ok((None, None));
    }
    // They always serialise.
    let document = serde_json::to_vec(settings).unwrap_or_default();
    let Sealed { key_id, ciphertext } = keyring.seal_settings(&document, owner)?;
    Ok((Some(ciphertext), Some(key_id)))
}

/// The part of a subscription that sending needs, with its secrets. Without the key of its settings its attempts fail as our defect,
/// which their record says, until the key is there.
pub(super) fn target(
    row: &subscriptions::Model,
    secrets: SecretSet,
    keyring: &Keyring,
) -> Result<Arc<Target>, Error> {
    let settings = match settings(row, keyring) {
        Ok(settings) => Some(settings),
        Err(Error::Secret(cause)) => {
            tracing::error!(
                cause = &cause as &dyn std::error::Error,
                subscription.uid = %SubscriptionUid::from_uuid(row.uid),
                "the settings of a subscription cannot be decrypted"
            );
            None
        }
        Err(cause) => return Err(cause),
    };
    Ok(Arc::new(Target {
        uid: SubscriptionUid::from_uuid(row.uid),
        tenant: TenantId::from_stored(&row.tenant_id),
        id: SubscriptionId::from_stored(&row.id),
        url: target_url(&row.target_url)?,
        secrets,
        pace: pace(row, rates::in_force(row)),
        suspected: row.failing_suspected_at.is_some(),
        recovered_at: row.recovered_at.map(timestamp),
        revision: row.revision,
        settings,
    }))
}

/// Decrypts secrets and sorts them by subscription. One that does not open is left out and logged: a
/// subscription must not keep the others from being served.
pub(super) fn secrets(
    rows: Vec<subscription_secrets::Model>,
    keyring: &Keyring,
) -> HashMap<SubscriptionUid, SecretSet> {
    let mut by_subscription: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let owner = SubscriptionUid::from_uuid(row.subscription_uid);
        let age = age_of_secret(&row);
        match secret(row, keyring) {
            Ok(secret) => by_subscription.entry(owner).or_default().push((age, secret)),
            Err(cause) => tracing::error!(
                cause = &cause as &dyn std::error::Error,
                subscription.uid = %owner,
                "a signing secret cannot be used"
            ),
        }
    }
    let newest_first = |mut held: Vec<(_, SecretInForce)>| {
        held.sort_by_key(|(age, _)| *age);
        SecretSet::newest_first(held.into_iter().map(|(_, held)| held).collect())
    };
    by_subscription.into_iter().map(|(owner, held)| (owner, newest_first(held))).collect()
}

/// What sorts the secrets of a subscription, the newest first: the current one has no end, the others are as old as they are.
pub(super) fn age_of_secret(row: &subscription_secrets::Model) -> impl Ord + Copy + use<> {
    (row.expires_at.is_some(), std::cmp::Reverse((row.created_at, row.expires_at, row.id)))
}

/// A secret, decrypted.
pub(super) fn secret(row: subscription_secrets::Model, keyring: &Keyring) -> Result<SecretInForce, Error> {
    let owner = SubscriptionUid::from_uuid(row.subscription_uid);
    let kind = codes::secret_kind_of(row.kind)?;
    let sealed = |ciphertext| Sealed { key_id: row.key_id.clone(), ciphertext };
    let key_pair = row.key_pair.map(|pair| keyring.open_key_pair(&sealed(pair), owner)).transpose()?;
    Ok(SecretInForce {
        secret: keyring.open(&sealed(row.ciphertext), kind, owner)?,
        key_pair,
        starts_at: row.starts_at.map(timestamp),
        expires_at: row.expires_at.map(timestamp),
    })
}

/// An event with its data, or without where that is not wanted or no longer kept.
pub(super) fn event(row: events::Model, data: Option<Vec<u8>>) -> Result<Event, Error> {
    let attributes = match &row.attributes {
        Some(json) => serde_json::from_str(json).map_err(|cause| corrupt("events", &cause))?,
        None => BTreeMap::default(),
    };
    let trace = row
        .traceparent
        .map(|traceparent| TraceContext::from_stored(traceparent, row.tracestate.unwrap_or_default()));
    Ok(Event {
        id: EventId::from_uuid(row.id),
        tenant: TenantId::from_stored(&row.tenant_id),
        request_id: row.request_id.map(RequestId::from_stored),
        content: EventContent {
            event_type: EventType::from_stored(&row.event_type),
            source: row.source,
            subject: row.subject,
            time: row.occurred_at.map(timestamp),
            payload: Payload { data: Bytes::from(data.unwrap_or_default()), content_type: row.content_type },
            attributes: Attributes::from_stored(attributes),
            handling: Handling {
                ordering_key: row.ordering_key.map(OrderingKey::from_stored),
                deliver_at: row.deliver_at.map(timestamp),
                expire_at: row.expire_at.map(timestamp),
                priority: codes::priority_of(row.priority)?,
            },
        },
        trace,
        created_at: timestamp(row.created_at),
    })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

pub(super) fn attempt_number(number: i32, table: &'static str) -> Result<AttemptNumber, Error> {
    let number = u32::try_from(number).ok().and_then(AttemptNumber::new);
    number.ok_or_else(|| corrupt(table, &"the number of the attempt is not positive"))
}

pub(super) fn attempt(row: attempts::Model) -> Result<Attempt, Error> {
    let status = |status: i16| u16::try_from(status).map_err(|cause| corrupt("attempts", &cause));
    let response = match row.status {
        None => None,
        Some(code) => Some(Response {
            status: status(code)?,
            headers: serde_json::from_str(row.response_headers.as_deref().unwrap_or("[]"))
                .map_err(|cause| corrupt("attempts", &cause))?,
            body: Bytes::from(row.response_body.unwrap_or_default()),
            truncated: row.response_truncated.unwrap_or_default(),
        }),
    };
    let answered =
        || response.as_ref().map(|response| response.status).ok_or_else(|| corrupt("attempts", &"no status"));
    let outcome = match (row.outcome, row.failure) {
        (codes::ACKNOWLEDGED, None) => Outcome::Acknowledged { status: answered()? },
        (codes::REJECTED, None) => Outcome::Rejected { status: answered()?, retry_after: None },
        (codes::FAILED, Some(failure)) => Outcome::Failed {
            failure: codes::failure_of(failure)?,
            message: row.failure_message.unwrap_or_default(),
        },
        (outcome, failure) => {
            return Err(corrupt("attempts", &format!("outcome {outcome}, failure {failure:?}")));
        }
    };
    Ok(Attempt {
        number: attempt_number(row.number, "attempts")?,
        started_at: timestamp(row.started_at),
        target_url: row.target_url,
        outcome,
        wish: None,
        response,
        timings: Timings {
            total: span(row.total_duration),
            dns: row.dns_duration.map(span),
            connect: row.connect_duration.map(span),
            tls: row.tls_duration.map(span),
            first_byte: row.first_byte_duration.map(span),
        },
        span: None,
    })
}

/// The other way round: an attempt as it is stored, in the order of the entity's columns.
pub(super) fn attempt_values(delivery: DeliveryId, attempt: &Attempt) -> [Cell<'_>; 16] {
    let (outcome, failure) = match &attempt.outcome {
        Outcome::Acknowledged { .. } => (codes::ACKNOWLEDGED, None),
        Outcome::Rejected { .. } => (codes::REJECTED, None),
        Outcome::Failed { failure, message } => {
            (codes::FAILED, Some((codes::failure_code(*failure), message)))
        }
    };
    let response = attempt.response.as_ref();
    let timings = &attempt.timings;
    [
        delivery.uuid().into(),
        i32::try_from(attempt.number.get()).unwrap_or(i32::MAX).into(),
        attempt.started_at.as_micros().into(),
        attempt.target_url.as_str().into(),
        outcome.into(),
        failure.map(|(code, _)| code).into(),
        // The one character that PostgreSQL cannot store.
        failure.map(|(_, message)| message.replace('\0', "\u{fffd}")).into(),
        response.and_then(|response| i16::try_from(response.status).ok()).into(),
        // Strings always serialise.
        response.and_then(|response| serde_json::to_string(&response.headers).ok()).into(),
        response.map(|response| response.body.as_ref()).into(),
        response.map(|response| response.truncated).into(),
        micros(timings.total).into(),
        timings.dns.map(micros).into(),
        timings.connect.map(micros).into(),
        timings.tls.map(micros).into(),
        timings.first_byte.map(micros).into(),
    ]
}
