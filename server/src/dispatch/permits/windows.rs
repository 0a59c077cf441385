//! What is kept of windows in their subscriptions' rows, as far as this node knows: where it begins when it has nothing to do with the
//! receiver yet.

use std::{collections::HashMap, time::Duration};

use crate::domain::{id::SubscriptionUid, kept_window::KeptWindow, timestamp::Timestamp};

/// For how long we believe that what we have found ourselves is still on its way to its row.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// By subscription.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<SubscriptionUid, Known>);

#[derive(Debug)]
struct Known {
    kept: KeptWindow,
    /// When we have found it ourselves.
    found_at: Option<Timestamp>,
    /// We have seen since that the receiver bears all that it may get.
    is_over: bool,
}

impl Windows {
    /// With how many attempts at once to begin, if that is not all that the limit allows.
    pub(super) fn beginning(&self, subscription: SubscriptionUid) -> Option<u32> {
        self.0.get(&subscription).filter(|known| !known.is_over).map(|known| known.kept.size)
    }

    /// All beginnings.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = (SubscriptionUid, u32)> {
        self.0.keys().filter_map(|uid| Some((*uid, self.beginning(*uid)?)))
    }

    /// A window was cut to this size. Returns what is to be kept of that, if anything is.
    pub(super) fn cut(
        &mut self,
        subscription: SubscriptionUid,
        size: u32,
        now: Timestamp,
    ) -> Option<KeptWindow> {
        let known = self.0.get(&subscription).map(|known| known.kept);
        let kept = KeptWindow::after_cut(known, size, now)?;
        self.0.insert(subscription, Known { kept, found_at: Some(now), is_over: false });
        Some(kept)
    }

    /// The receiver bears all that it may get.
    pub(super) fn over(&mut self, subscription: SubscriptionUid) {
        if let Some(known) = self.0.get_mut(&subscription) {
            known.is_over = true;
        }
    }

    /// Learns what the database says.
    pub(super) fn learn(&mut self, kept: HashMap<SubscriptionUid, KeptWindow>, now: Timestamp) {
        let is_on_its_way = |known: &Known| known.found_at.is_some_and(|at| now < at + ON_ITS_WAY);
        self.0.retain(|uid, known| kept.contains_key(uid) || is_on_its_way(known));
        for (uid, kept) in kept {
            match self.0.get(&uid) {
                Some(known) if known.kept == kept || is_on_its_way(known) => {}
                _ => {
                    self.0.insert(uid, Known { kept, found_at: None, is_over: false });
                }
            }
        }
    }
}
