//! What sets a new password once.

use chrono::{DateTime, Utc};
use tenantry_core::AccountId;

use crate::{CatalogError, Db};

/// A reset that is about to be offered.
#[derive(Clone, Copy, Debug)]
pub struct NewPasswordReset<'a> {
    /// Whose password.
    pub account: AccountId,
    /// Of its token.
    pub hash: &'a [u8; 32],
    /// Who offers it.
    pub created_by: &'a str,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Offers a reset in the place of the account's earlier one.
///
/// # Errors
/// When the catalog fails.
pub async fn offer(db: &impl Db, new: &NewPasswordReset<'_>) -> Result<(), CatalogError> {
    db.execute(
        "insert into password_reset (account, hash, created_by, expires_at)
         values ($1, $2, $3, $4)
         on conflict (account) do update
         set hash = excluded.hash, created_by = excluded.created_by, created_at = now(), expires_at = excluded.expires_at",
        &[
            new.account.as_uuid(),
            &new.hash.as_slice(),
            &new.created_by,
            &new.expires_at,
        ],
    )
    .await?;
    Ok(())
}

/// The account whose password the token sets, and its e-mail.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, hash: &[u8; 32]) -> Result<Option<(AccountId, String)>, CatalogError> {
    let row = db
        .query_opt(
            "select a.id, a.email
             from password_reset as r
             join account as a on a.id = r.account
             where r.hash = $1 and r.expires_at > now() and a.active",
            &[&hash.as_slice()],
        )
        .await?;
    Ok(row.map(|row| (AccountId::from_uuid(row.get(0)), row.get(1))))
}

/// Uses the token up; says whether it was still good.
///
/// # Errors
/// When the catalog fails.
pub async fn use_up(db: &impl Db, account: AccountId, hash: &[u8; 32]) -> Result<bool, CatalogError> {
    let used = db
        .execute(
            "delete from password_reset where account = $1 and hash = $2 and expires_at > now()",
            &[account.as_uuid(), &hash.as_slice()],
        )
        .await?;
    Ok(used == 1)
}

/// Forgets what has expired.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute("delete from password_reset where expires_at < now()", &[])
        .await?)
}
