//! Chance that a seed repeats.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A stream of numbers.
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// From 0 to one less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(crate) fn from(&mut self, range: RangeInclusive<usize>) -> usize {
        self.0.random_range(range)
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// One of these spans or up to twice that, to the microsecond.
    pub(crate) fn about(&mut self, spans: &[Duration]) -> Duration {
        self.one_of(spans).mul_f64(1.0 + self.0.random::<f64>())
    }
}
