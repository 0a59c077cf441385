//! What a program holds: a connection, a tenant, and how calls are made.
//!
//! The calls themselves are beside this module, one file per resource: `publish`, `publisher`, `events`,
//! `subscriptions`, `deliveries`. All of them go through [`call`], which adds the token, the deadline, the trace context
//! and the retries.

mod builder;
mod call;
mod id;
mod trace;
mod tries;

use std::{fmt, sync::Arc, time::Duration};

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

pub use self::builder::ClientBuilder;
pub(crate) use self::{
    call::{MAX_ANSWER_BYTES, Repeat},
    id::new_request_id,
    trace::TraceContext,
    tries::Tries,
};
use crate::{Deliveries, EventTypes, Events, Publisher, Result, RetryPolicy, Subscriptions};

/// A connection to Postrider, for one tenant.
///
/// Cheap to clone; clones share one connection, which is opened again by itself when it breaks.
///
/// ```no_run
/// # async fn example() -> postrider_sdk::Result<()> {
/// use postrider_sdk::{Client, Event};
///
/// let client = Client::connect("http://127.0.0.1:50051").await?;
/// let published = client.publish(Event::new("order.created").json(&42)?).await?;
/// println!("{} goes to {} receivers", published.event, published.delivery_count);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    tenant: Arc<str>,
    timeout: Duration,
    retry: RetryPolicy,
}

impl Client {
    /// Connects with the defaults; `https://` for TLS with the roots that the operating system trusts.
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// Sets a token, timeouts and the like before connecting.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// The same connection for another tenant. Without this a client works for the tenant `default`; `-` reads across
    /// all tenants in lists.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// let acme = client.tenant("acme");
    /// let subscriptions = acme.subscriptions().list().page().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tenant(&self, tenant: impl Into<String>) -> Self {
        Self { tenant: tenant.into().into(), ..self.clone() }
    }

    /// The same connection with another timeout for each try of a call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same connection with another retry policy.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        Self { retry, ..self.clone() }
    }

    /// Publishes events one after another over a stream: for many events at a high rate. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::start(self.clone())
    }

    /// Shows what was published.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.clone())
    }

    /// Manages what types of events there are.
    #[must_use]
    pub fn event_types(&self) -> EventTypes {
        EventTypes::new(self.clone())
    }

    /// Manages who gets which events.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions::new(self.clone())
    }

    /// Shows what became of events, and changes it.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        Deliveries::new(self.clone())
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The `parent` of everything of this tenant.
    pub(crate) fn parent(&self) -> String {
        format!("tenants/{}", self.tenant)
    }

    /// The full name of what callers may give by its full name or by its id.
    pub(crate) fn name(&self, collection: &str, name_or_id: impl Into<String>) -> String {
        let given = name_or_id.into();
        if given.starts_with("tenants/") {
            given
        } else {
            format!("tenants/{}/{collection}/{given}", self.tenant)
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("tenant", &self.tenant)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
