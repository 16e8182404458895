//! Where migrations are applied, and how patient they are there.

use std::time::Duration;

use tenantry_core::TenantId;
use tenantry_sql::Identifier;

/// A schema of a tenant database, and the roles there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The schema of its tables: `app`, or a tenant's own.
    pub schema: Identifier,
    /// The role that owns the application's tables.
    pub owner: Identifier,
    /// The application's role of this database.
    pub application: Identifier,
    /// The role that moves tenants; it runs `all tenants` files, since row security does not bind it.
    pub mover: Identifier,
}

/// Bounds.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long a statement waits for a lock before the version is rolled back and tried again: queries of the application queue
    /// behind a waiting `alter table`. A file may declare another one.
    pub lock_timeout: Duration,
    /// How often is tried what could not get its locks: a version, a step of one that can't run in a transaction, or a tenant's data.
    pub lock_attempts: u32,
    /// How long to wait for another applier of the same placement; and for transactions to end, with what `concurrently` does.
    pub turn_timeout: Duration,
}

impl Default for Patience {
    /// Some forty seconds in all, in a tenth of which the application may wait, each time for less than a person notices.
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_millis(150),
            lock_attempts: 30,
            turn_timeout: Duration::from_secs(600),
        }
    }
}

/// The longest pause after the first attempt; the next ones are twice as long each, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);

impl Patience {
    /// How long to stay away after so many attempts: the queue behind the lock has to drain, and two that met should not meet again.
    pub(super) fn pause(attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(8);
        let most = (PAUSE_FIRST * 2_u32.pow(doublings)).min(PAUSE_LAST);
        most.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// Opens tenants' contexts for `each tenant` and `seed` files.
pub trait TenantContext: Sync {
    /// The statement by which the administrator puts his transaction into the tenant's context, as somebody who may write.
    fn enter(&self, tenant: TenantId, backend_pid: i32) -> String;

    /// The statement that ends it, before the commit.
    fn leave(&self, _tenant: TenantId) -> String {
        String::new()
    }
}

/// The administrator's own way, which needs no key and reaches tenants that nobody may enter: suspended ones, and those not open yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByAdministrator;

impl TenantContext for ByAdministrator {
    fn enter(&self, tenant: TenantId, _backend_pid: i32) -> String {
        format!("select tenantry_private.act_for('{}')", tenant.as_uuid())
    }

    fn leave(&self, tenant: TenantId) -> String {
        format!("select tenantry_private.act_done('{}')", tenant.as_uuid())
    }
}
