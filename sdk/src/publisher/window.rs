//! The events that have no answer yet, oldest first: those in front were sent on the current stream, the rest were not.

use std::collections::VecDeque;

use postrider_proto::v1 as pb;
use tokio::sync::OwnedSemaphorePermit;

use super::ack::Acknowledge;
use crate::{Error, Published, Result};

/// One event without an answer. Its permit is free again when this is dropped.
pub(super) struct Waiting {
    item: pb::PublishItem,
    acknowledge: Acknowledge,
    _permit: OwnedSemaphorePermit,
}

impl Waiting {
    pub(super) fn new(item: pb::PublishItem, acknowledge: Acknowledge, permit: OwnedSemaphorePermit) -> Self {
        Self { item, acknowledge, _permit: permit }
    }
}

#[derive(Default)]
pub(super) struct Window {
    events: VecDeque<Waiting>,
    sent: usize,
    /// The first error that nobody was there to receive.
    unheard: Option<Error>,
}

impl Window {
    pub(super) fn push(&mut self, event: Waiting) {
        self.events.push_back(event);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.events.len()
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// The oldest event that was not sent yet, which counts as sent from now on.
    pub(super) fn next_unsent(&mut self) -> Option<pb::PublishItem> {
        let event = self.events.get(self.sent)?;
        self.sent += 1;
        Some(event.item.clone())
    }

    /// A new stream knows nothing of what the one before it was sent.
    pub(super) fn forget_sent(&mut self) {
        self.sent = 0;
    }

    /// Answers the oldest event, which must have been sent.
    pub(super) fn answer_oldest(&mut self, result: Result<Published>) {
        debug_assert!(self.sent > 0, "an answer without a request");
        self.sent = self.sent.saturating_sub(1);
        if let Some(event) = self.events.pop_front() {
            self.tell(event, result);
        }
    }

    /// Answers everything with this error.
    pub(super) fn fail_all(&mut self, error: &Error) {
        self.sent = 0;
        for event in std::mem::take(&mut self.events) {
            self.tell(event, Err(error.clone()));
        }
    }

    pub(super) fn into_unheard(self) -> Option<Error> {
        self.unheard
    }

    fn tell(&mut self, event: Waiting, result: Result<Published>) {
        if let Err(Err(error)) = event.acknowledge.send(result) {
            self.unheard.get_or_insert(error);
        }
    }
}
