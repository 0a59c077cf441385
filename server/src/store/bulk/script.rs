//! Statements that go the way to SQLite's thread and back together, which takes longer than a statement of a few rows.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement,
    sqlx::{
        self, Arguments, AssertSqlSafe, Sqlite,
        error::{BoxDynError, ErrorKind},
        pool::PoolConnection,
        sqlite::SqliteArguments,
    },
};

use super::{Cell, List, failed, lists::values, not_acquired};

/// Some statements and what they take.
#[derive(Debug, Default)]
pub(in crate::store) struct Script<'a> {
    sql: String,
    cells: Vec<Cell<'a>>,
    places: usize,
}

impl<'a> Script<'a> {
    /// How many rows of a table make a script at most. There is a text for each combination of lists' lengths, and they are kept ready; with many rows the
    /// ways to SQLite's thread do not count.
    pub(in crate::store) const MAX_ROWS: usize = 64;

    /// Adds the statements that rows go by.
    pub(in crate::store) fn with(self, lists: Vec<List<'a>>) -> Self {
        lists.into_iter().fold(self, |mut script, list| {
            // What the one before left unbound would be taken from this one's.
            script.cells.resize(script.places, Cell::Null);
            script.cells.extend(list.cells);
            script.places += list.places;
            script.sql.push_str(list.sql);
            script.sql.push_str(";\n");
            script
        })
    }

    /// Runs the statements within a transaction; returns all their rows.
    pub(in crate::store) async fn run(
        self,
        transaction: &DatabaseTransaction,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let script = Statement::from_sql_and_values(DbBackend::Sqlite, self.sql, values(self.cells));
        transaction.query_all_raw(script).await
    }

    /// Runs the statements as a transaction; returns all their rows. `None` if they would have broken a rule of a table, and nothing was done.
    pub(in crate::store) async fn commit(
        self,
        connection: &DatabaseConnection,
    ) -> Result<Option<Vec<QueryResult>>, DbErr> {
        let sql = format!("BEGIN IMMEDIATE;\n{}COMMIT", self.sql);
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.cells.len(), 0);
        for cell in self.cells {
            add(&mut arguments, cell).map_err(|cause| failed(sqlx::Error::Encode(cause)))?;
        }
        let pool = connection.get_sqlite_connection_pool();
        let mut midway = Midway(Some(pool.acquire().await.map_err(not_acquired)?));
        let Some(connection) = &mut midway.0 else { return Ok(None) };
        let done = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut **connection).await;
        if done.is_ok() || roll_back(connection).await {
            midway.0.take();
        }
        match done {
            Ok(rows) => Ok(Some(rows.into_iter().map(QueryResult::from).collect())),
            Err(sqlx::Error::Database(cause))
                if matches!(cause.kind(), ErrorKind::UniqueViolation | ErrorKind::NotNullViolation) =>
            {
                Ok(None)
            }
            Err(cause) => Err(failed(cause)),
        }
    }
}

/// A connection that may be in the midst of a transaction. Whoever waits for it may lose patience there; then it is closed, which ends the
/// transaction, and another one is opened.
struct Midway(Option<PoolConnection<Sqlite>>);

impl Drop for Midway {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

/// Returns whether no transaction is left.
async fn roll_back(connection: &mut PoolConnection<Sqlite>) -> bool {
    match sqlx::query("ROLLBACK").execute(&mut **connection).await {
        // SQLite refuses that only where there is none: it could not be begun, or was rolled back already.
        Ok(_) | Err(sqlx::Error::Database(_)) => true,
        Err(_) => false,
    }
}

fn add(arguments: &mut SqliteArguments, cell: Cell<'_>) -> Result<(), BoxDynError> {
    match cell {
        Cell::Null => arguments.add(None::<i64>),
        Cell::Uuid(id) => arguments.add(id),
        Cell::Text(text) => arguments.add(text.into_owned()),
        Cell::Bytes(bytes) => arguments.add(bytes.into_owned()),
        Cell::Bool(value) => arguments.add(value),
        Cell::SmallInt(number) => arguments.add(number),
        Cell::Int(number) => arguments.add(number),
        Cell::BigInt(number) => arguments.add(number),
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, Database};

    use super::*;
    use crate::store::bulk::{Bulk, Column, Inserted};

    static PAIRS: Inserted<2> =
        Inserted::new("pairs", [Column::int("id"), Column::text("word").or_null()], "");
    static FOUND: Bulk<1> = Bulk::new([Column::int("id")]);

    fn find(rows: &str) -> String {
        format!("SELECT word FROM ({}) AS wanted JOIN pairs USING (id) ORDER BY id", FOUND.list(rows))
    }

    async fn connect(folder: &tempfile::TempDir) -> DatabaseConnection {
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("pairs.db").display());
        Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap()
    }

    async fn a_table(folder: &tempfile::TempDir) -> DatabaseConnection {
        let connection = connect(folder).await;
        let table = "CREATE TABLE pairs (id INTEGER NOT NULL PRIMARY KEY, word TEXT NOT NULL)";
        connection.execute_unprepared(table).await.unwrap();
        connection
    }

    /// Inserts the words, numbered, and asks for the first three.
    fn script(words: &[Option<&'static str>]) -> Script<'static> {
        let pairs = (1..).zip(words).map(|(id, word)| [id.into(), (*word).into()]).collect();
        let wanted = (1..=3).map(|id| [id.into()]).collect();
        Script::default().with(PAIRS.lists(pairs)).with(FOUND.lists(wanted, 1, find))
    }

    async fn committed(script: Script<'_>, connection: &DatabaseConnection) -> Option<Vec<String>> {
        let rows = script.commit(connection).await.unwrap()?;
        Some(rows.iter().map(|row| row.try_get("", "word").unwrap()).collect())
    }

    #[tokio::test]
    async fn it_is_done_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let connection = a_table(&folder).await;
        assert_eq!(committed(script(&[Some("a"), None]), &connection).await, None, "a word is missing");
        let all = committed(script(&[Some("a"), Some("b"), Some("c")]), &connection).await;
        assert_eq!(all, Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        assert_eq!(committed(script(&[Some("d")]), &connection).await, None, "1 is there already");
        assert_eq!(committed(script(&[]), &connection).await.map(|words| words.len()), Some(3));
    }

    async fn lose(patience: u32) {
        for _ in 0..patience {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn where_it_cannot_begin_the_connection_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, other) = (a_table(&folder).await, connect(&folder).await);
        connection.execute_unprepared("PRAGMA busy_timeout = 0; CREATE TEMP TABLE mark (id)").await.unwrap();
        other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        assert!(script(&[Some("a")]).commit(&connection).await.is_err(), "the database is locked");
        other.execute_unprepared("ROLLBACK").await.unwrap();
        assert!(script(&[Some("a")]).commit(&connection).await.is_ok());
        // What is temporary goes with the connection.
        connection.execute_unprepared("SELECT id FROM mark").await.unwrap();
    }

    #[tokio::test]
    async fn whoever_gives_it_up_midway_leaves_no_transaction_behind() {
        let folder = tempfile::tempdir().unwrap();
        let connection = a_table(&folder).await;
        let many = vec![Some("word"); 500];
        for patience in 0..200 {
            tokio::select! {
                biased;
                // It may be done all the same, or not.
                done = script(&many).commit(&connection) => assert!(done.is_ok(), "{done:?}"),
                () = lose(patience) => {}
            }
        }
        let there = committed(script(&[]), &connection).await.map(|words| words.len());
        assert!(matches!(there, Some(0 | 3)), "{there:?}");
    }
}
