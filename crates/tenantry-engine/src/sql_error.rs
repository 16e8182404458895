//! What a statement was for, with what the server said.

/// A statement failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {}", said(source))]
pub struct SqlError {
    /// What was being done, as in "could not …".
    pub doing: &'static str,
    /// What the driver says.
    #[source]
    pub source: tokio_postgres::Error,
}

impl SqlError {
    /// The SQLSTATE, if the server answered.
    pub fn code(&self) -> Option<&str> {
        self.source.code().map(|code| code.code())
    }
}

/// The driver's own text for a server error is "db error".
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// Says what a statement was for.
pub(crate) trait Doing<T> {
    /// As in "could not …".
    fn doing(self, doing: &'static str) -> Result<T, SqlError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, doing: &'static str) -> Result<T, SqlError> {
        self.map_err(|source| SqlError { doing, source })
    }
}
