//! The answer to one event of a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::worker_is_gone;
use crate::{Published, Result};

/// The answer to one event, to be awaited: `Ok` once the event is durable. Made by
/// [`Publisher::publish`](crate::Publisher::publish).
///
/// The event is sent whether this is awaited or not.
#[derive(Debug)]
#[must_use = "an event is durable only when its acknowledgement says so"]
pub struct Ack {
    request_id: String,
    answer: oneshot::Receiver<Result<Published>>,
}

/// The worker's end of an [`Ack`].
pub(super) type Acknowledge = oneshot::Sender<Result<Published>>;

impl Ack {
    pub(super) fn new(request_id: String) -> (Self, Acknowledge) {
        let (acknowledge, answer) = oneshot::channel();
        (Self { request_id, answer }, acknowledge)
    }

    /// The key that the event is published with, for publishing it again should this end in an error.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl Future for Ack {
    type Output = Result<Published>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(worker_is_gone())))
    }
}
