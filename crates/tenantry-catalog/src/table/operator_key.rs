//! Keys of operators.

use chrono::{DateTime, Utc};
use tenantry_core::{OperatorKeyId, OperatorScope, OperatorScopes};
use tokio_postgres::Row;

use crate::{CatalogError, Db};

/// An operator key, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperatorKey {
    /// Its id.
    pub id: OperatorKeyId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: OperatorScopes,
    /// Who made it, as in the audit log.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new operator key.
#[derive(Clone, Debug)]
pub struct NewOperatorKey<'a> {
    /// Its id.
    pub id: OperatorKeyId,
    /// Its name.
    pub name: &'a str,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: OperatorScopes,
    /// Who makes it.
    pub created_by: &'a str,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The scopes of a row; a word that this version does not know allows nothing.
pub(super) fn scopes(row: &Row, column: usize) -> OperatorScopes {
    let words: Vec<&str> = row.get(column);
    words
        .into_iter()
        .filter_map(|word| word.parse::<OperatorScope>().ok())
        .collect()
}

impl OperatorKey {
    fn from_row(row: &Row) -> Self {
        Self {
            id: OperatorKeyId::from_uuid(row.get(0)),
            name: row.get(1),
            scopes: scopes(row, 2),
            created_by: row.get(3),
            created_at: row.get(4),
            expires_at: row.get(5),
            revoked_at: row.get(6),
        }
    }
}

/// Makes a key unless a live one has the name; gives what was stored.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewOperatorKey<'_>) -> Result<Option<OperatorKey>, CatalogError> {
    let scopes: Vec<_> = new.scopes.iter().map(OperatorScope::as_str).collect();
    let row = db
        .query_opt(
            "insert into operator_key (id, name, hash, scopes, created_by, expires_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (name) where revoked_at is null do nothing
             returning id, name, scopes, created_by, created_at, expires_at, revoked_at",
            &[
                new.id.as_uuid(),
                &new.name,
                &new.hash.as_slice(),
                &scopes,
                &new.created_by,
                &new.expires_at,
            ],
        )
        .await?;
    Ok(row.as_ref().map(OperatorKey::from_row))
}

/// Every key, revoked ones too, newest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db) -> Result<Vec<OperatorKey>, CatalogError> {
    let rows = db
        .query(
            "select id, name, scopes, created_by, created_at, expires_at, revoked_at
             from operator_key
             order by created_at desc, id desc",
            &[],
        )
        .await?;
    Ok(rows.iter().map(OperatorKey::from_row).collect())
}

/// Revokes a key; gives its name, nothing if it was not live.
///
/// # Errors
/// When the catalog fails.
pub async fn revoke(db: &impl Db, id: OperatorKeyId) -> Result<Option<String>, CatalogError> {
    let row = db
        .query_opt(
            "update operator_key
             set revoked_at = now()
             where id = $1 and revoked_at is null
             returning name",
            &[id.as_uuid()],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}
