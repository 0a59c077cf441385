//! Lists of rows for SQLite.

use sea_orm::{DbBackend, Statement, Value};

use super::Cell;

/// A statement and the list of rows that it takes.
#[derive(Debug)]
pub(in crate::store) struct List<'a> {
    pub(super) sql: &'static str,
    /// Row by row. Fewer than there are places: those that are left are null.
    pub(super) cells: Vec<Cell<'a>>,
    pub(super) places: usize,
}

impl From<List<'_>> for Statement {
    fn from(list: List<'_>) -> Self {
        Self::from_sql_and_values(DbBackend::Sqlite, list.sql, values(list.cells))
    }
}

/// Cells as sea-orm takes them. Of what type a null is makes no difference to SQLite.
pub(super) fn values(cells: Vec<Cell<'_>>) -> Vec<Value> {
    cells.into_iter().map(|cell| Option::from(cell).unwrap_or(Value::BigInt(None))).collect()
}
