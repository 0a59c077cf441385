//! A statement of PostgreSQL whose parameters are columns of many rows, on its own, without a transaction around it.
//!
//! What every event costs goes this way: the columns are written into the driver's buffer from where they are. Through sea-orm each
//! value would be made, copied and dropped by itself, which was a fifth of the server's instructions for a delivery.

use std::iter;

use sea_orm::{
    DatabaseConnection, DbErr,
    prelude::Uuid,
    sqlx::{
        self, Arguments,
        error::BoxDynError,
        postgres::{PgArguments, PgBindIterExt, PgRow},
    },
};

use super::{Bulk, Cell, Kind, failed, not_acquired, null};

/// The bytes that PostgreSQL's binary format takes for the length of a value, and for the head of an array.
const LENGTH: usize = 4;
const HEADER: usize = 24;

/// The statement and what has been bound of its parameters.
pub(in crate::store) struct Arrays {
    sql: &'static str,
    arguments: PgArguments,
}

impl Arrays {
    /// Nothing is bound yet.
    pub(in crate::store) fn of(sql: &'static str) -> Self {
        Self { sql, arguments: PgArguments::default() }
    }

    /// Binds the columns of these rows to the parameters that follow.
    pub(in crate::store) fn with<const N: usize>(
        mut self,
        bulk: &Bulk<N>,
        rows: &[[Cell<'_>; N]],
    ) -> Result<Self, DbErr> {
        // Or the buffer would grow, and be copied, again and again.
        let size = rows.iter().flatten().map(|cell| cell.len() + LENGTH).sum::<usize>() + N * HEADER;
        self.arguments.reserve(N, size);
        for (place, column) in bulk.columns.iter().enumerate() {
            bind(&mut self.arguments, column.kind, rows.iter().map(|row| &row[place]))
                .map_err(|cause| failed(sqlx::Error::Encode(cause)))?;
        }
        Ok(self)
    }

    /// Runs it and returns its rows.
    pub(in crate::store) async fn run(self, connection: &DatabaseConnection) -> Result<Vec<PgRow>, DbErr> {
        let pool = connection.get_postgres_connection_pool();
        let mut connection = pool.acquire().await.map_err(not_acquired)?;
        sqlx::query_with(self.sql, self.arguments).fetch_all(&mut *connection).await.map_err(failed)
    }
}

/// Adds one column, with what stands for null in place of nulls.
fn bind<'c>(
    arguments: &mut PgArguments,
    kind: Kind,
    cells: impl iter::ExactSizeIterator<Item = &'c Cell<'c>> + Clone,
) -> Result<(), BoxDynError> {
    macro_rules! each {
        ($cell:ident($value:ident) => $bound:expr, or $null:expr) => {
            arguments.add(
                cells
                    .map(|cell| match cell {
                        Cell::$cell($value) => $bound,
                        _ => $null,
                    })
                    .bind_iter(),
            )
        };
    }
    match kind {
        Kind::Uuid => each!(Uuid(id) => *id, or Uuid::nil()),
        Kind::Text => each!(Text(text) => text.as_ref(), or null::TEXT),
        Kind::Bytes => each!(Bytes(bytes) => bytes.as_ref(), or null::BYTES),
        Kind::Bool => each!(Bool(value) => *value, or null::BOOL),
        Kind::SmallInt => each!(SmallInt(number) => *number, or i16::MIN),
        Kind::Int => each!(Int(number) => *number, or i32::MIN),
        Kind::BigInt => each!(BigInt(number) => *number, or i64::MIN),
    }
}
