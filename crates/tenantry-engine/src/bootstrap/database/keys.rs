//! The keys of a database when it is made ready.

use tenantry_core::seal::Key;
use tokio_postgres::Transaction;

use super::Work;
use crate::sql_error::{Doing, SqlError};

/// Keeps the key that the catalog holds, or makes a new one in the place of all others: where there is none to keep, and
/// where the database is a copy, whose original's keys must not open it.
pub(super) async fn settle(work: &Work<'_>, transaction: &Transaction<'_>, was_copy: bool) -> Result<Key, SqlError> {
    match &work.request.credentials {
        Some(credentials) if !was_copy => keep(transaction, &credentials.key).await,
        _ => renew(transaction).await,
    }
}

async fn keep(transaction: &Transaction<'_>, key: &Key) -> Result<Key, SqlError> {
    // The database may have been renamed; that it is the very same one is known by now.
    transaction
        .batch_execute("update tenantry_private.mac_key set database_name = current_database() where database_name <> current_database()")
        .await
        .doing("keep the keys of a renamed database")?;
    let (ik, ok) = key.blocks();
    transaction
        .execute(
            "delete from tenantry_private.mac_key where kid = $1 and (ik, ok) <> ($2, $3)",
            &[&i32::from(key.id()), &ik.as_slice(), &ok.as_slice()],
        )
        .await
        .doing("replace a key")?;
    insert(transaction, key).await?;
    // Two live at a time: this one and the newest of the others.
    transaction
        .execute(
            "delete from tenantry_private.mac_key where kid not in
               (select kid from tenantry_private.mac_key order by (kid = $1) desc, created_at desc limit 2)",
            &[&i32::from(key.id())],
        )
        .await
        .doing("drop an old key")?;
    Ok(key.clone())
}

async fn renew(transaction: &Transaction<'_>) -> Result<Key, SqlError> {
    let row = transaction
        .query_one("select coalesce(max(kid), -1) from tenantry_private.mac_key", &[])
        .await
        .doing("read the keys")?;
    let last: i32 = row.get(0);
    let id = u8::try_from(last + 1).unwrap_or(0);
    let key = Key::new(id, rand::random());
    transaction
        .batch_execute("delete from tenantry_private.mac_key")
        .await
        .doing("drop the old keys")?;
    insert(transaction, &key).await?;
    Ok(key)
}

async fn insert(transaction: &Transaction<'_>, key: &Key) -> Result<(), SqlError> {
    let (ik, ok) = key.blocks();
    // Bound parameters: the key stands in no statement.
    transaction
        .execute(
            "insert into tenantry_private.mac_key (kid, ik, ok, database_name) values ($1, $2, $3, current_database())
             on conflict (kid) do nothing",
            &[&i32::from(key.id()), &ik.as_slice(), &ok.as_slice()],
        )
        .await
        .doing("store the key")?;
    Ok(())
}
