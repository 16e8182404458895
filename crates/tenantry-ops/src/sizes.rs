//! How large a tenant is, without reading its tables.

use std::time::Duration;

use tenantry_catalog::{CatalogError, placement};
use tenantry_core::{Isolation, TenantId};
use tenantry_engine::{
    home,
    size::{self, TableSize},
};

use crate::{Authority, Forbidden, MemberError, Ops, members, runner::administer};

/// Whoever asks gets an answer or a reason within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large a tenant is, as its server's statistics say it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct TenantSize {
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// Its rows in all tables, estimated from statistics.
    pub rows: i64,
    /// The bytes of its tables with their indexes; in isolation `database`, of the whole database.
    pub bytes: i64,
    /// Whether the bytes are an estimate too: in shared tables they are the part that the tenant's rows make up.
    pub bytes_estimated: bool,
    /// Whether the statistics say something about every table; the sums leave out the others.
    pub complete: bool,
    /// The bytes of its files, which stand outside of PostgreSQL, by their own count; `None` where the administrator may not read it.
    pub files_bytes: Option<i64>,
    /// Its jobs, whatever their state.
    pub jobs: i64,
    /// Each table, the largest first.
    pub tables: Vec<TableSize>,
}

/// Why a tenant's size is not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant that the authority may know of, or it has no home.
    #[error("there is no such tenant: `tenantry tenant list` shows those there are")]
    NotFound,
    /// The tenant's server can't be asked.
    #[error("the tenant's server can't be asked: {0}")]
    Server(String),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<MemberError> for SizeError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Forbidden(forbidden) => Self::Forbidden(forbidden),
            MemberError::Catalog(error) => Self::Catalog(error),
            _ => Self::NotFound,
        }
    }
}

impl TenantSize {
    /// All bytes that a plan's limit counts: those in PostgreSQL, and those of files as far as they are known.
    pub fn storage_bytes(&self) -> i64 {
        self.bytes.saturating_add(self.files_bytes.unwrap_or(0))
    }
}

impl Ops {
    /// How large a tenant is: for operators, and for owners and admins of the tenant. It costs a few queries of its server's
    /// statistics, however large the tenant is.
    ///
    /// # Errors
    /// See [`SizeError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn tenant_size(&self, authority: &Authority, tenant: TenantId) -> Result<TenantSize, SizeError> {
        members::may_read(authority, tenant)?;
        self.measure_tenant(tenant).await
    }

    /// The same for the program itself.
    pub(crate) async fn measure_tenant(&self, tenant: TenantId) -> Result<TenantSize, SizeError> {
        let client = self.catalog().client().await?;
        let located = placement::locate(self.catalog(), &client, tenant).await?;
        drop(client);
        let located = located.filter(|located| located.ready).ok_or(SizeError::NotFound)?;
        let place = located.placement;
        let asking = async {
            let (admin, _) = administer(self, place.server)
                .await
                .map_err(|failure| failure.message())?;
            let client = admin
                .connect(&place.database_name)
                .await
                .map_err(|error| error.to_string())?;
            let tables = match place.isolation {
                Isolation::Shared => size::of_shared_schema(&client, &place.schema, tenant).await,
                Isolation::Schema | Isolation::Database => size::of_own_schema(&client, &place.schema).await,
            };
            let whole = match place.isolation {
                Isolation::Database => Some(size::of_database(&client).await.map_err(|error| error.to_string())?),
                Isolation::Shared | Isolation::Schema => None,
            };
            let jobs = home::count_jobs(&client, tenant)
                .await
                .map_err(|error| error.to_string())?;
            let files = size::of_files(&client, self.catalog().installation(), &place.schema, tenant)
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((tables.map_err(|error| error.to_string())?, whole, jobs.jobs, files))
        };
        let (tables, whole, jobs, files_bytes) = tokio::time::timeout(PATIENCE, asking)
            .await
            .map_err(|_| SizeError::Server(format!("it did not answer within {} s", PATIENCE.as_secs())))?
            .map_err(SizeError::Server)?;
        let sum = |figure: fn(&TableSize) -> Option<i64>| tables.iter().filter_map(figure).sum::<i64>();
        Ok(TenantSize {
            isolation: place.isolation,
            rows: sum(|table| table.rows),
            bytes: whole.unwrap_or_else(|| sum(|table| table.bytes)),
            bytes_estimated: place.isolation == Isolation::Shared,
            files_bytes,
            jobs,
            complete: tables.iter().all(|table| table.rows.is_some()),
            tables,
        })
    }
}
