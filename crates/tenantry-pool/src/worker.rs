//! Calls by a worker: to the functions that hand out every tenant's jobs to whoever holds the database's key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenantry_core::TenantDatabaseId;
use tenantry_wire::{Outcome, Params, is_stale};

use crate::{Caller, Error, Pools, pools::Patience};

impl Pools {
    /// Calls one of the mechanism's functions for workers in a tenant database, whoever lives there: also while nobody there is served.
    ///
    /// The call is bound to nobody: without an expectation it meets no tenant's rows. Nor is it a tenant's in the pool: it takes
    /// nothing of what one may have, and waits for a connection by turns with all tenants. `$1` and `$2` of `sql` are a token that
    /// proves the key; `params` are what follows. `sql` has to name schemas throughout: the connection is one of the pool's,
    /// with whatever search path its last call needed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`LocateError::NotFound`](crate::LocateError::NotFound) where there is no such database any more.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn as_worker(&self, database: TenantDatabaseId, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        // Nothing that it calls looks at a tenant's fence, so there is no move to wait for.
        let mut patience = Patience::new(Duration::ZERO);
        loop {
            let (entered, mut lease) = self.lease_to_nobody(database).await?;
            // A token names its backend, which a pooler in transaction mode chooses.
            entered.pool.require_sessions()?;
            let (session, timer) = lease.parts();
            let connection = session.connection();
            let signed = entered.key.sign_worker(connection.process_id(), now_us());
            let (message, mac) = (signed.message.as_slice(), signed.mac.as_slice());
            let mut all: Vec<&(dyn postgres_types::ToSql + Sync)> = vec![&message, &mac];
            all.extend_from_slice(params);
            let error = match self.in_time(timer, connection.query(sql, &all)).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if matches!(&error, Error::Statement(error) if is_stale(error)) {
                // The function was replaced since: another connection prepares the call anew.
                lease.taint();
            }
            self.reconsider_entrance(error, lease, database, &mut patience).await?;
        }
    }

    /// In which database the caller's tenant lives, as the caller remembers it.
    pub fn database_of(&self, caller: &Caller) -> Option<TenantDatabaseId> {
        Some(self.remembered(caller)?.home.placement.database)
    }

    /// The tenant databases where somebody is served: where a worker looks for jobs.
    ///
    /// # Errors
    ///
    /// When the source of placements can't be asked.
    pub async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, Error> {
        Ok(self.source().served_databases().await?)
    }
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
