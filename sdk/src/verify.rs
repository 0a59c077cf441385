//! Verifying callbacks, for receivers: [Standard Webhooks](https://www.standardwebhooks.com) v1.
//!
//! A callback is signed with HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`; `webhook-signature` holds one
//! signature for each secret in force. The body must be the bytes that arrived: verify before parsing.
//!
//! Standing alone: this module needs no client, no runtime and no network.
//!
//! ```
//! use postrider_sdk::verify::{Error, Verifier};
//!
//! fn receive(headers: &http::HeaderMap, body: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//!     let verifier = Verifier::new(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
//!     let verified = verifier.verify(headers, body)?;
//!     println!("event {} is genuine", verified.id);
//!     Ok(())
//! }
//! # assert!(receive(&http::HeaderMap::new(), b"{}").is_err());
//! ```

mod error;
mod headers;
mod key;

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use self::key::Key;
pub use self::{
    error::{Error, InvalidSecret},
    headers::Headers,
};

/// What the Standard Webhooks libraries allow for clocks that differ and requests that travel, in both directions.
const DEFAULT_TOLERANCE: Duration = Duration::from_mins(5);

/// Verifies callbacks with one secret, or with several while they change.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<Key>,
    tolerance: Duration,
}

/// A callback that is genuine and recent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The event's id: the same whenever the same event comes again. Events are delivered at least once; ignore
    /// those whose id you have dealt with.
    pub id: String,
    /// When this attempt was sent.
    pub timestamp: OffsetDateTime,
}

impl Verifier {
    /// A verifier that accepts what is signed with any of these secrets (`whsec_…`).
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, InvalidSecret> {
        let keys =
            secrets.into_iter().map(|secret| Key::parse(secret.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(InvalidSecret::None);
        }
        Ok(Self { keys, tolerance: DEFAULT_TOLERANCE })
    }

    /// How far the timestamp may lie in the past or in the future; 5 minutes if not set.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Verifies a callback that arrived just now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the SDK's one look at the clock; `verify_at` takes it as an argument"
    )]
    pub fn verify<H: Headers + ?Sized>(&self, headers: &H, body: &[u8]) -> Result<Verified, Error> {
        self.verify_at(headers, body, OffsetDateTime::now_utc())
    }

    /// Verifies a callback that arrived at `now`.
    ///
    /// ```
    /// use postrider_sdk::verify::Verifier;
    /// use time::macros::datetime;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let headers = [
    ///     ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
    ///     ("webhook-timestamp", "1614265330"),
    ///     ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    /// ];
    /// let verifier = Verifier::new(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
    /// let body = br#"{"test": 2432232314}"#;
    /// let verified = verifier.verify_at(&headers, body, datetime!(2021-02-25 15:04 UTC))?;
    /// assert_eq!(verified.id, "msg_p5jXN8AQM9LWM0D4loKWxJek");
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify_at<H: Headers + ?Sized>(
        &self,
        headers: &H,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<Verified, Error> {
        let id = required(headers, "webhook-id")?;
        let sent = required(headers, "webhook-timestamp")?;
        let signatures = required(headers, "webhook-signature")?;
        let timestamp = parse_timestamp(&sent)?;
        self.check_age(timestamp, now)?;
        let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", body];
        // The body is hashed once for each key, however many signatures a stranger puts into the header.
        let expected: Vec<_> = self.keys.iter().map(|key| key.sign(&signed)).collect();
        let genuine = signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(MAX_SIGNATURES)
            .any(|candidate| expected.iter().any(|signature| signature.is(candidate)));
        if genuine { Ok(Verified { id, timestamp }) } else { Err(Error::NoMatchingSignature) }
    }

    fn check_age(&self, timestamp: OffsetDateTime, now: OffsetDateTime) -> Result<(), Error> {
        let age = now - timestamp;
        if age.unsigned_abs() <= self.tolerance {
            Ok(())
        } else if age.is_positive() {
            Err(Error::TooOld)
        } else {
            Err(Error::TooNew)
        }
    }
}

/// How many signatures of one header are looked at. Postrider sends one for each secret in force, at most five.
const MAX_SIGNATURES: usize = 20;

fn required<H: Headers + ?Sized>(headers: &H, name: &'static str) -> Result<String, Error> {
    headers.header(name).map(std::borrow::Cow::into_owned).ok_or(Error::MissingHeader(name))
}

/// Seconds since 1970, in digits.
fn parse_timestamp(text: &str) -> Result<OffsetDateTime, Error> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(Error::MalformedTimestamp)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys.len())
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}
