//! Data of tenants, one tenant after the other, each in its own context and transaction, noted in the same transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tokio_postgres::{Client, Error};

use super::{
    Mode,
    apply::{self, ApplyError},
    ledger::{self, AppliedVersion},
    locks::with_locks,
    progress,
    run::{self, Building, Failure},
    target::{Patience, Target, TenantContext},
    tenants::{self, Tenants},
};
use crate::isolate::{Derived, Version};
use tenantry_core::TenantId;

/// Runs an `each tenant` or `seed` file for the tenants that do not have it; a later attempt goes on where this one ended.
pub(super) async fn each(
    client: &Client,
    target: &Target,
    version: &Version,
    tenants: Tenants<'_>,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<(), Failure> {
    let begun = Instant::now();
    progress::done(client, target, version).await?;
    let work = Work::begin(client, target, context, patience).await?;
    // The tenants there are have the seed that this one replaces.
    let tenants = match version.instead_of {
        Some(_) => Tenants::These(&[]),
        None => tenants,
    };
    let mut have = BTreeSet::new();
    work.for_others(version, tenants, &mut have).await?;
    let Tenants::Listed(_) = tenants else {
        return Ok(client.batch_execute(&run::end(target, version, begun)).await?);
    };
    // Those who came meanwhile; and nobody comes before it is recorded.
    tenants::close_arrivals(client, target, patience).await?;
    let ended: Result<(), Failure> = async {
        work.for_others(version, tenants, &mut have).await?;
        Ok(client.batch_execute(&run::end(target, version, begun)).await?)
    }
    .await;
    tenants::open_arrivals(client, target).await;
    ended
}

/// What the data of tenants is changed with.
struct Work<'a> {
    client: &'a Client,
    target: &'a Target,
    context: &'a dyn TenantContext,
    patience: &'a Patience,
    pid: i32,
}

impl<'a> Work<'a> {
    async fn begin(
        client: &'a Client,
        target: &'a Target,
        context: &'a dyn TenantContext,
        patience: &'a Patience,
    ) -> Result<Self, Error> {
        Ok(Self {
            client,
            target,
            context,
            patience,
            pid: client.query_one("select pg_backend_pid()", &[]).await?.get(0),
        })
    }

    /// Runs it for those that are listed now and are not among these.
    async fn for_others(
        &self,
        version: &Version,
        tenants: Tenants<'_>,
        have: &mut BTreeSet<TenantId>,
    ) -> Result<(), Failure> {
        let begun = progress::note_begun(self.target, version);
        for tenant in tenants.now().await? {
            if !have.contains(&tenant) {
                self.for_tenant(version, tenant, &begun).await?;
                have.insert(tenant);
            }
        }
        Ok(())
    }

    /// Runs it unless the tenant has it; `also` runs as the administrator in the same transaction.
    async fn for_tenant(&self, version: &Version, tenant: TenantId, also: &str) -> Result<(), Failure> {
        with_locks(self.client, self.target, self.patience, || {
            self.attempt(version, tenant, also)
        })
        .await
    }

    async fn attempt(&self, version: &Version, tenant: TenantId, also: &str) -> Result<(), Failure> {
        let client = self.client;
        let outcome = self.run(version, tenant, also).await;
        match outcome {
            Ok(true) => Ok(()),
            // Nothing to do.
            Ok(false) => Ok(run::roll_back(client).await?),
            Err((line, error)) => {
                run::roll_back(client).await?;
                Err(run::failure(version, line, error))
            }
        }
    }

    /// `false` where the tenant has it, with the transaction still open.
    async fn run(&self, version: &Version, tenant: TenantId, also: &str) -> Result<bool, (u32, Error)> {
        let (client, target) = (self.client, self.target);
        let schema = ledger::name(target.schema.as_str(), version.is_overlay());
        let first = version.steps.first().map_or(1, |step| step.line);
        let at = |line: u32| move |error: Error| (line, error);
        let begin = run::begin_version(target, version, self.patience);
        client.batch_execute(&begin).await.map_err(at(first))?;
        let new = client
            .execute(
                "insert into tenantry_private.migration_tenant (schema, version, tenant) values ($1, $2, $3)
                 on conflict do nothing",
                &[&schema, &version.version, tenant.as_uuid()],
            )
            .await
            .map_err(at(first))?;
        if new == 0 {
            return Ok(false);
        }
        let enter = format!(
            "{also}; {}; set local role {}",
            self.context.enter(tenant, self.pid),
            target.owner
        );
        client.batch_execute(&enter).await.map_err(at(first))?;
        for step in &version.steps {
            let statement = run::statement(target, step, Building::Concurrently);
            client.batch_execute(&statement).await.map_err(at(step.line))?;
        }
        // What is deferred to the end still needs the context; the fence's own check has to wait until it is put back.
        let end = format!(
            "set local tenantry.settling = 'on'; set constraints all immediate; set local role none; {}; commit",
            self.context.leave(tenant)
        );
        let last = version.steps.last().map_or(1, |step| step.line);
        client.batch_execute(&end).await.map_err(at(last))?;
        Ok(true)
    }
}

/// Gives a new tenant what the migrations of data in the placement's ledger have for it: what `seed` files declare, and, of the
/// `each tenant` files, those that were applied since it got the first of them. Running it again changes nothing.
///
/// # Errors
///
/// A statement that fails, with its file and line; what came before it stays, and the next attempt goes on there.
///
/// # Cancel safety
///
/// Dropping the future leaves the open migration's part to be rolled back with the connection; close it and seed again.
pub async fn seed(
    client: &Client,
    target: &Target,
    derived: &Derived,
    tenant: TenantId,
    context: &dyn TenantContext,
    patience: &Patience,
) -> Result<(), ApplyError> {
    let schema = target.schema.as_str();
    let ledger = ledger::read(client, schema).await?;
    let recorded = recorded(derived, &ledger);
    let mut has = had(client, schema, tenant, derived).await?;
    if has.is_empty() {
        let before = recorded.iter().filter(|version| version.mode == Mode::EachTenant);
        let before: Vec<i64> = before.map(|version| version.version).collect();
        note_had(client, schema, tenant, &before).await?;
        has.extend(before);
    }
    let work = Work::begin(client, target, context, patience).await?;
    for version in &recorded {
        let is_due = match version.mode {
            Mode::Seed => {
                let replaced = recorded.iter().any(|later| later.instead_of == Some(version.version));
                !replaced && !replaces(version, &recorded, &has)
            }
            mode => mode == Mode::EachTenant,
        };
        if is_due && !has.contains(&version.version) {
            work.for_tenant(version, tenant, "").await.map_err(apply::explain)?;
        }
    }
    Ok(())
}

/// Writes down that a tenant whose rows came from elsewhere has everything that the placement's ledger has now: they were in a placement
/// of the same version. To be called while nobody may migrate it ([`hold_still`](super::hold_still)).
///
/// # Errors
///
/// The database's.
///
/// # Cancel safety
///
/// Dropping the future leaves it done or not done; running it again changes nothing.
pub async fn note_loaded(client: &Client, target: &Target, tenant: TenantId) -> Result<(), ApplyError> {
    let schema = target.schema.as_str();
    // Those without data as well: a tenant of which nothing is noted would be taken for one without rows.
    let versions: Vec<i64> = ledger::read(client, schema).await?.into_keys().collect();
    Ok(note_had(client, schema, tenant, &versions).await?)
}

fn recorded<'a>(derived: &'a Derived, ledger: &BTreeMap<i64, AppliedVersion>) -> Vec<&'a Version> {
    let versions = derived.versions.iter();
    versions
        .filter(|version| !version.is_overlay() && ledger.contains_key(&version.version))
        .collect()
}

/// Whether the tenant has the seed that this one replaces, or one that that one replaced.
fn replaces(seed: &Version, recorded: &[&Version], has: &BTreeSet<i64>) -> bool {
    let mut older = seed.instead_of;
    while let Some(number) = older {
        if has.contains(&number) {
            return true;
        }
        // Each replaces an earlier one: this ends.
        older = recorded
            .iter()
            .find(|version| version.version == number)
            .and_then(|version| version.instead_of);
    }
    false
}

/// Which of the migrations the tenant has. Each is asked for by its number: the index has the tenant behind that, and would be read for all
/// tenants.
async fn had(client: &Client, schema: &str, tenant: TenantId, derived: &Derived) -> Result<BTreeSet<i64>, Error> {
    let versions: Vec<i64> = derived.versions.iter().map(|version| version.version).collect();
    let rows = client
        .query(
            "select version from tenantry_private.migration_tenant where schema = $1 and tenant = $2 and version = any ($3)",
            &[&schema, tenant.as_uuid(), &versions],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn note_had(client: &Client, schema: &str, tenant: TenantId, versions: &[i64]) -> Result<(), Error> {
    if versions.is_empty() {
        return Ok(());
    }
    client
        .execute(
            "insert into tenantry_private.migration_tenant (schema, version, tenant)
             select $1, v, $2 from unnest($3::int8[]) as v
             on conflict do nothing",
            &[&schema, tenant.as_uuid(), &versions],
        )
        .await
        .map(drop)
}
