//! What a tenant without rows costs in each isolation: for docs/choosing.md, without a target.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;

use super::{
    create,
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    world::{World, authority, ops_with},
};

/// A later migration as there are many: a column and an index.
pub(super) const LATER: (&str, &str) = (
    "0100_bench.sql",
    "alter table contacts add column nickname text;
     create index contacts_nickname on contacts (nickname);",
);

/// Rows that every backend's caches, every dump and every `vacuum` of the catalogs meet.
const CATALOG_ROWS: &str = "select (select count(*) from pg_class) + (select count(*) from pg_attribute)
    + (select count(*) from pg_attrdef) + (select count(*) from pg_constraint) + (select count(*) from pg_index)
    + (select count(*) from pg_policy) + (select count(*) from pg_type) + (select count(*) from pg_depend)
    + (select count(*) from pg_shdepend) + (select count(*) from pg_trigger) + (select count(*) from pg_namespace)
    + (select count(*) from pg_proc) + (select count(*) from pg_description)";

/// Makes tenants in each isolation, and migrates all of them.
pub(super) async fn costs(run: &Run) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, isolation, count) in [
        ("cost-shared", Isolation::Shared, 40),
        ("cost-schema", Isolation::Schema, 20),
        ("cost-database", Isolation::Database, 5),
    ] {
        findings.push(cost(&run.world, name, isolation, count).await?);
    }
    findings.push(migrate(&run.world).await?);
    Ok(findings)
}

async fn cost(world: &World, name: &'static str, isolation: Isolation, count: u32) -> Result<Finding> {
    let before = usage(world).await?;
    let mut times_ms = Vec::new();
    for _ in 0..count {
        let time = create::make(world, isolation).await?;
        times_ms.push(time.as_secs_f64() * 1e3);
    }
    let after = usage(world).await?;
    let per_tenant = |after: i64, before: i64| (after - before) as f64 / f64::from(count);
    Ok(Finding::new(
        name,
        format!("creating a tenant, isolation {isolation}: whole operation"),
        "–",
        Spread::of(times_ms),
        Target::None,
    )
    .unit("ms")
    .detail(format!(
        "{:.0} rows in system catalogs and {:.0} kB on disk per tenant without rows",
        per_tenant(after.rows, before.rows),
        per_tenant(after.bytes, before.bytes) / 1024.0
    )))
}

struct Usage {
    rows: i64,
    bytes: i64,
}

/// Of all databases together.
async fn usage(world: &World) -> Result<Usage> {
    let mut admin = world.admin("postgres").await?;
    let databases = admin
        .query(
            "select datname::text, pg_database_size(oid) from pg_database
             where datallowconn and not datistemplate and datname <> $1",
            &[&tenantry_catalog::CATALOG_NAME],
        )
        .await?;
    let mut usage = Usage { rows: 0, bytes: 0 };
    for row in databases.rows {
        let (name, bytes): (String, i64) = (row.get(0)?, row.get(1)?);
        let counted = world.admin(&name).await?.query(CATALOG_ROWS, &[]).await?;
        usage.rows += counted.rows.first().context("nothing was counted")?.get::<i64>(0)?;
        usage.bytes += bytes;
    }
    Ok(usage)
}

/// One more version for the whole fleet, each schema and database in its own transaction.
async fn migrate(world: &World) -> Result<Finding> {
    let files = tenantry_crm::MIGRATIONS.iter().copied().chain([LATER]);
    let ops = ops_with(world.ops.catalog().clone(), Arc::new(Files::from_embedded(files)?));
    let begun = Instant::now();
    let report = ops.apply_migrations(&authority()).await?;
    let whole = begun.elapsed();
    ensure!(
        report.failed.is_empty(),
        "{} schemas could not be migrated",
        report.failed.len()
    );
    let mut databases: Vec<&str> = report.applied.iter().map(|site| site.database.as_str()).collect();
    databases.sort_unstable();
    databases.dedup();
    let mut times_ms = Vec::new();
    for database in databases {
        let mut admin = world.admin(database).await?;
        let sql = "select duration_ms from tenantry_private.migration where name = $1";
        for row in admin.query(sql, &[&LATER.0]).await?.rows {
            times_ms.push(row.get::<i64>(0)? as f64);
        }
    }
    ensure!(!times_ms.is_empty(), "no ledger has the migration");
    Ok(Finding::new(
        "cost-migrate",
        "a later migration (a column and an index) of one schema or database",
        "–",
        Spread::of(times_ms),
        Target::None,
    )
    .unit("ms")
    .detail(format!(
        "{} schemas and databases, two at a time, in {:.0} ms; all shared tenants are one of them",
        report.applied.len(),
        whole.as_secs_f64() * 1e3
    )))
}
