//! Who is sending, as CloudEvents wants to know it.

use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// The longest name and the longest of its parts (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A DNS name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    /// Accepts letters, digits and `-` between dots.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > MAX_NAME || !text.split('.').all(is_label) {
            let reason = "must be a DNS name, like `eventemitter.example.com`";
            return Err(Invalid::new("origin", reason));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
