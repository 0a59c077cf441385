//! Secrets as values of headers.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::InvalidHeaderValue};

/// `Basic …` (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// `Bearer …` (RFC 6750).
pub(super) fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    secret(&format!("Bearer {token}"))
}

/// A value that is neither shown nor put in HTTP/2's compression table.
pub(super) fn secret(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
