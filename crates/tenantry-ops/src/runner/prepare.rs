//! Makes a server's shared tenant database.

use tenantry_catalog::{
    change,
    operation::OperationState,
    operation_cleanup::{self, Object, ObjectKind},
    tenant_database,
};
use tenantry_core::{Change, SHARED_SCHEMA};

use super::{Failure, Journal, site::Site};
use crate::Ops;

/// The steps, in order; failpoints stand before and after each.
pub(super) const STEPS: &[&str] = &["roles", "database", "bootstrap", "tables", "ready"];

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let id = journal.operation.database;
    let id = id.ok_or_else(|| Failure::permanent("no_database", "the operation names no tenant database"))?;
    let mut site = Site::of_database(ops, journal, id).await?;
    site.bring_up_to_date().await?;
    let begun = STEPS
        .iter()
        .position(|step| *step == journal.operation.step)
        .unwrap_or(0);
    for step in &STEPS[begun..] {
        journal.begin(step).await?;
        match *step {
            "roles" => roles(&site).await?,
            "database" => database(&site).await?,
            "bootstrap" => site.bootstrap().await?,
            "tables" => tables(&site).await?,
            _ => ready(&site).await?,
        }
        journal.end(step).await?;
    }
    Ok(())
}

/// The installation's roles on the server; the database that is made next belongs to one of them.
async fn roles(site: &Site<'_>) -> Result<(), Failure> {
    let mover_password = Some(&site.administration.mover_password);
    tenantry_engine::bootstrap::server(&site.admin, site.installation(), mover_password).await?;
    Ok(())
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

async fn tables(site: &Site<'_>) -> Result<(), Failure> {
    let client = site.connect().await?;
    site.take_turn(&client).await?;
    site.migrate(&client, SHARED_SCHEMA).await
}

async fn ready(site: &Site<'_>) -> Result<(), Failure> {
    let mut client = site.ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    site.journal.hold(&transaction).await?;
    tenant_database::set_ready(&transaction, site.database.id).await?;
    operation_cleanup::settle_all(&transaction, site.journal.operation.id).await?;
    change::announce(&transaction, Change::Servers).await?;
    site.journal.finish(&transaction, OperationState::Done).await?;
    Ok(transaction.commit().await?)
}
