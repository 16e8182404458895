//! The standbys of servers, from which the application may read.

use tenantry_core::ServerId;
use uuid::Uuid;

use crate::{CatalogError, Db};

/// A standby of a server.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
pub struct Replica {
    /// Its id, for its share of connections.
    pub id: ServerId,
    /// Where it is, as `host:port`.
    pub address: String,
}

/// Lists these standbys of a server and no others. Those that were listed keep their ids.
///
/// # Errors
/// When the catalog fails.
pub async fn set(db: &impl Db, server: ServerId, addresses: &[String]) -> Result<(), CatalogError> {
    db.execute(
        "with gone as (delete from server_replica where server = $1 and address <> all ($2) returning id)
         delete from connection_share where server in (select id from gone)",
        &[server.as_uuid(), &addresses],
    )
    .await?;
    let ids: Vec<Uuid> = addresses.iter().map(|_| Uuid::now_v7()).collect();
    db.execute(
        "insert into server_replica (id, server, address)
         select n.id, $1, n.address from unnest($2::uuid[], $3::text[]) as n (id, address)
         on conflict (server, address) do nothing",
        &[server.as_uuid(), &ids, &addresses],
    )
    .await?;
    db.execute(
        "update server set version = version + 1 where id = $1",
        &[server.as_uuid()],
    )
    .await?;
    Ok(())
}

/// The standbys of a server, by address.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, server: ServerId) -> Result<Vec<Replica>, CatalogError> {
    let rows = db
        .query(
            "select id, address from server_replica where server = $1 order by address",
            &[server.as_uuid()],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Replica {
            id: ServerId::from_uuid(row.get(0)),
            address: row.get(1),
        })
        .collect())
}
