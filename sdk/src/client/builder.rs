//! Connecting: the URL, TLS, the token, and the defaults of every call.

use std::{fmt, time::Duration};

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::Client;
use crate::{Error, Result, RetryPolicy};

const USER_AGENT: &str = concat!("postrider-sdk/", env!("CARGO_PKG_VERSION"));
/// Asks whether the other side is still there while a call or a stream waits; an answer must come within the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect. Made by [`Client::builder`].
///
/// ```no_run
/// # async fn example(token: String) -> postrider_sdk::Result<()> {
/// use std::time::Duration;
/// use postrider_sdk::{Client, RetryPolicy};
///
/// let client = Client::builder("https://postrider.example.com")
///     .with_token(token)
///     .with_timeout(Duration::from_secs(5))
///     .with_retry(RetryPolicy::default().with_max_tries(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ClientBuilder {
    url: String,
    token: Option<String>,
    ca_certificate_pem: Option<Vec<u8>>,
    timeout: Duration,
    connect_timeout: Duration,
    retry: RetryPolicy,
}

impl ClientBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            token: None,
            ca_certificate_pem: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
        }
    }

    /// The bearer token that every call carries. Over `http://` everybody on the way can read it.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The certificate authority, or several, that signed the server's certificate, in PEM: trusted instead of the
    /// roots of the operating system.
    pub fn with_ca_certificate_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificate_pem = Some(pem.into());
        self
    }

    /// How long one try of a call may take; 30 s if not set. The server is told, and stops working on what nobody waits for. What
    /// was to be published may be all the same.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long opening a connection may take, TLS included; 5 s if not set.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often calls that can be repeated are tried.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Connects now, once: fails if the server cannot be reached.
    pub async fn connect(self) -> Result<Client> {
        let channel = self.endpoint()?.connect().await.map_err(Error::from_transport)?;
        self.client(channel)
    }

    /// Connects with the first call. For programs that start before the server does. Must be called within a tokio
    /// runtime.
    pub fn connect_lazy(self) -> Result<Client> {
        let channel = self.endpoint()?.connect_lazy();
        self.client(channel)
    }

    fn client(self, channel: Channel) -> Result<Client> {
        Ok(Client {
            channel,
            authorization: self.token.as_deref().map(authorization).transpose()?,
            tenant: "default".into(),
            timeout: self.timeout,
            retry: self.retry,
        })
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(|error| Error::invalid("server url is not a url").with_source(error))?;
        let authority = endpoint.uri().authority().map_or("", |authority| authority.as_str());
        if authority.is_empty() || authority.contains('@') {
            return Err(Error::invalid("server url has no host, or has credentials"));
        }
        let tls = match endpoint.uri().scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(Error::invalid("server url begins with neither http:// nor https://"));
            }
        };
        let endpoint = endpoint
            .user_agent(USER_AGENT)
            .map_err(Error::from_transport)?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        if !tls {
            return Ok(endpoint);
        }
        let config = ClientTlsConfig::new();
        let config = match &self.ca_certificate_pem {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        endpoint
            .tls_config(config)
            .map_err(|error| Error::invalid("certificate authorities cannot be read").with_source(error))
    }
}

fn authorization(token: &str) -> Result<MetadataValue<Ascii>> {
    // The parser's error is not kept: it may quote the token.
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Error::invalid("token has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("token", &self.token.as_ref().map(|_| "[redacted]"))
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
