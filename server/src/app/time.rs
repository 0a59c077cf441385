//! Keeps the server's clock with the database's.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{clock::DatabaseClock, store::Store};

/// How often to look. A clock that counts on by itself is off by some microseconds after this.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the database's clock once. Returns whether it has one.
pub(super) async fn look(store: &Store, clock: &DatabaseClock) -> Result<bool, crate::store::Error> {
    let look = clock.look();
    let time = store.time().await?;
    if let Some(time) = time {
        clock.shown(look, time);
    }
    Ok(time.is_some())
}

/// Looks until `stop`. While the database is away, the clock counts on by itself.
pub(super) async fn follow(store: &Store, clock: &DatabaseClock, stop: CancellationToken) {
    loop {
        match look(store, clock).await {
            Ok(true) => {}
            Ok(false) => return stop.cancelled().await,
            // Readiness tells that the database is away.
            Err(cause) => {
                tracing::debug!(
                    cause = &cause as &dyn std::error::Error,
                    "the database's clock was not seen"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
