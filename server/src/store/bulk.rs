//! Inserts many rows in few statements whose texts do not change with the number of rows, so that each is parsed and planned once.
//!
//! PostgreSQL takes a column as one array (`INSERT … SELECT unnest(…), unnest(…)`): one statement for any number of rows. SQLite has
//! no arrays; there the rows go into lists of a few fixed lengths, of which the last is filled up with rows that are null and left out. Nearly
//! always that is one statement as well. Each is a way to SQLite's thread and back, unless there are few rows: those go as a [`Script`].
//!
//! Arrays carry no nulls here. A null travels as a value that the column never has otherwise (the least number, say) and becomes
//! null again in the database.

use std::{fmt, sync::OnceLock};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, RuntimeErr, Statement, Value, prelude::Uuid, sea_query::ArrayType,
    sqlx,
};

mod arrays;
mod cell;
mod lists;
mod script;

pub(super) use arrays::Arrays;
pub(super) use cell::Cell;
pub(super) use lists::List;
pub(super) use script::Script;

/// What stands for null where a column has no other value to spare.
mod null {
    /// A control character: none of our texts may hold one.
    pub(super) const TEXT: &str = "\u{1}";
    pub(super) const BYTES: &[u8] = &[];
    /// Where a boolean may be null, null is false.
    pub(super) const BOOL: bool = false;
}

/// How many lengths SQLite's lists have: the powers of two from 1 to 512. A row has at most 32 values: SQLite takes 32,766 in a
/// statement.
const LENGTHS: usize = 10;

/// A column and what it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Uuid,
    Text,
    Bytes,
    Bool,
    SmallInt,
    Int,
    BigInt,
}

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false }
    }
    pub(super) const fn uuid(name: &'static str) -> Self {
        Self::new(name, Kind::Uuid)
    }
    pub(super) const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }
    pub(super) const fn bytes(name: &'static str) -> Self {
        Self::new(name, Kind::Bytes)
    }
    pub(super) const fn bool(name: &'static str) -> Self {
        Self::new(name, Kind::Bool)
    }
    pub(super) const fn small_int(name: &'static str) -> Self {
        Self::new(name, Kind::SmallInt)
    }
    pub(super) const fn int(name: &'static str) -> Self {
        Self::new(name, Kind::Int)
    }
    pub(super) const fn big_int(name: &'static str) -> Self {
        Self::new(name, Kind::BigInt)
    }
    /// The column may hold nulls.
    pub(super) const fn or_null(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// A value that has travelled in an array of PostgreSQL.
    fn restored(self, value: &str) -> String {
        if self.nullable {
            format!("NULLIF({value}, {})", self.kind.written_null())
        } else {
            value.to_owned()
        }
    }
}

impl Kind {
    fn array_type(self) -> ArrayType {
        match self {
            Self::Uuid => ArrayType::Uuid,
            Self::Text => ArrayType::String,
            Self::Bytes => ArrayType::Bytes,
            Self::Bool => ArrayType::Bool,
            Self::SmallInt => ArrayType::SmallInt,
            Self::Int => ArrayType::Int,
            Self::BigInt => ArrayType::BigInt,
        }
    }

    fn postgres_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Bool => "bool",
            Self::SmallInt => "smallint",
            Self::Int => "int",
            Self::BigInt => "bigint",
        }
    }

    /// What stands for null in an array.
    fn stand_in(self) -> Value {
        match self {
            Self::Uuid => Uuid::nil().into(),
            Self::Text => null::TEXT.into(),
            Self::Bytes => null::BYTES.into(),
            Self::Bool => null::BOOL.into(),
            Self::SmallInt => i16::MIN.into(),
            Self::Int => i32::MIN.into(),
            Self::BigInt => i64::MIN.into(),
        }
    }

    /// The same as PostgreSQL writes it.
    fn written_null(self) -> &'static str {
        match self {
            Self::Uuid => "'00000000-0000-0000-0000-000000000000'",
            Self::Text => "E'\\x01'",
            Self::Bytes => "''",
            Self::Bool => "false",
            Self::SmallInt => "'-32768'",
            Self::Int => "'-2147483648'",
            Self::BigInt => "'-9223372036854775808'",
        }
    }
}

/// The parameters of a statement of PostgreSQL, in the order in which they are bound.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    named: usize,
}

impl Parameters {
    fn next(&mut self) -> usize {
        self.named += 1;
        self.named
    }
}

/// A column's array, as it is written in a statement of PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Array {
    parameter: usize,
    column: Column,
}

impl Array {
    /// The value at a place, counted from 1.
    pub(super) fn at(self, place: &str) -> String {
        self.column.restored(&format!("({self})[{place}]"))
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}::{}[]", self.parameter, self.column.kind.postgres_type())
    }
}

/// What many rows are brought as: a table's columns, or those of a list that other rows are changed by.
#[derive(Debug)]
pub(super) struct Bulk<const N: usize> {
    columns: [Column; N],
    /// SQLite's texts, for each length of a list.
    texts: [OnceLock<String>; LENGTHS],
}

impl<const N: usize> Bulk<N> {
    pub(super) const fn new(columns: [Column; N]) -> Self {
        assert!(!columns[0].nullable, "rows without it are left out");
        Self { columns, texts: [const { OnceLock::new() }; LENGTHS] }
    }

    /// The names of the columns, with commas.
    pub(super) fn names(&self) -> String {
        self.columns.map(|column| column.name).join(", ")
    }

    /// PostgreSQL's arrays as they are written in a statement.
    pub(super) fn array_names(&self, parameters: &mut Parameters) -> [Array; N] {
        self.columns.map(|column| Array { parameter: parameters.next(), column })
    }

    /// `SELECT` over PostgreSQL's arrays, side by side.
    ///
    /// Not `FROM unnest(…, …)`, which writes each array out into a list of its own before it puts the first row together: of 18
    /// columns that takes twice as long as inserting them.
    pub(super) fn select(&self, parameters: &mut Parameters) -> String {
        let restored =
            self.columns.map(|column| format!("{} AS {}", column.restored(column.name), column.name));
        let unnested =
            self.array_names(parameters).map(|array| format!("unnest({array}) AS {}", array.column.name));
        format!("SELECT {} FROM (SELECT {}) AS bulk", restored.join(", "), unnested.join(", "))
    }

    /// PostgreSQL's arrays.
    pub(super) fn arrays(&self, rows: Vec<[Cell<'_>; N]>) -> [Value; N] {
        let mut columns = std::array::from_fn::<_, N, _>(|_| Vec::with_capacity(rows.len()));
        for row in rows {
            for ((values, cell), column) in columns.iter_mut().zip(row).zip(&self.columns) {
                values.push(Option::from(cell).unwrap_or_else(|| column.kind.stand_in()));
            }
        }
        let mut kinds = self.columns.iter().map(|column| column.kind.array_type());
        columns.map(|values| {
            // There is a kind for each column.
            let kind = kinds.next().unwrap_or(ArrayType::String);
            Value::Array(kind, Some(Box::new(values)))
        })
    }

    /// SQLite's list of rows as a query, whose columns have their names.
    pub(super) fn list(&self, rows: &str) -> String {
        let named = |(number, column): (i32, &Column)| format!("column{number} AS {}", column.name);
        let columns: Vec<_> = (1..).zip(&self.columns).map(named).collect();
        format!("SELECT {} FROM (VALUES {rows}) WHERE {LISTED}", columns.join(", "))
    }

    /// SQLite's statements for the rows: `text` makes them of a list, from which it has to select by [`LISTED`]. A list has `least` places or
    /// more: the fewer lengths there are, the fewer statements have to be kept.
    pub(super) fn lists<'a>(
        &'static self,
        rows: Vec<[Cell<'a>; N]>,
        least: usize,
        text: impl Fn(&str) -> String,
    ) -> Vec<List<'a>> {
        let mut rows = rows.into_iter();
        let mut lists = Vec::new();
        while rows.len() > 0 {
            let power = (rows.len().max(least).next_power_of_two().ilog2() as usize).min(LENGTHS - 1);
            let length = 1 << power;
            let sql = self.texts[power].get_or_init(|| text(&placeholders::<N>(length)));
            let mut cells = Vec::with_capacity(rows.len().min(length) * N);
            cells.extend(rows.by_ref().take(length).flatten());
            lists.push(List { sql, cells, places: length * N });
        }
        lists
    }
}

/// Leaves out the rows of SQLite's lists that only fill them up: the first column is never null otherwise.
pub(super) const LISTED: &str = "column1 IS NOT NULL";

/// A table that rows are inserted into, many at a time.
#[derive(Debug)]
pub(super) struct Inserted<const N: usize> {
    table: &'static str,
    tail: &'static str,
    pub(super) rows: Bulk<N>,
}

impl<const N: usize> Inserted<N> {
    /// `tail` is what the statement ends with, such as `ON CONFLICT DO NOTHING`.
    pub(super) const fn new(table: &'static str, columns: [Column; N], tail: &'static str) -> Self {
        Self { table, tail, rows: Bulk::new(columns) }
    }

    /// The insertion in PostgreSQL of rows of arrays.
    pub(super) fn insertion(&self, parameters: &mut Parameters) -> String {
        format!("{} {}", self.insertion_to_the_last(&self.rows.select(parameters)), self.tail)
    }

    /// The insertion in PostgreSQL of rows that `select` gives, to the last of them or none.
    pub(super) fn insertion_to_the_last(&self, select: &str) -> String {
        format!("INSERT INTO {} ({}) {select}", self.table, self.rows.names())
    }

    /// SQLite's statements that insert the rows.
    pub(super) fn lists<'a>(&'static self, rows: Vec<[Cell<'a>; N]>) -> Vec<List<'a>> {
        self.rows.lists(rows, 1, |list| {
            let (table, names, tail) = (self.table, self.rows.names(), self.tail);
            format!("INSERT INTO {table} ({names}) SELECT * FROM (VALUES {list}) WHERE {LISTED} {tail}")
        })
    }

    /// Inserts the rows; returns how many were inserted.
    pub(super) async fn insert(
        &'static self,
        connection: &impl ConnectionTrait,
        rows: Vec<[Cell<'_>; N]>,
    ) -> Result<u64, DbErr> {
        if rows.is_empty() {
            return Ok(0);
        }
        let statements = match connection.get_database_backend() {
            DbBackend::Sqlite => self.lists(rows).into_iter().map(Statement::from).collect(),
            backend => {
                let insertion = self.insertion(&mut Parameters::default());
                vec![Statement::from_sql_and_values(backend, insertion, self.rows.arrays(rows))]
            }
        };
        let mut inserted = 0;
        for statement in statements {
            inserted += connection.execute_raw(statement).await?.rows_affected();
        }
        Ok(inserted)
    }
}

/// The driver had no connection for a statement of ours.
fn not_acquired(cause: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(cause.into()))
}

/// The driver could not run a statement of ours.
fn failed(cause: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(cause.into()))
}

/// `(?,?),(?,?)` for two rows of two values.
fn placeholders<const N: usize>(rows: usize) -> String {
    let row = format!("({})", ["?"; N].join(","));
    vec![row; rows].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    static PAIRS: Bulk<2> = Bulk::new([Column::int("a"), Column::text("b").or_null()]);

    /// How long the lists are, and how many values they carry.
    fn lists(rows: i32, least: usize) -> Vec<(usize, usize)> {
        let rows = (0..rows).map(|n| [n.into(), Cell::Null]).collect();
        let lists = PAIRS.lists(rows, least, |list| format!("SELECT * FROM (VALUES {list}) WHERE {LISTED}"));
        let length = |list: List<'_>| {
            let length = list.sql.matches("(?,?)").count();
            assert_eq!(list.places, 2 * length);
            (length, list.cells.len())
        };
        lists.into_iter().map(length).collect()
    }

    #[test]
    fn a_list_of_sqlite_is_as_long_as_the_next_power_of_two_and_carries_no_more_than_there_is() {
        assert_eq!(lists(0, 8), []);
        assert_eq!(lists(1, 1), [(1, 2)]);
        assert_eq!(lists(3, 1), [(4, 6)]);
        assert_eq!(lists(3, 5), [(8, 6)]);
        assert_eq!(lists(512, 1), [(512, 1024)]);
        assert_eq!(lists(1_100, 1), [(512, 1024), (512, 1024), (128, 152)]);
    }
}
