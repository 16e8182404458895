//! Slots and publications whose move has ended. A move drops its own; a runner that was overtaken may have made one after its successor
//! was through, and a catalog may have been restored from before. A slot that nobody reads keeps its server's log for ever.

use std::{collections::BTreeSet, time::Duration};

use tenantry_catalog::{
    operation,
    operation_cleanup::{self, Object, ObjectKind},
    server::{self, Server},
    tenant_database,
};
use tenantry_core::OperationId;
use tenantry_engine::transfer::stream::{self, Direction, StreamError, StreamName};

use super::{Failure, Journal, administer, undo};
use crate::Ops;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Removes what ended operations of the purged tenant have recorded and nobody saw removed: a purge takes the records out of the catalog,
/// so it is the last that can.
pub(super) async fn remove_of_tenant(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let client = ops.catalog().client().await?;
    let open = operation_cleanup::list_open_of_tenant(&client, tenant, journal.operation.id).await?;
    drop(client);
    for (operation, object) in open {
        match object.kind {
            ObjectKind::Slot | ObjectKind::Publication => remove_stream(ops, operation, &object).await?,
            _ => undo::remove_ours(ops, journal, &object).await?,
        }
        let client = ops.catalog().client().await?;
        operation_cleanup::settle(&client, operation, &object).await?;
    }
    Ok(())
}

async fn remove_stream(ops: &Ops, operation: OperationId, object: &Object) -> Result<(), Failure> {
    let (admin, _) = administer(ops, object.server).await?;
    let client = match admin.connect(&object.database_name).await {
        // A database with a slot can't be dropped.
        Err(error) if error.is_no_such_database() => return Ok(()),
        connected => connected?,
    };
    for direction in [Direction::There, Direction::Back] {
        let name = StreamName::new(ops.catalog().installation(), operation, direction);
        if name.text() != object.name {
            continue;
        }
        let dropped = match object.kind {
            ObjectKind::Slot => stream::drop_slot(&client, &name).await,
            _ => stream::drop_publication(&client, &name).await,
        };
        match dropped {
            // What is not ours stays.
            Ok(_) | Err(StreamError::NotOurs { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Ops {
    /// Looks on every server. What can't be reached is left to the next time.
    pub(super) async fn sweep_streams(&self) {
        let servers = async { server::list(&self.catalog().client().await?).await };
        for server in servers.await.unwrap_or_default() {
            let failure = match tokio::time::timeout(PATIENCE, self.sweep_streams_of(&server)).await {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure.message(),
                Err(_) => "no answer".to_owned(),
            };
            tracing::warn!(
                server = server.name,
                message = failure,
                "slots of ended moves can't be looked for; trying again later"
            );
        }
    }

    async fn sweep_streams_of(&self, server: &Server) -> Result<(), Failure> {
        let installation = self.catalog().installation();
        let (admin, _) = administer(self, server.id).await?;
        let client = admin.connect_maintenance().await?;
        let catalog = self.catalog().client().await?;
        let shared = tenant_database::find_shared(&catalog, server.id).await?;
        drop(catalog);
        let mut databases: BTreeSet<String> = shared.into_iter().map(|shared| shared.name).collect();
        for slot in stream::list_slots(&client, installation).await? {
            if self.is_under_way(slot.operation).await? {
                continue;
            }
            stream::drop_slot(&client, &slot.stream).await?;
            tracing::warn!(server = server.name, operation.id = %slot.operation, "a slot was left of a move that has ended: dropped");
            databases.insert(slot.database);
        }
        for database in databases {
            let client = match admin.connect(&database).await {
                Err(error) if error.is_no_such_database() => continue,
                connected => connected?,
            };
            for publication in stream::list_publications(&client, installation).await? {
                if self.is_under_way(publication.operation).await? {
                    continue;
                }
                for direction in [Direction::There, Direction::Back] {
                    let name = StreamName::new(installation, publication.operation, direction);
                    match stream::drop_publication(&client, &name).await {
                        Ok(_) | Err(StreamError::NotOurs { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Each is recorded before anything is made for it.
    async fn is_under_way(&self, id: OperationId) -> Result<bool, Failure> {
        let client = self.catalog().client().await?;
        let found = operation::find(&client, id).await?;
        Ok(found.is_some_and(|operation| !operation.state.is_final()))
    }
}
