//! The access token of one subscription: asked for once for all attempts that wait, and again before it expires.
//!
//! Time is that of the attempts, so that tests move it. Nobody owns the question: each attempt that waits drives it, and if all have
//! gone away it ends with them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt, Shared, WeakShared};
use http::HeaderValue;

use crate::domain::timestamp::Timestamp;

/// How long a token endpoint is left alone after it gave no token, and for how long at least a token is kept that the receiver does
/// not take: neither side is to be flooded with questions for as long as something is wrong. Shorter than the first pause of the usual
/// schedule, so that a retry asks again.
const PATIENCE: Duration = Duration::from_secs(3);
/// A token is renewed so long before it expires, or when a tenth of its life is left.
const MARGIN: Duration = Duration::from_secs(30);

/// A token as it was given.
pub(super) struct Granted {
    /// The `Authorization` header that it makes.
    pub(super) header: HeaderValue,
    /// How long it lasts.
    pub(super) lifetime: Duration,
}

type Answer = Result<HeaderValue, Arc<str>>;
type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Holds the token of one subscription.
#[derive(Debug, Default)]
pub(super) struct Holder(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<Held>,
    /// Until when the endpoint is left alone, and why.
    failed: Option<(Timestamp, Arc<str>)>,
    /// A question that is under way.
    asking: Option<WeakShared<Asking>>,
}

/// A token, with the times of the attempt that asked for it as a beginning.
struct Held {
    header: HeaderValue,
    given_at: Timestamp,
    /// From when on another one is asked for.
    renewed_from: Timestamp,
    /// From when on it is not used any more.
    ends_at: Timestamp,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Holder {
    /// The token for an attempt that begins at `now`: the one that is held, or what `ask` brings.
    pub(super) async fn token<F>(self: &Arc<Self>, now: Timestamp, ask: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Result<Granted, String>> + Send + 'static,
    {
        let asking = {
            let mut state = self.state();
            if let Some(held) = state.token.as_ref().filter(|held| now < held.renewed_from) {
                return Ok(held.header.clone());
            }
            if let Some((_, cause)) = state.failed.as_ref().filter(|(until, _)| now < *until) {
                return state.fallback(now).ok_or_else(|| Arc::clone(cause));
            }
            if let Some(asking) = state.asking.as_ref().and_then(WeakShared::upgrade) {
                asking
            } else {
                let asking = Arc::clone(self).asking(now, ask());
                state.asking = asking.downgrade();
                asking
            }
        };
        asking.await
    }

    /// The receiver has answered 401 to an attempt that began at `now`: the token is asked for anew, at once unless it is new.
    pub(super) fn refused(&self, now: Timestamp) {
        // One that began before had another token.
        if let Some(held) = self.state().token.as_mut().filter(|held| now >= held.given_at) {
            let from = now.max(held.given_at + PATIENCE);
            (held.renewed_from, held.ends_at) = (held.renewed_from.min(from), held.ends_at.min(from));
        }
    }

    fn asking<F>(self: Arc<Self>, now: Timestamp, ask: F) -> Shared<Asking>
    where
        F: Future<Output = Result<Granted, String>> + Send + 'static,
    {
        let began = Instant::now();
        let asking = async move {
            let given = ask.await;
            self.learn(given, now, now + began.elapsed())
        };
        let asking: Asking = Box::pin(asking);
        asking.shared()
    }

    /// Keeps what was given to a question that began at one time and ended at another.
    fn learn(&self, given: Result<Granted, String>, began: Timestamp, ended: Timestamp) -> Answer {
        let mut state = self.state();
        state.asking = None;
        match given {
            Ok(Granted { header, lifetime }) => {
                let margin = MARGIN.min(lifetime / 10);
                state.failed = None;
                state.token = Some(Held {
                    header: header.clone(),
                    given_at: began,
                    renewed_from: began + lifetime.saturating_sub(margin),
                    ends_at: began + lifetime,
                });
                Ok(header)
            }
            Err(cause) => {
                let cause: Arc<str> = cause.into();
                state.failed = Some((ended + PATIENCE, Arc::clone(&cause)));
                state.fallback(ended).ok_or(cause)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The token that should have been renewed, while it lasts.
    fn fallback(&self, now: Timestamp) -> Option<HeaderValue> {
        self.token.as_ref().filter(|held| now < held.ends_at).map(|held| held.header.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    /// A holder, and an endpoint that counts how often it was asked.
    #[derive(Default)]
    struct Fixture {
        holder: Arc<Holder>,
        asked: Arc<AtomicUsize>,
    }

    impl Fixture {
        /// Gives `token-1`, `token-2`, … for so many seconds; none if that is 0.
        async fn token(&self, now: Timestamp, seconds: u64) -> Result<String, String> {
            let asked = Arc::clone(&self.asked);
            let ask = || async move {
                let nth = asked.fetch_add(1, Ordering::Relaxed) + 1;
                if seconds == 0 {
                    return Err(format!("failure {nth}"));
                }
                let header = HeaderValue::try_from(format!("token-{nth}")).unwrap();
                Ok(Granted { header, lifetime: Duration::from_secs(seconds) })
            };
            let answer = self.holder.token(now, ask).await;
            answer.map(|header| header.to_str().unwrap().to_owned()).map_err(|cause| cause.to_string())
        }
    }

    fn token(nth: usize) -> String {
        format!("token-{nth}")
    }

    #[tokio::test]
    async fn a_token_is_used_until_shortly_before_it_expires() {
        let fixture = Fixture::default();
        assert_eq!(fixture.token(NOW, 3_600).await.unwrap(), token(1));
        assert_eq!(fixture.token(NOW + 3_569 * SECOND, 60).await.unwrap(), token(1));
        assert_eq!(fixture.token(NOW + 3_570 * SECOND, 60).await.unwrap(), token(2));
        assert_eq!(fixture.token(NOW + (3_570 + 53) * SECOND, 60).await.unwrap(), token(2));
        assert_eq!(
            fixture.token(NOW + (3_570 + 54) * SECOND, 60).await.unwrap(),
            token(3),
            "a tenth is left"
        );
    }

    #[tokio::test]
    async fn while_none_can_be_had_the_one_that_lasts_is_used_and_the_endpoint_left_alone() {
        let fixture = Fixture::default();
        assert_eq!(fixture.token(NOW, 100).await.unwrap(), token(1));
        for second in [90, 91, 92] {
            assert_eq!(fixture.token(NOW + second * SECOND, 0).await.unwrap(), token(1));
        }
        assert_eq!(fixture.asked.load(Ordering::Relaxed), 2);
        let late = fixture.token(NOW + 100 * SECOND, 0).await;
        assert_eq!(late.unwrap_err(), "failure 3");
        assert_eq!(fixture.token(NOW + 102 * SECOND, 100).await.unwrap_err(), "failure 3");
        assert_eq!(fixture.token(NOW + 104 * SECOND, 100).await.unwrap(), token(4));
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_renewed_but_not_all_the_time() {
        let fixture = Fixture::default();
        assert_eq!(fixture.token(NOW, 3_600).await.unwrap(), token(1));
        fixture.holder.refused(NOW + 60 * SECOND);
        assert_eq!(fixture.token(NOW + 60 * SECOND, 3_600).await.unwrap(), token(2));
        for second in [60, 61, 62] {
            fixture.holder.refused(NOW + second * SECOND);
            assert_eq!(fixture.token(NOW + second * SECOND, 3_600).await.unwrap(), token(2));
        }
        assert_eq!(fixture.token(NOW + 63 * SECOND, 3_600).await.unwrap(), token(3));
        fixture.holder.refused(NOW + 62 * SECOND);
        assert_eq!(
            fixture.token(NOW + 66 * SECOND, 3_600).await.unwrap(),
            token(3),
            "that was said of the one before"
        );
    }

    #[tokio::test]
    async fn those_who_wait_share_one_question_which_lives_as_long_as_one_of_them() {
        let holder = Arc::new(Holder::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, wait) = tokio::sync::oneshot::channel::<()>();
        let wait = wait.shared();
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            let wait = wait.clone();
            async move {
                wait.await.map_err(|_| "gone".to_owned())?;
                Ok(Granted { header: HeaderValue::from_static("token"), lifetime: SECOND })
            }
        };
        let mut first = Box::pin(holder.token(NOW, ask));
        let second = holder.token(NOW, ask);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let mut first = Box::pin(holder.token(NOW, ask));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert_eq!(asked.load(Ordering::Relaxed), 2, "the first question ended with the only one who waited");
        let mut second = Box::pin(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        answer.send(()).unwrap();
        assert_eq!(second.await.unwrap(), "token");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
