//! Removes a deleted tenant: the fence at once, everything else when the retention time has ended.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tenantry_catalog::{
    api_key, app_migration, change, erasure, membership,
    operation::{self, OperationState},
    placement::{self, Located},
    server,
    tenant::{self, Changed},
    tenant_database,
};
use tenantry_core::{Change, Isolation, TenantId, TenantState};
use tenantry_engine::{
    fence::{self, Behind, Closed, Wait},
    home::{self, JobCount},
    migrate, transfer,
};
use tokio_postgres::Client;

use super::{Failure, Journal, chain, fence as suspension, leftovers, site::Site};
use crate::{
    Authority, ErasureRequest, Ops, Removed, Verdict,
    audit::{self, Act},
    backups,
};

/// How long a purge waits for the tenant's open transactions before it ends their sessions.
const DRAIN: Duration = Duration::from_secs(10);

/// A purge that is held looks again after this, should nobody wake it.
const HELD_LOOK: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let client = ops.catalog().client().await?;
    let state = tenant::find(&client, tenant).await?;
    drop(client);
    let Some(found) = state else {
        return Err(Failure::permanent("no_tenant", "the tenant is not known"));
    };
    if found.state == TenantState::Deleted {
        let (site, located) = Site::of_tenant(ops, journal).await?;
        if journal.operation.step.is_empty() || journal.operation.step == "fence" {
            journal.begin("fence").await?;
            suspension::close(&site, &located).await?;
            journal.end("fence").await?;
            journal.begin("retention").await?;
        }
        sleep_until_due(ops, journal).await?;
        journal.begin("purged").await?;
        mark_purged(ops, journal).await?;
        journal.end("purged").await?;
    }
    if found.placement.is_some() {
        let (site, located) = Site::of_tenant(ops, journal).await?;
        journal.begin("remove").await?;
        remove(ops, journal, &site, &located).await?;
        leftovers::remove_of_tenant(ops, journal).await?;
        journal.end("remove").await?;
        journal.begin("beside").await?;
        remove_beside(ops, journal).await?;
        journal.end("beside").await?;
        journal.begin("forget").await?;
        forget(ops, journal, &located).await?;
        journal.end("forget").await?;
    }
    journal.begin("certify").await?;
    certify(ops, journal).await
}

/// Puts the operation to sleep while the tenant can be recovered. The time is read under the locks: an operator may have
/// ended it since.
async fn sleep_until_due(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    let found = tenant::find(&transaction, tenant).await?;
    let due = found.and_then(|tenant| match &tenant.legal_hold {
        // Whoever ends it wakes this operation.
        Some(_) => Some(Utc::now() + HELD_LOOK),
        None => tenant.purge_after.filter(|due| *due > Utc::now()),
    });
    let Some(due) = due else { return Ok(()) };
    journal.park(&transaction, due).await?;
    transaction.commit().await?;
    Err(Failure::Parked)
}

/// From here on there is no way back.
async fn mark_purged(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    let found = tenant::find(&transaction, tenant).await?;
    if found.is_some_and(|found| found.legal_hold.is_some()) {
        return Err(Failure::retry("legal_hold", "a legal hold keeps the tenant"));
    }
    match tenant::set_state(&transaction, tenant, TenantState::Deleted, TenantState::Purged).await? {
        Changed::Yes => {}
        Changed::No | Changed::Clash(_) => {
            return Err(Failure::retry("not_deleted", "the tenant is not deleted any more"));
        }
    }
    change::announce(&transaction, Change::Tenant(tenant)).await?;
    let act = Act {
        action: "tenant.purged",
        tenant: Some(tenant),
        target: tenant.to_string(),
        before: None,
        after: None,
    };
    audit::record(&transaction, &Authority::system("operation"), act).await?;
    Ok(transaction.commit().await?)
}

/// Notes for the certificate what is dropped beside the rows, and says in the audit log which jobs are, before they are: a purge that is
/// killed in between says it again.
async fn note_removed(ops: &Ops, journal: &Journal, client: &Client, tenant: TenantId) -> Result<(), Failure> {
    let count = home::count_jobs(client, tenant).await?;
    let found = Removed::new(count, home::count_history(client, tenant).await?);
    let removed = Removed::noted(&journal.operation).unwrap_or_default().or_more(found);
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    journal
        .note_progress_in(&transaction, &json!({ "removed": removed }))
        .await?;
    if count != JobCount::default() {
        let act = Act {
            action: "tenant.drop-jobs",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: Some(json!({ "jobs": count.jobs, "schedules": count.schedules })),
            after: None,
        };
        audit::record(&transaction, &Authority::system("purge"), act).await?;
    }
    Ok(transaction.commit().await?)
}

async fn remove(ops: &Ops, journal: &Journal, site: &Site<'_>, located: &Located) -> Result<(), Failure> {
    let tenant = located.placement.tenant;
    if located.placement.isolation == Isolation::Database {
        match site.admin.connect(&site.database.name).await {
            Ok(client) => note_removed(ops, journal, &client, tenant).await?,
            // It is gone already, and was noted before that.
            Err(error) if error.is_no_such_database() => {}
            Err(error) => return Err(error.into()),
        }
        let keeper = site.admin.connect_maintenance().await?;
        site.take_turn(&keeper).await?;
        home::drop_database(&site.admin, site.installation(), site.database.id, &site.database.name).await?;
        return Ok(());
    }
    let client = site.connect().await?;
    site.take_turn(&client).await?;
    let epoch = located.placement.epoch;
    fence::close(&client, tenant, epoch, Closed::Suspended).await?;
    let wait = Wait {
        deadline: DRAIN,
        force: true,
    };
    if let Behind::Transactions(transactions) = fence::wait_behind(&client, wait).await? {
        let message = format!("transactions stay open: {}", transactions.join(", "));
        return Err(Failure::retry("tenant_in_use", message));
    }
    note_removed(ops, journal, &client, tenant).await?;
    home::delete_jobs(&client, tenant).await?;
    let schema = &located.placement.schema;
    if located.placement.isolation == Isolation::Schema {
        home::drop_schema(&client, site.installation(), tenant).await?;
        migrate::forget(&client, schema)
            .await
            .map_err(|error| Failure::database("forget the schema's migrations", &error))?;
    } else {
        home::delete_rows(&client, site.installation(), schema, tenant).await?;
        transfer::forget_ledger(&client, schema, tenant).await?;
    }
    // After the rows, whose end would be noted where triggers can't be kept off.
    home::delete_history(&client, tenant).await?;
    // The row stays as a gravestone: what still believes in this placement is told that it is gone.
    fence::close(&client, tenant, epoch, Closed::Gone).await?;
    Ok(())
}

/// What the tenant has outside of its tables. After these, so that nobody who still wrote there in their name does so now.
async fn remove_beside(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    for beside in &ops.fleet().besides {
        beside.purge(tenant).await.map_err(|error| {
            let message = format!("the tenant's {} are not gone: {}", beside.name(), chain(&*error));
            Failure::retry("beside_unreachable", message)
        })?;
        journal.check().await?;
    }
    Ok(backups::forget(ops, tenant).await?)
}

/// Looks whether that is so, and ends. What is left, or can't be looked at, is said in the certificate and does not keep the purge from
/// ending: nothing that it does would change it.
async fn certify(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let tenant = journal.tenant()?;
    let client = ops.catalog().client().await?;
    let found = tenant::find(&client, tenant).await?;
    // With what it has noted since this runner took it.
    let purge = operation::find(&client, journal.operation.id).await?;
    drop(client);
    let found = found.ok_or_else(|| Failure::permanent("no_tenant", "the tenant is not known"))?;
    let authority = Authority::system("operation");
    let request = ErasureRequest::default();
    let certificate = ops.look_for(&authority, &found, purge.as_ref(), &request).await;
    if certificate.verdict != Verdict::Erased {
        tracing::warn!(
            tenant.id = %tenant, verdict = %certificate.verdict,
            "a purged tenant is not shown to be gone: `tenantry tenant erasure {tenant}` says what is where"
        );
    }
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    journal.finish(&transaction, OperationState::Done).await?;
    ops.keep_certificate(&transaction, &authority, certificate).await?;
    Ok(transaction.commit().await?)
}

/// Only the record remains.
async fn forget(ops: &Ops, journal: &Journal, located: &Located) -> Result<(), Failure> {
    let tenant = located.placement.tenant;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    let members = membership::delete_all(&transaction, tenant).await?;
    erasure::forget_homeless(&transaction, &members).await?;
    for account in members {
        change::announce(&transaction, Change::Account(account)).await?;
    }
    for key in api_key::delete_all(&transaction, tenant).await? {
        change::announce(&transaction, Change::ApiKey(key)).await?;
    }
    placement::remove(&transaction, tenant).await?;
    match located.placement.isolation {
        Isolation::Schema => {
            let database = located.database.id;
            app_migration::forget(&transaction, database, &located.placement.schema).await?;
        }
        Isolation::Database => tenant_database::remove(&transaction, located.database.id).await?,
        Isolation::Shared => {}
    }
    server::give_place_back(&transaction, located.database.server).await?;
    erasure::scrub(&transaction, tenant, journal.operation.id).await?;
    change::announce(&transaction, Change::Tenant(tenant)).await?;
    Ok(transaction.commit().await?)
}
