//! Backups of tenants: which there are, and each tenant's key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tenantry_core::TenantId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{Catalog, CatalogError, Column, Db};

/// A backup that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    /// Its id.
    pub id: Uuid,
    /// Of which tenant.
    pub tenant: TenantId,
    /// The moment of which it is.
    pub taken_at: DateTime<Utc>,
    /// How many bytes it has in the store.
    pub bytes: i64,
    /// How many rows.
    pub rows: i64,
    /// SHA-256 of what the archive's signature covers, in hex.
    pub digest: String,
    /// When a drill last restored it.
    pub drilled_at: Option<DateTime<Utc>>,
}

/// What became of a backup that was written.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The moment of which it is.
    pub taken_at: DateTime<Utc>,
    /// How many bytes it has in the store.
    pub bytes: i64,
    /// How many rows.
    pub rows: i64,
    /// SHA-256 of what the archive's signature covers, in hex.
    pub digest: &'a str,
}

const COLUMNS: &str = "id, tenant, taken_at, bytes, rows, digest, drilled_at";

fn backup(row: &Row) -> Backup {
    Backup {
        id: row.get(0),
        tenant: TenantId::from_uuid(row.get(1)),
        taken_at: row.get(2),
        bytes: row.get(3),
        rows: row.get(4),
        digest: row.get(5),
        drilled_at: row.get(6),
    }
}

fn key_column(tenant: TenantId) -> Column {
    Column {
        table: "backup_key",
        column: "key_sealed",
        id: *tenant.as_uuid(),
    }
}

/// The tenant's key; `new` becomes it where there is none. `None` for a tenant that is purged: its key was erased, and a new one would
/// be one that nobody erases.
///
/// # Errors
/// When the catalog fails, or the key does not open.
pub async fn ensure_key(
    catalog: &Catalog,
    db: &impl Db,
    tenant: TenantId,
    new: &[u8; 32],
) -> Result<Option<[u8; 32]>, CatalogError> {
    // The lock waits for a purge that is about to say so.
    db.execute(
        "insert into backup_key (tenant, key_sealed)
         select t.id, $2 from tenant as t where t.id = $1 and t.state <> 'purged' for share
         on conflict (tenant) do nothing",
        &[tenant.as_uuid(), &catalog.seal(key_column(tenant), new)],
    )
    .await?;
    find_key(catalog, db, tenant).await
}

/// The tenant's key; `None` where it has none, or none any more.
///
/// # Errors
/// When the catalog fails, or the key does not open.
pub async fn find_key(catalog: &Catalog, db: &impl Db, tenant: TenantId) -> Result<Option<[u8; 32]>, CatalogError> {
    let row = db
        .query_opt(
            "select key_sealed from backup_key where tenant = $1",
            &[tenant.as_uuid()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let bytes = catalog.open(key_column(tenant), row.get(0))?;
    Ok(bytes.try_into().ok())
}

/// Erases the tenant's key: its backups open no more, wherever copies of them are.
///
/// # Errors
/// When the catalog fails.
pub async fn erase_key(db: &impl Db, tenant: TenantId) -> Result<bool, CatalogError> {
    let rows = db
        .execute("delete from backup_key where tenant = $1", &[tenant.as_uuid()])
        .await?;
    Ok(rows > 0)
}

/// Records that a backup is being written; `false` where another one of the tenant is.
///
/// # Errors
/// When the catalog fails.
pub async fn begin(db: &impl Db, id: Uuid, tenant: TenantId) -> Result<bool, CatalogError> {
    let rows = db
        .execute(
            "insert into backup (id, tenant) values ($1, $2) on conflict (tenant) where state = 'writing' do nothing",
            &[&id, tenant.as_uuid()],
        )
        .await?;
    Ok(rows > 0)
}

/// Records that all of it is in the store; `false` where it was given up meanwhile.
///
/// # Errors
/// When the catalog fails.
pub async fn keep(db: &impl Db, id: Uuid, kept: &Kept<'_>) -> Result<bool, CatalogError> {
    let rows = db
        .execute(
            "update backup set state = 'kept', taken_at = $2, bytes = $3, rows = $4, digest = $5
             where id = $1 and state = 'writing'",
            &[&id, &kept.taken_at, &kept.bytes, &kept.rows, &kept.digest],
        )
        .await?;
    Ok(rows > 0)
}

/// The kept ones of a tenant, or of all, the newest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, tenant: Option<TenantId>) -> Result<Vec<Backup>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "select {COLUMNS} from backup
                 where state = 'kept' and ($1::uuid is null or tenant = $1)
                 order by taken_at desc, id desc"
            ),
            &[&tenant.map(|tenant| *tenant.as_uuid())],
        )
        .await?;
    Ok(rows.iter().map(backup).collect())
}

/// Those that operations are putting in the place of tenants' rows: whoever takes such an operation over reads its backup again.
///
/// # Errors
/// When the catalog fails.
pub async fn list_wanted(db: &impl Db) -> Result<Vec<Uuid>, CatalogError> {
    const SQL: &str = "select (input ->> 'backup')::uuid from operation
         where kind = 'restore' and state in ('pending', 'running', 'undoing', 'paused')";
    let rows = db.query(SQL, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// One that is kept.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, id: Uuid) -> Result<Option<Backup>, CatalogError> {
    let text = format!("select {COLUMNS} from backup where id = $1 and state = 'kept'");
    Ok(db.query_opt(&text, &[&id]).await?.as_ref().map(backup))
}

/// Records that a drill restored it.
///
/// # Errors
/// When the catalog fails.
pub async fn note_drill(db: &impl Db, id: Uuid) -> Result<(), CatalogError> {
    db.execute("update backup set drilled_at = now() where id = $1", &[&id])
        .await?;
    Ok(())
}

/// Those that were being written so long ago that their process must have ended.
///
/// # Errors
/// When the catalog fails.
pub async fn list_abandoned(db: &impl Db, after: Duration) -> Result<Vec<(Uuid, TenantId)>, CatalogError> {
    let rows = db
        .query(
            "select id, tenant from backup where state = 'writing' and created_at < now() - make_interval(secs => $1)",
            &[&after.as_secs_f64()],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), TenantId::from_uuid(row.get(1))))
        .collect())
}

/// Forgets one whose object is gone.
///
/// # Errors
/// When the catalog fails.
pub async fn forget(db: &impl Db, id: Uuid) -> Result<(), CatalogError> {
    db.execute("delete from backup where id = $1", &[&id]).await?;
    Ok(())
}

/// All of a tenant's, those that are being written too.
///
/// # Errors
/// When the catalog fails.
pub async fn list_all(db: &impl Db, tenant: TenantId) -> Result<Vec<Uuid>, CatalogError> {
    let rows = db
        .query("select id from backup where tenant = $1", &[tenant.as_uuid()])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Has a tenant backed up this often instead of as often as the fleet; zero for never, `None` for as often as the fleet.
///
/// # Errors
/// When the catalog fails.
pub async fn set_interval(db: &impl Db, tenant: TenantId, interval: Option<Duration>) -> Result<(), CatalogError> {
    let id = tenant.as_uuid();
    match interval {
        Some(interval) => {
            db.execute(
                "insert into backup_schedule (tenant, interval_s) values ($1, $2)
                 on conflict (tenant) do update set interval_s = excluded.interval_s, set_at = now()",
                &[id, &interval.as_secs_f64()],
            )
            .await?
        }
        None => {
            db.execute("delete from backup_schedule where tenant = $1", &[id])
                .await?
        }
    };
    Ok(())
}

/// How often a tenant is backed up where that is its own; zero for never.
///
/// # Errors
/// When the catalog fails.
pub async fn find_interval(db: &impl Db, tenant: TenantId) -> Result<Option<Duration>, CatalogError> {
    let row = db
        .query_opt(
            "select interval_s from backup_schedule where tenant = $1",
            &[tenant.as_uuid()],
        )
        .await?;
    // Nothing else can be written there, see `set_interval`.
    Ok(row.map(|row| Duration::try_from_secs_f64(row.get(0)).unwrap_or_default()))
}

/// The first active tenant after `after`, by their ids, whose newest backup is older than its interval, and of which none is being
/// written. `usual` is the interval of those that have none of their own; zero for never.
///
/// # Errors
/// When the catalog fails.
pub async fn find_due(
    db: &impl Db,
    usual: Duration,
    after: Option<TenantId>,
) -> Result<Option<TenantId>, CatalogError> {
    let row = db
        .query_opt(
            "select t.id from tenant as t
             left join backup_schedule as s on s.tenant = t.id
             cross join lateral (select coalesce(s.interval_s, $1)) as due (after_s)
             where t.state = 'active' and due.after_s > 0 and ($2::uuid is null or t.id > $2)
               and not exists (select from backup_drill as d where d.tenant = t.id)
               and not exists (select from backup as b
                                where b.tenant = t.id
                                  and (b.state = 'writing' or b.taken_at > now() - make_interval(secs => due.after_s)))
             order by t.id limit 1",
            &[&usual.as_secs_f64(), &after.map(|after| *after.as_uuid())],
        )
        .await?;
    Ok(row.map(|row| TenantId::from_uuid(row.get(0))))
}

/// Notes that a drill makes a tenant of this id; before it does.
///
/// # Errors
/// When the catalog fails.
pub async fn begin_drill(db: &impl Db, scratch: TenantId) -> Result<(), CatalogError> {
    db.execute("insert into backup_drill (tenant) values ($1)", &[scratch.as_uuid()])
        .await?;
    Ok(())
}

/// Notes that a drill's process is at work.
///
/// # Errors
/// When the catalog fails.
pub async fn beat_drill(db: &impl Db, scratch: TenantId) -> Result<(), CatalogError> {
    db.execute(
        "update backup_drill set seen_at = now() where tenant = $1",
        &[scratch.as_uuid()],
    )
    .await?;
    Ok(())
}

/// The tenants of drills of which nothing was heard for so long.
///
/// # Errors
/// When the catalog fails.
pub async fn list_left_drills(db: &impl Db, silent: Duration) -> Result<Vec<TenantId>, CatalogError> {
    let rows = db
        .query(
            "select tenant from backup_drill where seen_at < now() - make_interval(secs => $1)",
            &[&silent.as_secs_f64()],
        )
        .await?;
    Ok(rows.iter().map(|row| TenantId::from_uuid(row.get(0))).collect())
}

/// Forgets a drill whose tenant is gone.
///
/// # Errors
/// When the catalog fails.
pub async fn end_drill(db: &impl Db, scratch: TenantId) -> Result<(), CatalogError> {
    db.execute("delete from backup_drill where tenant = $1", &[scratch.as_uuid()])
        .await?;
    Ok(())
}
