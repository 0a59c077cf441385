//! Keeps everything, in SQLite or PostgreSQL.
//!
//! One function, one transaction, named after the business step: [`publish`] commits events with their deliveries, [`queue`] claims
//! and settles, [`subscriptions`] changes what is wanted. No transaction is open while anybody waits for the network.
//! Every change of a state checks that it changed what it meant to.
//!
//! Statements on the hot path are written in SQL; everything else goes through sea-orm's query builder. Both databases
//! take the same statements but for the claim.
//!
//! Here is no policy: what follows from an attempt is decided in [`domain`](crate::domain) and only written down.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Statement,
    prelude::Uuid, sea_query::OnConflict,
};

use self::bulk::Script;
use crate::domain::{id::SubscriptionUid, timestamp::Timestamp};

mod bulk;
mod checkpoint;
mod codes;
mod database;
pub mod deliveries;
mod ending;
mod entity;
mod error;
pub mod event_types;
pub mod events;
pub mod failing;
mod fan_outs;
pub mod handshakes;
mod hints;
pub mod keyring;
mod lanes;
mod lookup;
mod operational_events;
mod page;
pub mod publish;
pub mod queue;
mod rates;
pub mod reseal;
mod retention;
mod rows;
pub mod secrets;
mod sendable;
mod sending;
pub mod steering;
pub mod subscriptions;
mod sweep;
mod tenants;

pub use database::Config;
pub use error::Error;
pub use fan_outs::FanOutBacklog;
pub use hints::Hints;
pub use retention::Retention;

/// How many rows one multi-row statement carries. SQLite takes 32,766 values in a statement, and no row has more than 20.
const ROWS_PER_STATEMENT: usize = 500;

/// How long a check of the database may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the look for what is overdue may take: two seconds with something due for each of 100,000 subscriptions.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a step of the hot path may take. Longer than the database's own statement timeout, so it counts only where the
/// database is gone without a word, and the lanes that publish, claim and settle must not wait for it for ever.
const STEP_TIMEOUT: Duration = Duration::from_secs(40);

/// The database of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    connections: database::Connections,
    keyring: keyring::Keyring,
    /// Tells this node's hints from those of others.
    node: String,
    /// The last subscription that a claim has looked at; the next one goes on behind it.
    claimed_up_to: Arc<Mutex<Uuid>>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be opened or migrated.
    #[error("the database cannot be opened")]
    Database(#[from] sea_orm::DbErr),
    /// The database holds secrets that this node could not read.
    #[error(
        "the database has been used with the encryption key {0}, which this node does not have: \
         configure the same `secrets.keys` on every node"
    )]
    OtherKey(String),
}

/// Runs the migrations that are missing. Several nodes may do so at once.
pub async fn migrate(config: &Config, data_dir: &Path) -> Result<(), OpenError> {
    Ok(database::migrate(config, data_dir).await?)
}

/// Gives up on the database after a while.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let gone = || Error::Unavailable(sea_orm::DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout));
    // On the heap: it takes some 15 KiB, which would be moved several times on the way.
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or_else(|_| Err(gone()))
}

impl Store {
    /// Opens a database that has been migrated.
    pub async fn open(
        config: &Config,
        data_dir: &Path,
        keyring: keyring::Keyring,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let connections = database::Connections::open(config, data_dir).await?;
        // Any name that no other node has.
        let node = SubscriptionUid::new(now).to_string();
        let store = Self { connections, keyring, node, claimed_up_to: Arc::default() };
        store.register_keys(now).await?;
        Ok(store)
    }

    /// Whether the database answers, and on SQLite whether it can be written to: a claim that finds nothing does not try.
    pub async fn ping(&self) -> Result<(), Error> {
        let answer = async {
            if self.connections.backend() == DbBackend::Sqlite {
                // A transaction that does nothing.
                Script::default().commit(&self.connections.writer).await?;
            } else {
                // Not by the readers' connections: those may all be busy with listings.
                self.connections.looker.execute_unprepared("SELECT 1").await?;
            }
            Ok(())
        };
        within(PING_TIMEOUT, answer).await
    }

    /// What time it is in the database, if it has a clock that several nodes share.
    pub async fn time(&self) -> Result<Option<Timestamp>, Error> {
        if self.connections.backend() == DbBackend::Sqlite {
            return Ok(None);
        }
        let answer = async {
            // Not the transaction's beginning, and in a number that needs no time zone.
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            let row = self.connections.reader.query_one_raw(statement).await?;
            let micros = row.map(|row| row.try_get::<i64>("", "now")).transpose()?;
            Ok(micros.map(Timestamp::from_micros))
        };
        within(PING_TIMEOUT, answer).await
    }

    fn claimed_up_to(&self) -> Uuid {
        *self.claimed_up_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_claimed_up_to(&self, subscription: Uuid) {
        *self.claimed_up_to.lock().unwrap_or_else(PoisonError::into_inner) = subscription;
    }

    /// Lets go of the connections.
    pub async fn close(self) {
        // Whatever cannot be closed now is closed when the process ends.
        let _ = self.connections.reader.close().await;
        let _ = self.connections.writer.close().await;
        let _ = self.connections.engine.close().await;
        let _ = self.connections.looker.close().await;
    }

    /// Refuses a database that other keys have been used with: it may hold secrets that we could not read.
    async fn register_keys(&self, now: Timestamp) -> Result<(), OpenError> {
        let ours = self.keyring.ids();
        let transaction = self.connections.begin().await?;
        // One node after another: of two with different keys the second must see the first one's.
        database::take_lock(&transaction).await?;
        let mine = entity::secret_keys::ActiveModel {
            id: Set(self.keyring.current_id()),
            created_at: Set(now.as_micros()),
        };
        entity::secret_keys::Entity::insert(mine)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&transaction)
            .await?;
        let known = entity::secret_keys::Entity::find().all(&transaction).await?;
        let mut other = known.into_iter().map(|key| key.id).find(|id| !ours.contains(id));
        if other.is_none() {
            // A node that was left behind may have used a key that has been retired.
            let secret = entity::subscription_secrets::Entity::find()
                .filter(entity::subscription_secrets::Column::KeyId.is_not_in(ours.clone()));
            other = secret.one(&transaction).await?.map(|secret| secret.key_id);
            let settings = entity::subscriptions::Entity::find()
                .filter(entity::subscriptions::Column::SettingsKeyId.is_not_in(ours));
            if other.is_none() {
                other = settings.one(&transaction).await?.and_then(|row| row.settings_key_id);
            }
        }
        if let Some(other) = other {
            transaction.rollback().await?;
            return Err(OpenError::OtherKey(other));
        }
        Ok(transaction.commit().await?)
    }
}
