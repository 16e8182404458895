//! Data of tenants, one tenant after the other, each in its own context and transaction, noted in the same transaction.

use std::time::Instant;

use tokio_postgres::Client;

use super::{
    Mode,
    apply::ApplyError,
    ledger,
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
    for tenant in tenants {
        for_tenant(client, target, version, *tenant, &context.enter(*tenant, pid), patience).await?;
    }
    Ok(client.batch_execute(&run::record(target, version, begun)).await?)
}

async fn for_tenant(
    client: &Client,
    target: &Target,
    version: &Version,
    tenant: TenantId,
    enter: &str,
    patience: &Patience,
) -> Result<(), Failure> {
    let schema = target.schema.as_str();
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
        "set local role {}; set local search_path = {}, tenantry_ext; set local lock_timeout = {}; {enter}",
        target.owner,
        target.schema,
        patience.lock_timeout.as_millis()
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
    Ok(client.batch_execute("commit").await?)
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
    ledger::prepare(client).await?;
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    for version in derived.versions.iter().filter(|version| version.mode == Mode::Seed) {
        let enter = context.enter(tenant, pid);
        let seeded = for_tenant(client, target, version, tenant, &enter, patience).await;
        seeded.map_err(|failure| super::apply::explain(failure, patience))?;
    }
    Ok(())
}
