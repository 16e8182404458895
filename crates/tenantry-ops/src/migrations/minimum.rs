//! The version below which a tenant is not served.

use serde_json::json;
use tenantry_catalog::fleet_state;
use tenantry_core::OperatorScope;

use super::MigrationError;
use crate::{
    Authority, Ops,
    audit::{self, Act},
};

/// What is required from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequiredVersion {
    /// Only tenants that have this migration are served; 0 for all.
    pub version: i64,
    /// How many schemas with the application's tables there are.
    pub schemas: usize,
    /// How many of them lack it.
    pub behind: usize,
}

impl Ops {
    /// From now on only tenants are served whose tables have this version; 0 serves everybody. Every process hears of it;
    /// the others are answered `tenant-migrating` until a roll-out has reached them.
    ///
    /// # Errors
    /// See [`MigrationError`]; [`MigrationError::NoSuchVersion`] where no migration has the number.
    pub async fn require_schema_version(
        &self,
        authority: &Authority,
        version: i64,
    ) -> Result<RequiredVersion, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        if version != 0 && !derived.versions.iter().any(|known| known.version == version) {
            return Err(MigrationError::NoSuchVersion(version));
        }
        let all = self.fleet_state(&derived).await?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = fleet_state::set_minimum(&transaction, version).await?;
        let act = Act {
            action: "migration.require",
            tenant: None,
            target: version.to_string(),
            before: Some(json!({ "schema_version_min": before })),
            after: Some(json!({ "schema_version_min": version })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(RequiredVersion {
            version,
            schemas: all.len(),
            behind: all.iter().filter(|state| state.version < version).count(),
        })
    }

    /// The version below which no tenant is served; 0 for none.
    ///
    /// # Errors
    /// See [`MigrationError`].
    pub async fn required_schema_version(&self, authority: &Authority) -> Result<i64, MigrationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(fleet_state::minimum(&client).await?)
    }
}
