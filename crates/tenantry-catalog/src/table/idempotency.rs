//! Repeated requests: the same key from the same caller is the same request.

use tenantry_core::{OperationId, TenantId};
use uuid::Uuid;

use crate::{CatalogError, Db};

/// What is known about a key.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Claim {
    /// First seen now; what follows in this transaction belongs to it.
    New,
    /// The same request came before, and this is what it made.
    Repeated {
        /// The tenant.
        tenant: Option<TenantId>,
        /// The operation.
        operation: Option<OperationId>,
    },
    /// The key was used for another request.
    Mismatch,
}

/// Who repeats what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: &'a str,
    /// The key.
    pub key: &'a str,
    /// SHA-256 of what is asked.
    pub hash: &'a [u8],
}

/// Claims the key. A concurrent request with the same key waits here until this transaction ends.
///
/// # Errors
/// When the catalog fails.
pub async fn claim(db: &impl Db, request: Request<'_>) -> Result<Claim, CatalogError> {
    let inserted = db
        .execute(
            "insert into idempotency (caller, key, request_hash) values ($1, $2, $3) on conflict (caller, key) do nothing",
            &[&request.caller, &request.key, &request.hash],
        )
        .await?;
    if inserted == 1 {
        return Ok(Claim::New);
    }
    let row = db
        .query_one(
            "select request_hash, tenant, operation from idempotency where caller = $1 and key = $2",
            &[&request.caller, &request.key],
        )
        .await?;
    if row.get::<_, &[u8]>(0) != request.hash {
        return Ok(Claim::Mismatch);
    }
    Ok(Claim::Repeated {
        tenant: row.get::<_, Option<Uuid>>(1).map(TenantId::from_uuid),
        operation: row.get::<_, Option<Uuid>>(2).map(OperationId::from_uuid),
    })
}

/// Records what the request made, in the transaction that claimed the key.
///
/// # Errors
/// When the catalog fails.
pub async fn record(
    db: &impl Db,
    request: Request<'_>,
    tenant: TenantId,
    operation: Option<OperationId>,
) -> Result<(), CatalogError> {
    db.execute(
        "update idempotency set tenant = $3, operation = $4 where caller = $1 and key = $2",
        &[
            &request.caller,
            &request.key,
            tenant.as_uuid(),
            &operation.map(|operation| *operation.as_uuid()),
        ],
    )
    .await?;
    Ok(())
}

/// Forgets the keys of an operation that failed, so that the request can be made again.
///
/// # Errors
/// When the catalog fails.
pub async fn forget(db: &impl Db, operation: OperationId) -> Result<(), CatalogError> {
    db.execute("delete from idempotency where operation = $1", &[operation.as_uuid()])
        .await?;
    Ok(())
}

/// Forgets keys older than a day.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "delete from idempotency where created_at < now() - interval '1 day'",
            &[],
        )
        .await?)
}
