//! Spare databases: their operations.

use std::sync::Arc;

use serde_json::json;
use tenantry_catalog::{
    CatalogError, Transaction,
    operation::{self, NewOperation, OperationKind},
    operation_cleanup,
    server::Server,
    tenant_database::{self, DatabaseKind, Newest, Surplus, TenantDatabase},
};
use tenantry_core::{Isolation, SHARED_SCHEMA, ServerId};
use tenantry_engine::{isolate::Derived, migrate};

use super::{DEPLOYMENT, wanted_on};
use crate::{
    MigrationError, Ops, placing,
    runner::{chain, prepare, provision},
    secret,
};

/// So many are dropped at the same time on a server: other operations come in between.
const DROPPED_AT_ONCE: usize = 2;

/// What a look at all servers did.
#[derive(Clone, Copy, Default)]
pub(super) struct Looked {
    /// How many operations it began.
    pub(super) ordered: usize,
    /// How many databases waited for a tenant before, those that were being made included.
    pub(super) there: usize,
}

/// What spare databases are made of.
enum Content {
    /// The application's tables, if it has any.
    Tables(Option<Arc<Derived>>),
    /// None is made: none is wanted, or nobody knows at the moment what it would be made of.
    Nothing,
}

impl Ops {
    /// Begins the operations that make the spare databases that are missing, those that bring the others to the newest version, and those
    /// that drop what is too many, some at a time; runners do the work. How many it began. A server that drains should have none.
    ///
    /// A spare that is not of the newest version is nobody's until its operation has ended. Where the migrations can't bring it there,
    /// since one was edited that it has, the operation fails, which drops it, and the next look begins another.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn order_spare_databases(&self) -> Result<usize, CatalogError> {
        let servers = self.servers_of_spares().await?;
        Ok(self.look_after_spare_databases(&servers).await?.ordered)
    }

    /// The same on these servers, with how many there were.
    pub(super) async fn look_after_spare_databases(&self, servers: &[Server]) -> Result<Looked, CatalogError> {
        let wanted = |server: &Server| wanted_on(server, self.fleet().spare_databases_on(server.spare_databases));
        // Without the migrations a spare would be made in vain.
        let is_any_wanted = servers.iter().any(|server| wanted(server) > 0);
        let content = match is_any_wanted {
            true => self.content_of_spares().await?,
            false => Content::Nothing,
        };
        let mut client = self.catalog().client().await?;
        let mut looked = Looked::default();
        for server in servers {
            let wanted = wanted(server);
            let transaction = client.transaction().await?;
            // Until the transaction ends, no other process orders any.
            let there = tenant_database::count_spares(&transaction, server.id).await?;
            looked.there += there;
            if there > wanted {
                looked.ordered += self.order_removals(&transaction, server.id, there - wanted).await?;
            }
            if wanted > 0
                && let Content::Tables(derived) = &content
            {
                let missing = wanted.saturating_sub(there);
                for _ in 0..missing {
                    self.order_spare(&transaction, server.id, derived.as_deref()).await?;
                }
                looked.ordered += missing;
                if let Some(derived) = derived {
                    looked.ordered += self.order_renewals(&transaction, server.id, derived).await?;
                }
            }
            transaction.commit().await?;
        }
        Ok(looked)
    }

    /// Whether a tenant may get a spare database although this process has not worked out yet what one has to have. The catalog is asked
    /// until it has.
    pub(crate) async fn has_to_derive_for_spares(&self) -> Result<bool, CatalogError> {
        let fleet = self.fleet();
        if fleet.migrations.is_none() || self.derived_cell().get().is_some() {
            return Ok(false);
        }
        if fleet.spare_databases > 0 {
            return Ok(true);
        }
        let servers = self.servers_of_spares().await?;
        Ok(servers.iter().any(|server| server.spare_databases > Some(0)))
    }

    async fn content_of_spares(&self) -> Result<Content, CatalogError> {
        match self.derive_migrations().await {
            Ok(derived) => Ok(Content::Tables(derived)),
            Err(MigrationError::NoServer) => Ok(Content::Nothing),
            Err(MigrationError::Catalog(error)) => Err(error),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "no spare databases are made");
                Ok(Content::Nothing)
            }
        }
    }

    /// In one transaction some stop waiting for a tenant and get an operation that drops them, which goes on whoever dies. How many.
    async fn order_removals(
        &self,
        transaction: &Transaction<'_>,
        server: ServerId,
        too_many: usize,
    ) -> Result<usize, CatalogError> {
        let surplus = Surplus {
            databases: too_many,
            at_once: DROPPED_AT_ONCE,
        };
        let claimed = tenant_database::claim_surplus_spares(transaction, server, surplus).await?;
        let input = json!({});
        let mut ordered = 0;
        for spare in &claimed {
            let id = secret::operation_id();
            let work = NewOperation {
                id,
                kind: OperationKind::PrepareDatabase,
                tenant: None,
                database: Some(spare.id),
                input: &input,
                run_after: None,
            };
            if !operation::insert(transaction, &work).await? {
                // Another one works on it, which was looked for under its lock: whatever that is, it waits again.
                tenant_database::set_ready_again(transaction, spare.id).await?;
                continue;
            }
            let why = "more spare databases are there than are wanted";
            operation::call_off(transaction, id, prepare::NOT_WANTED, why).await?;
            let object = provision::first_object(Isolation::Database, spare.server, &spare.name, SHARED_SCHEMA);
            operation_cleanup::hand_over(transaction, id, &object).await?;
            tracing::info!(database = spare.name, "a spare database too many is dropped");
            ordered += 1;
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
