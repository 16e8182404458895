//! Reading where it may be a little later: from a replica of the tenant's server.

use std::{fmt, str::FromStr, time::Duration};

use tenantry_core::seal::POSITION_LEN;
use tenantry_pool::Freshness;
use uuid::Uuid;

use crate::{CopyOut, Error, ErrorKind, FromRow, Params, Row, RowStream, Scope};

/// Access to one tenant's rows that only reads, and may read from a replica of the tenant's server.
///
/// What a replica shows is as old as [`max_staleness`](Self::max_staleness) at most, and never older than what the same caller has
/// written by way of its scope in this process. Where no replica is known to be so new, or one fails, the read goes to the
/// primary; without replicas all of them do. In either place the transaction is read-only: a statement that would write fails
/// with SQLSTATE 25006.
///
/// ```no_run
/// # async fn show(scope: tenantry::Scope) -> Result<(), tenantry::Error> {
/// let rows = scope.read_only().query("select name from contacts order by name", &[]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ReadOnly {
    scope: Scope,
    freshness: Freshness,
}

/// How far the writes of a caller reach, to be carried to another process: a text that tells nobody anything.
///
/// Made by [`Scope::bookmark`] after a write, kept with whoever wrote (in a cookie, a header, a queue), and given to
/// [`ReadOnly::after`], which then shows that write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bookmark([u8; POSITION_LEN]);

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no bookmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a bookmark is {} hex digits, as `Scope::bookmark` gives them", 2 * POSITION_LEN)]
pub struct BookmarkError;

impl FromStr for Bookmark {
    type Err = BookmarkError;

    fn from_str(text: &str) -> Result<Self, BookmarkError> {
        if text.len() != 2 * POSITION_LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BookmarkError);
        }
        let mut bytes = [0; POSITION_LEN];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| BookmarkError)?;
        }
        Ok(Self(bytes))
    }
}

impl Scope {
    /// The same access, to read only, where a replica may answer.
    pub fn read_only(&self) -> ReadOnly {
        ReadOnly {
            freshness: Freshness {
                staleness_max: self.pools().staleness_max(),
                after: None,
            },
            scope: self.clone(),
        }
    }

    /// How far everything reaches that was written so far, by this scope and by everybody: for [`ReadOnly::after`] in another
    /// process. In this one a caller reads its own writes without it.
    ///
    /// Asks the primary, in one round trip.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by it.
    pub async fn bookmark(&self) -> Result<Bookmark, Error> {
        // The last eight bytes of such an id are random but for two bits.
        let id = Uuid::now_v7();
        let nonce = std::array::from_fn(|byte| id.as_bytes()[8 + byte]);
        Ok(Bookmark(self.pools().bookmark(self.caller(), nonce).await?))
    }
}

impl ReadOnly {
    /// How old what a replica shows may be: all that was committed so long before each call is there. `Duration::ZERO` reads
    /// from the primary, `Duration::MAX` from however late a replica. [`PoolConfig::staleness_max`](crate::PoolConfig) otherwise.
    #[must_use]
    pub fn max_staleness(mut self, staleness_max: Duration) -> Self {
        self.freshness.staleness_max = staleness_max;
        self
    }

    /// Shows what was written before the bookmark was made. One of before the tenant moved, or of before the database got new
    /// keys, can't be read: then the primary answers.
    #[must_use]
    pub fn after(mut self, bookmark: &Bookmark) -> Self {
        self.freshness.after = Some(bookmark.0);
        self
    }

    /// Runs a statement and gives its rows.
    ///
    /// # Errors
    ///
    /// As [`Scope::query`]; one that would write fails in the database with SQLSTATE 25006.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no open transaction: the connection is closed.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let (pools, caller) = (self.scope.pools(), self.scope.caller());
        let outcome = pools.read(caller, &self.freshness, sql, params).await?;
        Ok(outcome.rows.into_iter().map(Row).collect())
    }

    /// Runs a statement that gives exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for none or several rows.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.query_opt(sql, params)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::RowCount, "the query gave no row"))
    }

    /// Runs a statement that gives one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for several rows.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        let mut rows = self.query(sql, params).await?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            _ => Err(Error::new(ErrorKind::RowCount, "the query gave more than one row")),
        }
    }

    /// Runs a statement and makes a value of each row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::Column`].
    pub async fn query_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.iter().map(T::from_row).collect()
    }

    /// Runs a statement that gives exactly one row, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`query_one`](Self::query_one), and [`ErrorKind::Column`].
    pub async fn query_one_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<T, Error> {
        T::from_row(&self.query_one(sql, params).await?)
    }

    /// Runs a statement that gives one row or none, and makes a value of it.
    ///
    /// # Errors
    ///
    /// As [`query_opt`](Self::query_opt), and [`ErrorKind::Column`].
    pub async fn query_opt_as<T: FromRow>(&self, sql: &str, params: Params<'_>) -> Result<Option<T>, Error> {
        self.query_opt(sql, params).await?.as_ref().map(T::from_row).transpose()
    }

    /// Runs a statement whose rows are read from the socket when they are asked for: memory stays bounded.
    ///
    /// Once the first row is there a failure is told and not repeated. A replica may end a long statement because of what its primary
    /// does meanwhile (SQLSTATE 40001); its `max_standby_streaming_delay` and `hot_standby_feedback` say when.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_stream(&self, sql: &str, params: Params<'_>) -> Result<RowStream, Error> {
        let (pools, caller) = (self.scope.pools(), self.scope.caller());
        let rows = pools.read_stream(caller, &self.freshness, sql, params).await?;
        Ok(RowStream::new(rows))
    }

    /// Runs `copy (…) to stdout` and gives its data: the fastest way to get many rows out.
    ///
    /// # Errors
    ///
    /// As [`query_stream`](Self::query_stream).
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut, Error> {
        let (pools, caller) = (self.scope.pools(), self.scope.caller());
        Ok(CopyOut::new(pools.read_copy(caller, &self.freshness, sql).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_a_text_that_is_read_again() {
        let bookmark = Bookmark([7; POSITION_LEN]);
        assert_eq!(bookmark.to_string().parse(), Ok(bookmark));
        for text in ["", "07", "not a bookmark", &"x".repeat(2 * POSITION_LEN)] {
            assert_eq!(text.parse::<Bookmark>(), Err(BookmarkError));
        }
    }
}
