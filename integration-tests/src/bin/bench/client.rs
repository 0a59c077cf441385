//! An HTTP client that is as plain as it can be.

use std::time::Duration;

use crate::Failure;

/// A new one, with connections of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark is no sender: it calls its own receiver and server"
)]
pub(crate) fn new() -> Result<reqwest::Client, Failure> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    Ok(client.build()?)
}
