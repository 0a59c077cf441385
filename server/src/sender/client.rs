//! HTTP clients: what they may do, and what a receiver can make it spend. They follow no redirects, which would
//! resolve names behind the guard's back; and they unpack nothing, so that a small response cannot become a large one.

use std::{sync::Arc, time::Duration};

use hyper::client::conn::http1;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

use super::{
    check::{Watched, Witness},
    config::Config,
    meter::MeteredConnector,
    phases::Connector,
    pool::{Http2, Pool, Protocol},
    proxy::{Exempt, Proxy},
    resolver::GuardedResolver,
    route::Route,
};
use crate::domain::{address::AddressPolicy, invalid::Invalid};

/// As many idle connections as there may be attempts under way, as many subscriptions may have one host; or bursts would open new ones
/// each time.
const MAX_IDLE_PER_ORIGIN: usize = 1024;
/// Shorter than the five seconds after which Node.js and Apache close idle connections, lest a request cross that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// For how long a connection takes requests, however busy it is: a receiver that has moved is found again after this.
const MAX_AGE: Duration = Duration::from_mins(5);
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
/// Without this a dead connection of HTTP/2 would keep taking the requests of its host until the kernel gives up.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for TCP, where it also finds idle connections that are dead.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// What opens connections.
type Https = HttpsConnector<MeteredConnector<Route>>;
/// What makes requests. Cheap to clone.
pub(super) type Client = Pool<Connector<Https>>;
/// One whose connections are looked on at.
pub(super) type WatchedClient = Pool<Connector<Watched<Https>>>;

/// Makes clients. All of them look names up together, and count their connections together.
#[derive(Debug)]
pub(super) struct Maker {
    metered: MeteredConnector<Route>,
    connect_timeout: Duration,
    max_response_bytes: usize,
}

impl Maker {
    /// For clients that keep to the policy.
    pub(super) fn new(config: &Config, policy: Arc<AddressPolicy>) -> Result<Self, Invalid> {
        let resolver = GuardedResolver::new(Arc::clone(&policy));
        let straight = tcp(resolver.clone(), config.connect_timeout);
        let route = match Proxy::parse(&config.proxy)? {
            None => Route::straight(straight),
            Some(proxy) => {
                let exempt = Exempt::parse(&config.no_proxy)?;
                let anywhere = GuardedResolver::new(Arc::new(AddressPolicy::everything()));
                let to_proxy = tcp(anywhere, config.connect_timeout);
                Route::through(proxy, exempt, straight, to_proxy, resolver, policy)
            }
        };
        Ok(Self {
            metered: MeteredConnector::new(route, MAX_HEAD_BYTES + config.max_response_bytes),
            connect_timeout: config.connect_timeout,
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// Makes a client.
    pub(super) fn client(&self, tls: rustls::ClientConfig) -> Client {
        let https = HttpsConnector::from((self.metered.clone(), tls));
        Pool::new(Connector::new(https, self.connect_timeout), self.protocol(MAX_IDLE_PER_ORIGIN))
    }

    /// Makes a client for one request, whose connection is not kept.
    pub(super) fn watched(&self, tls: rustls::ClientConfig, witness: Arc<Witness>) -> WatchedClient {
        let https = HttpsConnector::from((self.metered.clone(), tls));
        let watched = Watched::new(https, witness);
        Pool::new(Connector::new(watched, self.connect_timeout), self.protocol(0))
    }

    fn protocol(&self, max_idle: usize) -> Protocol {
        let mut http1 = http1::Builder::new();
        http1.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
        // No more than we keep.
        let stream_window = u32::try_from(self.max_response_bytes).unwrap_or(u32::MAX);
        let http2 = Http2 {
            max_head_bytes: u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX),
            stream_window: stream_window.max(MIN_STREAM_WINDOW_BYTES),
            connection_window: CONNECTION_WINDOW_BYTES,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
        };
        Protocol { http1, http2, max_idle, idle_timeout: IDLE_TIMEOUT, max_age: MAX_AGE }
    }
}

/// Opens TCP connections.
fn tcp(resolver: GuardedResolver, connect_timeout: Duration) -> HttpConnector<GuardedResolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    // Each address of a name has its part of it, or one that does not answer would take all.
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.enforce_http(false); // TLS is begun on top of it.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp.set_recv_buffer_size(Some(SOCKET_BUFFER_BYTES));
    tcp
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        super::{clients::Clients, failure, phases::Stage, proxy::ProxyUrl},
        *,
    };
    use crate::domain::attempt::Failure;

    #[tokio::test]
    async fn it_does_not_connect_to_what_a_name_leads_to_unless_the_policy_allows_it() {
        let authority = rcgen::generate_simple_self_signed([]).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority.cert.pem().as_bytes()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://localhost:{}/?token=s3cret", address.port());

        // A proxy would be there for it.
        for proxy in [String::new(), format!("http://{address}"), format!("socks5://{address}")] {
            let proxy = ProxyUrl::new(proxy);
            let config = Config { extra_ca_file: file.path().to_owned(), proxy, ..Config::default() };
            let clients = Clients::new(&config, Arc::default()).unwrap();
            let error = clients.shared().get(&url).await.unwrap_err();
            let (failure, message) = failure::explain(&error, Stage::Dns);
            assert_eq!(failure, Failure::AddressRefused, "{message}");
            assert!(message.contains("loopback") && !message.contains("s3cret"), "{message}");
            assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending(), "nobody has connected");
        }
    }
}
