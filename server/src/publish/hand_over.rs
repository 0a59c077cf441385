//! Deliveries on their way from the journal to the outlet: what a publish and a part of a fan-out have in common.

use std::{collections::HashSet, sync::Arc};

use super::{Beginning, Entry, NewDelivery, Outlet};
use crate::domain::{
    attempt::AttemptNumber,
    claim::{Claim, NoRoom, Target},
    id::DeliveryId,
    timestamp::Timestamp,
};

/// New deliveries of one event, with the room that was found for them.
pub(super) struct HandOver<P> {
    pub(super) deliveries: Vec<NewDelivery>,
    pub(super) reserved: Vec<Reserved<P>>,
}

/// A delivery to start once it is committed.
pub(super) struct Reserved<P> {
    delivery: DeliveryId,
    target: Arc<Target>,
    permit: P,
}

impl<P> Default for HandOver<P> {
    fn default() -> Self {
        Self { deliveries: Vec::new(), reserved: Vec::new() }
    }
}

impl<P> HandOver<P> {
    /// Adds a delivery to `target`, for which there is room or not.
    pub(super) fn add(&mut self, id: DeliveryId, target: &Arc<Target>, room: Result<P, NoRoom>) {
        let beginning = match room {
            Ok(_) => Beginning::Claimed,
            Err(NoRoom::Soon | NoRoom::Taken) => Beginning::Unclaimed,
            Err(NoRoom::Held) => Beginning::Held,
        };
        self.deliveries.push(NewDelivery { id, subscription: target.uid, beginning });
        let target = Arc::clone(target);
        self.reserved.extend(room.ok().map(|permit| Reserved { delivery: id, target, permit }));
    }
}

/// When deliveries are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// Those that nobody has claimed, unless their event puts them off.
    pub(super) at: Timestamp,
    /// Again those that are claimed, should this node die.
    pub(super) leased_until: Timestamp,
}

impl Due {
    pub(super) fn from<O: Outlet>(now: Timestamp, outlet: &O) -> Self {
        Self { at: now, leased_until: now + outlet.lease() }
    }
}

/// Starts the deliveries of an entry that was committed where there is room for them, and says that the others are to be looked for.
/// Those that are `parked` wait for others.
pub(super) fn start<O: Outlet>(
    outlet: &O,
    entry: &Entry,
    reserved: Vec<Reserved<O::Permit>>,
    parked: &HashSet<DeliveryId>,
    due: Due,
) {
    let is_to_be_claimed =
        |delivery: &NewDelivery| delivery.beginning == Beginning::Unclaimed && !parked.contains(&delivery.id);
    if entry.deliveries.iter().any(is_to_be_claimed) {
        match entry.event.content.handling.put_off(due.at) {
            Some(due_at) => outlet.wake_at(due_at),
            None => outlet.wake(),
        }
    }
    for Reserved { delivery, target, permit } in reserved {
        if parked.contains(&delivery) {
            continue;
        }
        let claim = Claim {
            delivery,
            attempt: AttemptNumber::FIRST,
            event: Arc::clone(&entry.event),
            target,
            leased_until: due.leased_until,
            previous_span: None,
            probe: None,
        };
        outlet.start(permit, claim);
    }
}
