//! Deleting a subscription.

use std::pin::Pin;

use postrider_proto::v1 as pb;

use super::rpc;
use crate::{Client, Result, client::Repeat};

/// The end of a subscription, made when it is awaited. Begun by
/// [`Subscriptions::delete`](crate::Subscriptions::delete). Not tried again by itself.
#[derive(Debug, Clone)]
#[must_use = "nothing is deleted until this is awaited"]
pub struct DeleteSubscription {
    client: Client,
    request: pb::DeleteSubscriptionRequest,
}

impl DeleteSubscription {
    pub(super) fn new(client: Client, name: String) -> Self {
        Self { client, request: pb::DeleteSubscriptionRequest { name, etag: String::new() } }
    }

    /// Deletes it only if this is still its `etag`; otherwise fails with [`is_aborted`](crate::Error::is_aborted).
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.request.etag = etag.into();
        self
    }
}

impl IntoFuture for DeleteSubscription {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.client
                .call(Repeat::Never, self.request, async |channel, request| {
                    rpc(channel).delete_subscription(request).await
                })
                .await?;
            Ok(())
        })
    }
}
