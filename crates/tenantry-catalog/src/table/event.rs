//! Who is told of the audit log's entries, and how far.
//!
//! Each write names the lease under which it is made, and changes nothing when that is another's by now.

use std::time::Duration;

use postgres_types::ToSql;
use tenantry_core::TenantId;
use uuid::Uuid;

use super::audit_log::{self, Record};
use crate::{CatalogError, Db};

/// Where a new consumer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// With what happens from now on.
    Now,
    /// With the first entry there is.
    First,
}

/// A tenant whose entries wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parked {
    /// Whose; `None` for what belongs to no tenant.
    pub tenant: Option<TenantId>,
    /// The first entry that is still to be delivered.
    pub position: i64,
    /// How often that one was tried.
    pub attempts: i32,
    /// Why it failed the last time.
    pub error: String,
    /// Whether its time has come.
    pub is_due: bool,
}

/// What is new to a consumer.
#[derive(Clone, Debug)]
pub struct News {
    /// The entries, in the order in which they took effect.
    pub entries: Vec<Record>,
    /// Up to here there are no others.
    pub up_to: i64,
}

/// Makes a consumer, unless there is one of this name.
///
/// # Errors
/// When the catalog fails.
pub async fn register(db: &impl Db, consumer: &str, begin: Begin) -> Result<(), CatalogError> {
    let from_now = begin == Begin::Now;
    db.execute(
        "insert into event_consumer (name, position)
         select $1, case when $2 then coalesce(max(id), 0) else 0 end from audit_log
         on conflict (name) do nothing",
        &[&consumer, &from_now],
    )
    .await?;
    Ok(())
}

/// Takes or renews the lease; the consumer's position if it is this process's now.
///
/// # Errors
/// When the catalog fails.
pub async fn lease(db: &impl Db, consumer: &str, lease: Uuid, time: Duration) -> Result<Option<i64>, CatalogError> {
    let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let row = db
        .query_opt(
            "update event_consumer
             set lease = $2, leased_until = clock_timestamp() + $3::bigint * interval '1 millisecond'
             where name = $1 and (lease = $2 or leased_until < clock_timestamp())
             returning position",
            &[&consumer, &lease, &time_ms],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Gives the lease back.
///
/// # Errors
/// When the catalog fails; the lease then ends by itself.
pub async fn release(db: &impl Db, consumer: &str, lease: Uuid) -> Result<(), CatalogError> {
    db.execute(
        "update event_consumer set lease = null, leased_until = '-infinity' where name = $1 and lease = $2",
        &[&consumer, &lease],
    )
    .await?;
    Ok(())
}

/// Entries with these actions behind a position. Entries become visible in the order of their numbers, so none comes later
/// between those that are seen.
///
/// # Errors
/// When the catalog fails.
pub async fn news(db: &impl Db, position: i64, actions: &[&str], limit: i64) -> Result<News, CatalogError> {
    let sql = audit_log::select("where l.id > $1 and l.action = any ($2) order by l.id limit $3");
    let newest: i64 = db
        .query_one("select coalesce(max(id), 0) from audit_log", &[])
        .await?
        .get(0);
    let rows = db.query(&sql, &[&position, &actions, &limit]).await?;
    let entries: Vec<Record> = rows.iter().map(audit_log::record).collect();
    let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) >= limit;
    let last = entries.last().map_or(0, |last| last.id);
    let up_to = if full { last } else { last.max(newest) };
    Ok(News {
        entries,
        up_to: up_to.max(position),
    })
}

/// A tenant's entries with these actions from one on, up to the consumer's position.
///
/// # Errors
/// When the catalog fails.
pub async fn of_tenant(
    db: &impl Db,
    parked: &Parked,
    up_to: i64,
    actions: &[&str],
    limit: i64,
) -> Result<Vec<Record>, CatalogError> {
    let sql = audit_log::select(
        "where l.tenant is not distinct from $1 and l.id between $2 and $3 and l.action = any ($4) order by l.id limit $5",
    );
    let tenant = parked.tenant.map(|tenant| *tenant.as_uuid());
    let params: &[&(dyn ToSql + Sync)] = &[&tenant, &parked.position, &up_to, &actions, &limit];
    Ok(db.query(&sql, params).await?.iter().map(audit_log::record).collect())
}

/// Everything up to here is delivered or parked; whether the lease is still this process's.
///
/// # Errors
/// When the catalog fails.
pub async fn advance(db: &impl Db, consumer: &str, lease: Uuid, position: i64) -> Result<bool, CatalogError> {
    let moved = db
        .execute(
            "update event_consumer set position = $3 where name = $1 and lease = $2 and position <= $3",
            &[&consumer, &lease, &position],
        )
        .await?;
    Ok(moved == 1)
}

/// A tenant's entries wait from this one on, for so long at first; whether the lease is still this process's.
///
/// # Errors
/// When the catalog fails.
pub async fn park(
    db: &impl Db,
    consumer: &str,
    lease: Uuid,
    entry: &Record,
    error: &str,
    pause: Duration,
) -> Result<bool, CatalogError> {
    let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let done = db
        .execute(
            "with moved as (
                 update event_consumer set position = greatest(position, $4)
                 where name = $1 and lease = $2
                 returning name)
             insert into event_parked (consumer, tenant, position, error, try_at)
             select name, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 millisecond' from moved
             on conflict (consumer, tenant) do update
             set position = excluded.position, error = excluded.error, try_at = excluded.try_at,
                 attempts = case when event_parked.position = excluded.position then event_parked.attempts + 1 else 1 end",
            &[&consumer, &lease, &key(entry.tenant), &entry.id, &error, &pause_ms],
        )
        .await?;
    Ok(done == 1)
}

/// A parked tenant's entries up to this one are delivered; whether the lease is still this process's.
///
/// # Errors
/// When the catalog fails.
pub async fn advance_parked(
    db: &impl Db,
    consumer: &str,
    lease: Uuid,
    tenant: Option<TenantId>,
    delivered: i64,
) -> Result<bool, CatalogError> {
    let moved = db
        .execute(
            "update event_parked as p set position = $4::bigint + 1, attempts = 0
             from event_consumer as c
             where c.name = $1 and c.lease = $2 and p.consumer = c.name and p.tenant = $3",
            &[&consumer, &lease, &key(tenant), &delivered],
        )
        .await?;
    Ok(moved == 1)
}

/// Nothing of the tenant's waits any more.
///
/// # Errors
/// When the catalog fails.
pub async fn unpark(db: &impl Db, consumer: &str, lease: Uuid, tenant: Option<TenantId>) -> Result<bool, CatalogError> {
    let gone = db
        .execute(
            "delete from event_parked as p using event_consumer as c
             where c.name = $1 and c.lease = $2 and p.consumer = c.name and p.tenant = $3",
            &[&consumer, &lease, &key(tenant)],
        )
        .await?;
    Ok(gone == 1)
}

/// The tenants whose entries wait, the longest waiting first.
///
/// # Errors
/// When the catalog fails.
pub async fn parked(db: &impl Db, consumer: &str) -> Result<Vec<Parked>, CatalogError> {
    let rows = db
        .query(
            "select tenant, position, attempts, error, try_at <= clock_timestamp()
             from event_parked where consumer = $1 order by try_at",
            &[&consumer],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let tenant: Uuid = row.get(0);
            Parked {
                tenant: (!tenant.is_nil()).then(|| TenantId::from_uuid(tenant)),
                position: row.get(1),
                attempts: row.get(2),
                error: row.get(3),
                is_due: row.get(4),
            }
        })
        .collect())
}

fn key(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or_else(Uuid::nil, |tenant| *tenant.as_uuid())
}
