//! The PostgreSQL clusters of the fleet.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tenantry_core::ServerId;
use tokio_postgres::Row;

use crate::{
    Catalog, CatalogError, Column, Db,
    text::{parsed, parsed_opt, words},
};

words! {
    /// Whether new tenants are placed on a server.
    ServerState {
        /// New tenants are placed here.
        Active = "active",
        /// Set by an operator: what is here stays and is served, nothing new comes.
        Draining = "draining",
    }
}

words! {
    /// What stands between the application and a server.
    Pooler {
        /// A pooler that lends a server's connection for a transaction, like PgBouncer with `pool_mode = transaction`.
        Transaction = "transaction",
    }
}

/// A PostgreSQL cluster of the fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its name, unique.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// How many tenants it takes at most.
    pub capacity: Option<i32>,
    /// How many it has.
    pub tenants: i32,
    /// How many connections all processes together have for the application's roles at most.
    pub connections: i32,
    /// How the application reaches it, where that is not the administrator's address.
    pub app_address: Option<String>,
    /// What stands between the application and it.
    pub pooler: Option<Pooler>,
    /// Where its standbys are that the application may read from.
    pub replicas: Vec<String>,
    /// How many spare schemas are kept there, where it has a number of its own.
    pub spare_schemas: Option<u16>,
    /// How many spare databases are kept there, where it has a number of its own.
    pub spare_databases: Option<u16>,
    /// Whether new tenants are placed here.
    pub state: ServerState,
    /// `server_version_num` at the last check.
    pub server_version: i32,
    /// What PostgreSQL calls the cluster.
    pub system_identifier: i64,
    /// Grows with every change.
    pub version: i64,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last found in order.
    pub checked_at: DateTime<Utc>,
}

/// A server that is about to be registered.
#[derive(Debug)]
pub struct NewServer<'a> {
    /// Its id.
    pub id: ServerId,
    /// Its name.
    pub name: &'a str,
    /// Where it stands.
    pub region: &'a str,
    /// How many tenants it takes at most.
    pub capacity: Option<i32>,
    /// How many connections the application's roles may have at most; the usual number if left out.
    pub connections: Option<i32>,
    /// The administrator's address.
    pub admin_url: &'a SecretString,
    /// The password of the role that copies tenants.
    pub mover_password: &'a SecretString,
    /// `server_version_num`.
    pub server_version: i32,
    /// What PostgreSQL calls the cluster.
    pub system_identifier: i64,
}

/// Where a tenant may be placed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wish<'a> {
    /// On the server of this name.
    pub server: Option<&'a str>,
    /// In this region.
    pub region: Option<&'a str>,
    /// Only where the shared tenant database is ready.
    pub with_shared_database: bool,
}

/// The outcome of [`insert`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Inserted {
    /// It is registered.
    Yes,
    /// Another server has this name.
    NameTaken,
    /// This cluster is registered under another name.
    AlreadyRegistered,
}

const COLUMNS: &str = "id, name, region, capacity, tenants, state, server_version, system_identifier, version, created_at, checked_at, connections, \
     app_address, pooler, \
     (select coalesce(array_agg(r.address order by r.address), '{}') from server_replica as r where r.server = server.id), \
     spare_schemas, spare_databases";

fn admin_url_column(id: ServerId) -> Column {
    Column {
        table: "server",
        column: "admin_url_sealed",
        id: *id.as_uuid(),
    }
}

fn mover_password_column(id: ServerId) -> Column {
    Column {
        table: "server",
        column: "mover_password_sealed",
        id: *id.as_uuid(),
    }
}

impl Server {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: ServerId::from_uuid(row.get(0)),
            name: row.get(1),
            region: row.get(2),
            capacity: row.get(3),
            tenants: row.get(4),
            state: parsed(row, 5, "server.state")?,
            server_version: row.get(6),
            system_identifier: row.get(7),
            version: row.get(8),
            created_at: row.get(9),
            checked_at: row.get(10),
            connections: row.get(11),
            app_address: row.get(12),
            pooler: parsed_opt(row, 13, "server.pooler")?,
            replicas: row.get(14),
            spare_schemas: spares(row, 15, "server.spare_schemas")?,
            spare_databases: spares(row, 16, "server.spare_databases")?,
        })
    }
}

/// A server's own number of spares, if it has one.
pub(super) fn spares(row: &Row, index: usize, column: &'static str) -> Result<Option<u16>, CatalogError> {
    let number = row.try_get::<_, Option<i32>>(index)?;
    number
        .map(|number| u16::try_from(number).map_err(|_| CatalogError::Unknown { column }))
        .transpose()
}

/// Registers a server.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(catalog: &Catalog, db: &impl Db, new: &NewServer<'_>) -> Result<Inserted, CatalogError> {
    let sealed = catalog.seal_text(admin_url_column(new.id), new.admin_url);
    let mover_password = catalog.seal_text(mover_password_column(new.id), new.mover_password);
    let inserted = db
        .query(
            "with taken as (
                 select name = $2 as by_name from server where name = $2 or system_identifier = $7 order by 1 desc limit 1
             ), inserted as (
                 insert into server (id, name, region, capacity, admin_url_sealed, server_version, system_identifier, mover_password_sealed,
                                     connections)
                 select $1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, 64) where not exists (select from taken)
                 on conflict do nothing
                 returning id
             )
             select null::boolean from inserted union all select by_name from taken",
            &[
                new.id.as_uuid(),
                &new.name,
                &new.region,
                &new.capacity,
                &sealed,
                &new.server_version,
                &new.system_identifier,
                &mover_password,
                &new.connections,
            ],
        )
        .await?;
    Ok(match inserted.first().map(|row| row.get::<_, Option<bool>>(0)) {
        Some(None) => Inserted::Yes,
        Some(Some(false)) => Inserted::AlreadyRegistered,
        // Nothing inserted and nothing seen: another transaction was faster, which is mostly the same name.
        Some(Some(true)) | None => Inserted::NameTaken,
    })
}

/// One server by its id.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, id: ServerId) -> Result<Option<Server>, CatalogError> {
    let row = db
        .query_opt(&format!("select {COLUMNS} from server where id = $1"), &[id.as_uuid()])
        .await?;
    row.as_ref().map(Server::from_row).transpose()
}

/// One server by its name.
///
/// # Errors
/// When the catalog fails.
pub async fn find_by_name(db: &impl Db, name: &str) -> Result<Option<Server>, CatalogError> {
    let row = db
        .query_opt(&format!("select {COLUMNS} from server where name = $1"), &[&name])
        .await?;
    row.as_ref().map(Server::from_row).transpose()
}

/// Every server, by name.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db) -> Result<Vec<Server>, CatalogError> {
    let rows = db
        .query(&format!("select {COLUMNS} from server order by name"), &[])
        .await?;
    rows.iter().map(Server::from_row).collect()
}

/// How a server is administered.
#[derive(Clone, Debug)]
pub struct Administration {
    /// The administrator's address.
    pub admin_url: SecretString,
    /// The password of the role that copies tenants.
    pub mover_password: SecretString,
}

/// How a server is administered.
///
/// # Errors
/// When the catalog fails, there is no such server or a secret does not open.
pub async fn administration(catalog: &Catalog, db: &impl Db, id: ServerId) -> Result<Administration, CatalogError> {
    let row = db
        .query_one(
            "select admin_url_sealed, mover_password_sealed from server where id = $1",
            &[id.as_uuid()],
        )
        .await?;
    Ok(Administration {
        admin_url: open_admin_url(catalog, id, row.get(0))?,
        mover_password: catalog.open_text(mover_password_column(id), row.get(1))?,
    })
}

pub(super) fn open_admin_url(catalog: &Catalog, id: ServerId, sealed: &[u8]) -> Result<SecretString, CatalogError> {
    Ok(catalog.open_text(admin_url_column(id), sealed)?)
}

/// Replaces the administrator's address.
///
/// # Errors
/// When the catalog fails.
pub async fn set_admin_url(
    catalog: &Catalog,
    db: &impl Db,
    id: ServerId,
    url: &SecretString,
) -> Result<(), CatalogError> {
    let sealed = catalog.seal_text(admin_url_column(id), url);
    db.execute(
        "update server set admin_url_sealed = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &sealed],
    )
    .await?;
    Ok(())
}

/// Sets how many connections the application's roles may have, over all processes.
///
/// # Errors
/// When the catalog fails.
pub async fn set_connections(db: &impl Db, id: ServerId, connections: i32) -> Result<(), CatalogError> {
    db.execute(
        "update server set connections = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &connections],
    )
    .await?;
    Ok(())
}

/// Sets how the application reaches the server: at the administrator's address, or at a pooler's.
///
/// # Errors
/// When the catalog fails.
pub async fn set_pooler(db: &impl Db, id: ServerId, pooler: Option<(Pooler, &str)>) -> Result<(), CatalogError> {
    db.execute(
        "update server set pooler = $2, app_address = $3, version = version + 1 where id = $1",
        &[
            id.as_uuid(),
            &pooler.map(|(pooler, _)| pooler.as_str()),
            &pooler.map(|(_, address)| address),
        ],
    )
    .await?;
    Ok(())
}

/// Sets how many spare schemas are kept on the server; `None` for as many as configured.
///
/// # Errors
/// When the catalog fails.
pub async fn set_spare_schemas(db: &impl Db, id: ServerId, number: Option<u16>) -> Result<(), CatalogError> {
    db.execute(
        "update server set spare_schemas = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &number.map(i32::from)],
    )
    .await?;
    Ok(())
}

/// Sets how many spare databases are kept on the server; `None` for as many as configured.
///
/// # Errors
/// When the catalog fails.
pub async fn set_spare_databases(db: &impl Db, id: ServerId, number: Option<u16>) -> Result<(), CatalogError> {
    db.execute(
        "update server set spare_databases = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &number.map(i32::from)],
    )
    .await?;
    Ok(())
}

/// Sets whether new tenants are placed on the server.
///
/// # Errors
/// When the catalog fails.
pub async fn set_state(db: &impl Db, id: ServerId, state: ServerState) -> Result<(), CatalogError> {
    db.execute(
        "update server set state = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &state.as_str()],
    )
    .await?;
    Ok(())
}

/// Forgets a server that could not be made ready; nothing may be placed on it.
///
/// # Errors
/// When the catalog fails.
pub async fn remove(db: &impl Db, id: ServerId) -> Result<(), CatalogError> {
    db.execute("delete from server where id = $1", &[id.as_uuid()]).await?;
    Ok(())
}

/// Notes that the server was found in order.
///
/// # Errors
/// When the catalog fails.
pub async fn set_checked(db: &impl Db, id: ServerId, server_version: i32) -> Result<(), CatalogError> {
    db.execute(
        "update server set checked_at = now(), server_version = $2 where id = $1",
        &[id.as_uuid(), &server_version],
    )
    .await?;
    Ok(())
}

/// Takes a place for one more tenant on the emptiest server that fits the wish; `None` if none has room.
///
/// Holds the server's row until the transaction ends, so that the capacity is never exceeded.
///
/// # Errors
/// When the catalog fails.
pub async fn take_place(db: &impl Db, wish: Wish<'_>) -> Result<Option<Server>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "update server set tenants = tenants + 1
                 where id = (
                     select s.id from server as s
                     where s.state = 'active'
                       and ($1::text is null or s.name = $1)
                       and ($2::text is null or s.region = $2)
                       and (s.capacity is null or s.tenants < s.capacity)
                       and (not $3 or exists (
                           select from tenant_database as d where d.server = s.id and d.kind = 'shared' and d.state = 'ready'))
                     order by s.tenants::float8 / coalesce(nullif(s.capacity, 0), 1000000), s.name
                     limit 1
                     for update)
                 returning {COLUMNS}"
            ),
            &[&wish.server, &wish.region, &wish.with_shared_database],
        )
        .await?;
    row.as_ref().map(Server::from_row).transpose()
}

/// Gives a tenant's place back.
///
/// # Errors
/// When the catalog fails.
pub async fn give_place_back(db: &impl Db, id: ServerId) -> Result<(), CatalogError> {
    db.execute(
        "update server set tenants = tenants - 1 where id = $1 and tenants > 0",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}
