//! Publishes operational events: what was written together with what it tells of becomes an event like any other.
//!
//! A crash between publishing and deleting does no harm, nor do two nodes at once: the row's id is the event's request id, and
//! twice is once. What nobody asks for is dropped.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        event::NewEvent,
        id::{OperationalEventId, TenantId},
        subscription::Filter,
    },
    publish::{Error as PublishError, Publisher, Room, Route},
    store::{Error, Store},
};

/// How often to look when there was nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many are published at a time.
const BATCH: u64 = 500;

/// Publishes operational events. Cheap to clone.
#[derive(Clone)]
pub struct Announcer {
    store: Store,
    publisher: Publisher,
}

impl Announcer {
    /// Publishes what waits in `store`.
    #[must_use]
    pub fn new(store: Store, publisher: Publisher) -> Self {
        Self { store, publisher }
    }

    /// Publishes or drops all that waits. Returns how many were published. What cannot be published now is left for the next time, and
    /// keeps nothing that comes after it.
    pub async fn tick(&self) -> Result<usize, Error> {
        let (mut total, mut last) = (0, None);
        loop {
            let waiting = self.store.operational_events(last, BATCH).await?;
            let Some((newest, _)) = waiting.last() else { return Ok(total) };
            last = Some(*newest);
            let (published, over) = self.publish(waiting).await?;
            self.store.delete_operational_events(&over).await?;
            total += published;
        }
    }

    /// Publishes those that somebody asks for. Returns how many, and which of all are over.
    async fn publish(
        &self,
        waiting: Vec<(OperationalEventId, NewEvent)>,
    ) -> Result<(usize, Vec<OperationalEventId>), Error> {
        let mut interests: HashMap<TenantId, Vec<Filter>> = HashMap::new();
        let mut over = Vec::with_capacity(waiting.len());
        let mut submitted = Vec::new();
        for (id, event) in waiting {
            let filters = match interests.entry(event.tenant.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let filters = self.store.operational_interests(&event.tenant).await?;
                    unknown.insert(filters)
                }
            };
            if filters.iter().any(|filter| filter.matches(&event.content.event_type)) {
                // Handed over before the first is awaited, so that they share commits.
                submitted.push((id, self.publisher.submit(event, Route::Matching, Room::default()).await));
            } else {
                over.push(id);
            }
        }
        let mut published = 0;
        for (id, submitted) in submitted {
            let result = match submitted {
                Ok(submitted) => submitted.published().await,
                Err(cause) => Err(cause),
            };
            match result {
                Ok(_) => {
                    published += 1;
                    over.push(id);
                }
                Err(PublishError::Stopping) => {}
                Err(cause @ (PublishError::Unavailable(_) | PublishError::Broken(_))) => tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    event.request_id = %id,
                    "an operational event could not be published; trying again"
                ),
                Err(cause @ (PublishError::RequestIdReused | PublishError::Refused { .. })) => {
                    tracing::error!(
                        cause = &cause as &dyn std::error::Error,
                        event.request_id = %id,
                        "an operational event was refused and is dropped"
                    );
                    over.push(id);
                }
            }
        }
        Ok((published, over))
    }

    /// Publishes until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.tick().await {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    "operational events could not be published"
                );
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}
