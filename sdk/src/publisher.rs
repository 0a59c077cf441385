//! Publishing over a stream: what the caller holds. The background task that speaks to the server is in `worker`.
//!
//! An event passes through three hands: [`Publisher::publish`] waits for a permit and queues it, the worker sends it
//! and keeps it until the server has answered, and [`Ack`] tells its publisher. The permit travels with the event, so
//! the number of permits bounds everything that is in memory.

mod ack;
mod stream;
mod window;
mod worker;

use std::{fmt, sync::Arc};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

pub use self::ack::Ack;
use self::{window::Waiting, worker::Worker};
use crate::{Client, Code, Error, Event, Result, client::TraceContext};

/// Enough to keep a commit busy while the answers of the one before are on their way.
const DEFAULT_MAX_IN_FLIGHT: usize = 1_000;

/// Publishes events one after another over a stream. Made by [`Client::publisher`].
///
/// When the stream breaks it is opened again, and every event without an answer is sent again with the `request_id`
/// that it had, so that nothing is lost and nothing is published twice. The client's retry policy says how long that
/// goes on without any progress; then the events that wait are answered with the error. The publisher itself stays
/// usable.
///
/// Each event belongs to the trace of the span in which it is published.
///
/// A publisher that is dropped without [`close`](Self::close) still sends what [`publish`](Self::publish) has taken, for
/// as long as the runtime runs.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// use postrider_sdk::Event;
///
/// let publisher = client.publisher();
/// let ack = publisher.publish(Event::new("order.created").json(&17)?).await?;
/// let published = ack.await?; // durable
/// publisher.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Publisher {
    queue: mpsc::UnboundedSender<Waiting>,
    permits: Arc<Semaphore>,
    worker: JoinHandle<Option<Error>>,
}

impl Publisher {
    #[expect(clippy::disallowed_methods, reason = "the one background task; `close` waits for it")]
    pub(crate) fn start(client: Client) -> Self {
        let (queue, queued) = mpsc::unbounded_channel();
        Self {
            queue,
            permits: Arc::new(Semaphore::new(DEFAULT_MAX_IN_FLIGHT)),
            worker: tokio::spawn(Worker::new(client, TraceContext::current(), queued).run()),
        }
    }

    /// At most this many events are without an answer at any time; 1,000 if not set, 0 means 1. To be set before the
    /// first event is published.
    #[must_use]
    pub fn with_max_in_flight(mut self, events: usize) -> Self {
        self.permits = Arc::new(Semaphore::new(events.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Takes an event for sending. Waits while too many events are without an answer; dropping the future while it
    /// waits takes nothing.
    pub async fn publish(&self, event: Event) -> Result<Ack> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| worker_is_gone())?;
        let mut item = event.into_item();
        (item.traceparent, item.tracestate) = TraceContext::current().headers();
        let (ack, acknowledge) = Ack::new(item.request_id.clone());
        let waiting = Waiting::new(item, acknowledge, permit);
        self.queue.send(waiting).map_err(|_| worker_is_gone())?;
        Ok(ack)
    }

    /// Waits until every event has its answer. Fails with the first error that no [`Ack`] was there to receive.
    pub async fn close(self) -> Result<()> {
        let Self { queue, permits: _, worker } = self;
        drop(queue);
        match worker.await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(worker_is_gone()),
        }
    }
}

/// Not reachable but for a defect in the worker, or a runtime that is being shut down.
fn worker_is_gone() -> Error {
    Error::new(Code::Cancelled, "the publisher's task has ended")
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("free", &self.permits.available_permits()).finish_non_exhaustive()
    }
}
