//! Data of tenants, one tenant after the other, each in its own context and transaction, noted in the same transaction.

use std::time::Instant;

use tokio_postgres::Client;

use super::{
    apply::ApplyError,
    run::{self, Building, Failure},
    target::{Patience, Target, TenantContext},
};
use crate::isolate::{Derived, Version};
use tenantry_core::TenantId;

/// Runs an `each tenant` or `seed` file for the tenants that do not have it; a later attempt goes on where this one ended.
pub(super) async fn each(
    client: &Client,
    target: &Target,
    version: &Version,
    tenants: &[TenantId],
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    // The tenants there are have the seed that this one replaces.
    let tenants = if version.instead_of.is_some() { &[] } else { tenants };
    for tenant in tenants {
        for_tenant(client, target, version, *tenant, context, pid, patience).await?;
    }
    Ok(client.batch_execute(&run::record(target, version, begun)).await?)
}

async fn for_tenant(
    client: &Client,
    target: &Target,
    version: &Version,
    tenant: TenantId,
    context: &dyn TenantContext,
    pid: i32,
    patience: &Patience,
) -> Result<(), Failure> {
    let schema = super::ledger::name(target.schema.as_str(), version.is_overlay());
    let first = version.steps.first().map_or(1, |step| step.line);
    client.batch_execute("begin").await?;
    let new = client
        .execute(
            "insert into tenantry_private.migration_tenant (schema, version, tenant) values ($1, $2, $3)
             on conflict do nothing",
            &[&schema, &version.version, tenant.as_uuid()],
        )
        .await?;
    if new == 0 {
        return Ok(run::roll_back(client).await?);
    }
    let head = format!(
        "set local search_path = {}, tenantry_ext; set local lock_timeout = {}; {}; set local role {}",
        target.schema,
        patience.lock_timeout.as_millis(),
        context.enter(tenant, pid),
        target.owner
    );
    if let Err(error) = client.batch_execute(&head).await {
        run::roll_back(client).await?;
        return Err(run::failure(version, first, error));
    }
    for step in &version.steps {
        if let Err(error) = client
            .batch_execute(&run::statement(target, step, Building::Concurrently))
            .await
        {
            run::roll_back(client).await?;
            return Err(run::failure(version, step.line, error));
        }
    }
    // What is deferred to the end still needs the context; the fence's own check has to wait until it is put back.
    let end = format!(
        "set local tenantry.settling = 'on'; set constraints all immediate; set local role none; {}; commit",
        context.leave(tenant)
    );
    if let Err(error) = client.batch_execute(&end).await {
        run::roll_back(client).await?;
        let last = version.steps.last().map_or(1, |step| step.line);
        return Err(run::failure(version, last, error));
    }
    Ok(())
}

/// Gives a new tenant what `seed` files declare. Running it again changes nothing.
///
/// # Errors
///
/// A statement that fails, with its file and line; seeds before it stay, and the next attempt goes on there.
pub async fn seed(
    client: &Client,
    target: &Target,
    derived: &Derived,
    tenant: TenantId,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<(), ApplyError> {
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    for version in derived.seeds() {
        let seeded = for_tenant(client, target, version, tenant, context, pid, patience).await;
        seeded.map_err(|failure| super::apply::explain(failure, patience))?;
    }
    Ok(())
}
