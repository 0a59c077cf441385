//! `VerifySubscription`: a handshake now.

use futures_util::future::BoxFuture;
use postrider_proto::v1 as pb;

use super::{Parts, convert, failure::Failure, name};
use crate::{
    domain::{
        id::{SubscriptionId, TenantId},
        subscription::{Subscription, SubscriptionState},
    },
    store,
};

/// Makes handshakes.
pub trait Handshakes: Send + Sync + 'static {
    /// There may be something due. A hint: whoever is told would find out by himself.
    fn due(&self);

    /// Makes a subscription's handshake, if it waits for one, whenever it is due; answers whether there was room for it.
    fn make_now<'a>(
        &'a self,
        tenant: &'a TenantId,
        subscription: &'a SubscriptionId,
    ) -> BoxFuture<'a, Result<bool, store::Error>>;
}

pub(super) async fn verify(
    api: &Parts,
    request: pb::VerifySubscriptionRequest,
) -> Result<pb::VerifySubscriptionResponse, Failure> {
    let (tenant, id) = name::subscription("name", &request.name)?;
    let read = async || -> Result<Subscription, Failure> {
        let found = api.store.subscription(&tenant, &id).await?;
        found.ok_or_else(|| Failure::NotFound { field: "name", name: request.name.clone() })
    };
    let found = read().await?;
    if found.state() == SubscriptionState::Disabled {
        return Err(Failure::WrongState("the subscription is disabled; enable it first".to_owned()));
    }
    if found.handshake.is_none() {
        let message = "the subscription has no handshake; set `handshake` first".to_owned();
        return Err(Failure::WrongState(message));
    }
    if found.awaits_handshake() && !api.handshakes.make_now(&tenant, &id).await? {
        return Err(Failure::Busy);
    }
    let subscription = Some(convert::subscription::to_subscription(&read().await?));
    Ok(pb::VerifySubscriptionResponse { subscription })
}
