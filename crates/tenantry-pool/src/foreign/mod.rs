//! Connections that another driver speaks over: the same homes, the same seal, the same budget and the same limits.
//!
//! Drivers such as sqlx and diesel-async can't send context and query under one Sync, so a call by way of them is always
//! a transaction: the session is bound, BEGIN, the expectation, and only then the application's statements. What is
//! different here from the pool's own connections: opening runs in a task of its own, so that a caller that gives up
//! halfway through BEGIN leaves nobody a half-open connection; a connection stays with one schema for its life, because
//! drivers keep statements and types by name; and whatever was abandoned is closed. What a driver opens goes by a relay of
//! this process, so that its connections can be ended from outside as our own can.

mod call;
mod driver;
mod lease;
mod pool;
mod relay;
mod session;
mod silence;
mod transaction;

pub use call::Call;
pub use driver::Driver;
pub use transaction::ForeignTransaction;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tenantry_core::TenantDatabaseId;
use tokio::sync::oneshot;

use crate::{
    Caller, Error, PoolStatus, Pools,
    placements::Located,
    pools::{Patience, Refresh, verdict, weigh},
};
use pool::ForeignPool;

/// The connections of one driver to all tenant databases: cheap to clone.
pub struct ForeignPools<D> {
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    pools: Pools,
    by_database: Mutex<HashMap<TenantDatabaseId, Arc<ForeignPool<D>>>>,
}

impl<D> Clone for ForeignPools<D> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<D: Driver> ForeignPools<D> {
    /// Connections to where `pools` finds tenants, out of the same budget. Each driver may have as many to a tenant database as the
    /// pools' own lane; what a tenant may have is counted over all of them.
    pub fn new(pools: Pools) -> Self {
        Self {
            shared: Arc::new(Shared {
                pools,
                by_database: Mutex::default(),
            }),
        }
    }

    /// Begins a transaction in the caller's tenant. A tenant that moved is looked up again, as by
    /// [`Pools::query`]: nothing of the application's has run yet.
    ///
    /// # Errors
    ///
    /// [`Error`] says what failed and whether it is worth trying again.
    ///
    /// # Cancel safety
    ///
    /// When dropped, what was begun is undone by closing its connection, and the caller's place in the queue is free.
    pub async fn begin(&self, caller: &Arc<Caller>) -> Result<ForeignTransaction<D>, Error> {
        let pools = &self.shared.pools;
        let mut patience = Patience::new(pools.config().move_wait);
        let mut refresh = Refresh::default();
        loop {
            let located = pools.locate(caller).await?;
            // Drivers name their statements, and the binding is the session's.
            located.pool.require_sessions()?;
            let turn = match self.pool(&located).turn(caller.tenant).await {
                Ok(turn) => turn,
                Err(error) => {
                    pools.refresh(error, caller, &located, &mut refresh).await?;
                    continue;
                }
            };
            // A task of its own goes on to its end when the caller gives up; nobody takes its result then, and dropping
            // that closes the connection.
            let (answer, opened) = oneshot::channel();
            tokio::spawn({
                let (located, caller) = (located.clone(), caller.clone());
                let by_plan = Some(located.statement_timeout).filter(|limit| *limit < pools.config().statement_timeout);
                async move { turn.open(&located.binding(&caller), by_plan, answer).await }
            });
            let error = match opened.await {
                Ok(Ok(lease)) => return Ok(ForeignTransaction::new(lease, located.writing(caller))),
                Ok(Err(error)) => error,
                Err(_) => return Err(Error::Statement(tenantry_wire::Error::Unusable)),
            };
            let Error::Statement(error) = error else {
                pools.refresh(error, caller, &located, &mut refresh).await?;
                continue;
            };
            let verdict = verdict(&error);
            weigh(verdict, error, &mut patience)?;
            pools.settle(verdict, caller, &mut patience).await;
        }
    }

    fn pool(&self, located: &Located) -> Arc<ForeignPool<D>> {
        let home = &located.home;
        let mut by_database = self.shared.by_database.lock();
        if let Some(pool) = by_database.get(&home.placement.database)
            && pool.leads_to(located)
        {
            return pool.clone();
        }
        // Another address, password or incarnation: the old pool ends with the last who holds it.
        let config = self.shared.pools.config().clone();
        let pool = ForeignPool::new(located, config);
        by_database.insert(home.placement.database, pool.clone());
        pool
    }

    /// How each pool stands.
    pub fn status(&self) -> Vec<(TenantDatabaseId, PoolStatus)> {
        let by_database = self.shared.by_database.lock();
        by_database.iter().map(|(id, pool)| (*id, pool.status())).collect()
    }
}
