//! Valid by default: a test says only what it is about.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_integration_tests::default_tenant;
use postrider_server::{
    dispatch::{Ask, Settled},
    domain::{
        attempt::{Attempt, AttemptNumber, Outcome, Response, Timings},
        claim::{Claim, Target},
        delivery::{EndReason, Settlement},
        event::{Attributes, Event, EventContent, Payload, RequestId},
        event_type::EventType,
        handling::{Handling, OrderingKey, Priority},
        id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
        invalid::Invalid,
        page::{Cursor, PageRequest, PageSize},
        secret::{SecretSet, SigningSecret},
        settings::Settings,
        subscription::{Description, Filter, Pace, Subscription, SubscriptionSpec},
        target_url::TargetUrl,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    publish::{Beginning, Entry, NewDelivery},
    store::secrets::Takeover,
};

/// 2026-01-01T00:00:00Z: when everything begins.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// How long a claimed delivery belongs to a node.
pub(crate) const LEASE: Duration = Duration::from_mins(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
/// The smallest step of time.
pub(crate) const TICK: Duration = Duration::from_micros(1);

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(crate) fn name(id: &str) -> SubscriptionId {
    SubscriptionId::parse(id).unwrap()
}

/// The spec of a subscription to everything.
pub(crate) fn a_spec() -> SubscriptionSpec {
    SubscriptionSpec {
        description: Description::parse("Orders").unwrap(),
        target_url: TargetUrl::parse("https://example.com/hook").unwrap(),
        filter: Filter::parse(&["**"]).unwrap(),
        pace: Pace::default(),
        settings: Settings::default(),
    }
}

/// An edit that nothing speaks against.
pub(crate) fn set(
    edit: impl FnOnce(&mut SubscriptionSpec),
) -> impl FnOnce(&mut SubscriptionSpec) -> Result<(), Invalid> {
    |spec| {
        edit(spec);
        Ok(())
    }
}

/// A signing secret that consists of this byte.
pub(crate) fn a_secret(byte: u8) -> SigningSecret {
    SigningSecret::from_bytes(vec![byte; SigningSecret::LENGTH])
}

/// Where a subscription's events go. Signing is not what these tests are about.
pub(crate) fn target(subscription: &Subscription) -> Arc<Target> {
    Arc::new(Target {
        uid: subscription.uid,
        tenant: subscription.tenant.clone(),
        id: subscription.id.clone(),
        url: subscription.spec.target_url.clone(),
        secrets: SecretSet::newest_first(Vec::new()),
        pace: subscription.spec.pace,
        suspected: false,
        recovered_at: None,
        revision: 1,
        settings: Some(Settings::plain()),
    })
}

pub(crate) fn a_page(rows: i32, after: Option<Cursor>) -> PageRequest {
    PageRequest { size: PageSize::parse(rows).unwrap(), after }
}

/// Everything there is, as long as it is not more than a thousand.
pub(crate) fn one_page() -> PageRequest {
    a_page(1_000, None)
}

/// Asks for whatever is due at `now`, but at most `max`.
pub(crate) fn ask(now: Timestamp, max: usize) -> Ask {
    Ask {
        now,
        leased_until: now + LEASE,
        max,
        places: max,
        max_per_subscription: 128,
        held: Vec::new(),
        limits: Vec::new(),
        max_per_tenant: 100_000,
        tenants: Vec::new(),
    }
}

/// An event on its way into the store.
pub(crate) struct Draft {
    pub(crate) at: Timestamp,
    pub(crate) tenant: TenantId,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) content: EventContent,
    pub(crate) trace: Option<TraceContext>,
    to: Vec<(Arc<Target>, bool)>,
    later: Vec<Vec<SubscriptionUid>>,
}

/// An event that nobody wants yet.
pub(crate) fn a_draft() -> Draft {
    Draft {
        at: NOW,
        tenant: default_tenant(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse("order.created").unwrap(),
            source: String::new(),
            subject: String::new(),
            time: None,
            payload: Payload { data: Bytes::from_static(b"{}"), content_type: "application/json".to_owned() },
            attributes: Attributes::from_stored(BTreeMap::new()),
            handling: Handling::default(),
        },
        trace: None,
        to: Vec::new(),
        later: Vec::new(),
    }
}

impl Draft {
    /// With deliveries that wait to be claimed.
    pub(crate) fn to<'a>(mut self, subscriptions: impl IntoIterator<Item = &'a Subscription>) -> Self {
        self.to.extend(subscriptions.into_iter().map(|subscription| (target(subscription), false)));
        self
    }

    /// With deliveries whose first attempt begins at once.
    pub(crate) fn claimed_to<'a>(
        mut self,
        subscriptions: impl IntoIterator<Item = &'a Subscription>,
    ) -> Self {
        self.to.extend(subscriptions.into_iter().map(|subscription| (target(subscription), true)));
        self
    }

    /// With a part of a fan-out: deliveries that are made later.
    pub(crate) fn later_to<'a>(mut self, subscriptions: impl IntoIterator<Item = &'a Subscription>) -> Self {
        self.later.push(subscriptions.into_iter().map(|subscription| subscription.uid).collect());
        self
    }

    pub(crate) fn at(self, at: Timestamp) -> Self {
        Self { at, ..self }
    }

    pub(crate) fn of(self, tenant: &TenantId) -> Self {
        Self { tenant: tenant.clone(), ..self }
    }

    pub(crate) fn request_id(self, request_id: &str) -> Self {
        Self { request_id: Some(RequestId::parse(request_id).unwrap()), ..self }
    }

    /// In order with others that have this key.
    pub(crate) fn keyed(mut self, key: &str) -> Self {
        self.content.handling.ordering_key = Some(OrderingKey::parse(key.to_owned()).unwrap());
        self
    }

    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.content.handling.priority = priority;
        self
    }

    pub(crate) fn deliver_at(mut self, at: Timestamp) -> Self {
        self.content.handling.deliver_at = Some(at);
        self
    }

    pub(crate) fn expire_at(mut self, at: Timestamp) -> Self {
        self.content.handling.expire_at = Some(at);
        self
    }

    pub(crate) fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.content.payload.data = data.into();
        self
    }

    /// What becomes of it as the `nth` of its batch.
    pub(crate) fn into_entry(self, nth: usize, first_delivery: usize) -> Entry {
        let deliveries = self.to.into_iter().enumerate().map(|(number, (target, claimed))| NewDelivery {
            id: DeliveryId::nth(self.at, first_delivery + number),
            subscription: target.uid,
            beginning: if claimed { Beginning::Claimed } else { Beginning::Unclaimed },
        });
        Entry {
            fingerprint: self.request_id.as_ref().map(|_| self.content.fingerprint()),
            deliveries: deliveries.collect(),
            later: self.later,
            event: Arc::new(Event {
                id: EventId::nth(self.at, nth),
                tenant: self.tenant,
                request_id: self.request_id,
                content: self.content,
                trace: self.trace,
                created_at: self.at,
            }),
        }
    }
}

/// An attempt that was answered with 204.
pub(crate) fn an_attempt(number: AttemptNumber, started_at: Timestamp) -> Attempt {
    Attempt {
        number,
        started_at,
        target_url: "https://example.com/hook".to_owned(),
        outcome: Outcome::Acknowledged { status: 204 },
        wish: None,
        response: Some(Response { status: 204, ..Response::default() }),
        timings: Timings { total: SECOND, ..Timings::default() },
        span: None,
    }
}

/// An attempt that was answered with another status.
pub(crate) fn a_rejected_attempt(number: AttemptNumber, started_at: Timestamp, status: u16) -> Attempt {
    Attempt {
        outcome: Outcome::Rejected { status, retry_after: None },
        response: Some(Response { status, ..Response::default() }),
        ..an_attempt(number, started_at)
    }
}

fn settled(claim: &Claim, attempt: Attempt, settlement: Settlement, at: Timestamp) -> Settled {
    Settled::attempted(claim.clone(), attempt, settlement, at)
}

/// The receiver acknowledged the delivery at `at`.
pub(crate) fn acknowledged(claim: &Claim, at: Timestamp) -> Settled {
    settled(claim, an_attempt(claim.attempt, at), Settlement::End(EndReason::Acknowledged), at)
}

/// The receiver failed at `at`; the delivery is due again at `due_at`.
pub(crate) fn retried(claim: &Claim, at: Timestamp, due_at: Timestamp) -> Settled {
    settled(claim, a_rejected_attempt(claim.attempt, at, 500), Settlement::RetryAt(due_at), at)
}

/// The receiver failed at `at` for the last time.
pub(crate) fn exhausted(claim: &Claim, at: Timestamp) -> Settled {
    settled(claim, a_rejected_attempt(claim.attempt, at, 500), Settlement::End(EndReason::Exhausted), at)
}

/// The receiver wants nothing more.
pub(crate) fn gone(claim: &Claim, at: Timestamp) -> Settled {
    settled(claim, a_rejected_attempt(claim.attempt, at, 410), Settlement::End(EndReason::Gone), at)
}

/// A small source of chance that a seed repeats.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number from 0 to one less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Takes over at once, and leaves the one before in force for a while.
pub(crate) fn over(overlap: Duration) -> Takeover {
    Takeover { overlap, starts_at: None }
}
