//! Changing a subscription: the setters that are called are the fields that change.

use std::{pin::Pin, time::Duration};

use postrider_proto::v1 as pb;

use super::rpc;
use crate::{
    Client, Result, Subscription,
    client::Repeat,
    convert,
    model::{
        Authentication, DeliveryRetryPolicy, EventFilter, FailurePolicy, Format, Handshake, RateLimit,
        ReceiverTls, SignatureProfile, signing,
    },
};

/// A change of a subscription, made when it is awaited. Begun by
/// [`Subscriptions::update`](crate::Subscriptions::update). Not tried again by itself.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let orders = client.subscriptions().get("orders").await?;
/// client.subscriptions().update("orders").event_types(["order.**"]).etag(orders.etag).await?;
///
/// use postrider_sdk::model::RateLimit;
/// client.subscriptions().update("orders").rate_limit(RateLimit::per_second(50.0)).max_in_flight(8).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing changes until this is awaited"]
pub struct UpdateSubscription {
    client: Client,
    message: pb::Subscription,
    mask: Vec<String>,
}

impl UpdateSubscription {
    pub(super) fn new(client: Client, name: String) -> Self {
        Self { client, message: pb::Subscription { name, ..pb::Subscription::default() }, mask: Vec::new() }
    }

    /// Where events are sent from now on; deliveries that wait go there too.
    pub fn target_url(mut self, target_url: impl Into<String>) -> Self {
        self.message.target_url = target_url.into();
        self.change("target_url")
    }

    /// Which event types it wants from now on, all of them.
    pub fn event_types<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.message.event_types = patterns.into_iter().map(Into::into).collect();
        self.change("event_types")
    }

    /// For people; empty removes it.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.message.description = description.into();
        self.change("description")
    }

    /// At most so many attempts a second from now on; `None` takes the limit away.
    pub fn rate_limit(mut self, rate_limit: impl Into<Option<RateLimit>>) -> Self {
        self.message.rate_limit = rate_limit.into().map(RateLimit::to_pb);
        self.change("rate_limit")
    }

    /// At most so many attempts at once from each node from now on; `None`: as many as the server is configured for.
    pub fn max_in_flight(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.message.max_in_flight =
            attempts.into().map_or(0, |attempts| i32::try_from(attempts).unwrap_or(i32::MAX));
        self.change("max_in_flight")
    }

    /// When failed attempts are repeated from now on; `None`: as the server is configured.
    pub fn retry_policy(mut self, retry_policy: impl Into<Option<DeliveryRetryPolicy>>) -> Self {
        self.message.retry_policy = retry_policy.into().map(DeliveryRetryPolicy::into_pb);
        self.change("retry_policy")
    }

    /// How long an attempt may take from now on; `None`: as long as the server is configured for.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.message.timeout = timeout.into().map(convert::time::duration_to_pb);
        self.change("timeout")
    }

    /// How the receiver is shown who is sending from now on; `None`: by the signature alone. A secret that was read masked and is
    /// sent back stays as it is.
    pub fn authentication(mut self, authentication: impl Into<Option<Authentication>>) -> Self {
        self.message.authentication = authentication.into().map(Authentication::into_pb);
        self.change("authentication")
    }

    /// With what certificates the receiver is spoken to from now on; `None`: as the server is configured. A key that was read
    /// masked and is sent back stays as it is.
    pub fn tls(mut self, tls: impl Into<Option<ReceiverTls>>) -> Self {
        self.message.tls = tls.into().map(ReceiverTls::into_pb);
        self.change("tls")
    }

    /// How callbacks are signed from now on, by all of these at once; by Standard Webhooks if there are none.
    pub fn signing(mut self, profiles: impl IntoIterator<Item = SignatureProfile>) -> Self {
        self.message.signing = Some(signing::to_pb(profiles)).filter(|signing| !signing.profiles.is_empty());
        self.change("signing")
    }

    /// Which events of its types it wants from now on; `None`: all of them.
    pub fn filter(mut self, filter: impl Into<Option<EventFilter>>) -> Self {
        self.message.filter = filter.into().map(EventFilter::into_pb);
        self.change("filter")
    }

    /// In what form events are sent from now on; `None`: the envelope, by POST.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// let orders = client.subscriptions().get("orders").await?;
    /// // Secrets that were set before stay as they are.
    /// let format = orders.format.unwrap_or_default().header("X-Api-Version", "3");
    /// client.subscriptions().update("orders").format(format).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn format(mut self, format: impl Into<Option<Format>>) -> Self {
        self.message.format = format.into().map(|format| format.to_pb());
        self.change("format")
    }

    /// What happens from now on when there is nothing but failure; `None`: as the server is configured.
    pub fn failure_policy(mut self, policy: impl Into<Option<FailurePolicy>>) -> Self {
        self.message.failure_policy = policy.into().map(FailurePolicy::into_pb);
        self.change("failure_policy")
    }

    /// What is asked of the receiver before anything more is sent to it; `None`: nothing. A secret that was read masked and is sent back
    /// stays as it is.
    pub fn handshake(mut self, handshake: impl Into<Option<Handshake>>) -> Self {
        self.message.handshake = handshake.into().map(Handshake::into_pb);
        self.change("handshake")
    }

    /// Changes it only if this is still its `etag`; otherwise fails with
    /// [`is_aborted`](crate::Error::is_aborted).
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.message.etag = etag.into();
        self
    }

    fn change(mut self, field: &str) -> Self {
        self.mask.push(field.to_owned());
        self
    }
}

impl IntoFuture for UpdateSubscription {
    type Output = Result<Subscription>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let request = pb::UpdateSubscriptionRequest {
            subscription: Some(self.message),
            update_mask: Some(prost_types::FieldMask { paths: self.mask }),
        };
        Box::pin(async move {
            let answer = self
                .client
                .call(Repeat::Never, request, async |channel, request| {
                    rpc(channel).update_subscription(request).await
                })
                .await?;
            convert::subscription::subscription(answer.subscription)
        })
    }
}
