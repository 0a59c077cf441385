//! Tells other nodes that there is something to claim: `NOTIFY` and `LISTEN` of PostgreSQL. Only hints: what they say is in the tables, and
//! the poll finds it. The embedded database has no other nodes.
//!
//! Never within a transaction that writes events or deliveries: PostgreSQL lets transactions that notify commit only one after
//! another.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, RuntimeErr, Statement,
    sqlx::{self, postgres::PgListener},
};

use super::{Error, Store};

/// What nodes listen to. Channels belong to one database, like its tables.
const CHANNEL: &str = "postrider_due";

/// Hints of other nodes, by a connection of its own.
#[derive(Debug)]
pub struct Hints {
    listener: PgListener,
    node: String,
}

impl Store {
    /// Tells the other nodes that this one leaves due deliveries over.
    pub(super) async fn tell_others(&self) -> Result<(), Error> {
        if self.connections.backend() == DbBackend::Sqlite {
            return Ok(());
        }
        let values = [CHANNEL.into(), self.node.as_str().into()];
        let tell = Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_notify($1, $2)", values);
        Ok(self.connections.keeper.execute_raw(tell).await.map(drop)?)
    }

    /// Begins to listen to other nodes; `None` if there are none.
    pub async fn hints(&self) -> Result<Option<Hints>, Error> {
        if self.connections.backend() == DbBackend::Sqlite {
            return Ok(None);
        }
        let options = self.connections.keeper.get_postgres_connection_pool().connect_options();
        let pool =
            sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with((*options).clone());
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        // The poll of whoever listens looks anyway after a break, so a hint that came meanwhile is not missed.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(Some(Hints { listener, node: self.node.clone() }))
    }
}

impl Hints {
    /// Waits for another node's hint. After an error there will be no more: listen anew.
    pub async fn next(&mut self) -> Result<(), Error> {
        loop {
            match self.listener.try_recv().await.map_err(failed)? {
                Some(hint) if hint.payload() != self.node => return Ok(()),
                Some(_) => {}
                None => return Err(failed(sqlx::Error::WorkerCrashed)),
            }
        }
    }
}

fn failed(cause: sqlx::Error) -> Error {
    DbErr::Conn(RuntimeErr::SqlxError(cause.into())).into()
}
