//! How the server comes to an end, and how its loops do not.
//!
//! The first signal asks softly: take no more calls, claim no more, finish what is under way. When the grace period is over, or at a
//! second signal, the rest is left lying: leases make that safe, and the next node takes it over.

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::domain::invalid::Invalid;

/// How long a loop rests after a defect ended it.
const REST: Duration = Duration::from_secs(1);

/// How the server stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long what is under way may take to finish.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { grace: Duration::from_secs(30) }
    }
}

impl Config {
    /// Checks the bounds.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.grace > Duration::from_hours(1) {
            return Err(Invalid::new("shutdown.grace", "must not be longer than 1h"));
        }
        Ok(())
    }
}

/// The two stages of an end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new, finish what is under way.
    pub soft: CancellationToken,
    /// Leave the rest lying.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Follows the signals of the process: SIGTERM and SIGINT.
    pub async fn follow_signals(self, grace: Duration) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut next =
            async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        let name = next().await;
        tracing::info!(signal = name, grace_ms = grace.as_millis(), "stopping: finishing what is under way");
        self.soft.cancel();
        tokio::select! {
            name = next() => tracing::warn!(signal = name, "a second signal: stopping at once"),
            () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: stopping at once"),
        }
        self.hard.cancel();
        Ok(())
    }
}

/// Runs a loop in the background until it returns after `stop`. One that panics or returns before is started
/// again after a rest, and the log says so.
pub fn supervise<F>(
    tasks: &TaskTracker,
    name: &'static str,
    stop: CancellationToken,
    start: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let runs = tasks.clone();
    tasks.spawn(async move {
        loop {
            let ended = runs.spawn(start()).await;
            match ended {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => tracing::error!(task = name, "a background task ended; starting it again"),
                Err(cause) => {
                    tracing::error!(
                        task = name,
                        cause = &cause as &dyn std::error::Error,
                        "a background task failed; starting it again"
                    );
                }
            }
            tokio::time::sleep(REST).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_is_started_again_and_ends_with_the_server() {
        let (tasks, stop, starts) =
            (TaskTracker::new(), CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let (ends, counted) = (stop.clone(), Arc::clone(&starts));
        supervise(&tasks, "test", stop.clone(), move || {
            let (stop, nth) = (ends.clone(), counted.fetch_add(1, Ordering::SeqCst));
            async move {
                assert!(nth > 0, "the first run is defective");
                if nth == 2 {
                    stop.cancel();
                }
            }
        });
        tasks.close();
        tasks.wait().await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
