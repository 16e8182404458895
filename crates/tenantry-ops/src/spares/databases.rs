//! Spare databases: their operations.

use serde_json::json;
use tenantry_catalog::{
    CatalogError, Transaction,
    operation::{self, NewOperation, OperationKind},
    operation_cleanup,
    server::{self, ServerState},
    tenant_database::{self, DatabaseKind, Newest, TenantDatabase},
};
use tenantry_core::{Isolation, SHARED_SCHEMA, ServerId};
use tenantry_engine::{isolate::Derived, migrate};

use super::DEPLOYMENT;
use crate::{
    MigrationError, Ops, placing,
    runner::{chain, prepare, provision},
    secret,
};

impl Ops {
    /// Begins the operations that make the spare databases that are missing, and those that bring the others to the newest version;
    /// runners do the work. How many it began.
    ///
    /// A spare that is not of the newest version is nobody's until its operation has ended. Where the migrations can't bring it there,
    /// since one was edited that it has, the operation fails, which drops it, and the next look begins another.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn order_spare_databases(&self) -> Result<usize, CatalogError> {
        let wanted = self.fleet().spare_databases;
        if wanted == 0 {
            return Ok(0);
        }
        // Without them a spare would be made in vain.
        let derived = match self.derive_migrations().await {
            Ok(derived) => derived,
            Err(MigrationError::NoServer) => return Ok(0),
            Err(MigrationError::Catalog(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "no spare databases are made");
                return Ok(0);
            }
        };
        let mut client = self.catalog().client().await?;
        let servers = server::list(&client).await?;
        let mut ordered = 0;
        for server in servers.iter().filter(|server| server.state == ServerState::Active) {
            let transaction = client.transaction().await?;
            // Until the transaction ends, no other process orders any.
            let missing = wanted.saturating_sub(tenant_database::count_spares(&transaction, server.id).await?);
            for _ in 0..missing {
                self.order_spare(&transaction, server.id, derived.as_deref()).await?;
            }
            ordered += missing;
            if let Some(derived) = &derived {
                ordered += self.order_renewals(&transaction, server.id, derived).await?;
            }
            transaction.commit().await?;
        }
        Ok(ordered)
    }

    async fn order_spare(
        &self,
        transaction: &Transaction<'_>,
        server: ServerId,
        derived: Option<&Derived>,
    ) -> Result<(), CatalogError> {
        let id = secret::tenant_database_id();
        let name = format!("tn_{}_spare_{}", self.catalog().installation(), id.as_uuid().simple());
        placing::record_database(self, transaction, server, id, &name, DatabaseKind::Own).await?;
        let input = derived.map_or_else(|| json!({}), |derived| prepare::input(newest(derived)));
        let work = NewOperation {
            id: secret::operation_id(),
            kind: OperationKind::PrepareDatabase,
            tenant: None,
            database: Some(id),
            input: &input,
            run_after: None,
        };
        operation::insert(transaction, &work).await?;
        Ok(())
    }

    /// Those that lack a migration, or have another one: in one transaction they stop waiting for a tenant and get an operation, which
    /// goes on whoever dies.
    async fn order_renewals(
        &self,
        transaction: &Transaction<'_>,
        server: ServerId,
        derived: &Derived,
    ) -> Result<usize, CatalogError> {
        let ledger = migrate::ledger_text(derived);
        let should = Newest {
            ledger: &ledger,
            version: newest(derived),
        };
        let outdated = tenant_database::list_outdated_spares(transaction, server, should, DEPLOYMENT).await?;
        let mut ordered = 0;
        for spare in &outdated {
            ordered += usize::from(self.order_renewal(transaction, spare, derived).await?);
        }
        Ok(ordered)
    }

    async fn order_renewal(
        &self,
        transaction: &Transaction<'_>,
        spare: &TenantDatabase,
        derived: &Derived,
    ) -> Result<bool, CatalogError> {
        // A tenant may have been placed there since they were looked for.
        if !tenant_database::set_preparing_again(transaction, spare.id).await? {
            return Ok(false);
        }
        let id = secret::operation_id();
        let work = NewOperation {
            id,
            kind: OperationKind::PrepareDatabase,
            tenant: None,
            database: Some(spare.id),
            input: &prepare::input(newest(derived)),
            run_after: None,
        };
        // One that is under way makes it ready as well.
        if !operation::insert(transaction, &work).await? {
            return Ok(false);
        }
        // The operation finds it made, and drops it where it fails before it comes to that.
        let object = provision::first_object(Isolation::Database, spare.server, &spare.name, SHARED_SCHEMA);
        operation_cleanup::hand_over(transaction, id, &object).await?;
        Ok(true)
    }
}

fn newest(derived: &Derived) -> i64 {
    derived.versions.last().map_or(0, |version| version.version)
}
