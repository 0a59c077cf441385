//! Retires encryption keys: encrypts every signing secret and all settings with the first key, and forgets the others.
//!
//! Nodes may run meanwhile, if they have the first key: each row names the key that opens it. Those that have another key *first* go on
//! encrypting with that; what they have added by the end is found, and their key is not forgotten.

use sea_orm::{
    ColumnTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, LockBehavior, LockType},
};

use super::{
    Error, Store, codes, database,
    entity::{secret_keys, subscription_secrets, subscriptions},
    keyring::{self, Sealed},
};
use crate::domain::{id::SubscriptionUid, secret::SecretKind, timestamp::Timestamp};

/// How many secrets one transaction encrypts anew.
const BATCH: u64 = 100;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// How many secrets were encrypted anew.
    pub secrets: u64,
    /// The settings of how many subscriptions were.
    pub settings: u64,
    /// The ids of the keys that nothing is encrypted with any more.
    pub retired: Vec<String>,
}

/// Why keys cannot be retired.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The store could not do its job.
    #[error(transparent)]
    Store(#[from] Error),
    /// A secret, or settings, cannot be decrypted.
    #[error("what is kept of the subscription {owner} cannot be encrypted anew")]
    Sealed {
        /// Whose they are.
        owner: SubscriptionUid,
        /// What is wrong.
        source: keyring::Error,
    },
    /// Somebody has encrypted secrets with other keys in the meantime.
    #[error(
        "the secrets or settings of {0} subscriptions were changed meanwhile and are encrypted with other keys than the \
         first of `secrets.keys`: put that key first on every node, and repeat this"
    )]
    Overtaken(u64),
}

impl From<sea_orm::DbErr> for ResealError {
    fn from(cause: sea_orm::DbErr) -> Self {
        Self::Store(cause.into())
    }
}

impl Store {
    /// Encrypts every secret with the first key, and forgets that the database has been used with others. Secrets that have expired are
    /// deleted. What fails can be repeated: it goes on where it ended.
    pub async fn reseal(&self, now: Timestamp) -> Result<Resealed, ResealError> {
        subscription_secrets::Entity::delete_many()
            .filter(subscription_secrets::Column::ExpiresAt.lte(now.as_micros()))
            .exec(&self.connections.writer)
            .await?;
        let (mut secrets, mut settings) = (0, 0);
        loop {
            match self.reseal_secrets().await? {
                0 => break,
                batch => secrets += batch,
            }
        }
        loop {
            match self.reseal_settings().await? {
                0 => break,
                batch => settings += batch,
            }
        }
        Ok(Resealed { secrets, settings, retired: self.retire_keys().await? })
    }

    /// The first of these rows that nobody else is changing. What is being changed at this moment is encrypted anew by that, or found at
    /// the end.
    fn batch<E: EntityTrait>(&self, rows: Select<E>) -> Select<E> {
        let rows = rows.limit(BATCH);
        match self.connections.backend() {
            DbBackend::Sqlite => rows,
            _ => rows.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked),
        }
    }

    async fn reseal_secrets(&self) -> Result<u64, ResealError> {
        use subscription_secrets::{Column, Entity};
        let transaction = self.connections.begin().await?;
        let sealed_otherwise =
            Entity::find().filter(Column::KeyId.ne(self.keyring.current_id())).order_by_asc(Column::Id);
        let rows = self.batch(sealed_otherwise).all(&transaction).await?;
        for row in &rows {
            let owner = SubscriptionUid::from_uuid(row.subscription_uid);
            let kind = codes::secret_kind_of(row.kind)?;
            let (Sealed { key_id, ciphertext }, key_pair) =
                self.resealed(row, kind).map_err(|source| ResealError::Sealed { owner, source })?;
            let update = Entity::update_many()
                .col_expr(Column::KeyId, Expr::value(key_id))
                .col_expr(Column::Ciphertext, Expr::value(ciphertext))
                .col_expr(Column::KeyPair, Expr::value(key_pair))
                .filter(Column::Id.eq(row.id))
                .exec(&transaction)
                .await?;
            if update.rows_affected != 1 {
                let cause = format!("{} changed although it was locked", row.id);
                return Err(Error::Corrupt { table: "subscription_secrets", cause }.into());
            }
        }
        transaction.commit().await?;
        Ok(rows.len() as u64)
    }

    /// The secret of a row and its pair of keys, which are under one key.
    fn resealed(
        &self,
        row: &subscription_secrets::Model,
        kind: SecretKind,
    ) -> Result<(Sealed, Option<Vec<u8>>), keyring::Error> {
        let (keyring, owner) = (&self.keyring, SubscriptionUid::from_uuid(row.subscription_uid));
        let sealed =
            |ciphertext: &Vec<u8>| Sealed { key_id: row.key_id.clone(), ciphertext: ciphertext.clone() };
        let secret = keyring.seal(&keyring.open(&sealed(&row.ciphertext), kind, owner)?, owner)?;
        let key_pair = match &row.key_pair {
            Some(pair) => {
                let pair = keyring.open_key_pair(&sealed(pair), owner)?;
                Some(keyring.seal_key_pair(&pair, owner)?.ciphertext)
            }
            None => None,
        };
        Ok((secret, key_pair))
    }

    async fn reseal_settings(&self) -> Result<u64, ResealError> {
        use subscriptions::{Column, Entity};
        let transaction = self.connections.begin().await?;
        let sealed_otherwise = Entity::find()
            .filter(Column::SettingsKeyId.ne(self.keyring.current_id()))
            .order_by_asc(Column::Uid);
        let rows = self.batch(sealed_otherwise).all(&transaction).await?;
        for row in &rows {
            let owner = SubscriptionUid::from_uuid(row.uid);
            let sealed = Sealed {
                key_id: row.settings_key_id.clone().unwrap_or_default(),
                ciphertext: row.settings.clone().unwrap_or_default(),
            };
            let resealed = self
                .keyring
                .open_settings(&sealed, owner)
                .and_then(|document| self.keyring.seal_settings(&document, owner));
            let Sealed { key_id, ciphertext } =
                resealed.map_err(|source| ResealError::Sealed { owner, source })?;
            // What they say is the same, so this is no change of the subscription.
            Entity::update_many()
                .col_expr(Column::SettingsKeyId, Expr::value(Some(key_id)))
                .col_expr(Column::Settings, Expr::value(Some(ciphertext)))
                .filter(Column::Uid.eq(row.uid))
                .exec(&transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(rows.len() as u64)
    }

    /// Forgets all keys but the first, if nothing is encrypted with them.
    async fn retire_keys(&self) -> Result<Vec<String>, ResealError> {
        let current = self.keyring.current_id();
        let transaction = self.connections.begin().await?;
        // No node is registering its key at this moment.
        database::take_lock(&transaction).await?;
        let others = subscription_secrets::Entity::find()
            .filter(subscription_secrets::Column::KeyId.ne(&current))
            .count(&transaction)
            .await?
            + subscriptions::Entity::find()
                .filter(subscriptions::Column::SettingsKeyId.ne(&current))
                .count(&transaction)
                .await?;
        if others > 0 {
            return Err(ResealError::Overtaken(others));
        }
        let retired = secret_keys::Entity::find()
            .filter(secret_keys::Column::Id.ne(&current))
            .order_by_asc(secret_keys::Column::CreatedAt)
            .all(&transaction)
            .await?;
        secret_keys::Entity::delete_many()
            .filter(secret_keys::Column::Id.ne(&current))
            .exec(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(retired.into_iter().map(|key| key.id).collect())
    }
}
