//! The databases that hold tenants' rows, with what it takes to get in.

use std::time::Duration;

use secrecy::SecretString;
use tenantry_core::{SHARED_SCHEMA, ServerId, TenantDatabaseId, Tier, seal::Key};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Catalog, CatalogError, Column, Db, Transaction,
    text::{parsed, parsed_opt, words},
};

words! {
    /// Whom a tenant database is for.
    DatabaseKind {
        /// Tenants in shared tables and in schemas of their own.
        Shared = "shared",
        /// One tenant.
        Own = "own",
    }
}

words! {
    /// How far a tenant database is.
    DatabaseState {
        /// Set when the row is made: the database may not exist yet. Nobody is routed there.
        Preparing = "preparing",
        /// Set when bootstrap has ended and is recorded. Serves.
        Ready = "ready",
        /// Set before it is dropped. Nobody is routed there any more.
        Dropping = "dropping",
    }
}

/// A tenant database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantDatabase {
    /// Its id; stands in the name of its application role.
    pub id: TenantDatabaseId,
    /// The cluster.
    pub server: ServerId,
    /// The database's name there.
    pub name: String,
    /// Whom it is for.
    pub kind: DatabaseKind,
    /// How far it is.
    pub state: DatabaseState,
    /// The application's role.
    pub app_role: String,
    /// How it proves contexts; known after bootstrap.
    pub tier: Option<Tier>,
    /// Which bootstrap it has had.
    pub bootstrap_version: Option<i32>,
    /// The cluster it was made on.
    pub system_identifier: Option<i64>,
    /// Which database it is there.
    pub database_oid: Option<u32>,
}

/// A tenant database that is about to be made.
#[derive(Debug)]
pub struct NewTenantDatabase<'a> {
    /// Its id.
    pub id: TenantDatabaseId,
    /// The cluster.
    pub server: ServerId,
    /// The database's name.
    pub name: &'a str,
    /// Whom it is for.
    pub kind: DatabaseKind,
    /// The application's role.
    pub app_role: &'a str,
    /// Its password.
    pub app_password: &'a SecretString,
    /// The first key of its seal.
    pub key: &'a Key,
}

/// What bootstrap found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bootstrapped {
    /// How the database proves contexts.
    pub tier: Tier,
    /// The bootstrap's version.
    pub version: i32,
    /// The cluster.
    pub system_identifier: i64,
    /// The database.
    pub database_oid: u32,
}

/// The secrets of a tenant database.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The application role's password.
    pub app_password: SecretString,
    /// The keys of its seal, the one to sign with first.
    pub keys: Vec<Key>,
}

pub(super) const COLUMNS: &str = "d.id, d.server, d.name, d.kind, d.state, d.app_role, d.tier, d.bootstrap_version, d.system_identifier, d.database_oid";

fn password_column(id: TenantDatabaseId) -> Column {
    Column {
        table: "tenant_database",
        column: "app_password_sealed",
        id: *id.as_uuid(),
    }
}

fn keys_column(id: TenantDatabaseId) -> Column {
    Column {
        table: "tenant_database",
        column: "seal_keys_sealed",
        id: *id.as_uuid(),
    }
}

/// 33 bytes a key: its id and its secret.
fn keys_to_bytes(keys: &[Key]) -> Vec<u8> {
    keys.iter()
        .flat_map(|key| std::iter::once(key.id()).chain(key.secret().iter().copied()))
        .collect()
}

fn keys_from_bytes(bytes: &[u8]) -> Vec<Key> {
    let key = |chunk: &[u8]| Some(Key::new(chunk[0], chunk[1..].try_into().ok()?));
    bytes.chunks_exact(33).filter_map(key).collect()
}

impl TenantDatabase {
    pub(super) fn from_row(row: &Row, offset: usize) -> Result<Self, CatalogError> {
        Ok(Self {
            id: TenantDatabaseId::from_uuid(row.get(offset)),
            server: ServerId::from_uuid(row.get(offset + 1)),
            name: row.get(offset + 2),
            kind: parsed(row, offset + 3, "tenant_database.kind")?,
            state: parsed(row, offset + 4, "tenant_database.state")?,
            app_role: row.get(offset + 5),
            tier: parsed_opt(row, offset + 6, "tenant_database.tier")?,
            bootstrap_version: row.get(offset + 7),
            system_identifier: row.get(offset + 8),
            database_oid: row
                .get::<_, Option<i64>>(offset + 9)
                .map(u32::try_from)
                .transpose()
                .map_err(|_| CatalogError::Unknown {
                    column: "tenant_database.database_oid",
                })?,
        })
    }
}

/// Records a database before it is made.
///
/// # Errors
/// When the catalog fails, also because the server has a database of this name or a shared one already.
pub async fn insert(catalog: &Catalog, db: &impl Db, new: &NewTenantDatabase<'_>) -> Result<(), CatalogError> {
    let password = catalog.seal_text(password_column(new.id), new.app_password);
    let keys = catalog.seal(keys_column(new.id), &keys_to_bytes(std::slice::from_ref(new.key)));
    db.execute(
        "insert into tenant_database (id, server, name, kind, app_role, app_password_sealed, seal_keys_sealed)
         values ($1, $2, $3, $4, $5, $6, $7)",
        &[
            new.id.as_uuid(),
            new.server.as_uuid(),
            &new.name,
            &new.kind.as_str(),
            &new.app_role,
            &password,
            &keys,
        ],
    )
    .await?;
    Ok(())
}

/// Replaces the password of the application's role, before the server is told.
///
/// # Errors
/// When the catalog fails.
pub async fn set_app_password(
    catalog: &Catalog,
    db: &impl Db,
    id: TenantDatabaseId,
    password: &SecretString,
) -> Result<(), CatalogError> {
    let sealed = catalog.seal_text(password_column(id), password);
    db.execute(
        "update tenant_database set app_password_sealed = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &sealed],
    )
    .await?;
    Ok(())
}

/// The tenant databases of a server that serve.
///
/// # Errors
/// When the catalog fails.
pub async fn list_ready_on(db: &impl Db, server: ServerId) -> Result<Vec<TenantDatabase>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "select {COLUMNS} from tenant_database as d where d.server = $1 and d.state = 'ready' order by d.id"
            ),
            &[server.as_uuid()],
        )
        .await?;
    rows.iter().map(|row| TenantDatabase::from_row(row, 0)).collect()
}

/// A tenant database with everything that is needed to go there, whoever lives in it.
#[derive(Clone, Debug)]
pub struct Located {
    /// The database.
    pub database: TenantDatabase,
    /// What opens it.
    pub secrets: Secrets,
    /// The server's address, as its administrator. The application's differs in role and password only.
    pub admin_url: SecretString,
    /// How the application reaches the server where that is not the administrator's address.
    pub app_address: Option<String>,
    /// What stands there.
    pub pooler: Option<super::server::Pooler>,
}

/// Everything that is needed to go to a tenant database; `None` if there is no such one.
///
/// # Errors
/// When the catalog fails or a secret does not open.
pub async fn locate(catalog: &Catalog, db: &impl Db, id: TenantDatabaseId) -> Result<Option<Located>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "select {COLUMNS}, d.app_password_sealed, d.seal_keys_sealed, s.admin_url_sealed, s.app_address, s.pooler
                 from tenant_database as d join server as s on s.id = d.server
                 where d.id = $1"
            ),
            &[id.as_uuid()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let database = TenantDatabase::from_row(&row, 0)?;
    Ok(Some(Located {
        secrets: open_secrets(catalog, id, row.get(10), row.get(11))?,
        admin_url: super::server::open_admin_url(catalog, database.server, row.get(12))?,
        app_address: row.get(13),
        pooler: parsed_opt(&row, 14, "server.pooler")?,
        database,
    }))
}

/// One tenant database.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, id: TenantDatabaseId) -> Result<Option<TenantDatabase>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from tenant_database as d where d.id = $1"),
            &[id.as_uuid()],
        )
        .await?;
    row.map(|row| TenantDatabase::from_row(&row, 0)).transpose()
}

/// The server's shared tenant database, unless it is being dropped.
///
/// # Errors
/// When the catalog fails.
pub async fn find_shared(db: &impl Db, server: ServerId) -> Result<Option<TenantDatabase>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "select {COLUMNS} from tenant_database as d
                 where d.server = $1 and d.kind = 'shared' and d.state <> 'dropping'"
            ),
            &[server.as_uuid()],
        )
        .await?;
    row.map(|row| TenantDatabase::from_row(&row, 0)).transpose()
}

/// The databases on the server `$1` that wait for their tenant, each with its migrations as the catalog knows them: number and checksum, in
/// order. `$2` is the schema of their tables. Looked for first: else the ledgers of all databases with a tenant would be put together too.
const SPARES: &str = "with waiting as materialized (
         select d.id from tenant_database as d
         where d.server = $1 and d.kind = 'own' and d.state = 'ready'
           and not exists (select from placement as p where p.tenant_database = d.id)),
     spare as materialized (
         select w.id, coalesce((select string_agg(m.version || ' ' || m.checksum, ',' order by m.version)
                                from app_migration as m
                                where m.tenant_database = w.id and m.schema_name = $2), '') as ledger
         from waiting as w)";

/// A database on this server that was made in advance and has exactly the migrations of `ledger`, the oldest, for a tenant whose
/// placement the same transaction records; `None` where there is none.
///
/// # Errors
/// When the catalog fails.
pub async fn take_spare(db: &impl Db, server: ServerId, ledger: &str) -> Result<Option<TenantDatabase>, CatalogError> {
    let mut seen: Vec<Uuid> = Vec::new();
    loop {
        let row = db
            .query_opt(
                &format!(
                    "{SPARES}
                     select {COLUMNS} from tenant_database as d join spare as s on s.id = d.id
                     where d.state = 'ready' and d.id <> all ($4) and s.ledger = $3
                     order by d.id limit 1 for update of d skip locked"
                ),
                &[server.as_uuid(), &SHARED_SCHEMA, &ledger, &seen],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let spare = TenantDatabase::from_row(&row, 0)?;
        // Once more under the lock: whoever held it before may have placed a tenant there since the statement began.
        let taken = db
            .query_opt(
                "select from placement where tenant_database = $1",
                &[spare.id.as_uuid()],
            )
            .await?;
        if taken.is_none() {
            return Ok(Some(spare));
        }
        seen.push(*spare.id.as_uuid());
    }
}

/// How many databases of one tenant's own wait for their tenant on this server, those that are being made included. Until the
/// transaction ends, nobody else counts them.
///
/// # Errors
/// When the catalog fails.
pub async fn count_spares(transaction: &Transaction<'_>, server: ServerId) -> Result<usize, CatalogError> {
    transaction
        .query_one(
            "select pg_advisory_xact_lock(hashtextextended('tenantry spare databases', 0))::text",
            &[],
        )
        .await?;
    let row = transaction
        .query_one(
            "select count(*) from tenant_database as d
             where d.server = $1 and d.kind = 'own' and d.state <> 'dropping'
               and not exists (select from placement as p where p.tenant_database = d.id)
               -- A tenant is on its way there.
               and not exists (select from operation as o where o.tenant_database = d.id and o.tenant is not null
                                 and o.state in ('pending', 'running', 'undoing', 'paused'))",
            &[server.as_uuid()],
        )
        .await?;
    Ok(usize::try_from(row.get::<_, i64>(0)).unwrap_or_default())
}

/// What the tables of a spare database should be made of.
#[derive(Clone, Copy, Debug)]
pub struct Newest<'a> {
    /// All migrations: number and checksum, in order, as the engine's ledgers are compared.
    pub ledger: &'a str,
    /// The number of the last of them; 0 for none.
    pub version: i64,
}

/// The databases that wait for their tenant on this server with other migrations than these. One with a newer one, which came
/// within the time of a deployment, belongs to a process that knows it: it is left out. Their rows are held until the transaction
/// ends; those that somebody else holds are left out as well.
///
/// # Errors
/// When the catalog fails.
pub async fn list_outdated_spares(
    db: &impl Db,
    server: ServerId,
    newest: Newest<'_>,
    deployment: Duration,
) -> Result<Vec<TenantDatabase>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "{SPARES}
                 select {COLUMNS} from tenant_database as d join spare as s on s.id = d.id
                 where d.state = 'ready' and s.ledger <> $3
                   and not exists (select from operation as o where o.tenant_database = d.id
                                     and o.state in ('pending', 'running', 'undoing', 'paused'))
                   and not exists (select from app_migration as m
                                   where m.tenant_database = d.id and m.schema_name = $2 and m.version > $4
                                     and m.applied_at > now() - make_interval(secs => $5))
                 order by d.id
                 for no key update of d skip locked"
            ),
            &[
                server.as_uuid(),
                &SHARED_SCHEMA,
                &newest.ledger,
                &newest.version,
                &deployment.as_secs_f64(),
            ],
        )
        .await?;
    rows.iter().map(|row| TenantDatabase::from_row(row, 0)).collect()
}

/// Takes a spare database away from those that wait, for an operation that makes it ready again; `false` where it does not wait any
/// more.
///
/// # Errors
/// When the catalog fails.
pub async fn set_preparing_again(db: &impl Db, id: TenantDatabaseId) -> Result<bool, CatalogError> {
    let taken = db
        .execute(
            "update tenant_database as d set state = 'preparing', version = version + 1
             where d.id = $1 and d.kind = 'own' and d.state = 'ready'
               and not exists (select from placement as p where p.tenant_database = d.id)",
            &[id.as_uuid()],
        )
        .await?;
    Ok(taken == 1)
}

/// How many spare databases are more than wanted.
#[derive(Clone, Copy, Debug)]
pub struct Surplus {
    /// So many.
    pub databases: usize,
    /// So many are dropped at the same time on a server.
    pub at_once: usize,
}

/// Takes some of the databases that wait for their tenant on this server away from those that wait, the youngest first: from now on nobody
/// is placed there, and the same transaction has to record the operations that drop them. Those that somebody holds, who may be placing a
/// tenant there, are left out, and so are those that an operation works on.
///
/// # Errors
/// When the catalog fails.
pub async fn claim_surplus_spares(
    transaction: &Transaction<'_>,
    server: ServerId,
    surplus: Surplus,
) -> Result<Vec<TenantDatabase>, CatalogError> {
    const UNDER_WAY: &str = "select from operation as o where o.tenant_database = d.id
                               and o.state in ('pending', 'running', 'undoing', 'paused')";
    const IS_FREE: &str = "not exists (select from placement as p where p.tenant_database = d.id)";
    let row = transaction
        .query_one(
            &format!(
                "select count(*) from tenant_database as d
                 where d.server = $1 and d.kind = 'own' and d.state = 'dropping' and {IS_FREE} and exists ({UNDER_WAY})"
            ),
            &[server.as_uuid()],
        )
        .await?;
    let being_dropped = usize::try_from(row.get::<_, i64>(0)).unwrap_or_default();
    let room = surplus.at_once.saturating_sub(being_dropped).min(surplus.databases);
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    // Those that tenants take are the oldest. By its name each was made as a spare one: whatever has another name was some tenant's.
    let rows = transaction
        .query(
            &format!(
                "select {COLUMNS} from tenant_database as d
                 where d.server = $1 and d.kind = 'own' and d.state = 'ready' and position('_spare_' in d.name) > 0
                   and {IS_FREE} and not exists ({UNDER_WAY})
                 order by d.id desc limit $2 for update of d skip locked"
            ),
            &[server.as_uuid(), &limit],
        )
        .await?;
    let mut claimed = Vec::new();
    for row in &rows {
        let spare = TenantDatabase::from_row(row, 0)?;
        // Once more under the lock: whoever held it before may have placed a tenant there since the statement began.
        let taken = transaction
            .execute(
                &format!(
                    "update tenant_database as d set state = 'dropping', version = version + 1
                     where d.id = $1 and d.state = 'ready' and {IS_FREE} and not exists ({UNDER_WAY})"
                ),
                &[spare.id.as_uuid()],
            )
            .await?;
        if taken == 1 {
            claimed.push(spare);
        }
    }
    Ok(claimed)
}

/// Every tenant database that is ready, by server and name.
///
/// # Errors
/// When the catalog fails.
pub async fn list_ready(db: &impl Db) -> Result<Vec<TenantDatabase>, CatalogError> {
    let rows = db
        .query(
            &format!("select {COLUMNS} from tenant_database as d where d.state = 'ready' order by d.server, d.name"),
            &[],
        )
        .await?;
    rows.iter().map(|row| TenantDatabase::from_row(row, 0)).collect()
}

/// Every tenant database that is ready and whose bootstrap has another version, with its server's name.
///
/// # Errors
/// When the catalog fails.
pub async fn list_of_other_versions(db: &impl Db, version: i32) -> Result<Vec<(String, TenantDatabase)>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "select {COLUMNS}, s.name
                 from tenant_database as d
                 join server as s on s.id = d.server
                 where d.state = 'ready' and d.bootstrap_version is distinct from $1
                 order by s.name, d.name"
            ),
            &[&version],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.get(10), TenantDatabase::from_row(row, 0)?)))
        .collect()
}

/// Its secrets.
///
/// # Errors
/// When the catalog fails, there is no such database or a secret does not open.
pub async fn secrets(catalog: &Catalog, db: &impl Db, id: TenantDatabaseId) -> Result<Secrets, CatalogError> {
    let row = db
        .query_one(
            "select app_password_sealed, seal_keys_sealed from tenant_database where id = $1",
            &[id.as_uuid()],
        )
        .await?;
    open_secrets(catalog, id, row.get(0), row.get(1))
}

pub(super) fn open_secrets(
    catalog: &Catalog,
    id: TenantDatabaseId,
    password: &[u8],
    keys: Option<&[u8]>,
) -> Result<Secrets, CatalogError> {
    let keys = match keys {
        Some(sealed) => keys_from_bytes(&catalog.open(keys_column(id), sealed)?),
        None => Vec::new(),
    };
    Ok(Secrets {
        app_password: catalog.open_text(password_column(id), password)?,
        keys,
    })
}

/// From now on tenants may be routed there.
///
/// # Errors
/// When the catalog fails.
pub async fn set_ready(db: &impl Db, id: TenantDatabaseId) -> Result<(), CatalogError> {
    db.execute(
        "update tenant_database set state = 'ready', version = version + 1 where id = $1 and state = 'preparing'",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}

/// The same of one that was about to be dropped: its tenant comes back.
///
/// # Errors
/// When the catalog fails.
pub async fn set_ready_again(db: &impl Db, id: TenantDatabaseId) -> Result<(), CatalogError> {
    db.execute(
        "update tenant_database set state = 'ready', version = version + 1 where id = $1 and state = 'dropping'",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}

/// Records what bootstrap found.
///
/// # Errors
/// When the catalog fails.
pub async fn set_bootstrapped(db: &impl Db, id: TenantDatabaseId, found: Bootstrapped) -> Result<(), CatalogError> {
    db.execute(
        "update tenant_database
         set tier = $2, bootstrap_version = $3, system_identifier = $4, database_oid = $5,
             version = version + 1
         where id = $1",
        &[
            id.as_uuid(),
            &found.tier.as_str(),
            &found.version,
            &found.system_identifier,
            &i64::from(found.database_oid),
        ],
    )
    .await?;
    Ok(())
}

/// Notes that the database is another one than was made ready: it was restored or cloned, and has to be made ready again.
///
/// # Errors
/// When the catalog fails.
pub async fn set_replaced(db: &impl Db, id: TenantDatabaseId) -> Result<(), CatalogError> {
    db.execute(
        "update tenant_database set bootstrap_version = null, version = version + 1
         where id = $1 and bootstrap_version is not null",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}

/// Replaces the keys, the one to sign with first.
///
/// # Errors
/// When the catalog fails.
pub async fn set_keys(catalog: &Catalog, db: &impl Db, id: TenantDatabaseId, keys: &[Key]) -> Result<(), CatalogError> {
    let sealed = catalog.seal(keys_column(id), &keys_to_bytes(keys));
    db.execute(
        "update tenant_database set seal_keys_sealed = $2, version = version + 1 where id = $1",
        &[id.as_uuid(), &sealed],
    )
    .await?;
    Ok(())
}

/// One tenant database by its name on a server.
///
/// # Errors
/// When the catalog fails.
pub async fn find_by_name(db: &impl Db, server: ServerId, name: &str) -> Result<Option<TenantDatabase>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from tenant_database as d where d.server = $1 and d.name = $2"),
            &[server.as_uuid(), &name],
        )
        .await?;
    row.map(|row| TenantDatabase::from_row(&row, 0)).transpose()
}

/// Forgets a database that is gone; its operations keep their record.
///
/// # Errors
/// When the catalog fails.
pub async fn remove(db: &impl Db, id: TenantDatabaseId) -> Result<(), CatalogError> {
    db.execute(
        "update operation set tenant_database = null where tenant_database = $1",
        &[id.as_uuid()],
    )
    .await?;
    db.execute("delete from tenant_database where id = $1", &[id.as_uuid()])
        .await?;
    Ok(())
}

/// Nobody is routed there any more.
///
/// # Errors
/// When the catalog fails.
pub async fn set_dropping(db: &impl Db, id: TenantDatabaseId) -> Result<(), CatalogError> {
    db.execute(
        "update tenant_database set state = 'dropping', version = version + 1 where id = $1",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_bytes() {
        let keys = [Key::new(3, [7; 32]), Key::new(4, [8; 32])];
        let read = keys_from_bytes(&keys_to_bytes(&keys));
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].id(), read[1].secret()), (4, &[8; 32]));
    }
}
