//! Trying a subscription out.

use std::{pin::Pin, time::Duration};

use postrider_proto::v1 as pb;
use serde::Serialize;

use super::rpc;
use crate::{Client, Error, Result, client::Repeat, convert, model::SentTestEvent};

/// What a call may take beyond the time that it waits.
const ANSWER: Duration = Duration::from_secs(5);

/// A test event, sent when it is awaited. Begun by
/// [`Subscriptions::send_test_event`](crate::Subscriptions::send_test_event). Not tried again by itself.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let sent = client.subscriptions().send_test_event("orders").event_type("order.created").json(&17)?.await?;
/// println!("{}", sent.summary);
/// if let Some(check) = sent.check {
///     println!("{}", check.summary);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until this is awaited"]
pub struct SendTestEvent {
    client: Client,
    request: pb::SendTestEventRequest,
}

impl SendTestEvent {
    pub(super) fn new(client: Client, name: String) -> Self {
        Self { client, request: pb::SendTestEventRequest { name, ..pb::SendTestEventRequest::default() } }
    }

    /// The type of the event; `postrider.test` if not set.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.request.r#type = event_type.into();
        self
    }

    /// The data of the event; `{"test":true}` if not set. Fails if the value cannot be written as JSON.
    pub fn json(mut self, data: &(impl Serialize + ?Sized)) -> Result<Self> {
        let json = serde_json::to_vec(data).map_err(|error| {
            Error::invalid("test event data cannot be written as JSON").with_source(error)
        })?;
        self.request.data = json;
        Ok(self)
    }

    /// How long to wait for the first attempt: zero for not at all, and at most 60 seconds. If not set, as long as an attempt may take, and as
    /// the client's timeout leaves time for.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// use std::time::Duration;
    ///
    /// let sent = client.subscriptions().send_test_event("orders").wait(Duration::ZERO).await?;
    /// let attempts = client.deliveries().attempts(sent.delivery).page().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(mut self, wait: Duration) -> Self {
        // Or the call could end before the wait.
        self.client = self.client.with_timeout(self.client.timeout().max(wait.saturating_add(ANSWER)));
        self.request.wait = Some(convert::time::duration_to_pb(wait));
        self
    }
}

impl IntoFuture for SendTestEvent {
    type Output = Result<SentTestEvent>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self
                .client
                .call(Repeat::Never, self.request, async |channel, request| {
                    rpc(channel).send_test_event(request).await
                })
                .await?;
            convert::test_event::sent(answer)
        })
    }
}
