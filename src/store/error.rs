//! What can go wrong in PostgreSQL, sorted by what the caller should do about it.

use std::sync::Arc;

/// A failed statement or transaction.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No connection: the server is down, the pool is empty, the connection broke before a commit was sent.
    #[error("PostgreSQL is unavailable: {0}")]
    Unavailable(String),
    /// A lock was waited for in vain, and the transaction took no effect.
    #[error("a lock was not to be had in time: {0}")]
    LockTimeout(String),
    /// The transaction was ended by the server and took no effect: deadlock, serialization, statement time-out.
    #[error("transaction was aborted by PostgreSQL: {0}")]
    Aborted(String),
    /// A commit was sent and no answer came: it may have taken effect.
    #[error("outcome of the commit of {name} is unknown: {reason}")]
    CommitUnknown {
        /// The transaction.
        name: &'static str,
        /// What happened to the connection.
        reason: String,
    },
    /// A constraint refused the write. Its name is part of the interface.
    #[error("constraint {constraint} refused the write: {message}")]
    Constraint {
        /// The constraint.
        constraint: String,
        /// PostgreSQL's message.
        message: String,
    },
    /// The schema is not the one that this binary was built for.
    #[error("{0}")]
    Migration(String),
    /// A row holds what no writer of ours writes, or a guarded change met a row it did not expect.
    #[error("inconsistent data: {0}")]
    Inconsistent(String),
    /// Anything else: a bug.
    #[error(transparent)]
    Sql(Arc<sqlx::Error>),
}

impl Error {
    /// Whether the same transaction may succeed when it is tried again, having taken no effect so far.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::LockTimeout(_) | Self::Aborted(_))
    }

    /// Whether it is about what was to be written, and not about the database or this program: a constraint, a value that
    /// PostgreSQL cannot take, a row that is not what it was taken for.
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::Constraint { .. } | Self::Inconsistent(_) => true,
            Self::Sql(error) => {
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                // Class 22: data exception; class 23: integrity constraint violation, also one without a name.
                code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            _ => false,
        }
    }

    /// The constraint that refused the write, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { constraint, .. } => Some(constraint),
            _ => None,
        }
    }

    pub(super) fn from_commit(name: &'static str, error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Unavailable(reason) => Self::CommitUnknown { name, reason },
            other => other,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(database) => {
                let message = database.message().to_owned();
                let code = database.code().unwrap_or_default();
                match (code.as_ref(), database.constraint()) {
                    // Class 23: integrity constraint violation.
                    (code, Some(constraint)) if code.starts_with("23") => {
                        Self::Constraint { constraint: constraint.to_owned(), message }
                    }
                    ("55P03", _) => Self::LockTimeout(message),
                    // Serialization failure, deadlock, query canceled (statement time-out).
                    ("40001" | "40P01" | "57014", _) => Self::Aborted(message),
                    // It ended our idle transaction, or is a standby that takes no writes.
                    ("25P03" | "25006", _) => Self::Unavailable(message),
                    // Connection, resources, going down or starting, the system around it.
                    (code, _) if ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => {
                        Self::Unavailable(message)
                    }
                    _ => Self::Sql(Arc::new(error)),
                }
            }
            _ => Self::Sql(Arc::new(error)),
        }
    }
}

pub(super) fn is_undefined_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42P01")
}

/// Says how many rows a statement must touch: anything else means that a row is not what the caller locked.
pub fn expect_rows(result: &sqlx::postgres::PgQueryResult, rows: usize, what: &str) -> Result<(), Error> {
    if result.rows_affected() == rows as u64 {
        return Ok(());
    }
    Err(Error::Inconsistent(format!("{what}: {} rows instead of {rows}", result.rows_affected())))
}

/// Reads a column that holds a value of the domain.
pub(super) fn parse<T: std::str::FromStr>(text: &str, column: &str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Error::Inconsistent(format!("{column} holds {text:?}: {error}")))
}
