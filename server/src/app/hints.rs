//! Listens to other nodes, so that what one of them leaves over is not first found by the poll.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::store::{Error, Store};

/// How long to wait before listening again.
const REST: Duration = Duration::from_secs(1);
/// A connection on which nothing came for so long is opened again: it may be gone without a word.
const SILENCE: Duration = Duration::from_mins(1);

/// Listens until `stop`. Where that fails, only the poll is left, which finds everything.
pub(super) async fn follow(store: &Store, dispatcher: &Dispatcher, stop: CancellationToken) {
    let listening = async {
        loop {
            match listen(store, dispatcher).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(cause) => {
                    tracing::debug!(cause = &cause as &dyn std::error::Error, "other nodes are not heard");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    };
    tokio::select! {
        () = listening => stop.cancelled().await,
        () = stop.cancelled() => {}
    }
}

/// Listens until it is silent; returns whether there is anybody to listen to.
async fn listen(store: &Store, dispatcher: &Dispatcher) -> Result<bool, Error> {
    let Some(mut hints) = store.hints().await? else { return Ok(false) };
    while let Ok(heard) = tokio::time::timeout(SILENCE, hints.next()).await {
        heard?;
        dispatcher.wake_by_other();
    }
    Ok(true)
}
