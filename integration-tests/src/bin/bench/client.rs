//! An HTTP client that is as plain as it can be.

use std::time::Duration;

use crate::Failure;

/// A new one, with connections of its own.
pub(crate) fn new() -> Result<reqwest::Client, Failure> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    Ok(client.build()?)
}
