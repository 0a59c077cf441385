//! One publish on its way to the writer.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Checked, Error, JournalError, Published, Room, Route, lines::InLine, screen::Screened};
use crate::domain::{event::NewEvent, id::TenantId};

/// An event with who waits for its answer.
pub(super) struct Pending {
    pub(super) event: NewEvent,
    pub(super) route: Route,
    pub(super) answer: oneshot::Sender<Result<Published, Error>>,
    /// What was found out about it beside the writer.
    pub(super) screened: Option<Screened>,
    /// By which rules of the catalogue it was checked, if it goes by them.
    pub(super) checked: Option<Checked>,
    /// What it takes of our memory, also when nobody waits for its answer any more.
    #[expect(dead_code, reason = "is given back when it is dropped")]
    pub(super) room: Room,
}

impl InLine for Pending {
    fn tenant(&self) -> &TenantId {
        &self.event.tenant
    }

    fn size(&self) -> usize {
        self.event.content.payload.data.len()
    }
}

/// Tells those who wait that their events were not stored.
pub(super) fn refuse(pending: Vec<Pending>, cause: JournalError) {
    let events = pending.len();
    tracing::error!(cause = &cause as &dyn std::error::Error, events, "events could not be stored");
    let error = match cause {
        JournalError::Unavailable(_) => Error::Unavailable(Arc::new(cause)),
        JournalError::Broken(_) => Error::Broken(Arc::new(cause)),
    };
    for pending in pending {
        // Nobody may be waiting any more.
        let _ = pending.answer.send(Err(error.clone()));
    }
}
