//! Subscriptions: who gets which events.

mod check_target;
mod delete;
mod render_event;
mod rotate;
mod test_event;
mod update;

use postrider_proto::v1::{self as pb, subscription_service_client::SubscriptionServiceClient};
use tonic::transport::Channel;

pub use self::{
    delete::DeleteSubscription, render_event::RenderEvent, rotate::RotateSecret, test_event::SendTestEvent,
    update::UpdateSubscription,
};
use crate::{
    Client, List, Page, Result,
    client::{MAX_ANSWER_BYTES, Repeat},
    convert,
    list::{PageFuture, Query},
    model::{CreatedSubscription, NewSubscription, Secret, Subscription},
};

/// Who gets which events. Made by [`Client::subscriptions`]. A subscription is given by its name or id.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// use postrider_sdk::Subscription;
///
/// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).id("orders");
/// let created = client.subscriptions().create(new).await?;
/// println!("hand this to the receiver: {}", created.secret.expose());
///
/// client.subscriptions().pause("orders").await?;
/// client.subscriptions().update("orders").target_url("https://example.com/v2/hooks").await?;
/// client.subscriptions().resume("orders").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Subscriptions {
    client: Client,
}

impl Subscriptions {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a subscription. An event published after this is matched against it. Not tried again by itself.
    pub async fn create(&self, new: NewSubscription) -> Result<CreatedSubscription> {
        let request = pb::CreateSubscriptionRequest {
            parent: self.client.parent(),
            subscription: Some(new.message),
            subscription_id: new.id,
            secret: new.secret,
        };
        let answer = self
            .client
            .call(Repeat::Never, request, async |channel, request| {
                rpc(channel).create_subscription(request).await
            })
            .await?;
        Ok(CreatedSubscription {
            subscription: convert::subscription::subscription(answer.subscription)?,
            secret: Secret::new(answer.secret),
        })
    }

    /// Returns a subscription.
    pub async fn get(&self, subscription: impl Into<String>) -> Result<Subscription> {
        let request = pb::GetSubscriptionRequest { name: self.name(subscription) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).get_subscription(request).await
            })
            .await?;
        convert::subscription::subscription(answer.subscription)
    }

    /// Lists subscriptions, newest first.
    pub fn list(&self) -> List<Subscription> {
        List::new(self.client.clone(), self.client.parent(), page)
    }

    /// Changes a subscription: `update("orders").description("…").await`. What is not set stays as it is.
    pub fn update(&self, subscription: impl Into<String>) -> UpdateSubscription {
        UpdateSubscription::new(self.client.clone(), self.name(subscription))
    }

    /// Deletes a subscription: `delete("orders").await`. Its waiting deliveries are cancelled.
    pub fn delete(&self, subscription: impl Into<String>) -> DeleteSubscription {
        DeleteSubscription::new(self.client.clone(), self.name(subscription))
    }

    /// Stops sending. Events are still matched, and their deliveries wait.
    pub async fn pause(&self, subscription: impl Into<String>) -> Result<Subscription> {
        let request = pb::PauseSubscriptionRequest { name: self.name(subscription) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).pause_subscription(request).await
            })
            .await?;
        convert::subscription::subscription(answer.subscription)
    }

    /// Goes on after a pause, or after a block because the receiver failed; waiting deliveries become due.
    pub async fn resume(&self, subscription: impl Into<String>) -> Result<Subscription> {
        let request = pb::ResumeSubscriptionRequest { name: self.name(subscription) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).resume_subscription(request).await
            })
            .await?;
        convert::subscription::subscription(answer.subscription)
    }

    /// Takes back a disabling. Deliveries that the disabling cancelled stay cancelled and can be redelivered.
    pub async fn enable(&self, subscription: impl Into<String>) -> Result<Subscription> {
        let request = pb::EnableSubscriptionRequest { name: self.name(subscription) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).enable_subscription(request).await
            })
            .await?;
        convert::subscription::subscription(answer.subscription)
    }

    /// Makes the handshake of a subscription that awaits it, now. What came of it is in `handshake_status`; one that fails is no error.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// use postrider_sdk::model::SubscriptionState;
    ///
    /// let orders = client.subscriptions().verify("orders").await?;
    /// assert_eq!(orders.state, SubscriptionState::Active, "{:?}", orders.handshake_status);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn verify(&self, subscription: impl Into<String>) -> Result<Subscription> {
        let request = pb::VerifySubscriptionRequest { name: self.name(subscription) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).verify_subscription(request).await
            })
            .await?;
        convert::subscription::subscription(answer.subscription)
    }

    /// Makes a new signing secret: `rotate_secret("orders").await`. Where a header holds several signatures, callbacks are signed with
    /// both until the previous one expires, so that the receiver has time to change over.
    pub fn rotate_secret(&self, subscription: impl Into<String>) -> RotateSecret {
        RotateSecret::new(self.client.clone(), self.name(subscription))
    }

    /// Returns the current signing secret.
    pub async fn secret(&self, subscription: impl Into<String>) -> Result<Secret> {
        Ok(Secret::new(self.read_secret(subscription).await?.secret))
    }

    /// Returns the public key (`whpk_…`) of a subscription whose callbacks are signed with Ed25519.
    pub async fn public_key(&self, subscription: impl Into<String>) -> Result<Option<String>> {
        Ok(Some(self.read_secret(subscription).await?.public_key).filter(|key| !key.is_empty()))
    }

    async fn read_secret(
        &self,
        subscription: impl Into<String>,
    ) -> Result<pb::GetSubscriptionSecretResponse> {
        let request = pb::GetSubscriptionSecretRequest { name: self.name(subscription) };
        let read = async |channel, request| rpc(channel).get_subscription_secret(request).await;
        self.client.call(Repeat::Safe, request, read).await
    }

    /// Publishes an event to this subscription alone, whatever its patterns say, and waits for what comes of it:
    /// `send_test_event("orders").await`.
    pub fn send_test_event(&self, subscription: impl Into<String>) -> SendTestEvent {
        SendTestEvent::new(self.client.clone(), self.name(subscription))
    }

    /// Shows what an event would be sent to this subscription with: `render_event("orders").stored_event(id).await`.
    pub fn render_event(&self, subscription: impl Into<String>) -> RenderEvent {
        let name = self.name(subscription);
        RenderEvent::new(self.client.clone(), pb::render_event_request::Receiver::SubscriptionName(name))
    }

    /// The same for a subscription that does not exist.
    pub fn render_event_for(&self, new: NewSubscription) -> RenderEvent {
        RenderEvent::new(self.client.clone(), pb::render_event_request::Receiver::Subscription(new.message))
    }

    fn name(&self, subscription: impl Into<String>) -> String {
        self.client.name("subscriptions", subscription)
    }
}

fn page(client: Client, query: Query) -> PageFuture<Subscription> {
    let request = pb::ListSubscriptionsRequest {
        parent: query.parent,
        page_size: query.page_size,
        page_token: query.page_token,
    };
    Box::pin(async move {
        let answer = client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).list_subscriptions(request).await
            })
            .await?;
        let items = answer.subscriptions.into_iter().map(|it| convert::subscription::subscription(Some(it)));
        Ok(Page::new(items.collect::<Result<_>>()?, answer.next_page_token))
    })
}

fn rpc(channel: Channel) -> SubscriptionServiceClient<Channel> {
    SubscriptionServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}
