//! The HTTP client: what it may do, and what a receiver can make it spend.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, redirect};

use super::{
    build_error::BuildError, config::Config, phases::ConnectorLayer, resolver::GuardedResolver, tls,
};
use crate::domain::address::AddressPolicy;

/// As many idle connections as there may be attempts under way to one subscription, or bursts would open new ones each time.
const MAX_IDLE_PER_HOST: usize = 1024;
/// Shorter than the five seconds after which Node.js and Apache close idle connections, lest a request cross that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The most headers of an HTTP/1.1 response; their total the client bounds at 408 KiB and does not let us choose.
const MAX_HEADERS: usize = 128;
/// The most header bytes of an HTTP/2 response.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// What an HTTP/2 receiver may send before we read: a response, and a connection's responses together.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// After how much silence an HTTP/2 connection with requests on it is asked for a sign of life, and how long it has. Without it a dead
/// connection would keep taking the requests of its host until the kernel gives up.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that all attempts of a node share.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(super) fn build(config: &Config, policy: Arc<AddressPolicy>) -> Result<Client, BuildError> {
    let client = Client::builder()
        // A proxy would resolve names itself, behind the guard's back.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        // Whether to try again is for the dispatcher to decide.
        .retry(reqwest::retry::never())
        .dns_resolver(GuardedResolver(policy))
        .connector_layer(ConnectorLayer)
        .tls_backend_preconfigured(tls::config(&config.extra_ca_file)?)
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        // Should another crate switch these features on: a small response must not unpack to a large one.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()?;
    Ok(client)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        super::{failure, phases::Stage},
        *,
    };
    use crate::domain::attempt::Failure;

    #[tokio::test]
    async fn it_does_not_connect_to_what_a_name_leads_to_unless_the_policy_allows_it() {
        let authority = rcgen::generate_simple_self_signed([]).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority.cert.pem().as_bytes()).unwrap();
        let config = Config { extra_ca_file: file.path().to_owned(), ..Config::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/?token=s3cret", listener.local_addr().unwrap().port());

        let client = build(&config, Arc::default()).unwrap();
        let error = client.post(url).timeout(Duration::from_secs(5)).send().await.unwrap_err();
        let (failure, message) = failure::explain(&error, Stage::Dns);
        assert_eq!(failure, Failure::AddressRefused, "{message}");
        assert!(message.contains("loopback") && !message.contains("s3cret"), "{message}");
    }
}
