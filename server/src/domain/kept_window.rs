//! What is kept of a [`Window`] in its subscription's row: how many attempts at once a node begins with that knows nothing of the receiver
//! itself, as it was started just now, or others have sent so far.
//!
//! Not every step of a window is worth a write: those that make it twice as large as what is kept or half as large, and its end. It is
//! good for a while only. What a receiver could not bear long ago says little of what it can bear now.

use std::time::Duration;

use super::{concurrency::Window, timestamp::Timestamp};

/// For how long a window is good after it was kept.
const GOOD_FOR: Duration = Duration::from_mins(10);

/// A window as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptWindow {
    /// How many attempts at once; `None`: as many as the limit allows.
    pub size: Option<u32>,
    /// Until when that is good.
    pub until: Timestamp,
}

impl KeptWindow {
    /// What is to be kept from `now` on in place of `before`, if anything else is.
    #[must_use]
    pub fn replacing(before: Option<Self>, window: &Window, now: Timestamp) -> Option<Self> {
        let size = window.reduced();
        let before = before.and_then(|before| Some((before.size?, before.until)));
        let is_news = match (before, size) {
            (None, None) => false,
            (None, Some(_)) | (Some(_), None) => true,
            (Some((before, until)), Some(size)) => {
                let ends_soon = now + GOOD_FOR / 2 > until;
                ends_soon || size.saturating_mul(2) <= before || size >= before.saturating_mul(2)
            }
        };
        is_news.then(|| Self { size, until: now + GOOD_FOR })
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;
    use crate::domain::concurrency::Load;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const LIMIT: u32 = 128;

    /// All sizes that are kept while a window takes these loads, each an attempt begun after the one before.
    fn kept(loads: impl IntoIterator<Item = Load>) -> Vec<Option<u32>> {
        let (mut window, mut kept, mut sizes, mut now) = (Window::default(), None, Vec::new(), NOW);
        for load in loads {
            now = now + Duration::from_millis(1);
            window.record(load, now, now, LIMIT, LIMIT);
            if let Some(news) = KeptWindow::replacing(kept, &window, now) {
                sizes.push(news.size);
                kept = Some(news);
            }
        }
        sizes
    }

    #[test]
    fn nothing_is_kept_of_a_receiver_that_keeps_up() {
        assert_eq!(kept([Load::Bearable(Duration::from_millis(5)); 1_000]), []);
    }

    #[test]
    fn a_window_is_kept_as_it_is_halved_and_doubled_and_when_it_is_open_again() {
        let halved = [Load::TooMuch; 3];
        let grown = repeat_n(Load::Bearable(Duration::from_millis(5)), 20_000);
        let sizes = kept(halved.into_iter().chain(grown));
        assert_eq!(sizes, [Some(64), Some(32), Some(16), Some(32), Some(64), None]);
    }

    #[test]
    fn what_goes_up_and_down_by_less_than_half_is_kept_once() {
        let grown = repeat_n(Load::Bearable(Duration::from_millis(5)), 1_500);
        let waves = kept(repeat_n([Load::TooMuch].into_iter().chain(grown), 20).flatten());
        assert!(waves.len() < 4, "{waves:?}");
    }

    #[test]
    fn what_stays_as_it_is_is_kept_anew_before_it_ends() {
        let window = Window::of(4);
        let kept = KeptWindow { size: Some(4), until: NOW + GOOD_FOR };
        let at = |elapsed| KeptWindow::replacing(Some(kept), &window, NOW + elapsed);
        assert_eq!(at(GOOD_FOR / 2), None);
        let late = GOOD_FOR / 2 + Duration::from_micros(1);
        assert_eq!(at(late), Some(KeptWindow { size: Some(4), until: NOW + late + GOOD_FOR }));
    }
}
