//! What an operation is about to make outside of the catalog: committed before the object exists.

use tenantry_core::{OperationId, ServerId, TenantId};
use tokio_postgres::Row;

use crate::{
    CatalogError, Db,
    operation::{Held, Lease},
    text::{parsed, words},
};

words! {
    /// What kind of object an operation makes.
    ObjectKind {
        /// A tenant's own schema.
        Schema = "schema",
        /// A database.
        Database = "database",
        /// A login role.
        Role = "role",
        /// A tenant's rows and its fence in shared tables.
        Rows = "rows",
        /// A replication slot.
        Slot = "slot",
        /// A publication.
        Publication = "publication",
    }
}

/// An object outside of the catalog.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// On which server.
    pub server: ServerId,
    /// In which database; empty for what belongs to the cluster.
    pub database_name: String,
    /// Its name.
    pub name: String,
}

impl Object {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            kind: parsed(row, 0, "operation_cleanup.kind")?,
            server: ServerId::from_uuid(row.get(1)),
            database_name: row.get(2),
            name: row.get(3),
        })
    }
}

/// Records an object before it is made, if nobody has taken the operation over. To be committed before it is made.
///
/// # Errors
/// When the catalog fails.
pub async fn record(db: &impl Db, lease: Lease, object: &Object) -> Result<Held, CatalogError> {
    let held = db
        .query_opt(
            "with held as (
                 select id from operation where id = $1 and fencing = $2 and lease_until >= now() for update
             ), recorded as (
                 insert into operation_cleanup (operation, kind, server, database_name, name)
                 select id, $3, $4, $5, $6 from held
                 on conflict do nothing
             )
             select from held",
            &[
                lease.operation.as_uuid(),
                &lease.fencing,
                &object.kind.as_str(),
                object.server.as_uuid(),
                &object.database_name,
                &object.name,
            ],
        )
        .await?;
    Ok(if held.is_some() { Held::Yes } else { Held::Lost })
}

/// Records an object that is there already with the operation which works on it, in the transaction that makes the operation: where
/// that fails for good, the object goes.
///
/// # Errors
/// When the catalog fails.
pub async fn hand_over(db: &impl Db, operation: OperationId, object: &Object) -> Result<(), CatalogError> {
    db.execute(
        "insert into operation_cleanup (operation, kind, server, database_name, name) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        &[
            operation.as_uuid(),
            &object.kind.as_str(),
            object.server.as_uuid(),
            &object.database_name,
            &object.name,
        ],
    )
    .await?;
    Ok(())
}

/// What the operation may have made and nobody has settled, the latest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list_open(db: &impl Db, operation: OperationId) -> Result<Vec<Object>, CatalogError> {
    let rows = db
        .query(
            "select kind, server, database_name, name from operation_cleanup
             where operation = $1 and settled_at is null
             order by created_at desc, kind",
            &[operation.as_uuid()],
        )
        .await?;
    rows.iter().map(Object::from_row).collect()
}

/// What the tenant's other operations may have made and nobody has settled, the latest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list_open_of_tenant(
    db: &impl Db,
    tenant: TenantId,
    but: OperationId,
) -> Result<Vec<(OperationId, Object)>, CatalogError> {
    let rows = db
        .query(
            "select c.kind, c.server, c.database_name, c.name, c.operation
             from operation_cleanup as c join operation as o on o.id = c.operation
             where o.tenant = $1 and o.id <> $2 and c.settled_at is null
             order by c.created_at desc, c.kind",
            &[tenant.as_uuid(), but.as_uuid()],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((OperationId::from_uuid(row.get(4)), Object::from_row(row)?)))
        .collect()
}

/// The object is gone for sure.
///
/// # Errors
/// When the catalog fails.
pub async fn settle(db: &impl Db, operation: OperationId, object: &Object) -> Result<(), CatalogError> {
    db.execute(
        "update operation_cleanup set settled_at = now()
         where operation = $1 and kind = $2 and server = $3 and database_name = $4 and name = $5",
        &[
            operation.as_uuid(),
            &object.kind.as_str(),
            object.server.as_uuid(),
            &object.database_name,
            &object.name,
        ],
    )
    .await?;
    Ok(())
}

/// The operation succeeded: everything it made stays.
///
/// # Errors
/// When the catalog fails.
pub async fn settle_all(db: &impl Db, operation: OperationId) -> Result<(), CatalogError> {
    db.execute(
        "update operation_cleanup set settled_at = now() where operation = $1 and settled_at is null",
        &[operation.as_uuid()],
    )
    .await?;
    Ok(())
}

/// The tenant lives in the home that the operation made: it stays. What carried the changes there is left to be removed.
///
/// # Errors
/// When the catalog fails.
pub async fn settle_home(db: &impl Db, operation: OperationId) -> Result<(), CatalogError> {
    db.execute(
        "update operation_cleanup set settled_at = now()
         where operation = $1 and settled_at is null and kind not in ('slot', 'publication')",
        &[operation.as_uuid()],
    )
    .await?;
    Ok(())
}
