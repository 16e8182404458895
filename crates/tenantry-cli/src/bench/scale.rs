//! How large a fleet can be: a million tenants in shared tables, and 2,000 schemas of 20 tables.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use secrecy::ExposeSecret as _;
use tenantry::{Credentials, HeaderField, Resolver, ResolverConfig};
use tenantry_core::{Isolation, Role, TenantId};
use tenantry_engine::migrate::Files;
use tenantry_ops::{ApiKeyRequest, Ops, Rollout};
use tenantry_wire::Connection;

use super::{
    create,
    crowd::{self, Crowd},
    measure::Spread,
    report::{Finding, Target},
    run::Run,
    world::{World, authority, ops_with},
};

/// Tables in each schema: the application's three, and these.
const MORE_TABLES: usize = 17;

/// A million tenants of one installation.
pub(super) async fn million(run: &Run, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let (world, sizes) = (&run.world, run.sizes);
    let (tenants_in_all, contacts) = (sizes.million, sizes.contacts);
    let catalog = tenantry_catalog::CATALOG_NAME;
    let before = (
        size(world, catalog).await?,
        size(world, &world.shared[0].database).await?,
    );
    progress("million: making the tenants");
    let place = crowd::place(world, &world.shared[0].database).await?;
    let crowd = Crowd {
        name: "one",
        tenants: sizes.million,
        rows: sizes.contacts,
        exponent: 1.0,
    };
    let begun = Instant::now();
    let tenants = crowd::settle(world, &place, crowd).await?;
    let made = begun.elapsed();
    world.admin(catalog).await?.batch("vacuum (analyze)").await?;
    world.admin(&place.database).await?.batch("vacuum (analyze)").await?;
    let after = (size(world, catalog).await?, size(world, &place.database).await?);
    progress("million: resolving");
    // Large and small ones.
    let stride = tenants.len() / sizes.active;
    let active: Vec<TenantId> = tenants.iter().copied().step_by(stride).take(sizes.active).collect();
    let keys = keys(&world.ops, &active).await?;
    let mut findings = resolving(run, &keys).await?;
    progress("million: reading");
    findings.push(reading(run, &active).await?);
    findings.push(
        Finding::new(
            "million-catalog",
            format!("the catalog's size for each of {tenants_in_all} tenants in shared tables"),
            "–",
            Spread::of([(after.0 - before.0) as f64 / tenants_in_all as f64]),
            Target::None,
        )
        .unit("bytes")
        .detail(format!(
            "{} MB in all; the shared tenant database {} MB with {contacts} contacts by Zipf's law; made in {:.0} s",
            after.0 / 1_000_000,
            (after.1 - before.1) / 1_000_000,
            made.as_secs_f64()
        )),
    );
    Ok(findings)
}

async fn keys(ops: &Ops, tenants: &[TenantId]) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for tenant in tenants {
        let request = ApiKeyRequest {
            name: "benchmark".to_owned(),
            role: Role::Member,
            expires_at: None,
        };
        let (_, key) = ops.create_api_key(&authority(), *tenant, &request).await?;
        keys.push(format!("Bearer {}", key.expose_secret()));
    }
    Ok(keys)
}

/// The first time and again, of each of the keys, by a process that has just started.
async fn resolving(run: &Run, keys: &[String]) -> Result<Vec<Finding>> {
    let (world, tenants_in_all) = (&run.world, run.sizes.million);
    let catalog = world.ops.catalog().clone();
    let resolver =
        Resolver::start(catalog.clone(), ResolverConfig::new("tenantry", "tenantry")).map_err(anyhow::Error::msg)?;
    let client = catalog.client().await?;
    let scans = "select coalesce(sum(seq_scan), 0)::int8, coalesce(sum(seq_tup_read), 0)::int8 from pg_stat_user_tables
                 where relname in ('tenant', 'placement')";
    let scanned = |row: tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, i64>(1));
    client.batch_execute("select pg_stat_force_next_flush()").await.ok();
    let before = scanned(client.query_one(scans, &[]).await?);
    let mut cold_us = Vec::new();
    let mut lookups = BTreeSet::new();
    for key in keys {
        let asked = resolver.catalog_lookups();
        let begun = Instant::now();
        resolver.resolve(&credentials(key)).await?;
        cold_us.push(begun.elapsed().as_secs_f64() * 1e6);
        lookups.insert(resolver.catalog_lookups() - asked);
    }
    let mut warm_us = Vec::new();
    for _ in 0..25 {
        let begun = Instant::now();
        for key in keys {
            std::hint::black_box(resolver.resolve(&credentials(key)).await?);
        }
        warm_us.push(begun.elapsed().as_secs_f64() * 1e6 / keys.len() as f64);
    }
    // Backends tell their counts when they are idle for a while.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = scanned(client.query_one(scans, &[]).await?);
    let most = lookups.last().copied().unwrap_or_default();
    Ok(vec![
        Finding::new(
            "million-warm",
            format!(
                "resolving the key of one of {} active tenants among {tenants_in_all}, seen before",
                keys.len()
            ),
            "–",
            Spread::of(warm_us),
            Target::AtMost(3.0),
        )
        .unit("µs")
        .detail("another tenant with each call; no query to any database"),
        Finding::new(
            "million-cold",
            format!(
                "questions to the catalog for a key that this process has not seen, among {tenants_in_all} tenants"
            ),
            "–",
            Spread::of([most as f64]),
            Target::AtMost(1.0),
        )
        .unit("questions")
        .detail(format!(
            "{:.0} µs; {} rows of tenants or placements were read one after the other instead of by an index",
            Spread::of(cold_us).median,
            after.1 - before.1
        )),
    ])
}

fn credentials(authorization: &str) -> Credentials<'_> {
    Credentials {
        authorization: HeaderField::Once(authorization),
        ..Credentials::default()
    }
}

/// A point query of one tenant after another.
async fn reading(run: &Run, tenants: &[TenantId]) -> Result<Finding> {
    let tenants_in_all = run.sizes.million;
    let handle = run.world.handle(1)?;
    let mut scopes = Vec::new();
    for tenant in tenants {
        scopes.push(handle.system_context(*tenant, "benchmark").await?);
    }
    let mut rounds_us = Vec::new();
    for _ in 0..run.plan.rounds.min(5) {
        let begun = Instant::now();
        for scope in &scopes {
            let sql = "select name from contacts where email = 'person-1@example.com'";
            ensure!(scope.query(sql, &[]).await?.len() == 1, "a tenant has no contact");
        }
        rounds_us.push(begun.elapsed().as_secs_f64() * 1e6 / scopes.len() as f64);
    }
    Ok(Finding::new(
        "million-read",
        format!(
            "a point select by its key in scope, another of {} tenants among {tenants_in_all} with each call",
            scopes.len()
        ),
        "–",
        Spread::of(rounds_us),
        Target::None,
    )
    .unit("µs")
    .detail("one connection, bound anew with each call"))
}

/// Two thousand schemas of twenty tables in one database.
pub(super) async fn schemas(run: &Run, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let (world, schemas) = (&run.world, run.sizes.schemas);
    let database = &world.schema.database;
    let ops = twenty(world, &[])?;
    ops.derive_migrations().await?;
    let catalog_rows = "select (select count(*) from pg_class) + (select count(*) from pg_attribute)
                             + (select count(*) from pg_constraint) + (select count(*) from pg_depend)
                             + (select count(*) from pg_policy) + (select count(*) from pg_index)";
    let rows = async || -> Result<i64> { number(&mut world.admin(database).await?, catalog_rows).await };
    ops.apply_migrations(&authority()).await?;
    let before = (rows().await?, size(world, database).await?);
    let mut times_ms = Vec::new();
    for made in 0..schemas {
        if made % 100 == 0 {
            progress(&format!("schemas: {made} of {schemas} made"));
        }
        times_ms.push(create::make_by(&ops, Isolation::Schema).await?.as_secs_f64() * 1e3);
    }
    let after = (rows().await?, size(world, database).await?);
    let part = (schemas / 20).max(1);
    let (first, last) = (&times_ms[..part], &times_ms[schemas - part..]);
    let mut findings = vec![
        Finding::new(
            "schemas-create",
            format!("creating the last {part} of {schemas} schemas of 20 tables in one database: one of them"),
            "the first ones",
            Spread::of([Spread::of(last.to_vec()).median / Spread::of(first.to_vec()).median]),
            Target::None,
        )
        .detail(format!(
            "{:.0} ms against {:.0} ms; {} rows in system catalogs and {} kB on disk for each schema",
            Spread::of(last.to_vec()).median,
            Spread::of(first.to_vec()).median,
            (after.0 - before.0) / schemas as i64,
            (after.1 - before.1) / 1000 / schemas as i64
        )),
    ];
    progress("schemas: one backend goes through many");
    findings.extend(backend(run).await?);
    progress("schemas: nothing pending");
    findings.push(nothing_pending(run, &ops).await?);
    progress("schemas: a column and an index in each");
    let more = [(
        "0101_bench.sql",
        "alter table contacts add column nickname text; create index contacts_nickname on contacts (nickname);",
    )];
    let ops = twenty(world, &more)?;
    ops.derive_migrations().await?;
    let mut rollout = Rollout::default();
    rollout.per_server = 2;
    let begun = Instant::now();
    let report = ops.roll_out(&authority(), &rollout, &|_| {}).await?;
    ensure!(
        report.failed.is_empty(),
        "{} schemas stayed behind",
        report.failed.len()
    );
    findings.push(
        Finding::new(
            "schemas-column",
            format!("add column and create index in {schemas} schemas of 20 tables, 2 connections: one of them"),
            "–",
            Spread::of([begun.elapsed().as_secs_f64() * 1e3 / report.applied.len() as f64]),
            Target::None,
        )
        .unit("ms")
        .detail(format!(
            "{} schemas in {:.1} s",
            report.applied.len(),
            begun.elapsed().as_secs_f64()
        )),
    );
    Ok(findings)
}

/// The application's tables, seventeen more, and these migrations.
fn twenty(world: &World, more: &[(&str, &str)]) -> Result<Ops> {
    let own = tenantry_crm::MIGRATIONS
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let tables: String = (0..MORE_TABLES)
        .map(|n| {
            format!(
                "create table more_{n} (id uuid primary key default gen_random_uuid(), name text not null,
                     contact_id uuid references contacts on delete cascade, created_at timestamptz not null default now());\n"
            )
        })
        .collect();
    let more = more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let files = Files::from_embedded(own.chain([("0100_more.sql".to_owned(), tables)]).chain(more))?;
    Ok(ops_with(world.ops.catalog().clone(), Arc::new(files)))
}

/// What a backend remembers of each table, and what the first statement in a schema costs more than the next.
async fn backend(run: &Run) -> Result<Vec<Finding>> {
    let (world, schemas, touched) = (&run.world, run.sizes.schemas, run.sizes.touched);
    let client = world.ops.catalog().client().await?;
    let sql =
        "select schema_name from placement where isolation = 'schema' and ready order by changed_at desc limit $1";
    let rows = client.query(sql, &[&i64::try_from(touched)?]).await?;
    let mut admin = world.admin(&world.schema.database).await?;
    let memory = "select sum(total_bytes)::int8 from pg_backend_memory_contexts";
    let before = number(&mut admin, memory).await?;
    let (mut first_us, mut again_us) = (Vec::new(), Vec::new());
    for row in &rows {
        let schema: String = row.get(0);
        for times in [&mut first_us, &mut again_us] {
            let begun = Instant::now();
            admin
                .batch(&format!(
                    "explain select * from {schema}.contacts where tenant_id = gen_random_uuid() and name = 'x'"
                ))
                .await?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let rest: Vec<String> = (0..MORE_TABLES)
            .map(|n| format!("(select count(*) from {schema}.more_{n})"))
            .chain(["tasks", "projects"].map(|table| format!("(select count(*) from {schema}.{table})")))
            .collect();
        admin.batch(&format!("select {}", rest.join(" + "))).await?;
    }
    let after = number(&mut admin, memory).await?;
    let tables = (touched * (MORE_TABLES + 3)) as f64;
    Ok(vec![
        Finding::new(
            "schemas-planning",
            format!("planning a statement in a schema that the backend has not seen, of {schemas}"),
            "the same statement again",
            Spread::of(first_us.iter().zip(&again_us).map(|(first, again)| first / again)),
            Target::None,
        )
        .detail(format!(
            "{:.0} µs against {:.0} µs",
            Spread::of(first_us).median,
            Spread::of(again_us).median
        )),
        Finding::new(
            "schemas-memory",
            format!("what a backend remembers of each table after {touched} schemas of 20"),
            "–",
            Spread::of([(after - before) as f64 / 1000.0 / tables]),
            Target::None,
        )
        .unit("kB")
        .detail(format!("{} MB in all", (after - before) / 1_000_000)),
    ])
}

async fn nothing_pending(run: &Run, ops: &Ops) -> Result<Finding> {
    let schemas = run.sizes.schemas;
    let mut times_ms = Vec::new();
    for _ in 0..run.plan.rounds.max(3) {
        let begun = Instant::now();
        let report = ops.apply_migrations(&authority()).await?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(
            report.applied.is_empty() && report.failed.is_empty() && report.current >= schemas,
            "something was pending"
        );
    }
    Ok(Finding::new(
        "schemas-nothing",
        format!("a run over {schemas} schemas with nothing pending"),
        "–",
        Spread::of(times_ms),
        Target::AtMost(100.0),
    )
    .unit("ms")
    .detail("one query to the catalog; no tenant database is asked"))
}

async fn size(world: &World, database: &str) -> Result<i64> {
    let mut admin = world.admin("postgres").await?;
    number(&mut admin, &format!("select pg_database_size('{database}')")).await
}

async fn number(client: &mut Connection, sql: &str) -> Result<i64> {
    let outcome = client.query(sql, &[]).await?;
    Ok(outcome.rows.first().context("no row")?.get(0)?)
}
