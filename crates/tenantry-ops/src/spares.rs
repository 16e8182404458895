//! Keeps spare schemas ready, at the newest version.

use std::time::Duration;

use tenantry_catalog::{
    CatalogError,
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_engine::{
    home::{self, Spare},
    isolate::Derived,
    migrate::{self, ByAdministrator},
};
use tokio_postgres::Client;

use crate::{
    Ops,
    runner::{Failure, administer, chain, target},
};

/// How often a process looks whether spares are missing.
const POLL: Duration = Duration::from_secs(1);

impl Ops {
    /// Keeps as many spare schemas as configured in each server's shared tenant database, until the future is dropped; nothing where
    /// none are wanted.
    ///
    /// Any number of processes may do so: in each database one does at a time.
    ///
    /// # Cancel safety
    /// What was begun is rolled back, or gone on with by whoever is next.
    pub async fn keep_spares(&self) {
        if self.fleet().spare_schemas == 0 {
            return;
        }
        loop {
            if let Err(error) = self.make_spares().await {
                tracing::warn!(error = %chain(&error), "spare schemas can't be made; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Makes the spares that are missing, brings those that are behind to the newest version, and drops those that are too many.
    /// How many it made.
    ///
    /// A server that can't be reached is told in the log and passed over.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn make_spares(&self) -> Result<usize, CatalogError> {
        let client = self.catalog().client().await?;
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let mut made = 0;
        for database in databases
            .iter()
            .filter(|database| database.kind == DatabaseKind::Shared)
        {
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
        Ok(made)
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
        for spare in spares.iter().take(wanted).filter(|spare| spare.ledger != newest) {
            self.bring_up(&mut client, database, spare, &derived).await?;
        }
        let missing = wanted.saturating_sub(spares.len());
        for _ in 0..missing {
            let name = home::create_spare(&client, installation, database.id).await?;
            self.migrate_spare(&client, database, name.as_str(), &derived).await?;
        }
        Ok(missing)
    }

    /// One that migrations can't bring to the newest version is of no use: another is made in its place.
    async fn bring_up(
        &self,
        client: &mut Client,
        database: &TenantDatabase,
        spare: &Spare,
        derived: &Derived,
    ) -> Result<(), Failure> {
        let Err(failure) = self.migrate_spare(client, database, &spare.schema, derived).await else {
            return Ok(());
        };
        tracing::warn!(
            schema = spare.schema,
            error = failure.message(),
            "a spare schema is made anew"
        );
        home::drop_spare(client, self.catalog().installation(), &spare.schema).await?;
        Ok(())
    }

    async fn migrate_spare(
        &self,
        client: &Client,
        database: &TenantDatabase,
        schema: &str,
        derived: &Derived,
    ) -> Result<(), Failure> {
        let target = target(self.catalog().installation(), database, schema)?;
        migrate::apply(client, &target, derived, &[], &ByAdministrator, &self.fleet().patience).await?;
        Ok(())
    }
}
