//! From the pool's errors to the library's: the one place that maps them.

use std::time::Duration;

use tenantry_pool::{Error as PoolError, LocateError};
use tenantry_wire::{DbError, Error as WireError};

use crate::{Error, ErrorKind};

/// When a full pool, or a tenant on the move, is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        let (kind, hint) = match &error {
            PoolError::Statement(error) => statement(error),
            PoolError::Connect(_) if refuses_the_role(error.database()) => (ErrorKind::Unavailable, Some(ROLE_REFUSED)),
            PoolError::Connect(_) | PoolError::Incarnation | PoolError::NotStandby | PoolError::Readdressed => {
                (ErrorKind::Unavailable, None)
            }
            PoolError::Locate(LocateError::NotFound) => (ErrorKind::TenantNotFound, None),
            PoolError::Locate(LocateError::Suspended) => (ErrorKind::TenantSuspended, None),
            PoolError::Locate(LocateError::NotReady) => (ErrorKind::TenantNotReady, None),
            PoolError::Locate(LocateError::Behind { .. }) => (ErrorKind::TenantMigrating, None),
            PoolError::Moving => (ErrorKind::TenantMoving, None),
            PoolError::StatementTimeout(_) | PoolError::TransactionTimeout(_) => (ErrorKind::Timeout, None),
            PoolError::TenantFull(_) | PoolError::TenantBusy(_) => (ErrorKind::TenantBusy, None),
            PoolError::WaitTimeout(_) | PoolError::Full(_) => (ErrorKind::PoolFull, None),
            PoolError::NeedsSession => (ErrorKind::Refused, Some(NEEDS_SESSION)),
            PoolError::Context(_) => (ErrorKind::Context, None),
            // `Unavailable`, and what later versions of the crate may add.
            _ => (ErrorKind::Unavailable, None),
        };
        let mut mapped = Self::new(kind, error.to_string());
        if let Some(hint) = hint {
            mapped = mapped.with_hint(hint);
        }
        if matches!(
            kind,
            ErrorKind::PoolFull
                | ErrorKind::TenantBusy
                | ErrorKind::TenantMigrating
                | ErrorKind::TenantMoving
                | ErrorKind::TenantNotReady
                | ErrorKind::Unavailable
        ) {
            mapped = mapped.with_retry_after(RETRY_AFTER);
        }
        mapped.with_source(error)
    }
}

const NEEDS_SESSION: &str = "SQL from outside, sqlx and diesel go to servers without a pooler only: see docs/pool.md";

/// Told after the catalog was asked again.
const ROLE_REFUSED: &str = "the server does not let in the application's role with the password that the catalog has: \
     `tenantry server set <name> --new-passwords` gives both a new one";

fn refuses_the_role(error: Option<&DbError>) -> bool {
    error.is_some_and(|error| matches!(error.code(), "28P01" | "28000"))
}

fn statement(error: &WireError) -> (ErrorKind, Option<&'static str>) {
    match error {
        WireError::Database(error) => database(error),
        WireError::Refused { .. } | WireError::UnexpectedCopy => (ErrorKind::Refused, None),
        WireError::Parameter { .. } | WireError::ParameterCount { .. } | WireError::TooLarge { .. } => {
            (ErrorKind::Parameter, None)
        }
        WireError::Column { .. } => (ErrorKind::Column, None),
        WireError::ResultTooLarge { .. } => (ErrorKind::ResultTooLarge, None),
        WireError::Drift(_) | WireError::TransactionEnded => (ErrorKind::Refused, None),
        WireError::TransactionFailed => (ErrorKind::Database, None),
        _ => (ErrorKind::Unavailable, None),
    }
}

/// What isolation changes about a statement is not in PostgreSQL's own hint.
fn database(error: &DbError) -> (ErrorKind, Option<&'static str>) {
    if error
        .tenantry_sentence()
        .is_some_and(|sentence| sentence.contains("viewer may not write"))
    {
        return (ErrorKind::ReadOnlyRole, None);
    }
    let hint = match error.code() {
        "42P10" => Some(
            "the keys of a tenant's tables begin with tenant_id: write `on conflict (tenant_id, …)` or name the constraint",
        ),
        "42803" => Some("the primary key is (tenant_id, …): group by all of it, or by each column that is selected"),
        "42501" if error.message().contains("row-level security") => {
            Some("rows are written for the scope's own tenant: leave tenant_id out")
        }
        "42501" if error.message().contains("permission denied for table") => {
            Some("tenant_id can't be updated, and reference tables are written by migrations only")
        }
        "25006" => Some("`read_only()` only reads, wherever it does: write by way of the scope itself"),
        // Other drivers leave the limit to the server; the scope's own statements are stopped by us.
        "57014" if error.message().contains("statement timeout") => return (ErrorKind::Timeout, None),
        "57P01" | "57P02" | "57P03" | "53300" => return (ErrorKind::Unavailable, None),
        _ => None,
    };
    (ErrorKind::Database, hint)
}
