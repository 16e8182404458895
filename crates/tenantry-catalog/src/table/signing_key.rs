//! The keys that sign access tokens.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{CatalogError, Column, Db};

/// Every process that makes or rotates signing keys takes this advisory lock.
const LOCK: i64 = 0x7465_6e61_6e74_7273;

/// The states of a signing key; stored, they survive restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SigningKeyState {
    /// Published, so that verifiers know it before it signs anything.
    Next,
    /// Signs.
    Current,
    /// Verifies what it signed, until the last of that has expired.
    Retired,
}

/// The public half of a signing key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// The `kid`.
    pub id: Uuid,
    /// Whether it signs.
    pub state: SigningKeyState,
    /// The 32 bytes of the Ed25519 public key.
    pub public_key: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stopped signing.
    pub retired_at: Option<DateTime<Utc>>,
}

/// Where a key's private half is stored, for its encryption.
pub fn private_key_column(id: Uuid) -> Column {
    Column {
        table: "signing_key",
        column: "private_key_sealed",
        id,
    }
}

fn public_key(row: &Row) -> Result<PublicKey, CatalogError> {
    let state = match row.get(1) {
        "next" => SigningKeyState::Next,
        "current" => SigningKeyState::Current,
        "retired" => SigningKeyState::Retired,
        _ => {
            return Err(CatalogError::Unknown {
                column: "signing_key.state",
            });
        }
    };
    Ok(PublicKey {
        id: row.get(0),
        state,
        public_key: row.get(2),
        created_at: row.get(3),
        retired_at: row.get(4),
    })
}

/// Makes every other process that changes signing keys wait until the transaction ends.
///
/// # Errors
/// When the catalog fails.
pub async fn lock(db: &impl Db) -> Result<(), CatalogError> {
    db.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    Ok(())
}

/// The public half of every key.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db) -> Result<Vec<PublicKey>, CatalogError> {
    let rows = db
        .query(
            "select id, state, public_key, created_at, retired_at
             from signing_key
             order by created_at desc, id",
            &[],
        )
        .await?;
    rows.iter().map(public_key).collect()
}

/// The key that signs: its id and its sealed private half.
///
/// # Errors
/// When the catalog fails.
pub async fn current(db: &impl Db) -> Result<Option<(Uuid, Vec<u8>)>, CatalogError> {
    let statement = "select id, private_key_sealed from signing_key where state = 'current'";
    let row = db.query_opt(statement, &[]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Stores a new key as the next one.
///
/// # Errors
/// When the catalog fails, or there is a next key already.
pub async fn insert_next(db: &impl Db, id: Uuid, public: &[u8], private_sealed: &[u8]) -> Result<(), CatalogError> {
    db.execute(
        "insert into signing_key (id, state, public_key, private_key_sealed)
         values ($1, 'next', $2, $3)",
        &[&id, &public, &private_sealed],
    )
    .await?;
    Ok(())
}

/// Retires the current key, if there is one, and makes the next one current; says whether there was a next one.
///
/// # Errors
/// When the catalog fails.
pub async fn advance(db: &impl Db) -> Result<bool, CatalogError> {
    db.execute(
        "update signing_key
         set state = 'retired', private_key_sealed = null, retired_at = now()
         where state = 'current'",
        &[],
    )
    .await?;
    let advanced = db
        .execute(
            "update signing_key
             set state = 'current'
             where state = 'next'",
            &[],
        )
        .await?;
    Ok(advanced == 1)
}

/// Removes keys that retired longer ago than any token of theirs lives.
///
/// # Errors
/// When the catalog fails.
pub async fn delete_retired(db: &impl Db, older_than: Duration) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "delete from signing_key
             where state = 'retired' and retired_at < now() - make_interval(secs => $1)",
            &[&older_than.as_secs_f64()],
        )
        .await?)
}

/// Removes one key at once: every token that it signed stops being valid.
///
/// # Errors
/// When the catalog fails.
pub async fn delete(db: &impl Db, id: Uuid) -> Result<bool, CatalogError> {
    let deleted = db.execute("delete from signing_key where id = $1", &[&id]).await?;
    Ok(deleted == 1)
}
