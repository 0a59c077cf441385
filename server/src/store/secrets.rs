//! Signing secrets: encrypted on their way in, decrypted on their way out.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter,
    prelude::Uuid, sea_query::Expr,
};

use super::{
    Error, Store,
    entity::subscription_secrets,
    keyring::{Keyring, Sealed},
    lookup, tenants,
};
use crate::domain::{
    id::{SubscriptionId, SubscriptionUid, TenantId},
    secret::{MAX_IN_FORCE, SigningSecret},
    timestamp::Timestamp,
};

/// What became of a rotation.
#[derive(Debug)]
pub enum Rotation {
    /// The new secret is the current one; the one before signs too until then.
    Done(Timestamp),
    /// There is no such subscription.
    NotFound,
    /// As many secrets as there may be are in force.
    TooMany,
}

impl Store {
    /// Returns a subscription's current secret.
    pub async fn secret(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
    ) -> Result<Option<SigningSecret>, Error> {
        let reader = &self.connections.reader;
        let Some(subscription) = lookup::living(tenant, id).one(reader).await? else {
            return Ok(None);
        };
        let row = subscription_secrets::Entity::find()
            .filter(subscription_secrets::Column::SubscriptionUid.eq(subscription.uid))
            .filter(subscription_secrets::Column::ExpiresAt.is_null())
            .one(reader)
            .await?;
        let Some(row) = row else {
            let cause = format!("subscription {} has no current secret", subscription.uid);
            return Err(Error::Corrupt { table: "subscription_secrets", cause });
        };
        let sealed = Sealed { key_id: row.key_id, ciphertext: row.ciphertext };
        Ok(Some(self.keyring.open(&sealed, SubscriptionUid::from_uuid(subscription.uid))?))
    }

    /// Makes `secret` the current one; the one before goes on signing for `overlap`.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: &SubscriptionId,
        secret: &SigningSecret,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<Rotation, Error> {
        let transaction = self.connections.begin().await?;
        let Some(subscription) = lookup::locked(&transaction, tenant, id).await? else {
            return Ok(Rotation::NotFound);
        };
        let of_subscription = subscription_secrets::Column::SubscriptionUid.eq(subscription.uid);
        subscription_secrets::Entity::delete_many()
            .filter(of_subscription.clone())
            .filter(subscription_secrets::Column::ExpiresAt.lte(now.as_micros()))
            .exec(&transaction)
            .await?;
        let in_force =
            subscription_secrets::Entity::find().filter(of_subscription.clone()).count(&transaction).await?;
        if in_force >= MAX_IN_FORCE as u64 {
            return Ok(Rotation::TooMany);
        }
        let expires_at = now + overlap;
        subscription_secrets::Entity::update_many()
            .col_expr(subscription_secrets::Column::ExpiresAt, Expr::value(expires_at.as_micros()))
            .filter(of_subscription)
            .filter(subscription_secrets::Column::ExpiresAt.is_null())
            .exec(&transaction)
            .await?;
        let owner = SubscriptionUid::from_uuid(subscription.uid);
        insert(&transaction, &self.keyring, owner, secret, now).await?;
        tenants::raise_version(&transaction, tenant.as_str()).await?;
        transaction.commit().await?;
        Ok(Rotation::Done(expires_at))
    }
}

/// Stores a subscription's current secret, encrypted.
pub(super) async fn insert(
    transaction: &DatabaseTransaction,
    keyring: &Keyring,
    owner: SubscriptionUid,
    secret: &SigningSecret,
    now: Timestamp,
) -> Result<(), Error> {
    let sealed = keyring.seal(secret, owner)?;
    let row = subscription_secrets::ActiveModel {
        id: Set(secret_id(now)),
        subscription_uid: Set(owner.uuid()),
        created_at: Set(now.as_micros()),
        expires_at: Set(None),
        key_id: Set(sealed.key_id),
        ciphertext: Set(sealed.ciphertext),
    };
    subscription_secrets::Entity::insert(row).exec_without_returning(transaction).await?;
    Ok(())
}

/// Nobody names a secret; its row just needs a key.
fn secret_id(now: Timestamp) -> Uuid {
    SubscriptionUid::new(now).uuid()
}
