//! SQL from outside the application's own code.

use std::time::Duration;

use tenantry_pool::RawScript;
use tenantry_wire::{RawOutcome, RawParams};

use crate::{Error, ErrorKind, Scope};

/// Runs SQL that an end user wrote, or that a program made from what an end user said, in the scope's tenant.
///
/// Such SQL can leave things behind in its session that whoever uses the connection next would trip over. So it never
/// runs on a connection of the application's own calls: each call has one to itself, in one transaction with the scope's
/// context, and the connection is closed afterwards. [`PoolConfig`](crate::PoolConfig) bounds how many there are at once,
/// how long a call takes and how much it gives.
///
/// ```no_run
/// # async fn report(scope: tenantry::Scope, sql_of_the_user: &str) -> Result<(), tenantry::Error> {
/// let raw = scope.raw().read_only();
/// let report = raw.query(sql_of_the_user, &[]).await?;
/// for row in &report.rows {
///     println!("{:?}", row.first());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use = "nothing runs before `query` or `script`"]
pub struct Raw<'a> {
    scope: &'a Scope,
    read_only: bool,
    timeout: Option<Duration>,
    result_bytes_max: Option<usize>,
}

/// What a statement gave, as text: whoever wrote it decides what its columns are.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct RawRows {
    /// The names of the columns; none where the statement gives no rows.
    pub columns: Vec<String>,
    /// The rows, a text for each column as `psql` would show it; `None` for null.
    pub rows: Vec<Vec<Option<String>>>,
    /// How many rows it touched.
    pub affected: u64,
}

impl Scope {
    /// A way to run SQL from outside the application's own code; see [`Raw`].
    pub fn raw(&self) -> Raw<'_> {
        Raw {
            scope: self,
            read_only: false,
            timeout: None,
            result_bytes_max: None,
        }
    }
}

impl Raw<'_> {
    /// The same for SQL that may only read; where the scope's role is a viewer, it never may more.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same with less time for all statements of a call together than the pool's `raw_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same with fewer bytes for the results of a call together than the pool's `raw_result_bytes_max`.
    pub fn result_bytes_max(mut self, bytes: usize) -> Self {
        self.result_bytes_max = Some(bytes);
        self
    }

    /// Runs one statement. Its parameters are texts that PostgreSQL reads as what stands there: `$1` in `id = $1` as the
    /// type of `id`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for a statement that would end the transaction, outlast the call or act on others (`commit`,
    /// `create`, `alter`, `copy`, `lock`, `notify`, `do`); [`ErrorKind::ResultTooLarge`]; and as [`Scope::query`].
    ///
    /// # Cancel safety
    ///
    /// As [`Scope::query`]: the statement is stopped and undone, the connection closed.
    pub async fn query(&self, sql: &str, params: &[Option<&str>]) -> Result<RawRows, Error> {
        let mut results = self.run(&[(sql, params)]).await?;
        Ok(results.pop().unwrap_or_default())
    }

    /// Runs statements with semicolons between them, all or none, and gives the result of each.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn script(&self, sql: &str) -> Result<Vec<RawRows>, Error> {
        let statements: Vec<(&str, RawParams<'_>)> = tenantry_wire::statements(sql).map(|sql| (sql, &[][..])).collect();
        self.run(&statements).await
    }

    async fn run(&self, statements: &[(&str, RawParams<'_>)]) -> Result<Vec<RawRows>, Error> {
        let script = RawScript {
            statements,
            read_only: self.read_only,
            timeout: self.timeout,
            result_bytes_max: self.result_bytes_max,
        };
        // Rare and large: boxed, so that a handler that may use it stays small.
        let outcomes = Box::pin(self.scope.pools().raw(self.scope.caller(), script)).await?;
        outcomes.into_iter().map(RawRows::from_outcome).collect()
    }
}

impl RawRows {
    fn from_outcome(outcome: RawOutcome) -> Result<Self, Error> {
        let mut rows = Vec::with_capacity(outcome.rows.len());
        for row in &outcome.rows {
            let values = row
                .values()
                .map_err(|error| Error::new(ErrorKind::Column, error.to_string()).with_source(error))?;
            rows.push(values.into_iter().map(|value| value.map(str::to_owned)).collect());
        }
        Ok(Self {
            columns: outcome.columns.into_iter().map(|(name, _)| name).collect(),
            rows,
            affected: outcome.affected,
        })
    }
}
