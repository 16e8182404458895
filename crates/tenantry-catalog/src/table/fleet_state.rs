//! How far every schema of the fleet is: one query over the catalog's copy of the ledgers, and no tenant database asked.

use chrono::{DateTime, Utc};
use tenantry_core::{Change, SHARED_SCHEMA, TenantDatabaseId, TenantId};
use uuid::Uuid;

use super::{
    placement::Site,
    tenant_database::{COLUMNS, TenantDatabase},
};
use crate::{
    CatalogError, Db, Transaction,
    text::{parsed, words},
};

words! {
    /// How the catalog's copy of a ledger was wrong about a migration.
    Mistake {
        /// The ledger has it, and the copy had not.
        Missing = "missing",
        /// The copy had it, and the ledger has not.
        Extra = "extra",
        /// Both have it, with another name or text.
        Changed = "changed",
    }
}

/// What was corrected in the catalog's copy of a ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correction {
    /// Whose ledger: the schema; with `/overlay` behind it, that of one tenant's own files.
    pub schema: String,
    /// The migration's number.
    pub version: i64,
    /// The file's name.
    pub name: String,
    /// How it was wrong.
    pub mistake: Mistake,
}

/// A migration as it should stand in every ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected<'a> {
    /// Its number.
    pub version: i64,
    /// SHA-256 of its text, in hex.
    pub checksum: &'a str,
}

/// A schema with the application's tables, and what the catalog knows of its ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteState {
    /// Which one.
    pub site: Site,
    /// The plan of the tenant that it belongs to.
    pub plan: Option<String>,
    /// What stands in the tenant's settings under `labels`, if it is an object.
    pub labels: Option<serde_json::Value>,
    /// The newest version it has; 0 for none.
    pub version: i64,
    /// How many versions it has.
    pub versions: usize,
    /// How many of them are expected, with the same text.
    pub expected: usize,
    /// Why the last attempt to migrate it failed, where none has succeeded since.
    pub error: Option<String>,
}

/// Every schema with the application's tables and its state, the shared ones first on each server.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, expected: &[Expected<'_>]) -> Result<Vec<SiteState>, CatalogError> {
    let versions: Vec<i64> = expected.iter().map(|expected| expected.version).collect();
    let checksums: Vec<&str> = expected.iter().map(|expected| expected.checksum).collect();
    let sites = super::placement::SITES;
    let sql = format!(
        "with expected as (select * from unnest($1::bigint[], $2::text[]) as e (version, checksum)),
              ledger as (
                  select m.tenant_database, m.schema_name, max(m.version) as newest, count(*) as versions,
                         count(e.version) as expected
                  from app_migration as m
                  left join expected as e on e.version = m.version and e.checksum = m.checksum
                  group by m.tenant_database, m.schema_name)
         select {COLUMNS}, s.name, x.schema_name, x.tenant, x.slug, x.plan,
                coalesce(l.newest, 0), coalesce(l.versions, 0), coalesce(l.expected, 0), f.error,
                x.labels
         from ({sites}) as x
         join tenant_database as d on d.id = x.tenant_database
         join server as s on s.id = d.server
         left join ledger as l on l.tenant_database = x.tenant_database and l.schema_name = x.schema_name
         left join app_migration_failure as f
                on f.tenant_database = x.tenant_database and f.schema_name = x.schema_name
         where d.state = 'ready'
         order by s.name, d.kind desc, d.name, x.tenant nulls first"
    );
    let rows = db.query(&sql, &[&versions, &checksums, &SHARED_SCHEMA]).await?;
    rows.iter()
        .map(|row| {
            Ok(SiteState {
                site: Site {
                    database: TenantDatabase::from_row(row, 0)?,
                    server: row.get(10),
                    schema: row.get(11),
                    tenant: row.get::<_, Option<Uuid>>(12).map(TenantId::from_uuid),
                    slug: row.get(13),
                },
                plan: row.get(14),
                version: row.get(15),
                versions: count(row.get(16)),
                expected: count(row.get(17)),
                error: row.get(18),
                labels: row.get(19),
            })
        })
        .collect()
}

/// How many schemas lack the newest migration that any schema has, and how many could not be migrated at the last attempt.
///
/// # Errors
/// When the catalog fails.
pub async fn count_behind(db: &impl Db) -> Result<(i64, i64), CatalogError> {
    let sites = super::placement::SITES.replace("$3", "$1");
    let sql = format!(
        "select (select count(*)
                 from ({sites}) as x
                 join tenant_database as d on d.id = x.tenant_database and d.state = 'ready'
                 cross join (select coalesce(max(version), 0) as version from app_migration
                             where schema_name not like '%/overlay') as newest
                 where newest.version > coalesce((select max(m.version) from app_migration as m
                                                  where m.tenant_database = x.tenant_database
                                                    and m.schema_name = x.schema_name), 0)),
                (select count(*) from app_migration_failure as f
                 join ({sites}) as x on x.tenant_database = f.tenant_database and x.schema_name = f.schema_name)"
    );
    let row = db.query_one(&sql, &[&SHARED_SCHEMA]).await?;
    Ok((row.get(0), row.get(1)))
}

fn count(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// Which of single tenants' own migrations have been applied, in their order: database, schema, number, checksum.
///
/// # Errors
/// When the catalog fails.
pub async fn list_overlays(db: &impl Db) -> Result<Vec<(TenantDatabaseId, String, i64, String)>, CatalogError> {
    let rows = db
        .query(
            "select tenant_database, split_part(schema_name, '/', 1), version, checksum
             from app_migration where schema_name like '%/overlay'
             order by tenant_database, schema_name, version",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                TenantDatabaseId::from_uuid(row.get(0)),
                row.get(1),
                row.get(2),
                row.get(3),
            )
        })
        .collect())
}

/// Records that these schemas have these versions, as number, name and checksum; none of them is a straggler any more.
/// A database that is gone is passed over. The commit does not wait for the disk.
///
/// # Errors
/// When the catalog fails.
pub async fn record(
    db: &impl Db,
    sites: &[(TenantDatabaseId, String)],
    versions: &[(i64, &str, &str)],
) -> Result<(), CatalogError> {
    const LIGHT: &str = "light as materialized (select set_config('synchronous_commit', 'off', true)),";
    write_down(db, LIGHT, "light,", sites, versions).await
}

/// The same within a transaction that is more, whose commit is waited for.
///
/// # Errors
/// When the catalog fails.
pub async fn record_within(
    transaction: &Transaction<'_>,
    sites: &[(TenantDatabaseId, String)],
    versions: &[(i64, &str, &str)],
) -> Result<(), CatalogError> {
    write_down(transaction, "", "", sites, versions).await
}

async fn write_down(
    db: &impl Db,
    first: &str,
    from_first: &str,
    sites: &[(TenantDatabaseId, String)],
    versions: &[(i64, &str, &str)],
) -> Result<(), CatalogError> {
    let databases: Vec<Uuid> = sites.iter().map(|(database, _)| *database.as_uuid()).collect();
    let schemas: Vec<&str> = sites.iter().map(|(_, schema)| schema.as_str()).collect();
    let numbers: Vec<i64> = versions.iter().map(|version| version.0).collect();
    let names: Vec<&str> = versions.iter().map(|version| version.1).collect();
    let checksums: Vec<&str> = versions.iter().map(|version| version.2).collect();
    let sql = format!(
        "with {first}
         site as (
             select s.tenant_database, s.schema_name
             from {from_first} unnest($1::uuid[], $2::text[]) as s (tenant_database, schema_name)
             join tenant_database as d on d.id = s.tenant_database),
         cleared as (
             delete from app_migration_failure as f using site as s
             where f.tenant_database = s.tenant_database and f.schema_name = s.schema_name)
         insert into app_migration (tenant_database, schema_name, version, name, checksum)
         select s.tenant_database, s.schema_name, v.version, v.name, v.checksum
         from site as s, unnest($3::bigint[], $4::text[], $5::text[]) as v (version, name, checksum)
         on conflict do nothing"
    );
    db.execute(&sql, &[&databases, &schemas, &numbers, &names, &checksums])
        .await?;
    Ok(())
}

/// The version below which no tenant is served; 0 for none.
///
/// # Errors
/// When the catalog fails.
pub async fn minimum(db: &impl Db) -> Result<i64, CatalogError> {
    Ok(db
        .query_one("select schema_version_min from installation", &[])
        .await?
        .get(0))
}

/// Sets it, and gives what it was. Every process hears of it.
///
/// # Errors
/// When the catalog fails.
pub async fn set_minimum(db: &impl Db, version: i64) -> Result<i64, CatalogError> {
    let before = db
        .query_one(
            "update installation as i set schema_version_min = $1 from installation as old
             where old.singleton = i.singleton
             returning old.schema_version_min",
            &[&version],
        )
        .await?;
    crate::change::announce(db, Change::Servers).await?;
    Ok(before.get(0))
}

/// Tells every process that the tenants of these schemas have another version: what they remember of a home is void.
///
/// # Errors
/// When the catalog fails.
pub async fn announce(db: &impl Db, sites: &[(TenantDatabaseId, String)]) -> Result<(), CatalogError> {
    // Of shared tables all tenants are concerned: one word for all of them.
    if sites.iter().any(|(_, schema)| schema == SHARED_SCHEMA) {
        return crate::change::announce(db, Change::Servers).await;
    }
    let databases: Vec<Uuid> = sites.iter().map(|(database, _)| *database.as_uuid()).collect();
    let schemas: Vec<&str> = sites.iter().map(|(_, schema)| schema.as_str()).collect();
    db.execute(
        "with concerned as (
             select 'tenant:' || p.tenant as payload
             from unnest($1::uuid[], $2::text[]) as s (tenant_database, schema_name)
             join placement as p on p.tenant_database = s.tenant_database and p.schema_name = s.schema_name),
         logged as (insert into change (payload) select payload from concerned returning payload)
         select pg_notify($3, payload) from logged",
        &[&databases, &schemas, &crate::change::CHANNEL],
    )
    .await?;
    Ok(())
}

/// What the catalog's clock says, as its rows have it.
///
/// # Errors
/// When the catalog fails.
pub async fn now(db: &impl Db) -> Result<DateTime<Utc>, CatalogError> {
    Ok(db.query_one("select clock_timestamp()", &[]).await?.get(0))
}

/// Makes the catalog's copy of one database's ledgers equal to what was read there: schema, version, name, checksum.
/// Which rows were wrong. What was recorded since `read_at`, when that began, stays: it was migrated meanwhile.
///
/// # Errors
/// When the catalog fails.
pub async fn reconcile(
    db: &impl Db,
    database: TenantDatabaseId,
    ledger: &[(String, i64, String, String)],
    read_at: DateTime<Utc>,
) -> Result<Vec<Correction>, CatalogError> {
    let schemas: Vec<&str> = ledger.iter().map(|row| row.0.as_str()).collect();
    let numbers: Vec<i64> = ledger.iter().map(|row| row.1).collect();
    let names: Vec<&str> = ledger.iter().map(|row| row.2.as_str()).collect();
    let checksums: Vec<&str> = ledger.iter().map(|row| row.3.as_str()).collect();
    let rows = db
        .query(
            // All of it sees the copy as it was before.
            "with truth as (
                 select * from unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) as t (schema_name, version, name, checksum)),
             removed as (
                 delete from app_migration as m
                 where m.tenant_database = $1 and m.applied_at < $6
                   and not exists (select from truth as t where t.schema_name = m.schema_name and t.version = m.version)
                 returning m.schema_name, m.version, m.name),
             written as (
                 insert into app_migration as m (tenant_database, schema_name, version, name, checksum)
                 select $1, t.schema_name, t.version, t.name, t.checksum from truth as t
                 on conflict (tenant_database, schema_name, version) do update
                     set name = excluded.name, checksum = excluded.checksum
                     where (m.name, m.checksum) is distinct from (excluded.name, excluded.checksum)
                 returning m.schema_name, m.version, m.name)
             select r.schema_name, r.version, r.name, 'extra' from removed as r
             union all
             select w.schema_name, w.version, w.name,
                    case when exists (select from app_migration as was
                                      where was.tenant_database = $1 and was.schema_name = w.schema_name
                                        and was.version = w.version)
                         then 'changed' else 'missing' end
             from written as w
             order by 1, 2",
            &[database.as_uuid(), &schemas, &numbers, &names, &checksums, &read_at],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Correction {
                schema: row.get(0),
                version: row.get(1),
                name: row.get(2),
                mistake: parsed(row, 3, "app_migration.mistake")?,
            })
        })
        .collect()
}
