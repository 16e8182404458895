//! Who changed what, chained by hash.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_core::TenantId;
use uuid::Uuid;

use crate::{CatalogError, Db};

/// Writers take turns by this advisory lock, so that each row's hash covers the row before it.
const LOCK: i64 = 0x7465_6e61_6e74_7261;

/// One change, as it is written down.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Who: `operator:<id>`, `account:<id>`, `api-key:<id>` or `system`.
    pub actor: &'a str,
    /// What was done: `tenant.suspend`, `member.remove`, …
    pub action: &'a str,
    /// In which tenant, if in one.
    pub tenant: Option<TenantId>,
    /// To what: an id or a name.
    pub target: &'a str,
    /// The object before; never with secrets.
    pub before: Option<Value>,
    /// The object after; never with secrets.
    pub after: Option<Value>,
    /// From where: the caller's address.
    pub origin: &'a str,
    /// The request that asked for it.
    pub request_id: &'a str,
}

/// A written entry.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number, growing.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// In which tenant.
    pub tenant: Option<TenantId>,
    /// To what.
    pub target: String,
    /// The object before.
    pub before: Option<Value>,
    /// The object after.
    pub after: Option<Value>,
    /// From where.
    pub origin: String,
    /// The request.
    pub request_id: String,
}

/// The row's content in one form, for the hash: jsonb and numbers print the same on every server.
const CONTENT: &str = "convert_to(jsonb_build_array(
    extract(epoch from l.at)::text, l.actor, l.action, l.tenant, l.target, l.before, l.after, l.origin, l.request_id
)::text, 'UTF8')";

/// Writes an entry. To be called last in the transaction that makes the change: until it ends, other writers wait.
///
/// # Errors
/// When the catalog fails.
pub async fn append(db: &impl Db, entry: &Entry<'_>) -> Result<(), CatalogError> {
    db.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // A statement of its own: its snapshot is taken after the lock, so it sees the last row.
    let insert = format!(
        "insert into audit_log (at, actor, action, tenant, target, before, after, origin, request_id, previous_hash, hash)
         select l.*, p.hash, sha256(p.hash || {CONTENT})
         from (values (clock_timestamp(), $1::text, $2::text, $3::uuid, $4::text, $5::jsonb, $6::jsonb, $7::text, $8::text))
              as l (at, actor, action, tenant, target, before, after, origin, request_id),
              (select coalesce((select hash from audit_log order by id desc limit 1), '') as hash) as p"
    );
    let tenant = entry.tenant.map(|tenant| *tenant.as_uuid());
    db.execute(
        &insert,
        &[
            &entry.actor,
            &entry.action,
            &tenant,
            &entry.target,
            &entry.before,
            &entry.after,
            &entry.origin,
            &entry.request_id,
        ],
    )
    .await?;
    Ok(())
}

/// The entries before `before` (all of them if `None`), newest first, of one tenant or of all.
///
/// # Errors
/// When the catalog fails.
pub async fn list(
    db: &impl Db,
    tenant: Option<TenantId>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>, CatalogError> {
    let tenant = tenant.map(|tenant| *tenant.as_uuid());
    let rows = db
        .query(
            "select id, at, actor, action, tenant, target, before, after, origin, request_id
             from audit_log
             where ($1::uuid is null or tenant = $1) and ($2::bigint is null or id < $2)
             order by id desc
             limit $3",
            &[&tenant, &before, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Record {
            id: row.get(0),
            at: row.get(1),
            actor: row.get(2),
            action: row.get(3),
            tenant: row.get::<_, Option<Uuid>>(4).map(TenantId::from_uuid),
            target: row.get(5),
            before: row.get(6),
            after: row.get(7),
            origin: row.get(8),
            request_id: row.get(9),
        })
        .collect())
}

/// The first entry whose hash does not fit its content or the entry before it, if there is one.
///
/// # Errors
/// When the catalog fails.
pub async fn first_broken(db: &impl Db) -> Result<Option<i64>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "select l.id
                 from (select *, lag(hash, 1, ''::bytea) over (order by id) as expected from audit_log) as l
                 where l.previous_hash <> l.expected or l.hash <> sha256(l.previous_hash || {CONTENT})
                 order by l.id
                 limit 1"
            ),
            &[],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}
