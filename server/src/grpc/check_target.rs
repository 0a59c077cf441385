//! `CheckTarget`: whether a target can be reached, and why not.

use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_proto::v1 as pb;

use super::{Parts, convert, failure::Failure, name, tried_target};
use crate::domain::{
    address::AddressPolicy,
    claim::Target,
    id::TenantId,
    invalid::Invalid,
    target_check::{TargetCheck, TooManyChecks},
    timestamp::Timestamp,
};

/// What matches every event type.
const EVERYTHING: &str = "**";

/// Sees whether targets can be reached.
pub trait Check: Send + Sync + 'static {
    /// Tries `target` for as long as an attempt may take, and no longer than `patience`.
    fn check<'a>(
        &'a self,
        target: &'a Target,
        now: Timestamp,
        patience: Duration,
    ) -> BoxFuture<'a, Result<TargetCheck, TooManyChecks>>;

    /// How long an attempt at `target` may take.
    fn timeout(&self, target: &Target) -> Duration;
}

pub(super) async fn check(
    api: &Parts,
    request: pb::CheckTargetRequest,
    patience: Duration,
) -> Result<pb::CheckTargetResponse, Failure> {
    use pb::check_target_request::Receiver;
    let tenant = name::tenant("parent", &request.parent)?;
    let now = api.clock.now();
    let target = match request.receiver {
        None => {
            let reason = "is missing: set `subscription_name` or `subscription`";
            return Err(Invalid::new("receiver", reason).into());
        }
        Some(Receiver::SubscriptionName(name)) => tried_target::stored(api, &tenant, name).await?,
        Some(Receiver::Subscription(subscription)) => new_target(api, tenant, subscription, now)?,
    };
    let check = tokio::select! {
        check = api.check.check(&target, now, patience) => check.map_err(Failure::TooManyChecks)?,
        () = api.stop.cancelled() => return Err(Failure::Stopping),
    };
    Ok(pb::CheckTargetResponse { check: Some(convert::target_check::to_check(check)) })
}

fn new_target(
    api: &Parts,
    tenant: TenantId,
    mut subscription: pb::Subscription,
    now: Timestamp,
) -> Result<Target, Failure> {
    let id = tried_target::new_id(&tenant, &subscription.name)?;
    if subscription.event_types.is_empty() {
        subscription.event_types.push(EVERYTHING.to_owned());
    }
    // Where it may not be sent to is what the check says; the sender sees to it that nothing is.
    let limits =
        convert::subscription::Limits { addresses: AddressPolicy::everything(), ..api.limits.clone() };
    let spec = convert::subscription::spec(&subscription, &limits)?;
    Ok(tried_target::new(tenant, id, spec, now))
}
