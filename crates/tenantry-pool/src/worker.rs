//! Calls by a worker: to the functions that hand out every tenant's jobs to whoever holds the database's key.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tenantry_core::{TenantDatabaseId, TenantId};
use tenantry_wire::{Binding, Outcome, Params, is_stale};
use uuid::Uuid;

use crate::{
    Caller, Error, Pools,
    member::Lease,
    placements::Located,
    pools::{Patience, Refresh},
};

impl Pools {
    /// Calls one of the mechanism's functions for workers in a tenant database. It is found by the caller, whose tenant lives there.
    ///
    /// The call is bound to nobody: without an expectation it meets no tenant's rows. Nor is it that tenant's in the pool: it takes
    /// nothing of what that one may have, and waits for a connection by turns with all tenants. `$1` and `$2` of `sql` are a token that
    /// proves the key; `params` are what follows. `sql` has to name schemas throughout: the connection is one of the pool's,
    /// with whatever search path its last call needed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`Error::Moving`] where the caller's tenant lives in another database by now.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query).
    pub async fn as_worker(
        &self,
        database: TenantDatabaseId,
        caller: &Caller,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Outcome, Error> {
        let mut patience = Patience::new(self.config().move_wait);
        loop {
            let (located, mut lease) = self.lease_to_nobody(database, caller).await?;
            // A token names its backend, which a pooler in transaction mode chooses.
            located.pool.require_sessions()?;
            let (session, timer) = lease.parts();
            let connection = session.connection();
            let signed = located.home.key.sign_worker(connection.process_id(), now_us());
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
            self.reconsider(error, lease, caller, &mut patience).await?;
        }
    }

    /// A connection to this database, lent to nobody.
    async fn lease_to_nobody(
        &self,
        database: TenantDatabaseId,
        caller: &Caller,
    ) -> Result<(Arc<Located>, Lease), Error> {
        let mut refresh = Refresh::default();
        loop {
            let located = self.locate(caller).await?;
            // The jobs of another database are not there: a worker would take its own for lost.
            if located.home.placement.database != database {
                return Err(Error::Moving);
            }
            let nobody = Binding {
                tenant: TenantId::from_uuid(Uuid::nil()),
                ..located.binding(caller)
            };
            match located.pool.lease(&nobody).await {
                Ok(lease) => return Ok((located, lease)),
                Err(error) => Box::pin(self.refresh(error, caller, &located, &mut refresh)).await?,
            }
        }
    }

    /// In which database the caller's tenant lives, as the caller remembers it.
    pub fn database_of(&self, caller: &Caller) -> Option<TenantDatabaseId> {
        Some(self.remembered(caller)?.home.placement.database)
    }

    /// A served tenant of each tenant database that has one: where a worker looks for jobs.
    ///
    /// # Errors
    ///
    /// When the source of placements can't be asked.
    pub async fn one_tenant_of_each(&self) -> Result<Vec<(TenantDatabaseId, TenantId)>, Error> {
        Ok(self.source().one_tenant_of_each().await?)
    }
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
