//! Makes a tenant's home. Every step can run twice; the last one activates the tenant, and nobody is routed there before.

use tenantry_catalog::{
    change,
    operation::OperationState,
    operation_cleanup::{self, Object, ObjectKind},
    placement::{self, Located},
    tenant::{self, Changed},
};
use tenantry_core::{Change, Isolation, SHARED_SCHEMA, TenantState};
use tenantry_engine::{fence, home, turn};
use tokio_postgres::Client;

use super::{
    Failure, Journal,
    site::{Site, TURN},
};
use crate::Ops;

/// The steps of each isolation, in order; failpoints stand before and after each.
pub(super) const fn steps(isolation: Isolation) -> &'static [&'static str] {
    match isolation {
        Isolation::Shared => &["rows", "activate"],
        Isolation::Schema => &["schema", "tables", "activate"],
        Isolation::Database => &["database", "bootstrap", "tables", "activate"],
    }
}

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let (mut site, located) = Site::of_tenant(ops, journal).await?;
    // A connection with the operation's turn taken, kept for the steps that follow each other in one database.
    let mut at_work = None;
    let isolation = located.placement.isolation;
    let begun = steps(isolation)
        .iter()
        .position(|step| *step == journal.operation.step)
        .unwrap_or(0);
    for step in &steps(isolation)[begun..] {
        journal.begin(step).await?;
        match *step {
            "rows" => rows(&site, &located).await?,
            "schema" => at_work = Some(schema(&site, &located).await?),
            "database" => database(&site).await?,
            "bootstrap" => site.bootstrap().await?,
            "tables" => tables(&site, &located, at_work.take()).await?,
            _ => activate(ops, journal, &located).await?,
        }
        journal.end(step).await?;
    }
    Ok(())
}

/// A tenant in shared tables: one transaction, in which its fence opens.
async fn rows(site: &Site<'_>, located: &Located) -> Result<(), Failure> {
    let object = Object {
        kind: ObjectKind::Rows,
        server: site.database.server,
        database_name: site.database.name.clone(),
        name: located.placement.schema.clone(),
    };
    site.journal.will_make(&object).await?;
    let client = site.connect().await?;
    turn::begin(&client, site.journal.lock_key(), TURN).await?;
    site.journal.check().await?;
    fence::register(&client, located.placement.tenant, located.placement.epoch, true).await?;
    turn::commit(&client).await?;
    site.seed(&client, located).await
}

async fn schema(site: &Site<'_>, located: &Located) -> Result<Client, Failure> {
    let object = Object {
        kind: ObjectKind::Schema,
        server: site.database.server,
        database_name: site.database.name.clone(),
        name: located.placement.schema.clone(),
    };
    site.journal.will_make(&object).await?;
    let client = site.connect().await?;
    site.take_turn(&client).await?;
    let (tenant, epoch) = (located.placement.tenant, located.placement.epoch);
    client.batch_execute("begin").await?;
    home::create_schema(&client, site.installation(), site.database.id, tenant).await?;
    fence::register(&client, tenant, epoch, true).await?;
    client.batch_execute("commit").await?;
    Ok(client)
}

async fn database(site: &Site<'_>) -> Result<(), Failure> {
    let object = Object {
        kind: ObjectKind::Database,
        server: site.database.server,
        database_name: String::new(),
        name: site.database.name.clone(),
    };
    site.journal.will_make(&object).await?;
    site.make_database().await
}

/// The application's tables in a schema or database of the tenant's own, and what it starts with.
///
/// On the connection of the step before, which has the turn: another one would have to log in and to read the system catalogs.
async fn tables(site: &Site<'_>, located: &Located, at_work: Option<Client>) -> Result<(), Failure> {
    let client = match at_work {
        Some(client) => {
            site.journal.check().await?;
            client
        }
        None => {
            let client = site.connect().await?;
            site.take_turn(&client).await?;
            client
        }
    };
    if located.placement.isolation == Isolation::Database {
        fence::register(&client, located.placement.tenant, located.placement.epoch, true).await?;
    }
    site.migrate(&client, &located.placement.schema).await?;
    site.seed(&client, located).await
}

/// From this transaction on the tenant is served.
async fn activate(ops: &Ops, journal: &Journal, located: &Located) -> Result<(), Failure> {
    let tenant = located.placement.tenant;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    match tenant::set_state(&transaction, tenant, TenantState::Provisioning, TenantState::Active).await? {
        Changed::Yes => {}
        Changed::No | Changed::Clash(_) => {
            return Err(Failure::permanent(
                "not_provisioning",
                "the tenant is not being provisioned any more",
            ));
        }
    }
    if located.placement.isolation == Isolation::Database {
        tenantry_catalog::tenant_database::set_ready(&transaction, located.database.id).await?;
    }
    placement::set_ready(&transaction, tenant).await?;
    operation_cleanup::settle_all(&transaction, journal.operation.id).await?;
    change::announce(&transaction, Change::Tenant(tenant)).await?;
    journal.finish(&transaction, OperationState::Done).await?;
    transaction.commit().await?;
    debug_assert!(located.placement.schema == SHARED_SCHEMA || located.placement.isolation == Isolation::Schema);
    Ok(())
}
