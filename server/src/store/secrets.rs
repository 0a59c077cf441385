//! Signing secrets: encrypted on their way in, decrypted on their way out.

use std::time::Duration;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    QueryFilter, prelude::Uuid, sea_query::Expr,
};

use super::{
    Error, Store, codes,
    entity::{subscription_secrets, subscriptions},
    handshakes,
    keyring::{Keyring, draw_key_pair},
    lookup, rows, tenants,
};
use crate::domain::{
    handshake::Handshake,
    id::{SubscriptionId, SubscriptionUid, TenantId},
    invalid::Invalid,
    secret::{KeyPair, MAX_IN_FORCE, NewKeys, SecretInForce},
    signing::{Signing, check_keys, check_secret},
    timestamp::Timestamp,
};

/// How one secret takes over from another.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// How long both sign where there can be several signatures.
    pub overlap: Duration,
    /// From when on the new one signs where there can be one only; at once if absent.
    pub starts_at: Option<Timestamp>,
}

/// What became of a rotation.
#[derive(Debug)]
pub enum Rotation {
    /// The new secret is the current one; the one before is in force too until then.
    Done(Timestamp),
    /// There is no such subscription.
    NotFound,
    /// As many secrets as there may be are in force.
    TooMany,
    /// The subscription's callbacks cannot be signed with it, and why.
    Unfit(&'static str),
    /// The receiver is handed the new one by a handshake, so it cannot start at another time.
    HandedOver,
    /// It is the current one already.
    Same,
}

impl Store {
    /// Returns a subscription's current secret.
    pub async fn secret(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
    ) -> Result<Option<SecretInForce>, Error> {
        let reader = &self.connections.reader;
        let Some(subscription) = lookup::living(tenant, id).one(reader).await? else {
            return Ok(None);
        };
        let row = current(subscription.uid).one(reader).await?.ok_or_else(|| none(subscription.uid))?;
        rows::secret(row, &self.keyring).map(Some)
    }

    /// Returns the pairs of keys that sign a subscription's callbacks at `now`, the current one first; none if nobody wants them.
    pub async fn key_pairs(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        now: Timestamp,
    ) -> Result<Vec<KeyPair>, Error> {
        let reader = &self.connections.reader;
        let Some(subscription) = lookup::living(tenant, id).one(reader).await? else {
            return Ok(Vec::new());
        };
        let rows = of(subscription.uid)
            .filter(subscription_secrets::Column::KeyPair.is_not_null())
            .all(reader)
            .await?;
        let held = rows::secrets(rows, &self.keyring).into_values();
        Ok(held.flat_map(|held| held.key_pairs(now).cloned().collect::<Vec<_>>()).collect())
    }

    /// Makes these the current ones; those before go on signing for a while.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        keys: impl Into<NewKeys>,
        takeover: Takeover,
        now: Timestamp,
    ) -> Result<Rotation, Error> {
        let keys = keys.into();
        let transaction = self.connections.begin().await?;
        let Some(mut subscription) = lookup::locked(&transaction, tenant, id).await? else {
            return Ok(Rotation::NotFound);
        };
        let settings = rows::settings(&subscription, &self.keyring)?;
        let signing = settings.signing.as_ref();
        let is_handed_over = settings.handshake.as_ref().is_some_and(Handshake::hands_over_secret);
        if let Err(reason) = check_keys(signing, &keys) {
            return Ok(Rotation::Unfit(reason));
        }
        let of_subscription = subscription_secrets::Column::SubscriptionUid.eq(subscription.uid);
        subscription_secrets::Entity::delete_many()
            .filter(of_subscription.clone())
            .filter(subscription_secrets::Column::ExpiresAt.lte(now.as_micros()))
            .exec(&transaction)
            .await?;
        let held = of(subscription.uid).all(&transaction).await?;
        if is_current(&held, &keys, &self.keyring, now) {
            return Ok(Rotation::Same);
        }
        if held.len() >= MAX_IN_FORCE {
            let spent = if signing.is_none_or(Signing::has_lists) { Vec::new() } else { spent(held, now) };
            if spent.is_empty() {
                return Ok(Rotation::TooMany);
            }
            subscription_secrets::Entity::delete_many()
                .filter(subscription_secrets::Column::Id.is_in(spent))
                .exec(&transaction)
                .await?;
        }
        let starts_at = takeover.starts_at.filter(|start| *start > now);
        if is_handed_over && starts_at.is_some() {
            return Ok(Rotation::HandedOver);
        }
        // Until the new one starts, somebody must sign.
        let expires_at = starts_at.map_or(now + takeover.overlap, |start| start.max(now + takeover.overlap));
        subscription_secrets::Entity::update_many()
            .col_expr(subscription_secrets::Column::ExpiresAt, Expr::value(expires_at.as_micros()))
            .filter(of_subscription)
            .filter(subscription_secrets::Column::ExpiresAt.is_null())
            .exec(&transaction)
            .await?;
        let owner = SubscriptionUid::from_uuid(subscription.uid);
        insert(&transaction, &self.keyring, owner, New { keys: &keys, signing, starts_at, now }).await?;
        if is_handed_over {
            // The receiver knows no other way to learn it.
            handshakes::begin(&mut subscription, now);
            subscription.into_active_model().reset_all().update(&transaction).await?;
        }
        tenants::raise_version(&transaction, tenant.as_str()).await?;
        transaction.commit().await?;
        Ok(Rotation::Done(expires_at))
    }
}

/// A secret that becomes the current one, and a pair of keys if one was brought.
pub(super) struct New<'a> {
    pub(super) keys: &'a NewKeys,
    /// How callbacks are signed.
    pub(super) signing: Option<&'a Signing>,
    pub(super) starts_at: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// Stores a subscription's current secret, encrypted, with a pair of keys where one is wanted.
pub(super) async fn insert(
    transaction: &DatabaseTransaction,
    keyring: &Keyring,
    owner: SubscriptionUid,
    new: New<'_>,
) -> Result<(), Error> {
    let secret = new.keys.secret();
    let sealed = keyring.seal(secret, owner)?;
    let key_pair = match (new.keys.key_pair(), new.signing) {
        (Some(brought), _) => Some(keyring.seal_key_pair(brought, owner)?),
        (None, Some(signing)) if signing.needs_key_pair() => {
            Some(keyring.seal_key_pair(&draw_key_pair()?, owner)?)
        }
        (None, _) => None,
    };
    let row = subscription_secrets::ActiveModel {
        id: Set(secret_id(new.now)),
        subscription_uid: Set(owner.uuid()),
        created_at: Set(new.now.as_micros()),
        expires_at: Set(None),
        key_id: Set(sealed.key_id),
        ciphertext: Set(sealed.ciphertext),
        kind: Set(codes::secret_kind_code(secret.kind())),
        starts_at: Set(new.starts_at.map(Timestamp::as_micros)),
        key_pair: Set(key_pair.map(|sealed| sealed.ciphertext)),
    };
    subscription_secrets::Entity::insert(row).exec_without_returning(transaction).await?;
    Ok(())
}

/// Checks that a subscription's current secret is fit for its settings at `now`, and makes the pair of keys that they want.
pub(super) async fn fit(
    transaction: &DatabaseTransaction,
    keyring: &Keyring,
    subscription: &subscriptions::Model,
    now: Timestamp,
) -> Result<Result<(), Invalid>, Error> {
    let settings = rows::settings(subscription, keyring)?;
    let signing = settings.signing.as_ref();
    let row = current(subscription.uid).one(transaction).await?.ok_or_else(|| none(subscription.uid))?;
    if let Err(reason) = check_secret(signing, codes::secret_kind_of(row.kind)?) {
        let reason = format!(
            "does not fit the subscription's secret: {reason}; rotate the secret first (RotateSubscriptionSecret)"
        );
        return Ok(Err(Invalid::new("subscription.signing", reason)));
    }
    if settings.handshake.as_ref().is_some_and(Handshake::hands_over_secret)
        && row.starts_at.is_some_and(|start| start > now.as_micros())
    {
        let reason = "hands over the secret that callbacks are signed with, and another one takes over later; wait for that, or rotate the \
                      secret once more";
        return Ok(Err(Invalid::new("subscription.handshake.hook_secret", reason)));
    }
    if row.key_pair.is_none() && signing.is_some_and(Signing::needs_key_pair) {
        let owner = SubscriptionUid::from_uuid(subscription.uid);
        // Both under one key, which may be newer than the one that the secret was encrypted with.
        let secret = keyring.seal(&rows::secret(row.clone(), keyring)?.secret, owner)?;
        let key_pair = keyring.seal_key_pair(&draw_key_pair()?, owner)?;
        let mut row = row.into_active_model();
        row.key_id = Set(secret.key_id);
        row.ciphertext = Set(secret.ciphertext);
        row.key_pair = Set(Some(key_pair.ciphertext));
        row.update(transaction).await?;
    }
    Ok(Ok(()))
}

fn of(subscription: Uuid) -> sea_orm::Select<subscription_secrets::Entity> {
    subscription_secrets::Entity::find()
        .filter(subscription_secrets::Column::SubscriptionUid.eq(subscription))
}

fn current(subscription: Uuid) -> sea_orm::Select<subscription_secrets::Entity> {
    of(subscription).filter(subscription_secrets::Column::ExpiresAt.is_null())
}

/// Whether what was brought is the newest already, and its turn has come: one that is still to have it can be brought forward. One that
/// cannot be read may be replaced by whatever comes.
fn is_current(
    held: &[subscription_secrets::Model],
    keys: &NewKeys,
    keyring: &Keyring,
    now: Timestamp,
) -> bool {
    let current = held.iter().find(|row| row.expires_at.is_none() && has_started(row, now));
    let Some(Ok(current)) = current.map(|row| rows::secret(row.clone(), keyring)) else { return false };
    match keys.key_pair() {
        Some(pair) => current.key_pair.as_ref() == Some(pair),
        None => current.secret == *keys.secret(),
    }
}

/// Those that nothing will be signed with any more where one signs at a time: all that are older than the one whose turn it is.
fn spent(mut held: Vec<subscription_secrets::Model>, now: Timestamp) -> Vec<Uuid> {
    held.sort_by_key(rows::age_of_secret);
    held.into_iter().skip_while(|row| !has_started(row, now)).skip(1).map(|row| row.id).collect()
}

fn has_started(row: &subscription_secrets::Model, now: Timestamp) -> bool {
    row.starts_at.is_none_or(|start| start <= now.as_micros())
}

fn none(subscription: Uuid) -> Error {
    let cause = format!("subscription {subscription} has no current secret");
    Error::Corrupt { table: "subscription_secrets", cause }
}

/// Nobody names a secret; its row just needs a key.
fn secret_id(now: Timestamp) -> Uuid {
    SubscriptionUid::new(now).uuid()
}
