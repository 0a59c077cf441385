//! The tries of one call: counts them, pauses between them, and knows when to give up.

use std::time::Duration;

use tokio::time::Instant;

use super::Repeat;
use crate::{Error, Result, RetryPolicy};

pub(crate) struct Tries<'a> {
    policy: &'a RetryPolicy,
    begun: Instant,
    made: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn begin(policy: &'a RetryPolicy) -> Self {
        Self { policy, begun: Instant::now(), made: 0 }
    }

    pub(crate) fn is_first(&self) -> bool {
        self.made == 0
    }

    pub(crate) fn time_left(&self) -> Duration {
        self.policy.deadline().saturating_sub(self.begun.elapsed())
    }

    /// Returns when the next try may be made, or with the final error.
    pub(crate) async fn pause_after(&mut self, error: Error, repeat: Repeat) -> Result<()> {
        self.made += 1;
        let may_repeat = match repeat {
            Repeat::Safe => error.is_transient(),
            Repeat::Never => false,
        };
        let pause = self.policy.pause(self.made, draw_jitter()).max(error.retry_after().unwrap_or_default());
        if !may_repeat || !self.policy.allows_another(self.made) || pause >= self.time_left() {
            return Err(error.with_tries(self.made));
        }
        tracing::debug!(
            error = %error,
            tries = self.made,
            pause_ms = pause.as_millis(),
            "a call to Postrider failed and is tried again"
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's one source of chance; the policy takes it as a number"
)]
fn draw_jitter() -> f64 {
    rand::RngExt::random_range(&mut rand::rng(), 0.0..=1.0)
}
