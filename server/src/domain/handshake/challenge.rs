//! What a receiver cannot know before it is asked.

use std::fmt;

use crate::domain::hexadecimal::hex;

/// Chance, in the shapes in which receivers expect it. Each is drawn for one exchange.
#[derive(Clone, Copy)]
pub struct Challenge([u8; 16]);

impl Challenge {
    /// From what was drawn.
    #[must_use]
    pub const fn new(chance: [u8; 16]) -> Self {
        Self(chance)
    }

    /// For those who take any text.
    pub(super) fn text(&self) -> String {
        hex(&self.0)
    }

    /// For those who may read it as an `int`: ten digits that fit in 31 bits.
    pub(super) fn number(&self) -> String {
        const LEAST: u32 = 1_000_000_000;
        let [a, b, c, d, ..] = self.0;
        let range = i32::MAX.unsigned_abs() - LEAST;
        (LEAST + u32::from_be_bytes([a, b, c, d]) % range).to_string()
    }

    /// For those who may read it as a UUID of version 4.
    pub(super) fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.0).into_uuid().to_string()
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn it_has_the_shapes_that_receivers_know() {
        for byte in [0, 7, 0x7f, 0xff] {
            let challenge = Challenge::new([byte; 16]);
            let number: i32 = challenge.number().parse().unwrap();
            assert_eq!(number.to_string().len(), 10);
            assert_eq!(Uuid::parse_str(&challenge.uuid()).unwrap().get_version_num(), 4);
            assert_eq!(challenge.text().len(), 32);
        }
    }
}
