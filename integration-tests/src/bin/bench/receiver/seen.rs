//! Which numbers a subscription has had: bits, in pages, as each producer's numbers begin somewhere else.

use std::collections::HashMap;

/// Numbers on a page.
const PAGE: u64 = 4096;

/// A set of numbers.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u64, Box<[u64; 64]>>);

impl Seen {
    /// Adds a number and says whether it was new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let page = self.0.entry(number / PAGE).or_insert_with(|| Box::new([0; 64]));
        let (word, bit) = ((number % PAGE / 64) as usize, 1 << (number % 64));
        let is_new = page[word] & bit == 0;
        page[word] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut seen = Seen::default();
        for number in [0, 63, 64, 4095, 4096, 1 << 40] {
            assert!(seen.insert(number));
            assert!(!seen.insert(number));
        }
    }
}
