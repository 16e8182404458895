//! Accounts of persons.

use chrono::{DateTime, Utc};
use tenantry_core::AccountId;
use tokio_postgres::Row;

use crate::{CatalogError, Db};

/// A person's account, without the password's hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The log-in name.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Whether the account opens anything at all.
    pub active: bool,
    /// The last log-in with a password.
    pub last_login_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What a log-in is checked against.
pub struct Login {
    /// The account.
    pub id: AccountId,
    /// Argon2id in PHC form.
    pub password_hash: String,
    /// Whether the account opens anything at all.
    pub active: bool,
}

impl Account {
    fn from_row(row: &Row) -> Self {
        Self {
            id: AccountId::from_uuid(row.get(0)),
            email: row.get(1),
            name: row.get(2),
            active: row.get(3),
            last_login_at: row.get(4),
            created_at: row.get(5),
        }
    }
}

/// Makes an account unless the e-mail has one; says whether it was made.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(
    db: &impl Db,
    id: AccountId,
    email: &str,
    name: &str,
    password_hash: &str,
) -> Result<bool, CatalogError> {
    let inserted = db
        .execute(
            "insert into account (id, email, name, password_hash)
             values ($1, $2, $3, $4)
             on conflict (email) do nothing",
            &[id.as_uuid(), &email, &name, &password_hash],
        )
        .await?;
    Ok(inserted == 1)
}

/// The account with this id.
///
/// # Errors
/// When the catalog fails.
pub async fn get(db: &impl Db, id: AccountId) -> Result<Option<Account>, CatalogError> {
    let row = db
        .query_opt(
            "select id, email, name, active, last_login_at, created_at
             from account
             where id = $1",
            &[id.as_uuid()],
        )
        .await?;
    Ok(row.as_ref().map(Account::from_row))
}

/// The account with this e-mail.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, email: &str) -> Result<Option<Account>, CatalogError> {
    let row = db
        .query_opt(
            "select id, email, name, active, last_login_at, created_at
             from account
             where email = $1",
            &[&email],
        )
        .await?;
    Ok(row.as_ref().map(Account::from_row))
}

/// What a log-in with this e-mail is checked against.
///
/// # Errors
/// When the catalog fails.
pub async fn find_login(db: &impl Db, email: &str) -> Result<Option<Login>, CatalogError> {
    let row = db
        .query_opt(
            "select id, password_hash, active from account where email = $1",
            &[&email],
        )
        .await?;
    Ok(row.map(|row| Login {
        id: AccountId::from_uuid(row.get(0)),
        password_hash: row.get(1),
        active: row.get(2),
    }))
}

/// Notes a log-in, and the password's new hash if it was hashed anew.
///
/// Says whether the account is still active: it may have been switched off while the password was checked.
///
/// # Errors
/// When the catalog fails.
pub async fn note_login(db: &impl Db, id: AccountId, new_hash: Option<&str>) -> Result<bool, CatalogError> {
    let noted = db
        .execute(
            "update account
             set last_login_at = now(), password_hash = coalesce($2, password_hash)
             where id = $1 and active",
            &[id.as_uuid(), &new_hash],
        )
        .await?;
    Ok(noted == 1)
}

/// Replaces the password's hash, if it is still the one that the old password was checked against.
///
/// # Errors
/// When the catalog fails.
pub async fn set_password(db: &impl Db, id: AccountId, old_hash: &str, new_hash: &str) -> Result<bool, CatalogError> {
    let changed = db
        .execute(
            "update account
             set password_hash = $3
             where id = $1 and password_hash = $2",
            &[id.as_uuid(), &old_hash, &new_hash],
        )
        .await?;
    Ok(changed == 1)
}

/// Replaces the password's hash, whatever it was.
///
/// # Errors
/// When the catalog fails.
pub async fn reset_password(db: &impl Db, id: AccountId, new_hash: &str) -> Result<(), CatalogError> {
    db.execute(
        "update account set password_hash = $2 where id = $1",
        &[id.as_uuid(), &new_hash],
    )
    .await?;
    Ok(())
}

/// Switches an account on or off; says whether there is one.
///
/// # Errors
/// When the catalog fails.
pub async fn set_active(db: &impl Db, id: AccountId, active: bool) -> Result<bool, CatalogError> {
    let changed = db
        .execute("update account set active = $2 where id = $1", &[id.as_uuid(), &active])
        .await?;
    Ok(changed == 1)
}
