//! Spare schemas, in each server's shared tenant database.

use std::time::Instant;

use tenantry_catalog::{
    CatalogError, Client, placement,
    server::{self, ServerState},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_engine::{
    home::{self, Spare},
    isolate::Derived,
    migrate::{self, ByAdministrator},
};

use super::{DEPLOYMENT, pace::Pace};
use crate::{
    Ops,
    runner::{Failure, administer, target},
    upgrade::require_current,
};

impl Ops {
    /// Makes the spare schemas that are missing in each server's shared tenant database, brings those that are behind to the newest
    /// version, and drops those that are too many. How many it made. In each database one process does so at a time. A server that
    /// drains gets none.
    ///
    /// A server that can't be reached is told in the log and passed over, and so is a database of an older Tenantry, silently: it
    /// has to be brought up to date first.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn make_spare_schemas(&self) -> Result<usize, CatalogError> {
        if self.fleet().spare_schemas == 0 {
            return Ok(0);
        }
        let client = self.catalog().client().await?;
        let databases = databases_with_spares(&client).await?;
        drop(client);
        Ok(self.make_spares_in_each(databases).await)
    }

    /// The same where some may be missing.
    pub(super) async fn make_missing_spare_schemas(&self, pace: &mut Pace) -> Result<usize, CatalogError> {
        if self.fleet().spare_schemas == 0 {
            return Ok(0);
        }
        let client = self.catalog().client().await?;
        // Before the databases are looked at: a tenant that comes in between is seen the next time.
        let tenants = placement::newest_own_schemas(&client).await?;
        let mut databases = databases_with_spares(&client).await?;
        drop(client);
        let now = Instant::now();
        databases.retain(|database| {
            let last = tenants.get(&database.id).and_then(|schema| schema.as_deref());
            pace.is_due(database.id, last, now)
        });
        Ok(self.make_spares_in_each(databases).await)
    }

    async fn make_spares_in_each(&self, databases: Vec<TenantDatabase>) -> usize {
        let mut made = 0;
        for database in &databases {
            match self.make_spares_in(database).await {
                Ok(more) => made += more,
                Err(failure) => {
                    tracing::warn!(
                        database = database.name,
                        error = failure.message(),
                        "no spare schemas here"
                    );
                }
            }
        }
        made
    }

    async fn make_spares_in(&self, database: &TenantDatabase) -> Result<usize, Failure> {
        let Some(derived) = self.derived().await? else {
            return Ok(0);
        };
        let (admin, _) = administer(self, database.server).await?;
        let mut client = admin.connect(&database.name).await?;
        if !home::may_make_spares(&client).await? {
            return Ok(0);
        }
        let installation = self.catalog().installation();
        let (wanted, newest) = (self.fleet().spare_schemas, migrate::ledger_text(&derived));
        let spares = home::list_spares(&client, installation).await?;
        for spare in spares.iter().skip(wanted) {
            home::drop_spare(&mut client, installation, &spare.schema).await?;
        }
        let mut missing = wanted.saturating_sub(spares.len());
        for spare in spares.iter().take(wanted) {
            let is_fine = spare.ledger == newest || is_of_newer_files(spare, &derived);
            if !is_fine && !self.bring_up(&mut client, database, spare, &derived).await? {
                missing += 1;
            }
        }
        for _ in 0..missing {
            let name = home::create_spare(&client, installation, database.id).await?;
            self.migrate_spare(&client, database, name.as_str(), &derived).await?;
        }
        Ok(missing)
    }

    /// One that migrations can't bring to the newest version is of no use: it is dropped, and another is to be made. Whether it stays.
    async fn bring_up(
        &self,
        client: &mut tokio_postgres::Client,
        database: &TenantDatabase,
        spare: &Spare,
        derived: &Derived,
    ) -> Result<bool, Failure> {
        let Err(failure) = self.migrate_spare(client, database, &spare.schema, derived).await else {
            return Ok(true);
        };
        tracing::warn!(
            schema = spare.schema,
            error = failure.message(),
            "a spare schema is made anew"
        );
        let is_gone = home::drop_spare(client, self.catalog().installation(), &spare.schema).await?;
        Ok(!is_gone)
    }

    async fn migrate_spare(
        &self,
        client: &tokio_postgres::Client,
        database: &TenantDatabase,
        schema: &str,
        derived: &Derived,
    ) -> Result<(), Failure> {
        let target = target(self.catalog().installation(), database, schema)?;
        migrate::apply(client, &target, derived, &[], &ByAdministrator, &self.fleet().patience).await?;
        Ok(())
    }
}

/// The databases in which spare schemas are kept.
async fn databases_with_spares(client: &Client) -> Result<Vec<TenantDatabase>, CatalogError> {
    let servers = server::list(client).await?;
    let is_active = |database: &TenantDatabase| {
        let mut active = servers.iter().filter(|server| server.state == ServerState::Active);
        active.any(|server| server.id == database.server)
    };
    let mut databases = tenant_database::list_ready(client).await?;
    databases.retain(|database| {
        database.kind == DatabaseKind::Shared && require_current(database).is_ok() && is_active(database)
    });
    Ok(databases)
}

/// Whether a process with newer migrations than these has brought the spare to them. Long after, its newest one was withdrawn: nobody
/// would take the spare.
fn is_of_newer_files(spare: &Spare, derived: &Derived) -> bool {
    let newest = derived.versions.last().map_or(0, |version| version.version);
    spare.version() > newest && spare.unchanged < DEPLOYMENT
}
