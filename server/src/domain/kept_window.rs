//! What is kept of a [`Window`](super::concurrency::Window) in its subscription's row: how many attempts at once a node begins
//! with that knows nothing of the receiver itself, as it was started just now, or others have sent so far.
//!
//! Kept is the smallest that a window was cut to, for a while; not how it grows. So a receiver whose window goes up and down all the time
//! costs a few writes in that while. Who begins with less than the receiver can bear has found out after some rounds.

use std::time::Duration;

use super::timestamp::Timestamp;

/// For how long it is good. What a receiver could not bear long ago says little of what it can bear now.
const GOOD_FOR: Duration = Duration::from_mins(10);

/// A window as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptWindow {
    /// How many attempts at once.
    pub size: u32,
    /// Until when that is good.
    pub until: Timestamp,
}

impl KeptWindow {
    /// What is to be kept of a window that was cut to `size`, unless about as much is `kept` already.
    #[must_use]
    pub fn after_cut(kept: Option<Self>, size: u32, now: Timestamp) -> Option<Self> {
        let kept = kept.filter(|kept| now < kept.until);
        let is_news = kept.is_none_or(|kept| size.saturating_mul(2) <= kept.size);
        is_news.then(|| Self { size, until: now + GOOD_FOR })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::concurrency::{Load, Window};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const LIMIT: u32 = 128;
    const GOOD: Load = Load::Bearable(Duration::from_millis(5));

    /// What is kept within ten minutes of a receiver that can bear so many at once, and says when they are more.
    fn kept_of(bears: u32, limit: u32) -> Vec<u32> {
        let (mut window, mut kept, mut sizes) = (Window::default(), None, Vec::new());
        for nth in 0..20_000 {
            let now = NOW + Duration::from_millis(nth);
            let load = if window.size(limit) > bears { Load::TooMuch } else { GOOD };
            if window.record(load, now, now, limit, limit)
                && let Some(news) = KeptWindow::after_cut(kept, window.size(limit), now)
            {
                sizes.push(news.size);
                kept = Some(news);
            }
        }
        sizes
    }

    #[test]
    fn nothing_is_kept_of_a_receiver_that_bears_all_that_it_may_get() {
        for limit in [1, 2, 8, LIMIT] {
            assert!(kept_of(limit, limit).is_empty());
        }
    }

    #[test]
    fn however_a_window_goes_up_and_down_it_is_kept_as_often_as_it_can_be_halved() {
        assert_eq!(kept_of(20, LIMIT), [64, 32, 16]);
        for limit in 1..=LIMIT {
            for bears in [0, 1, 2, 3, 4, 5, 8, 16, limit / 2, limit - 1] {
                let sizes = kept_of(bears, limit);
                assert!(sizes.len() <= limit.ilog2() as usize, "{sizes:?} of {bears} of {limit}");
            }
        }
    }

    #[test]
    fn it_is_kept_anew_when_it_has_ended() {
        let kept = KeptWindow { size: 4, until: NOW + GOOD_FOR };
        assert_eq!(KeptWindow::after_cut(Some(kept), 4, NOW), None);
        assert_eq!(KeptWindow::after_cut(Some(kept), 2, NOW), Some(KeptWindow { size: 2, ..kept }));
        let later = KeptWindow { size: 64, until: kept.until + GOOD_FOR };
        assert_eq!(KeptWindow::after_cut(Some(kept), 64, kept.until), Some(later));
    }
}
