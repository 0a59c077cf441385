//! What can go wrong in the store, told by SQLSTATE and error type, never by text.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

use crate::{dispatch::QueueError, publish::JournalError};

/// The store could not do its job.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached or cannot take writes at the moment: gone, locked, full.
    #[error("the database cannot be reached or cannot take writes at the moment")]
    Unavailable(#[source] DbErr),
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Broken(#[source] DbErr),
    /// A row does not say what it should.
    #[error("a row of {table} cannot be read: {cause}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// A secret could not be encrypted or decrypted.
    #[error("a signing secret cannot be used")]
    Secret(#[from] super::keyring::Error),
}

impl From<DbErr> for Error {
    fn from(cause: DbErr) -> Self {
        if passes(&cause) { Self::Unavailable(cause) } else { Self::Broken(cause) }
    }
}

impl From<Error> for JournalError {
    fn from(cause: Error) -> Self {
        match cause {
            Error::Unavailable(_) => Self::Unavailable(Box::new(cause)),
            Error::Broken(_) | Error::Corrupt { .. } | Error::Secret(_) => Self::Broken(Box::new(cause)),
        }
    }
}

impl From<Error> for QueueError {
    fn from(cause: Error) -> Self {
        match cause {
            Error::Unavailable(_) => Self::Unavailable(Box::new(cause)),
            Error::Broken(_) | Error::Corrupt { .. } | Error::Secret(_) => Self::Broken(Box::new(cause)),
        }
    }
}

/// Whether the same statement may well succeed later.
fn passes(cause: &DbErr) -> bool {
    match cause {
        // No connection was to be had: whatever the database says then (it may take nobody in, or not us), it says nothing
        // of the statement.
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed)
        | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            sqlx_error_passes(cause)
        }
        _ => false,
    }
}

fn sqlx_error_passes(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(cause) => cause.code().is_some_and(|code| code_passes(&code)),
        _ => false,
    }
}

/// SQLSTATEs of PostgreSQL (its manual's appendix A) and result codes of SQLite (<https://sqlite.org/rescode.html>).
fn code_passes(code: &str) -> bool {
    match code.len() {
        // Connection exception, transaction rollback (serialisation, deadlock), insufficient resources, operator
        // intervention (shutdown, statement timeout), read-only transaction (a standby), lock timeout, system error.
        5 => {
            ["08", "40", "53", "57", "58"].contains(&&code[..2])
                || ["25006", "55P03", "25P03"].contains(&code)
        }
        // The low byte is the primary code: BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
        _ => code.parse::<u32>().is_ok_and(|code| [5, 6, 7, 8, 9, 10, 13, 14, 15].contains(&(code & 0xff))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_passes() {
        for passing in [
            "57P01", "40001", "40P01", "53100", "53300", "08006", "55P03", "5", "6", "13", "10", "14", "778",
            "517",
        ] {
            assert!(code_passes(passing), "{passing}");
        }
        for lasting in ["23505", "42601", "22021", "1", "19", "2067", "11"] {
            assert!(!code_passes(lasting), "{lasting}");
        }
    }
}
