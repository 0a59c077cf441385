//! What must not be found.

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_sdk::Secret;

/// Everything that would give a secret away: its text, with and without prefix, and its bytes, plain and in hexadecimal.
#[derive(Default)]
pub struct Needles(Vec<Vec<u8>>);

impl Needles {
    /// A signing secret.
    pub fn add(&mut self, secret: &Secret) {
        let text = secret.expose().strip_prefix("whsec_").unwrap();
        let key = STANDARD.decode(text).unwrap();
        assert_eq!(key.len(), 32);
        let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.0.extend([text.as_bytes().to_vec(), key, hex.to_uppercase().into_bytes(), hex.into_bytes()]);
    }

    /// Anything else.
    pub fn add_text(&mut self, text: &str) {
        self.0.push(text.as_bytes().to_vec());
    }

    /// Whether any of it is in this.
    #[must_use]
    pub fn are_in(&self, haystack: &[u8]) -> bool {
        self.0.iter().any(|needle| haystack.windows(needle.len()).any(|window| window == needle))
    }
}
