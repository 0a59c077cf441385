//! Bytes as lower-case hexadecimal digits.

use std::fmt::Write;

/// Writes bytes down.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Strings take everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
