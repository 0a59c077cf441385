//! What publishing asks of whoever sends.

use std::{future::Future, sync::Arc, time::Duration};

use crate::domain::{
    claim::{Claim, NoRoom, Target},
    timestamp::Timestamp,
};

/// Where deliveries go out.
pub trait Outlet: Send + Sync + 'static {
    /// Room for one attempt; given back when dropped.
    type Permit: Send;

    /// For how long a delivery is committed as claimed.
    fn lease(&self) -> Duration;

    /// Waits, some milliseconds at most, until there is room.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Waits, some milliseconds at most, for room at a target that was refused with [`NoRoom::Soon`].
    fn room_for(&self, target: &Target) -> impl Future<Output = ()> + Send;

    /// Takes room for an attempt at this target with so many bytes of data, if there is any.
    fn reserve(&self, target: &Arc<Target>, bytes: usize) -> Result<Self::Permit, NoRoom>;

    /// Makes the attempt.
    fn start(&self, permit: Self::Permit, claim: Claim);

    /// Says that there are deliveries that nobody has claimed.
    fn wake(&self);

    /// Says that there will be such deliveries at `due_at`.
    fn wake_at(&self, due_at: Timestamp);
}
