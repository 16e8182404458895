//! What can go wrong with the catalog.

use tokio_postgres::error::SqlState;

use crate::SecretError;

/// The catalog did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The address is no PostgreSQL address.
    #[error("the catalog's address is not a PostgreSQL URL")]
    Url(#[source] tokio_postgres::Error),
    /// TLS can't be set up.
    #[error("TLS to the catalog can't be set up")]
    Tls(#[from] rustls::Error),
    /// No connection: the catalog is down, too slow, or all connections are in use.
    #[error("the catalog can't be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A statement failed.
    #[error("a statement on the catalog failed")]
    Database(#[source] tokio_postgres::Error),
    /// A migration failed.
    #[error("the catalog's migration {version} failed")]
    Migration {
        /// Its number.
        version: i32,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A newer program has migrated this catalog.
    #[error("the catalog is at version {found}, this program knows versions up to {known}: use a newer program")]
    TooNew {
        /// The catalog's version.
        found: i32,
        /// The newest version this program knows.
        known: i32,
    },
    /// An applied migration is not the one this program carries.
    #[error("the catalog's migration {version} was applied from another text: use the program that applied it")]
    Changed {
        /// Its number.
        version: i32,
    },
    /// The master key is not the one that the catalog's secrets were encrypted with.
    #[error("the master key is not the one this catalog was made with")]
    WrongKey,
    /// One stored secret can't be opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A stored value is none that this program knows.
    #[error("the catalog holds a value in {column} that this program does not know")]
    Unknown {
        /// Table and column.
        column: &'static str,
    },
}

/// The name of a violated constraint, to be turned into a sentence next to the query that can hit it.
pub trait ConstraintName {
    /// The constraint or unique index that was violated, if that is what happened.
    fn constraint(&self) -> Option<&str>;
}

impl ConstraintName for tokio_postgres::Error {
    fn constraint(&self) -> Option<&str> {
        self.as_db_error()?.constraint()
    }
}

impl ConstraintName for CatalogError {
    fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database(error) => error.constraint(),
            _ => None,
        }
    }
}

impl CatalogError {
    /// Whether the same call may succeed later: the catalog was not reached, or had no room.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Database(error) => match error.code() {
                Some(code) => {
                    [
                        SqlState::ADMIN_SHUTDOWN,
                        SqlState::CRASH_SHUTDOWN,
                        SqlState::CANNOT_CONNECT_NOW,
                    ]
                    .contains(code)
                        || code.code().starts_with("08")
                        || code.code().starts_with("53")
                }
                None => true,
            },
            _ => false,
        }
    }
}

impl From<tokio_postgres::Error> for CatalogError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<deadpool_postgres::PoolError> for CatalogError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
