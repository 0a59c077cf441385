//! Rotating a subscription's secret.

use std::{fmt, pin::Pin};

use postrider_proto::v1 as pb;
use time::OffsetDateTime;

use super::rpc;
use crate::{
    Client, Result,
    client::Repeat,
    convert,
    model::{RotatedSecret, Secret},
};

/// A rotation of a secret, made when it is awaited. Begun by [`Subscriptions::rotate_secret`](crate::Subscriptions::rotate_secret).
/// Not tried again by itself.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use time::{Duration, OffsetDateTime};
///
/// // Signatures of which a header holds one only change over in an hour.
/// let at = OffsetDateTime::now_utc() + Duration::hours(1);
/// let rotated = client.subscriptions().rotate_secret("orders").effective_at(at).await?;
/// println!("hand this to the receiver: {}", rotated.secret.expose());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is rotated until this is awaited"]
pub struct RotateSecret {
    client: Client,
    request: pb::RotateSubscriptionSecretRequest,
}

/// Does not show the secret.
impl fmt::Debug for RotateSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateSecret").field("name", &self.request.name).finish_non_exhaustive()
    }
}

impl RotateSecret {
    pub(super) fn new(client: Client, name: String) -> Self {
        let request =
            pb::RotateSubscriptionSecretRequest { name, ..pb::RotateSubscriptionSecretRequest::default() };
        Self { client, request }
    }

    /// To this secret, which comes from another system, instead of one that the server makes; or to this Ed25519 key (`whsk_…`).
    pub fn to(mut self, secret: impl Into<String>) -> Self {
        self.request.secret = secret.into();
        self
    }

    /// When headers that hold one signature only change over to the new secret, at most 30 days ahead; at once if not set. Headers that
    /// hold several carry signatures by both at once.
    pub fn effective_at(mut self, time: OffsetDateTime) -> Self {
        self.request.effective_time = Some(convert::time::to_pb(time));
        self
    }
}

impl IntoFuture for RotateSecret {
    type Output = Result<RotatedSecret>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self
                .client
                .call(Repeat::Never, self.request, async |channel, request| {
                    rpc(channel).rotate_subscription_secret(request).await
                })
                .await?;
            Ok(RotatedSecret {
                secret: Secret::new(answer.secret),
                previous_expires_at: convert::time::from_pb(
                    answer.previous_expire_time,
                    "previous_expire_time",
                )?,
            })
        })
    }
}
