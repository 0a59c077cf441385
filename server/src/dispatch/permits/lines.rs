//! The lines of deliveries that are held and not sent yet, and the room for attempts that they wait for.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Permits, Taken};
use crate::{
    dispatch::line::Arrival,
    domain::{
        claim::Target,
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
    },
};

impl Permits {
    /// A delivery that this node holds is to be sent.
    pub(in crate::dispatch) fn line_up(
        &self,
        target: &Target,
        delivery: DeliveryId,
        is_probe: bool,
    ) -> Arrival {
        let limit = self.limit(target.pace);
        let mut taken = self.taken();
        let is_blocked = taken.blocked.contains(&target.uid);
        let Taken { by_subscription, by_tenant, .. } = &mut *taken;
        let vitals = by_subscription.entry(target.uid).or_default();
        if is_probe {
            vitals.line.pass_by();
        } else if is_blocked || vitals.opening {
            return Arrival::Held;
        } else if let Some(called) = vitals.line.join(delivery, vitals.may_send(limit)) {
            return Arrival::Waiting(called);
        }
        let needs_room = !vitals.slow && !is_probe;
        let senders = || by_tenant.get(&target.tenant).map(|tenant| Arc::clone(&tenant.senders));
        Arrival::First(if needs_room { senders() } else { None })
    }

    /// Where an attempt at `target` finds its tenant's room; none if it needs none.
    pub(in crate::dispatch) fn room_needed(&self, target: &Target) -> Option<Arc<Semaphore>> {
        let taken = self.taken();
        if taken.by_subscription.get(&target.uid).is_some_and(|vitals| vitals.slow) {
            return None;
        }
        taken.by_tenant.get(&target.tenant).map(|tenant| Arc::clone(&tenant.senders))
    }

    /// Where an attempt finds the node's room.
    pub(in crate::dispatch) fn senders(&self) -> Arc<Semaphore> {
        Arc::clone(&self.senders)
    }

    /// An attempt at `target` is over.
    pub(in crate::dispatch) fn leave_line(&self, target: &Target) {
        let limit = self.limit(target.pace);
        if let Some(vitals) = self.taken().by_subscription.get_mut(&target.uid) {
            vitals.line.leave(vitals.may_send(limit));
        }
    }

    /// An attempt at `target` takes long.
    pub(in crate::dispatch) fn slow_down(&self, target: &Target) {
        let mut taken = self.taken();
        let Taken { by_subscription, slow, .. } = &mut *taken;
        if let Some(vitals) = by_subscription.get_mut(&target.uid)
            && !vitals.slow
        {
            vitals.slow = true;
            *slow += vitals.places;
        }
    }

    /// A delivery to `target` has waited in vain.
    pub(in crate::dispatch) fn crowded(&self, target: &Target, now: Timestamp) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&target.uid) {
            vitals.crowded(now);
        }
    }

    /// A delivery to this subscription is to be given back, if it waits in memory.
    pub(in crate::dispatch) fn send_one_away(&self, subscription: SubscriptionUid, delivery: DeliveryId) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&subscription) {
            vitals.line.dismiss(delivery);
        }
    }

    /// What waits for this subscription in memory is to be given back.
    pub(in crate::dispatch) fn send_away(&self, subscription: SubscriptionUid) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&subscription) {
            vitals.line.dissolve();
        }
    }
}
