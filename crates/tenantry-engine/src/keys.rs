//! Rotating the keys of a tenant database: two are live at a time, so that tokens signed with the old one are still
//! accepted while processes take up the new one.
//!
//! A rotation is [`add`], then the signers' switch, then, once no token of the old key can be on its way
//! ([`tenantry_core::seal::TOKEN_TTL_US`]), [`retire`].

use tenantry_core::seal::Key;
use tokio_postgres::GenericClient;

use crate::sql_error::{Doing, SqlError};

/// A new key that no live one shares its id with. `live` are the ids from [`ids`].
pub fn generate(live: &[u8]) -> Key {
    let next = live.last().map_or(0, |newest| newest.wrapping_add(1));
    let id = (0..=u8::MAX)
        .map(|step| next.wrapping_add(step))
        .find(|id| !live.contains(id))
        .unwrap_or(next);
    Key::new(id, rand::random())
}

/// The ids of the live keys, the oldest first.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn ids(client: &impl GenericClient) -> Result<Vec<u8>, SqlError> {
    let rows = client
        .query("select key_ids from tenantry_private.key_ids()", &[])
        .await
        .doing("read the key ids")?;
    Ok(rows
        .iter()
        .filter_map(|row| u8::try_from(row.get::<_, i32>(0)).ok())
        .collect())
}

/// Makes a key live. Doing it again changes nothing.
///
/// # Errors
///
/// Where two keys are live already (SQLSTATE 55000) or another key has this id (23505).
pub async fn add(client: &impl GenericClient, key: &Key) -> Result<(), SqlError> {
    let (ik, ok) = key.blocks();
    client
        .execute(
            "select tenantry_private.key_add($1, $2, $3)",
            &[&i32::from(key.id()), &ik.as_slice(), &ok.as_slice()],
        )
        .await
        .doing("add a key")?;
    Ok(())
}

/// Ends a key: its tokens are rejected from now on. Tells whether it was live.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn retire(client: &impl GenericClient, id: u8) -> Result<bool, SqlError> {
    let row = client
        .query_one("select tenantry_private.key_retire($1)", &[&i32::from(id)])
        .await
        .doing("retire a key")?;
    Ok(row.get(0))
}

/// Allows or forbids tokens that name no backend (`tenantry.enter_pooled`), for a foreign pooler in transaction mode.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn allow_pooled(client: &impl GenericClient, allow: bool) -> Result<(), SqlError> {
    client
        .execute("select tenantry_private.allow_pooled($1)", &[&allow])
        .await
        .doing("allow or forbid pooled tokens")?;
    Ok(())
}

/// Whether the connected database is the very one its keys were made for, and not a restored or cloned one.
///
/// # Errors
///
/// SQLSTATE 28000 where it is a copy: bootstrap it again.
pub async fn check_identity(client: &impl GenericClient) -> Result<(), SqlError> {
    client
        .execute("select tenantry.check_identity()", &[])
        .await
        .doing("make sure that the database is no copy")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_gets_an_id_that_is_free() {
        assert_eq!(generate(&[]).id(), 0);
        assert_eq!(generate(&[3, 4]).id(), 5);
        assert_eq!(generate(&[0, 255]).id(), 1);
    }
}
