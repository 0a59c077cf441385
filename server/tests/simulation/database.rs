//! The database of all nodes, in memory: the contract of the real store without its SQL.
//!
//! Each of its functions is one transaction. What the store's rows say of a subscription and a delivery is here as well; what only people
//! want to know is not.

use std::{collections::BTreeMap, sync::Arc};

use postrider_server::{
    dispatch::{Ask, Overdue},
    domain::{
        attempt::Outcome,
        claim::Target,
        delivery::EndReason,
        event::{Event, Fingerprint},
        handling::OrderingKey,
        id::{DeliveryId, SubscriptionId, SubscriptionUid, TenantId},
        kept_window::KeptWindow,
        secret::SecretSet,
        settings::Settings,
        subscription::{Filter, Pace},
        target_url::TargetUrl,
        timestamp::Timestamp,
    },
};
use uuid::Uuid;

mod claim;
mod commit;
mod health;
mod lanes;
mod settle;
mod steer;

/// All rows.
#[derive(Default)]
pub(crate) struct Database {
    /// The version of each tenant's match table.
    pub(crate) tenants: BTreeMap<TenantId, i64>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// An event, and what tells whether a publish repeats it.
pub(crate) struct StoredEvent {
    pub(crate) event: Arc<Event>,
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// A subscription's row.
pub(crate) struct Subscription {
    pub(crate) uid: SubscriptionUid,
    pub(crate) tenant: TenantId,
    pub(crate) filter: Filter,
    pub(crate) pace: Pace,
    pub(crate) paused: bool,
    pub(crate) disabled: bool,
    pub(crate) deleted: bool,
    pub(crate) blocked_until: Option<Timestamp>,
    block_pauses: u32,
    recovered_at: Option<Timestamp>,
    window: Option<KeptWindow>,
    rate_used_until: Option<Timestamp>,
    pub(crate) throttled_until: Option<Timestamp>,
}

/// A delivery's row.
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    /// Places in the lists of events and subscriptions.
    pub(crate) event: usize,
    pub(crate) subscription: usize,
    pub(crate) ended: Option<Ended>,
    pub(crate) attempt_count: u32,
    pub(crate) due_at: Timestamp,
    /// Its place in the lane of its ordering key.
    pub(crate) position: Option<usize>,
    /// Whether it comes due by the passing of time alone, for which nobody has to be woken.
    pub(crate) is_timed: bool,
    /// The latest claim.
    pub(crate) claim: Option<Held>,
    /// What is recorded of its attempts, by their numbers.
    pub(crate) attempts: BTreeMap<u32, Outcome>,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) reason: EndReason,
    pub(crate) at: Timestamp,
    /// Whether it was ended as its subscription was, whatever was under way.
    pub(crate) by_sweep: bool,
}

/// A claim that has not been settled. No column of the real store: with this it is judged whether a lease ran out for a reason.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// For which attempt it is.
    pub(crate) attempt: u32,
    /// Which node has it.
    pub(crate) node: usize,
    /// Whether something happened to the node since, so that it may not be able to settle it.
    pub(crate) is_excused: bool,
}

impl Database {
    pub(crate) fn subscribe(&mut self, tenant: &TenantId, filter: Filter, pace: Pace) -> usize {
        let number = self.subscriptions.len();
        self.subscriptions.push(Subscription {
            uid: SubscriptionUid::from_uuid(Uuid::from_u128(number as u128 + 1)),
            tenant: tenant.clone(),
            filter,
            pace,
            paused: false,
            disabled: false,
            deleted: false,
            blocked_until: None,
            block_pauses: 0,
            recovered_at: None,
            window: None,
            rate_used_until: None,
            throttled_until: None,
        });
        self.raise_version(number);
        number
    }

    pub(crate) fn event(&self, delivery: usize) -> &Arc<Event> {
        &self.events[self.deliveries[delivery].event].event
    }

    pub(crate) fn key(&self, delivery: usize) -> Option<&OrderingKey> {
        self.event(delivery).content.handling.ordering_key.as_ref()
    }

    pub(crate) fn number_of(&self, id: DeliveryId) -> usize {
        self.deliveries.iter().position(|delivery| delivery.id == id).unwrap()
    }

    pub(crate) fn subscription_of(&self, uid: SubscriptionUid) -> usize {
        self.subscriptions.iter().position(|subscription| subscription.uid == uid).unwrap()
    }

    /// The first that is pending in the lane of a delivery, if that stands in one.
    pub(crate) fn first_in_lane_of(&self, delivery: usize) -> Option<usize> {
        self.in_lane(&self.lane(delivery)?).next()
    }

    /// What is pending, by its number.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (usize, &Delivery)> {
        self.deliveries.iter().enumerate().filter(|(_, delivery)| delivery.ended.is_none())
    }

    /// What this ask could have, leaving out who is blocked or limited to a rate.
    pub(crate) fn claimable(&self, ask: &Ask) -> impl Iterator<Item = (usize, &Delivery)> {
        self.pending().filter(|(_, delivery)| {
            let subscription = &self.subscriptions[delivery.subscription];
            ask.max > 0
                && delivery.due_at <= ask.now
                && subscription.is_active()
                && subscription.blocked_until.is_none()
                && subscription.pace.rate.is_none()
                && subscription.room(ask) > 0
        })
    }

    /// The delivery of those that has been due for longest.
    pub(crate) fn overdue(&self, ask: &Ask) -> Option<Overdue> {
        let first = self.claimable(ask).min_by_key(|(_, delivery)| delivery.due_at)?.1;
        let subscription = self.subscriptions[first.subscription].uid;
        Some(Overdue { delivery: first.id, subscription, since: first.due_at })
    }

    /// Something happened to a node: what it holds may never be settled.
    pub(crate) fn excuse(&mut self, node: usize) {
        for held in self.deliveries.iter_mut().filter_map(|delivery| delivery.claim.as_mut()) {
            held.is_excused |= held.node == node;
        }
    }

    fn raise_version(&mut self, subscription: usize) {
        *self.tenants.entry(self.subscriptions[subscription].tenant.clone()).or_default() += 1;
    }
}

impl Subscription {
    /// Whether what waits for it may be claimed, as far as people and policy are concerned.
    pub(crate) fn is_active(&self) -> bool {
        !(self.paused || self.has_ended())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.disabled || self.deleted
    }

    fn target(&self) -> Arc<Target> {
        Arc::new(Target {
            uid: self.uid,
            tenant: self.tenant.clone(),
            id: SubscriptionId::from(self.uid),
            url: TargetUrl::parse("https://receiver.example/").unwrap(),
            secrets: SecretSet::newest_first(Vec::new()),
            pace: self.pace,
            suspected: false,
            recovered_at: self.recovered_at,
            revision: 1,
            settings: Some(Settings::plain()),
        })
    }
}
