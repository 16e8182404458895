//! Keys with which programs act in one tenant.

use chrono::{DateTime, Utc};
use tenantry_core::{ApiKeyId, Role, TenantId};
use tokio_postgres::Row;

use crate::{CatalogError, Db};

/// An API key, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Who made it, as in the audit log.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new API key.
#[derive(Clone, Debug)]
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: ApiKeyId,
    /// Where it acts.
    pub tenant: TenantId,
    /// Its name.
    pub name: &'a str,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// Who makes it.
    pub created_by: &'a str,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: ApiKeyId::from_uuid(row.get(0)),
            name: row.get(1),
            role: row
                .get::<_, &str>(2)
                .parse()
                .map_err(|_| CatalogError::Unknown { column: "api_key.role" })?,
            created_by: row.get(3),
            created_at: row.get(4),
            expires_at: row.get(5),
        })
    }
}

/// Makes a key unless one of the tenant's has the name; gives what was stored.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewApiKey<'_>) -> Result<Option<ApiKey>, CatalogError> {
    let row = db
        .query_opt(
            "insert into api_key (id, tenant, name, role, hash, created_by, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (tenant, name) do nothing
             returning id, name, role, created_by, created_at, expires_at",
            &[
                new.id.as_uuid(),
                new.tenant.as_uuid(),
                &new.name,
                &new.role.as_str(),
                &new.hash.as_slice(),
                &new.created_by,
                &new.expires_at,
            ],
        )
        .await?;
    row.as_ref().map(ApiKey::from_row).transpose()
}

/// The keys of a tenant, newest first; only what comes after `after` in the list.
///
/// # Errors
/// When the catalog fails.
pub async fn list(
    db: &impl Db,
    tenant: TenantId,
    after: Option<(DateTime<Utc>, ApiKeyId)>,
    limit: i64,
) -> Result<Vec<ApiKey>, CatalogError> {
    let (after_time, after_id) = after.map(|(time, id)| (time, *id.as_uuid())).unzip();
    let rows = db
        .query(
            "select id, name, role, created_by, created_at, expires_at
             from api_key
             where tenant = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
             order by created_at desc, id desc
             limit $4",
            &[tenant.as_uuid(), &after_time, &after_id, &limit],
        )
        .await?;
    rows.iter().map(ApiKey::from_row).collect()
}

/// The key with this id, if it is this tenant's.
///
/// # Errors
/// When the catalog fails.
pub async fn get(db: &impl Db, tenant: TenantId, id: ApiKeyId) -> Result<Option<ApiKey>, CatalogError> {
    let row = db
        .query_opt(
            "select id, name, role, created_by, created_at, expires_at
             from api_key
             where tenant = $1 and id = $2",
            &[tenant.as_uuid(), id.as_uuid()],
        )
        .await?;
    row.as_ref().map(ApiKey::from_row).transpose()
}

/// The key of a tenant with this name.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, tenant: TenantId, name: &str) -> Result<Option<ApiKey>, CatalogError> {
    let row = db
        .query_opt(
            "select id, name, role, created_by, created_at, expires_at
             from api_key
             where tenant = $1 and name = $2",
            &[tenant.as_uuid(), &name],
        )
        .await?;
    row.as_ref().map(ApiKey::from_row).transpose()
}

/// Removes a key; says whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn delete(db: &impl Db, tenant: TenantId, id: ApiKeyId) -> Result<bool, CatalogError> {
    let deleted = db
        .execute(
            "delete from api_key where tenant = $1 and id = $2",
            &[tenant.as_uuid(), id.as_uuid()],
        )
        .await?;
    Ok(deleted == 1)
}

/// Removes every key of a tenant that is being purged; gives their ids.
///
/// # Errors
/// When the catalog fails.
pub async fn delete_all(db: &impl Db, tenant: TenantId) -> Result<Vec<ApiKeyId>, CatalogError> {
    let rows = db
        .query(
            "delete from api_key where tenant = $1 returning id",
            &[tenant.as_uuid()],
        )
        .await?;
    Ok(rows.iter().map(|row| ApiKeyId::from_uuid(row.get(0))).collect())
}
