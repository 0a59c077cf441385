//! The loop that looks for due deliveries.
//!
//! It finds everything by itself, if only at its interval; what wakes it makes it look sooner ([`Wakeup`](super::wakeup::Wakeup)). It
//! tells other nodes when this one leaves work over: because it was woken for news that it has no room for, or because a claim came back as full
//! as it could be. Not more often than each [`BETWEEN_HINTS`], and never where there is nothing to do.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Queue, QueueError, Sender, Shared};

/// How long to wait after a claim or a hint failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long other nodes are left alone after they were told something.
const BETWEEN_HINTS: Duration = Duration::from_millis(50);

/// For how many times its length a look in vain is followed by none, whatever wakes us.
const REST: u32 = 4;

/// Ticks until `stop`.
pub(super) async fn run<Q: Queue, S: Sender>(dispatcher: &Dispatcher<Q, S>, stop: &CancellationToken) {
    let shared = &dispatcher.0;
    let mut told = None;
    while !stop.is_cancelled() {
        shared.wakeup.forget_due(shared.clock.now());
        let begun = Instant::now();
        let looked = dispatcher.tick().await;
        if let Ok(0) = looked {
            // It costs most where many subscriptions wait, which is also where something wakes us all the time.
            rest(stop, (begun.elapsed() * REST).min(shared.config.poll_interval)).await;
        }
        let pause = pause_after(looked, shared).min(tell_others(shared, &mut told));
        // In this order, so that one look answers a wake-up that comes at the very end of the pause.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = shared.wakeup.woken() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whatever wakes us.
async fn rest(stop: &CancellationToken, length: Duration) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}

/// How long to sleep if nothing wakes us.
fn pause_after<Q, S>(looked: Result<usize, QueueError>, shared: &Shared<Q, S>) -> Duration {
    match looked {
        Ok(claimed) => {
            if claimed > 0 {
                tracing::debug!(claimed, "took over due deliveries");
            }
            shared.wakeup.pause(shared.clock.now(), shared.config.poll_interval)
        }
        Err(cause) => {
            tracing::error!(cause = &cause as &dyn std::error::Error, "due deliveries could not be claimed");
            AFTER_FAILURE
        }
    }
}

/// Tells other nodes what there is to tell, if they have not been told anything just now. Returns how long to sleep at most.
fn tell_others<Q: Queue, S: Sender>(shared: &Arc<Shared<Q, S>>, told: &mut Option<Instant>) -> Duration {
    if !shared.wakeup.has_to_tell() {
        return Duration::MAX;
    }
    let rest = told.map_or(Duration::ZERO, |told| BETWEEN_HINTS.saturating_sub(told.elapsed()));
    if !rest.is_zero() {
        return rest;
    }
    shared.wakeup.tells();
    *told = Some(Instant::now());
    shared.attempts.spawn(hint(Arc::clone(shared)));
    Duration::MAX
}

/// Beside the loop, which must not wait for it.
async fn hint<Q: Queue, S: Sender>(shared: Arc<Shared<Q, S>>) {
    if let Err(cause) = shared.queue.hint().await {
        tracing::debug!(
            cause = &cause as &dyn std::error::Error,
            "other nodes could not be told; trying again"
        );
        tokio::time::sleep(AFTER_FAILURE).await;
        shared.wakeup.has_told_nobody();
    }
}
