//! Removes what a failed operation made, and nothing else: what its record names, if it carries our mark.

use std::time::Duration;

use futures_util::FutureExt as _;
use tenantry_catalog::{
    Transaction, api_key, change, idempotency, membership,
    operation::{OperationKind, OperationState},
    operation_cleanup::{self, Object, ObjectKind},
    placement, server,
    tenant::{self, Changed},
    tenant_database::{self, DatabaseKind},
};
use tenantry_core::{Change, TenantId, TenantState};
use tenantry_engine::{
    fence::{self, Closed},
    home::{self, HomeError},
    migrate, turn,
};

use super::{
    Failure, Journal, moving, prepare, restore,
    site::{TURN, administer},
};
use crate::{Ops, failpoint};

/// How long the server may still be at work on a database whose maker is gone.
pub(super) const CREATION: Duration = Duration::from_secs(30);

pub(super) async fn undo(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    match journal.operation.kind {
        OperationKind::Move => return moving::undo(ops, journal).boxed().await,
        OperationKind::Restore => return restore::undo(ops, journal).boxed().await,
        _ => {}
    }
    let client = ops.catalog().client().await?;
    let objects = operation_cleanup::list_open(&client, journal.operation.id).await?;
    drop(client);
    for object in &objects {
        failpoint::pass(&format!("{}.undo_{}", journal.operation.kind, object.kind)).await?;
        remove_ours(ops, journal, object).await?;
        failpoint::pass(&format!("{}.undone_{}", journal.operation.kind, object.kind)).await?;
        let client = ops.catalog().client().await?;
        operation_cleanup::settle(&client, journal.operation.id, object).await?;
    }
    match journal.operation.kind {
        OperationKind::PrepareDatabase => forget_database(ops, journal).await,
        _ => forget_tenant(ops, journal).await,
    }
}

/// Removes what a record names, if it bears our mark: a database, or the operation's tenant's schema or rows.
pub(super) async fn remove_ours(ops: &Ops, journal: &Journal, object: &Object) -> Result<(), Failure> {
    match remove(ops, journal, object).await {
        Ok(()) => Ok(()),
        // Somebody else's: it is why we failed, or it came later. It stays.
        Err(Removal::NotOurs(message)) => {
            tracing::warn!(operation.id = %journal.operation.id, message, "left alone");
            Ok(())
        }
        Err(Removal::Failed(failure)) => Err(failure),
    }
}

enum Removal {
    NotOurs(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Removal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn removed<T>(outcome: Result<T, HomeError>) -> Result<(), Removal> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error @ HomeError::NotOurs { .. }) => Err(Removal::NotOurs(error.to_string())),
        Err(error) => Err(Removal::Failed(error.into())),
    }
}

async fn remove(ops: &Ops, journal: &Journal, object: &Object) -> Result<(), Removal> {
    let installation = ops.catalog().installation();
    let (admin, _) = administer(ops, object.server).await?;
    if object.kind == ObjectKind::Database {
        let client = ops.catalog().client().await?;
        let known = tenant_database::find_by_name(&client, object.server, &object.name).await?;
        drop(client);
        let Some(known) = known else { return Ok(()) };
        let keeper = admin.connect_maintenance().await?;
        turn::take(&keeper, journal.lock_key(), TURN).await?;
        journal.check().await?;
        // A connection that broke may have left the server at work on it.
        home::wait_for_creation(&keeper, &object.name, CREATION).await?;
        return removed(home::drop_database(&admin, installation, known.id, &object.name).await);
    }
    let tenant = journal.tenant()?;
    let client = match admin.connect(&object.database_name).await {
        Err(error) if error.is_no_such_database() => return Ok(()),
        connected => connected?,
    };
    turn::take(&client, journal.lock_key(), TURN).await?;
    journal.check().await?;
    let found = fence::read(&client, tenant).await?;
    if let Some(found) = found {
        fence::close(&client, tenant, found.epoch, Closed::Suspended).await?;
    }
    removed(home::delete_jobs(&client, tenant).await)?;
    match object.kind {
        ObjectKind::Schema => {
            removed(home::drop_schema(&client, installation, tenant).await)?;
            migrate::forget(&client, &object.name)
                .await
                .map_err(|error| Failure::database("forget the schema's migrations", &error))?;
        }
        _ => removed(home::delete_rows(&client, installation, &object.name, tenant).await)?,
    }
    removed(home::delete_history(&client, tenant).await)?;
    // The row stays as a gravestone: a runner that was overtaken can't open the tenant any more.
    if let Some(found) = found {
        fence::close(&client, tenant, found.epoch, Closed::Gone).await?;
    }
    Ok(())
}

/// The tenant's slug and place are free again; its record remains.
async fn forget_tenant(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    match tenant::set_state(&transaction, tenant, TenantState::Provisioning, TenantState::Purged).await? {
        Changed::Yes => forget_home(ops, &transaction, tenant).await?,
        Changed::No | Changed::Clash(_) => {}
    }
    idempotency::forget(&transaction, journal.operation.id).await?;
    change::announce(&transaction, Change::Tenant(tenant)).await?;
    journal.finish(&transaction, OperationState::Failed).await?;
    Ok(transaction.commit().await?)
}

async fn forget_home(ops: &Ops, transaction: &Transaction<'_>, tenant: TenantId) -> Result<(), Failure> {
    for account in membership::delete_all(transaction, tenant).await? {
        change::announce(transaction, Change::Account(account)).await?;
    }
    for key in api_key::delete_all(transaction, tenant).await? {
        change::announce(transaction, Change::ApiKey(key)).await?;
    }
    if let Some(located) = placement::locate(ops.catalog(), transaction, tenant).await? {
        placement::remove(transaction, tenant).await?;
        if located.database.kind == DatabaseKind::Own {
            tenant_database::remove(transaction, located.database.id).await?;
        }
        server::give_place_back(transaction, located.database.server).await?;
    }
    Ok(())
}

/// A server whose shared tenant database could not be made is not registered; it can be added again. A spare database is gone, whether it could
/// not be made or was called off.
async fn forget_database(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    if let Some(id) = journal.operation.database
        && let Some(database) = tenant_database::find(&transaction, id).await?
    {
        tenant_database::remove(&transaction, id).await?;
        if database.kind == DatabaseKind::Shared {
            server::remove(&transaction, database.server).await?;
        }
    }
    change::announce(&transaction, Change::Servers).await?;
    let state = match journal.operation.error_code.as_deref() {
        Some(prepare::NOT_WANTED) => OperationState::Cancelled,
        _ => OperationState::Failed,
    };
    journal.finish(&transaction, state).await?;
    Ok(transaction.commit().await?)
}
