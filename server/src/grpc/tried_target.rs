//! Whom a call means that tries something out: a subscription that is stored, or one that need not exist.

use std::sync::Arc;

use super::{Parts, failure::Failure, name};
use crate::{
    domain::{
        claim::Target,
        id::{SubscriptionId, SubscriptionUid, TenantId},
        invalid::Invalid,
        secret::{SecretInForce, SecretSet},
        subscription::{Subscription, SubscriptionSpec},
        timestamp::Timestamp,
    },
    store::keyring::{draw_key_pair, draw_signing_secret},
};

/// The id of a new subscription that has none, which templates know as `subscription`.
pub(super) const NAMELESS: &str = "preview";

/// A subscription of the tenant, by its name in `subscription_name`.
pub(super) async fn stored(api: &Parts, tenant: &TenantId, name: String) -> Result<Target, Failure> {
    const FIELD: &str = "subscription_name";
    let (owner, id) = name::subscription(FIELD, &name)?;
    check_owner(FIELD, tenant, &owner)?;
    let found = api.store.subscription(tenant, &id).await?;
    Ok(of(found.ok_or(Failure::NotFound { field: FIELD, name })?))
}

/// As attempts at a subscription have it. What is kept for its uid and revision may be used.
pub(super) fn of(subscription: Subscription) -> Target {
    let Subscription { uid, revision, tenant, id, spec, .. } = subscription;
    target(uid, revision, tenant, id, spec)
}

/// The id of a subscription in the field `subscription`, which may be missing.
pub(super) fn new_id(tenant: &TenantId, name: &str) -> Result<SubscriptionId, Invalid> {
    const FIELD: &str = "subscription.name";
    if name.is_empty() {
        return SubscriptionId::parse(NAMELESS);
    }
    let (owner, id) = name::subscription(FIELD, name)?;
    check_owner(FIELD, tenant, &owner)?;
    Ok(id)
}

/// Of a subscription that need not exist.
pub(super) fn new(tenant: TenantId, id: SubscriptionId, spec: SubscriptionSpec, now: Timestamp) -> Target {
    target(SubscriptionUid::new(now), 1, tenant, id, spec)
}

/// Signed with a secret that nobody has, as what is tried out is signed for nobody.
fn target(
    uid: SubscriptionUid,
    revision: i64,
    tenant: TenantId,
    id: SubscriptionId,
    spec: SubscriptionSpec,
) -> Target {
    let key_pair = draw_key_pair().ok();
    let secret = SecretInForce { secret: draw_signing_secret(), key_pair, starts_at: None, expires_at: None };
    Target {
        uid,
        tenant,
        id,
        url: spec.target_url,
        secrets: SecretSet::newest_first(vec![secret]),
        pace: spec.pace,
        suspected: false,
        recovered_at: None,
        revision,
        settings: Some(Arc::new(spec.settings)),
    }
}

/// What a field names must belong to the tenant of the call.
pub(super) fn check_owner(field: &str, tenant: &TenantId, owner: &TenantId) -> Result<(), Invalid> {
    if tenant == owner {
        return Ok(());
    }
    Err(Invalid::new(field, format!("is of another tenant than `parent`, `tenants/{tenant}`")))
}
