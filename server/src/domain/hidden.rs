//! Passwords, tokens and keys that an owner has entrusted to us: used, stored encrypted, and never shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::invalid::Invalid;

/// What is shown instead. Sent back in an update, it stands for what is stored.
pub const MASK: &str = "********";

/// A text that is not shown: `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// From the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is shown of it; of nothing, nothing.
    #[must_use]
    pub fn masked(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }

    /// Whether it is the mask.
    #[must_use]
    pub fn is_mask(&self) -> bool {
        self.0 == MASK
    }

    /// Puts back what the mask stands for.
    pub fn keep(&mut self, before: &Self) {
        if self.is_mask() {
            self.clone_from(before);
        }
    }

    /// Refuses the mask where it stands for nothing.
    pub fn check(&self, field: &str) -> Result<(), Invalid> {
        if self.is_mask() {
            return Err(Invalid::new(
                field,
                "is the mask that is shown for it, and nothing is stored; say it in full",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        assert_eq!(format!("{:?}", Hidden::new("s3cret")), "[redacted]");
        assert_eq!((Hidden::new("s3cret").masked(), Hidden::new("").masked()), (MASK, ""));
    }

    #[test]
    fn the_mask_stands_for_what_was_there() {
        let stored = Hidden::new("s3cret");
        let (mut masked, mut new) = (Hidden::new(MASK), Hidden::new("another"));
        assert_eq!(masked.check("password").unwrap_err().field, "password");
        masked.keep(&stored);
        new.keep(&stored);
        assert_eq!((masked.expose(), new.expose()), ("s3cret", "another"));
        assert_eq!(masked.check("password"), Ok(()));
    }
}
