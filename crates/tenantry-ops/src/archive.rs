//! Tenants as archives: out, in, copied, compared.

mod birth;
mod compare;
mod copy;
mod export;
mod fit;
mod ids;
mod import;

use std::path::Path;

pub use compare::Compared;
pub use copy::CloneRequest;
pub use export::Exported;
pub use fit::Unfit;
pub use ids::RowIds;
pub use import::ImportRequest;
use tenantry_catalog::CatalogError;
use tenantry_engine::archive::{ArchiveError, ArchiveKey, MaskError, Signer, Unpacker};

pub(crate) use birth::{Birth, Source};
pub(crate) use fit::fit;
pub(crate) use import::new_tenant;

use crate::{Forbidden, MigrationError, Ops, TenantError, runner::Failure};

/// Why a tenant was not exported, imported, cloned or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The tenant can't be found or made.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// The archive can't be written, read or loaded.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What it holds does not fit this fleet. Nothing was made.
    #[error("the archive does not fit: {0}")]
    Unfit(#[from] Unfit),
    /// A rule to mask values can't be used. Nothing was made.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// The archive's tenant is known here already.
    #[error("a tenant with the archive's id is known here ({0}): import it as a new one (--as-new)")]
    IdTaken(tenantry_core::TenantState),
    /// What the archive calls the tenant can't be called so here.
    #[error("the archive's {field} can't be used: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why not.
        reason: String,
    },
    /// The tenant's server can't be used.
    #[error("the tenant's home can't be used: {0}")]
    Home(String),
    /// The application's migrations can't be read.
    #[error(transparent)]
    Migrations(#[from] MigrationError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<Failure> for PortError {
    fn from(failure: Failure) -> Self {
        Self::Home(failure.message())
    }
}

impl Ops {
    /// What this installation's archives are signed with: derived from the master key, so that every process has it and no
    /// database does.
    pub(crate) fn archive_key(&self) -> ArchiveKey {
        let purpose = format!("archive signature {}", self.catalog().installation());
        ArchiveKey::from_seed(&self.catalog().derive_key(&purpose))
    }

    /// Who signs this installation's archives: what another one has to trust to import them.
    pub fn archive_signer(&self) -> Signer {
        self.archive_key().signer()
    }
}

/// Opens and verifies an archive, which takes as long as reading it.
pub(crate) async fn open_archive(path: &Path, trusted: &[Signer]) -> Result<Unpacker, ArchiveError> {
    let (path, trusted) = (path.to_owned(), trusted.to_vec());
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&path).map_err(|source| ArchiveError::Io { doing: "read", source })?;
        Unpacker::open(file, &trusted)
    });
    opened.await.unwrap_or_else(|error| {
        Err(ArchiveError::Io {
            doing: "read",
            source: std::io::Error::other(error),
        })
    })
}
