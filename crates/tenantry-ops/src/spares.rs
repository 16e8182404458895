//! Keeps spare schemas and databases ready, at the newest version.
//!
//! A spare schema is known to its database alone; a spare database is one of the catalog's that no tenant is placed in, made by
//! the same operation as a server's shared one.

use std::time::Duration;

use serde_json::json;
use tenantry_catalog::{
    CatalogError,
    operation::{self, NewOperation, OperationKind},
    server::{self, ServerState},
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_engine::{
    home::{self, Spare},
    isolate::Derived,
    migrate::{self, ByAdministrator},
};
use tokio_postgres::Client;

use crate::{
    Ops, placing,
    runner::{Failure, administer, chain, target},
    secret,
    upgrade::require_current,
};

/// How often a process looks whether spares are missing.
const POLL: Duration = Duration::from_secs(1);

impl Ops {
    /// Keeps as many spare schemas and databases ready on each server as configured, until the future is dropped; nothing where
    /// none are wanted.
    ///
    /// Any number of processes may do so.
    ///
    /// # Cancel safety
    /// What was begun is rolled back, or gone on with by whoever is next.
    pub async fn keep_spares(&self) {
        let fleet = self.fleet();
        if fleet.spare_schemas == 0 && fleet.spare_databases == 0 {
            return;
        }
        loop {
            let schemas = self.make_spare_schemas().await.err();
            let databases = self.order_spare_databases().await.err();
            for error in schemas.into_iter().chain(databases) {
                tracing::warn!(error = %chain(&error), "spares can't be made; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Begins the operations that make the spare databases that are missing; runners do the work. How many it began.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn order_spare_databases(&self) -> Result<usize, CatalogError> {
        let wanted = self.fleet().spare_databases;
        if wanted == 0 {
            return Ok(0);
        }
        let mut client = self.catalog().client().await?;
        let servers = server::list(&client).await?;
        let mut ordered = 0;
        for server in servers.iter().filter(|server| server.state == ServerState::Active) {
            let transaction = client.transaction().await?;
            let missing = wanted.saturating_sub(tenant_database::count_spares(&transaction, server.id).await?);
            for _ in 0..missing {
                let id = secret::tenant_database_id();
                let name = format!("tn_{}_spare_{}", self.catalog().installation(), id.as_uuid().simple());
                placing::record_database(self, &transaction, server.id, id, &name, DatabaseKind::Own).await?;
                let work = NewOperation {
                    id: secret::operation_id(),
                    kind: OperationKind::PrepareDatabase,
                    tenant: None,
                    database: Some(id),
                    input: &json!({}),
                    run_after: None,
                };
                operation::insert(&transaction, &work).await?;
            }
            transaction.commit().await?;
            ordered += missing;
        }
        Ok(ordered)
    }

    /// Makes the spare schemas that are missing in each server's shared tenant database, brings those that are behind to the newest
    /// version, and drops those that are too many. How many it made. In each database one process does so at a time.
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
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let mut made = 0;
        for database in databases
            .iter()
            .filter(|database| database.kind == DatabaseKind::Shared && require_current(database).is_ok())
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
