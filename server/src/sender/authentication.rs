//! Secrets as values of headers.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, InvalidHeaderName, InvalidHeaderValue},
};

use crate::domain::{authentication::Authentication, hidden::MASK};

/// `Basic …` (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// `Bearer …` (RFC 6750).
pub(super) fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    secret(&format!("Bearer {token}"))
}

/// The header that shows the receiver who we are, as it is shown to others.
pub(super) fn masked(own: &Authentication) -> Result<(HeaderName, HeaderValue), InvalidHeaderName> {
    Ok(match own {
        Authentication::Basic { .. } => (AUTHORIZATION, HeaderValue::from_static("Basic ********")),
        Authentication::Bearer { .. } | Authentication::ClientCredentials(_) => {
            (AUTHORIZATION, HeaderValue::from_static("Bearer ********"))
        }
        Authentication::ApiKey { header, .. } => {
            (HeaderName::from_bytes(header.as_bytes())?, HeaderValue::from_static(MASK))
        }
    })
}

/// A value that is neither shown nor put in HTTP/2's compression table.
pub(super) fn secret(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
