//! The HTTP client: what it may do, and what a receiver can make it spend. It follows no redirects and knows no proxies, which would
//! resolve names behind the guard's back; and it unpacks nothing, so that a small response cannot become a large one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    build_error::BuildError, config::Config, meter::MeteredConnector, phases::Connector,
    resolver::GuardedResolver, tls,
};
use crate::domain::address::AddressPolicy;

/// As many idle connections as there may be attempts under way, as many subscriptions may have one host; or bursts would open new ones
/// each time.
const MAX_IDLE_PER_HOST: usize = 1024;
/// Shorter than the five seconds after which Node.js and Apache close idle connections, lest a request cross that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The most headers of an HTTP/1.1 response.
const MAX_HEADERS: usize = 128;
/// The most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What an HTTP/2 connection's responses together may hold that we have not read.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The smallest window for one of them.
const MIN_STREAM_WINDOW_BYTES: u32 = 16 * 1024;
/// What the kernel may hold for us (Linux doubles it). Left to itself it would hold megabytes for a receiver that sends what nobody reads.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;
/// After how much silence an HTTP/2 connection with requests on it is asked for a sign of life, and how long it has. Without it a dead
/// connection would keep taking the requests of its host until the kernel gives up.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for TCP, where it also finds idle connections that are dead.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// What opens connections.
type Opener = Connector<HttpsConnector<MeteredConnector<HttpConnector<GuardedResolver>>>>;
/// The client that all attempts of a node share. Cheap to clone.
pub(super) type Client = legacy::Client<Opener, Full<Bytes>>;
pub(super) type Request = http::Request<Full<Bytes>>;
pub(super) type Answer = http::Response<hyper::body::Incoming>;

/// Makes the client.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(super) fn build(config: &Config, policy: Arc<AddressPolicy>) -> Result<Client, BuildError> {
    let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(policy));
    tcp.enforce_http(false); // TLS is begun on top of it.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp.set_recv_buffer_size(Some(SOCKET_BUFFER_BYTES));
    let metered = MeteredConnector::new(tcp, MAX_HEAD_BYTES + config.max_response_bytes);
    let https = HttpsConnector::from((metered, tls::config(&config.extra_ca_file)?));
    // No more than we keep.
    let stream_window = u32::try_from(config.max_response_bytes).unwrap_or(u32::MAX);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_headers(MAX_HEADERS)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http2_max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(stream_window.max(MIN_STREAM_WINDOW_BYTES))
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(Connector::new(https, config.connect_timeout)))
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
        let error = client.get(url.parse().unwrap()).await.unwrap_err();
        let (failure, message) = failure::explain(&error, Stage::Dns);
        assert_eq!(failure, Failure::AddressRefused, "{message}");
        assert!(message.contains("loopback") && !message.contains("s3cret"), "{message}");
    }
}
