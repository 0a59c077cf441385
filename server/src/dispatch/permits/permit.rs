//! Room that was taken, and that comes back by being dropped.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Permits;
use crate::domain::claim::Target;

/// Room for one delivery to one subscription; given back when dropped.
pub struct Permit {
    pub(super) permits: Arc<Permits>,
    pub(super) target: Arc<Target>,
    /// The places it has, and how many it should have.
    pub(super) node: OwnedSemaphorePermit,
    pub(super) places: usize,
}

/// Room on the node for some attempts, of which it is not known yet where they go and how large they are.
pub(in crate::dispatch) struct Room {
    pub(super) permits: Arc<Permits>,
    pub(super) node: OwnedSemaphorePermit,
}

/// Room on the node for one attempt.
pub(in crate::dispatch) struct Place {
    permits: Arc<Permits>,
    node: OwnedSemaphorePermit,
    places: usize,
}

impl Room {
    /// How many places it is.
    pub(in crate::dispatch) fn size(&self) -> usize {
        self.node.num_permits()
    }

    /// Hands out room for an attempt with so many bytes of data, as long as there is any beside one place for each of the others that are to
    /// come. One that is too large gets all of that, and the rest as it comes back.
    pub(in crate::dispatch) fn place(&mut self, bytes: usize, others: usize) -> Option<Place> {
        let spare = self.size().saturating_sub(others);
        let places = self.permits.places(bytes);
        let node = self.node.split(places.min(spare).max(1))?;
        Some(Place { permits: Arc::clone(&self.permits), node, places })
    }
}

impl Place {
    /// Uses the place for an attempt at `target`. The claim was told what was free, so the limits of tenant and subscription can be
    /// passed only by what was published during the claim.
    pub(in crate::dispatch) fn at(self, target: &Arc<Target>) -> Permit {
        let mut taken = self.permits.taken();
        taken.enter(target, self.places, self.permits.per_tenant);
        let lacking = self.places - self.node.num_permits();
        taken.owed += lacking - self.permits.node.forget_permits(lacking);
        drop(taken);
        self.permits.permit(target, self.node, self.places)
    }
}

impl Permit {
    pub(in crate::dispatch) fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    pub(in crate::dispatch) fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        taken.leave(&self.target, self.places);
        // Its own debt ends with it: first what is still owed. The rest had been taken from the free places and goes back there.
        let lacked = self.places - self.node.num_permits();
        let still_owed = lacked.min(taken.owed);
        taken.owed -= still_owed;
        self.permits.node.add_permits(lacked - still_owed);
        let made_up = taken.owed.min(self.node.num_permits());
        if let Some(places) = self.node.split(made_up) {
            places.forget();
            taken.owed -= made_up;
        }
        drop(taken);
        self.permits.metrics.permit_returned();
        self.permits.wakeup.room();
    }
}
