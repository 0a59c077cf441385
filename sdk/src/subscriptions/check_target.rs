//! Seeing whether a target can be reached.

use postrider_proto::v1::{self as pb, check_target_request::Receiver};

use super::{Subscriptions, rpc};
use crate::{
    Result,
    client::Repeat,
    convert,
    model::{NewSubscription, TargetCheck},
};

impl Subscriptions {
    /// Sees whether the target of a subscription may be sent to and can be reached, and why not, by a `HEAD` request. Whatever is found is
    /// no error. Takes as long as an attempt may take, and not longer than the client's timeout. Nothing is stored, and no event is sent.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// println!("{}", client.subscriptions().check_target("orders").await?.summary);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check_target(&self, subscription: impl Into<String>) -> Result<TargetCheck> {
        self.check(Receiver::SubscriptionName(self.name(subscription))).await
    }

    /// The same for a subscription that does not exist, whose target need not be allowed.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// use postrider_sdk::Subscription;
    ///
    /// let check = client.subscriptions().check_target_for(Subscription::to("https://example.com/hooks")).await?;
    /// println!("{}", check.summary);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check_target_for(&self, new: NewSubscription) -> Result<TargetCheck> {
        self.check(Receiver::Subscription(new.message)).await
    }

    async fn check(&self, receiver: Receiver) -> Result<TargetCheck> {
        let request = pb::CheckTargetRequest { parent: self.client.parent(), receiver: Some(receiver) };
        let check = async |channel, request| rpc(channel).check_target(request).await;
        let answer = self.client.call(Repeat::Safe, request, check).await?;
        convert::target_check::check(answer.check)
    }
}
