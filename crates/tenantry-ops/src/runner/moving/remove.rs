//! What is left of a home that is not the tenant's: the old one after the switch, the new one where there was none.

use tenantry_catalog::{app_migration, change, operation::OperationState, operation_cleanup, server, tenant_database};
use tenantry_core::{Change, Isolation};
use tenantry_engine::{
    home::{self, HomeError},
    migrate,
    transfer::{
        self,
        stream::{self, Direction},
    },
    turn,
};
use tokio_postgres::Client;

use super::{Failure, Home, MoveStep, Moving};
use crate::{
    failpoint,
    runner::{failure::Reason, site::TURN},
};

impl Moving<'_> {
    /// Closes the home that the tenant has left for good, removes it, and ends the operation.
    pub(super) async fn remove_source(&self) -> Result<(), Failure> {
        self.begin(MoveStep::Remove).await?;
        let from = &self.input.from;
        for direction in [Direction::There, Direction::Back] {
            self.end_stream(direction).await?;
        }
        if from.isolation == Isolation::Database {
            drop_database(&self.source).await?;
        } else {
            if !self.input.within_a_database() {
                self.close_for_good().await?;
            }
            let client = self.source.connect().await?;
            self.empty(&client, &self.source).await?;
        }
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold(&transaction).await?;
        match from.isolation {
            Isolation::Shared => {}
            Isolation::Schema => app_migration::forget(&transaction, from.database, &from.schema).await?,
            Isolation::Database => tenant_database::remove(&transaction, from.database).await?,
        }
        if from.server != self.input.to.server {
            server::give_place_back(&transaction, from.server).await?;
        }
        change::announce(&transaction, Change::Tenant(from.tenant)).await?;
        match self.direction {
            Direction::There => self.journal.finish(&transaction, OperationState::Done).await?,
            Direction::Back => {
                let reason = Reason {
                    code: "rolled_back",
                    message: "an operator took the tenant back to the home that it had left".to_owned(),
                };
                self.journal
                    .finish_because(&transaction, OperationState::Cancelled, Some(&reason))
                    .await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Removes what the records name of a home that came to nothing, if it bears our mark.
    pub(super) async fn remove_target(&self) -> Result<(), Failure> {
        // First: it needs the old home only, and the source keeps its log for it.
        self.drop_stream(Direction::There).await?;
        self.end_stream(Direction::Back).await?;
        let client = self.ops.catalog().client().await?;
        let objects = operation_cleanup::list_open(&client, self.journal.operation.id).await?;
        drop(client);
        for object in &objects {
            failpoint::pass(&format!("{}.undo_{}", self.journal.operation.kind, object.kind)).await?;
            let removed = match self.target.is(Isolation::Database) {
                true => drop_database(&self.target).await,
                false => match self.target.connect().await {
                    Ok(client) => {
                        stream::forget_position(&client, &self.stream()).await?;
                        self.empty(&client, &self.target).await
                    }
                    Err(failure) => Err(failure),
                },
            };
            match removed {
                Ok(()) => {}
                // Somebody else's: it is why we failed. It stays.
                Err(Failure::Permanent(reason)) if reason.code == "not_ours" => {
                    tracing::warn!(operation.id = %self.journal.operation.id, message = reason.message, "left alone");
                }
                Err(failure) => return Err(failure),
            }
            let client = self.ops.catalog().client().await?;
            operation_cleanup::settle(&client, self.journal.operation.id, object).await?;
        }
        Ok(())
    }

    /// Rows in shared tables, or a schema, with what the database holds beside them. Jobs that stand in the tenant's own database are
    /// not those of one of its schemas.
    async fn empty(&self, client: &Client, home: &Home<'_>) -> Result<(), Failure> {
        let placement = &home.placement;
        let tenant = placement.tenant;
        if !self.input.within_a_database() {
            home::delete_jobs(client, tenant).await?;
        }
        if placement.isolation == Isolation::Schema {
            home::drop_schema(client, home.site.installation(), tenant).await?;
            if !self.input.within_a_database() {
                home::delete_history(client, tenant).await?;
            }
            return migrate::forget(client, &placement.schema)
                .await
                .map_err(|error| Failure::database("forget the schema's migrations", &error));
        }
        home::delete_rows(client, home.site.installation(), &placement.schema, tenant).await?;
        if !self.input.within_a_database() {
            home::delete_history(client, tenant).await?;
        }
        Ok(transfer::forget_ledger(client, &placement.schema, tenant).await?)
    }
}

async fn drop_database(home: &Home<'_>) -> Result<(), Failure> {
    let site = &home.site;
    let keeper = site.admin.connect_maintenance().await?;
    turn::take(&keeper, site.journal.lock_key(), TURN).await?;
    site.journal.check().await?;
    // A connection that broke may have left the server at work on it.
    home::wait_for_creation(&keeper, &site.database.name, super::super::undo::CREATION).await?;
    home::drop_database(&site.admin, site.installation(), site.database.id, &site.database.name)
        .await
        .map(drop)
        .map_err(|error: HomeError| error.into())
}
