//! Where a tenant lives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{InstallationId, Isolation, ServerId, TenantDatabaseId, TenantId};

/// The schema of the shared tables, and of the tables in a database of one's own.
pub const SHARED_SCHEMA: &str = "app";

/// Grows with every change of a tenant's placement, so that a process with an old one is refused by the fence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The first placement of a tenant.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a tenant lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// Whose placement it is.
    pub tenant: TenantId,
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// The PostgreSQL cluster.
    pub server: ServerId,
    /// The tenant database on that cluster.
    pub database: TenantDatabaseId,
    /// The database's name on that cluster.
    pub database_name: String,
    /// The schema with the application's tables: [`SHARED_SCHEMA`] or the tenant's own.
    pub schema: String,
    /// Which placement of this tenant it is.
    pub epoch: Epoch,
}

/// The name of a tenant's own schema: `t_` and the 32 hex digits of its id, 34 bytes.
///
/// Made from the id, never from a slug or name, so it cannot be truncated into another tenant's and need not be renamed.
pub fn own_schema_name(tenant: TenantId) -> String {
    format!("t_{}", tenant.as_uuid().simple())
}

/// The name of a tenant's own database: `tn_`, the installation, `_` and the 32 hex digits of the tenant's id, 44 bytes.
pub fn own_database_name(installation: &InstallationId, tenant: TenantId) -> String {
    format!("tn_{installation}_{}", tenant.as_uuid().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_postgresql_identifier() {
        let tenant = TenantId::from_uuid(uuid::Uuid::max());
        let installation = InstallationId::from_random([255; 4]);
        assert!(own_schema_name(tenant).len() <= 63);
        assert!(own_database_name(&installation, tenant).len() <= 63);
    }
}
