//! Signing secrets, and those that receivers are shown.

use std::fmt;

use time::OffsetDateTime;

/// A signing secret (`whsec_…`), to be handed to the receiver, or one that a receiver is shown. It does not show itself in `Debug`.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let secret = client.subscriptions().secret("orders").await?;
/// println!("{secret:?}"); // Secret([redacted])
/// let verifier = postrider_sdk::verify::Verifier::new([secret.expose()])?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    pub(crate) fn into_inner(self) -> String {
        self.0
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// A new secret, and how long the one before it stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The new secret.
    pub secret: Secret,
    /// Until when callbacks are also signed with the previous secret.
    pub previous_expires_at: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("whsec_AAAA".to_owned())), "Secret([redacted])");
    }
}
