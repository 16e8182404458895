//! Makes a server's shared tenant database, or a spare one; or brings a spare one to the newest version, which is the same work
//! on one that is there.

use serde_json::{Value, json};
use tenantry_catalog::{
    change, fleet_state,
    operation::OperationState,
    operation_cleanup::{self, Object, ObjectKind},
    tenant_database::{self, DatabaseKind},
};
use tenantry_core::{Change, SHARED_SCHEMA};
use tenantry_engine::migrate;

use super::{
    Failure, Journal,
    site::{Site, require_files},
};
use crate::Ops;

/// The steps, in order; failpoints stand before and after each.
pub(super) const STEPS: &[&str] = &["roles", "database", "bootstrap", "tables", "ready"];

/// Why an operation only removes the spare database that it was given: nobody wants so many.
pub(crate) const NOT_WANTED: &str = "not_wanted";

/// What the operation is asked for: tables that have this migration. A process without it leaves that to one that has it.
pub(crate) fn input(version: i64) -> Value {
    json!({ "version": version })
}

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let id = journal.operation.database;
    let id = id.ok_or_else(|| Failure::permanent("no_database", "the operation names no tenant database"))?;
    let wanted = journal.operation.input.get("version").and_then(Value::as_i64);
    if let Some(wanted) = wanted
        && let Some(derived) = ops.derived().await?
    {
        require_files(&derived, wanted)?;
    }
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
    site.migrate(&client, SHARED_SCHEMA).await?;
    if site.database.kind == DatabaseKind::Own {
        // Whether a spare one is of the newest version is asked of the catalog's copy, which may name what a restore took away.
        let catalog = site.ops.catalog().client().await?;
        let read_at = fleet_state::now(&catalog).await?;
        let ledger = migrate::read_all(&client)
            .await
            .map_err(|error| Failure::database("read the ledger", &error))?;
        fleet_state::reconcile(&catalog, site.database.id, &ledger, read_at).await?;
    }
    Ok(())
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
