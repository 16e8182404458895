//! Who changed what, chained by hash.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_core::TenantId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{CatalogError, Db};

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

/// The row's content in one form, for the hash: jsonb and numbers print the same on every server. `append_to_audit_log` has the same.
const CONTENT: &str = "convert_to(jsonb_build_array(
    extract(epoch from l.at)::text, l.actor, l.action, l.tenant, l.target, l.before, l.after, l.origin, l.request_id
)::text, 'UTF8')";

/// Writes an entry. To be called last in the transaction that makes the change: writers take turns, each row's hash covers the row
/// before it, and until the transaction ends the others wait.
///
/// # Errors
/// When the catalog fails.
pub async fn append(db: &impl Db, entry: &Entry<'_>) -> Result<(), CatalogError> {
    let tenant = entry.tenant.map(|tenant| *tenant.as_uuid());
    db.execute(
        "select append_to_audit_log($1, $2, $3, $4, $5, $6, $7, $8)",
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
    let sql = select(
        "where ($1::uuid is null or l.tenant = $1) and ($2::bigint is null or l.id < $2) order by l.id desc limit $3",
    );
    let rows = db.query(&sql, &[&tenant, &before, &limit]).await?;
    Ok(rows.iter().map(record).collect())
}

/// The entries that a clause picks.
pub(crate) fn select(clause: &str) -> String {
    format!(
        "select l.id, l.at, l.actor, l.action, l.tenant, l.target, l.before, l.after, l.origin, l.request_id
         from audit_log as l {clause}"
    )
}

pub(crate) fn record(row: &Row) -> Record {
    Record {
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
    }
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
