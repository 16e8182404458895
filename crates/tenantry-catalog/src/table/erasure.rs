//! Erasure: what a purge takes out of the catalog, what still names a tenant afterwards, and the certificates of it.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, OperationId, TenantId};
use uuid::Uuid;

use crate::{
    CatalogError, Db,
    text::{parsed, words},
};

words! {
    /// What was found of a purged tenant.
    Verdict {
        /// Nothing but the record.
        Erased = "erased",
        /// Something that is not the record.
        Left = "left",
        /// Nothing but the record, and somewhere could not be looked.
        NotShown = "not_shown",
    }
}

/// A certificate as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptErasure {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// What was found.
    pub verdict: Verdict,
    /// The certificate with its signature, as RFC 7515 writes them in one line.
    pub jws: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A certificate that is about to be kept.
#[derive(Debug)]
pub struct NewErasure<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// As the tenant was called.
    pub slug: &'a str,
    /// What was found.
    pub verdict: Verdict,
    /// The certificate with its signature.
    pub jws: &'a str,
}

/// Keeps a certificate.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewErasure<'_>) -> Result<(), CatalogError> {
    db.execute(
        "insert into erasure (id, tenant, slug, verdict, jws) values ($1, $2, $3, $4, $5)",
        &[
            &new.id,
            new.tenant.as_uuid(),
            &new.slug,
            &new.verdict.as_str(),
            &new.jws,
        ],
    )
    .await?;
    Ok(())
}

/// The tenant's latest certificate.
///
/// # Errors
/// When the catalog fails.
pub async fn find_latest(db: &impl Db, tenant: TenantId) -> Result<Option<KeptErasure>, CatalogError> {
    let row = db
        .query_opt(
            "select id, tenant, verdict, jws, created_at from erasure
             where tenant = $1 order by created_at desc, id desc limit 1",
            &[tenant.as_uuid()],
        )
        .await?;
    row.map(|row| {
        Ok(KeptErasure {
            id: row.get(0),
            tenant: TenantId::from_uuid(row.get(1)),
            verdict: parsed(&row, 2, "erasure.verdict")?,
            jws: row.get(3),
            created_at: row.get(4),
        })
    })
    .transpose()
}

/// The tenant that had this slug when it was purged last: a purged tenant has none any more.
///
/// # Errors
/// When the catalog fails.
pub async fn tenant_once_called(db: &impl Db, slug: &str) -> Result<Option<TenantId>, CatalogError> {
    let row = db
        .query_opt(
            "select tenant from erasure where slug = $1 order by created_at desc, id desc limit 1",
            &[&slug],
        )
        .await?;
    Ok(row.map(|row| TenantId::from_uuid(row.get(0))))
}

/// Takes out of the catalog what a purged tenant had there and nobody needs any more. What stays of it: its row with id, slug, plan,
/// state and times, that its operations were, and the audit log.
///
/// Doing it twice is doing it once. `purge` is the operation that does it.
///
/// # Errors
/// When the catalog fails.
pub async fn scrub(db: &impl Db, tenant: TenantId, purge: OperationId) -> Result<(), CatalogError> {
    let id = tenant.as_uuid();
    // Before the slug's other uses are looked at: a purged tenant has none.
    db.execute(
        "update tenant
         set name = slug, address = '', phone = '', website = '', settings = '{}', legal_hold = null,
             version = version + 1, updated_at = now()
         where id = $1 and state = 'purged'",
        &[id],
    )
    .await?;
    db.execute(
        "delete from overlay_base as o using tenant as t
         where t.id = $1
           and (o.tenant = t.id
                or o.slug = t.slug
                   and not exists (select from tenant as other where other.slug = t.slug and other.state <> 'purged'))",
        &[id],
    )
    .await?;
    db.execute("delete from idempotency where tenant = $1", &[id]).await?;
    db.execute("delete from usage_day where tenant = $1", &[id]).await?;
    db.execute("delete from plan_excess where tenant = $1", &[id]).await?;
    db.execute("delete from backup_schedule where tenant = $1", &[id])
        .await?;
    db.execute("delete from backup_drill where tenant = $1", &[id]).await?;
    db.execute("update session set tenant = null where tenant = $1", &[id])
        .await?;
    db.execute(
        "delete from operation_cleanup as c using operation as o
         where o.id = c.operation and o.tenant = $1 and o.id <> $2",
        &[id, purge.as_uuid()],
    )
    .await?;
    db.execute(
        "update operation set input = '{}', progress = '{}', error_code = null, error = null
         where tenant = $1 and id <> $2",
        &[id, purge.as_uuid()],
    )
    .await?;
    Ok(())
}

/// Removes those of these accounts that are in no tenant any more, with their log-ins: a person whom only a purged tenant knew.
///
/// # Errors
/// When the catalog fails.
pub async fn forget_homeless(db: &impl Db, accounts: &[AccountId]) -> Result<u64, CatalogError> {
    let ids: Vec<Uuid> = accounts.iter().map(|account| *account.as_uuid()).collect();
    Ok(db
        .execute(
            "delete from account as a
             where a.id = any($1) and not exists (select from membership as m where m.account = a.id)",
            &[&ids],
        )
        .await?)
}

/// A table of the catalog, and how many of its rows name a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mentions {
    /// The table.
    pub table: String,
    /// Rows with the tenant's id in any column.
    pub of_id: i64,
    /// Rows with one of the other texts in any column.
    pub of_texts: i64,
    /// Why rows that name the tenant's id are the record, where they are.
    pub record: Option<&'static str>,
}

/// Where the id stays, and why.
const RECORDS: &[(&str, &str)] = &[
    (
        "tenant",
        "the gravestone: id, slug, plan, state and times, so that the id is never given again",
    ),
    (
        "operation",
        "which operations there were, and when; what they were asked and said is taken out",
    ),
    (
        "operation_cleanup",
        "the record by which the purge itself is cleaned up after",
    ),
    (
        "audit_log",
        "the audit record: each entry's hash covers the one before, so that none can be taken out",
    ),
    ("erasure", "certificates"),
    ("change", "news for the caches of other processes, gone within the hour"),
    ("event_parked", "a consumer of events has yet to be told"),
];

/// Reads every column of every row of the catalog for a tenant's id, in both of its forms, and for other texts. The audit log and the
/// certificates are the record, and only counted: by the tenant.
///
/// # Errors
/// When the catalog fails.
pub async fn mentions(db: &impl Db, tenant: TenantId, texts: &[String]) -> Result<Vec<Mentions>, CatalogError> {
    let tables = db
        .query(
            "select c.relname::text, format('%I.%I', n.nspname, c.relname)
             from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
             where n.nspname = 'tenantry_catalog' and c.relkind in ('r', 'm') order by 1",
            &[],
        )
        .await?;
    let mut found = Vec::with_capacity(tables.len());
    for row in &tables {
        let (table, quoted): (String, String) = (row.get(0), row.get(1));
        let record = RECORDS.iter().find(|(name, _)| *name == table).map(|(_, why)| *why);
        let (of_id, of_texts) = match table.as_str() {
            "audit_log" | "erasure" => {
                let sql = format!("select count(*) from {quoted} where tenant = $1");
                (db.query_one(&sql, &[tenant.as_uuid()]).await?.get(0), 0)
            }
            _ => read(db, &quoted, tenant, texts).await?,
        };
        found.push(Mentions {
            table,
            of_id,
            of_texts,
            record,
        });
    }
    Ok(found)
}

async fn read(db: &impl Db, table: &str, tenant: TenantId, texts: &[String]) -> Result<(i64, i64), CatalogError> {
    let sql = format!(
        "select count(*) filter (where strpos(r, $1) > 0 or strpos(r, $2) > 0),
                count(*) filter (where exists (select from unnest($3::text[]) as text where strpos(r, text) > 0))
         from (select (x.*)::text as r from {table} as x) as rows"
    );
    let (id, simple) = (tenant.to_string(), tenant.as_uuid().simple().to_string());
    let row = db.query_one(&sql, &[&id, &simple, &texts]).await?;
    Ok((row.get(0), row.get(1)))
}

/// What stands in a purged tenant's row that should be blank, and under its slug where nobody else has that, as sentences.
///
/// # Errors
/// When the catalog fails.
pub async fn unscrubbed(db: &impl Db, tenant: TenantId) -> Result<Vec<(&'static str, i64)>, CatalogError> {
    const LOOKS: &[(&str, &str)] = &[
        (
            "tenant: name, address or settings",
            "select count(*) from tenant
             where id = $1 and (name <> slug or address <> '' or phone <> '' or website <> '' or settings <> '{}'
                                or legal_hold is not null)",
        ),
        (
            "operation: what it was asked, or said",
            "select count(*) from operation
             where tenant = $1 and kind <> 'purge' and (input <> '{}' or progress <> '{}' or error is not null)",
        ),
        (
            "overlay_base: migrations of the tenant's own",
            "select count(*) from overlay_base as o join tenant as t on o.tenant = t.id or t.slug = o.slug
             where t.id = $1
               and (o.tenant = t.id
                    or not exists (select from tenant as other where other.slug = t.slug and other.state <> 'purged'))",
        ),
    ];
    let mut found = Vec::new();
    for (what, sql) in LOOKS {
        let rows: i64 = db.query_one(sql, &[tenant.as_uuid()]).await?.get(0);
        if rows > 0 {
            found.push((*what, rows));
        }
    }
    Ok(found)
}
