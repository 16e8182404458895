//! Runs operations: takes a lease, works step by step, hands over or undoes.
//!
//! What keeps two runners apart: every claim gets a larger fencing token; every write to the catalog names it; and every
//! step that changes a tenant's server first takes the operation's lock there, then checks the lease, and only then
//! makes anything. A runner that was asleep finds its lease lost under the lock; if it holds the lock, its successor ends
//! that session after a while, which rolls back what was not committed.

mod activate;
mod failure;
mod fence;
mod hand_out;
mod journal;
mod leftovers;
mod load;
mod look;
mod migrate;
mod moving;
pub(crate) mod prepare;
pub(crate) mod provision;
mod purge;
mod replicas;
pub(crate) mod restore;
mod site;
mod steered;
mod undo;
mod work;

use std::{sync::Arc, time::Duration};

use tenantry_catalog::{
    CatalogError,
    operation::{self, OperationKind},
    tenant::Tenant,
};
use tenantry_core::{Isolation, OperationId};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

pub(crate) use failure::{EDITED, Failure, NEWER_FILES, UNREACHABLE, chain};
pub(crate) use journal::{Journal, Placed, Taken};
pub(crate) use load::reach as reach_home;
pub(crate) use site::{administer, target};

use crate::Ops;

/// How often a runner looks for work without being rung.
const POLL: Duration = Duration::from_secs(1);

/// The steps of an operation in their order, to show how far it is. Its `step` is the one that was begun last.
pub fn steps(kind: OperationKind, isolation: Isolation) -> &'static [&'static str] {
    match kind {
        OperationKind::Provision => provision::steps(isolation),
        OperationKind::PrepareDatabase => prepare::STEPS,
        OperationKind::Suspend => &["fence"],
        OperationKind::Resume => &["fence", "activate"],
        OperationKind::Migrate => migrate::STEPS,
        OperationKind::PlanMigrations | OperationKind::VerifyMigrations => look::STEPS,
        OperationKind::Move => moving::STEPS,
        OperationKind::Restore => restore::STEPS,
        OperationKind::Purge => &["fence", "retention", "purged", "remove", "beside", "forget", "certify"],
        _ => &[],
    }
}

/// This process as a runner.
#[derive(Debug)]
pub(crate) struct Runner {
    id: Uuid,
    permits: Arc<Semaphore>,
    /// How many operations this process works on.
    working: Arc<watch::Sender<usize>>,
}

/// An operation is worked on as long as this is there.
struct Working(Arc<watch::Sender<usize>>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_modify(|number| *number -= 1);
    }
}

impl Runner {
    pub(crate) fn new(operations_max: usize) -> Self {
        Self {
            id: Uuid::now_v7(),
            permits: Arc::new(Semaphore::new(operations_max.max(1))),
            working: Arc::default(),
        }
    }

    fn working(&self) -> Working {
        self.working.send_modify(|number| *number += 1);
        Working(self.working.clone())
    }
}

impl Ops {
    /// Takes and runs operations that are due, of this and of every other process, until the future is dropped.
    ///
    /// Any number of processes may do so. `serve` does it all the time; a command does it for its own operation only.
    ///
    /// # Cancel safety
    /// Operations that were taken go on in tasks of their own; the process may end at any time.
    pub async fn run_operations(&self) {
        loop {
            if let Err(error) = self.run_until_disconnected().await {
                tracing::warn!(error = %chain(&error), "operations can't be looked for; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn run_until_disconnected(&self) -> Result<(), CatalogError> {
        // Before the first look, so that nothing is missed in between.
        let listener = self.catalog().listen(operation::CHANNEL).await?;
        let mut housekept = None;
        while !listener.is_closed() {
            while self.take_one().await? {}
            if housekept.is_none_or(|at: tokio::time::Instant| at.elapsed() > Duration::from_secs(600)) {
                self.housekeep().await?;
                housekept = Some(tokio::time::Instant::now());
            }
            // Dropping either arm loses nothing: the look after it finds what rang.
            tokio::select! {
                () = listener.rung() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        Ok(())
    }

    /// Starts one due operation in a task of its own; `false` if there is none.
    async fn take_one(&self) -> Result<bool, CatalogError> {
        let Ok(permit) = Arc::clone(&self.runner().permits).acquire_owned().await else {
            return Ok(false);
        };
        let Some(journal) = Journal::claim(self, None).await? else {
            return Ok(false);
        };
        let (ops, working) = (self.clone(), self.runner().working());
        tokio::spawn(async move {
            drop(work::run(&ops, journal).await);
            drop((permit, working));
        });
        Ok(true)
    }

    /// Waits until this process works on no operation. Others may be taken meanwhile, unless [`run_operations`](Self::run_operations)
    /// was dropped before and nobody asks for one.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn until_idle(&self) {
        let mut working = self.runner().working.subscribe();
        // The sender lives as long as this does.
        let _ = working.wait_for(|number| *number == 0).await;
    }

    /// Runs one operation here unless another runner has it or it is not due; returns when it has ended, was put off or
    /// was lost to another runner.
    ///
    /// # Cancel safety
    /// The operation goes on in a task of its own.
    pub(crate) async fn run_operation(&self, id: OperationId) {
        let (ops, working) = (self.clone(), self.runner().working());
        let task = tokio::spawn(async move {
            let _working = working;
            // No permit: a caller waits for this one, and the pool of the catalog bounds it.
            match Journal::claim(&ops, Some(id)).await {
                Ok(Some(journal)) => drop(work::run(&ops, journal).await),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(operation.id = %id, error = %chain(&error), "the operation can't be taken");
                }
            }
        });
        // A panic has been printed; the lease runs out and another runner takes over.
        let _ = task.await;
    }

    /// Runs an operation that was taken when it was made; returns as [`run_operation`](Self::run_operation) does, with the tenant where it
    /// was activated.
    ///
    /// # Cancel safety
    /// The operation goes on in a task of its own.
    pub(crate) async fn run_taken(&self, taken: Taken) -> Option<Tenant> {
        let (ops, working) = (self.clone(), self.runner().working());
        let journal = Journal::hold_on(self, taken);
        let task = tokio::spawn(async move {
            let activated = work::run(&ops, journal).await;
            drop(working);
            activated
        });
        task.await.ok().flatten()
    }

    /// Forgets what nobody asks for any more.
    async fn housekeep(&self) -> Result<(), CatalogError> {
        // By itself: a server that does not answer must not keep operations waiting.
        let ops = self.clone();
        tokio::spawn(async move { ops.sweep_streams().await });
        let client = self.catalog().client().await?;
        tenantry_catalog::change::prune(&client).await?;
        tenantry_catalog::idempotency::prune(&client).await?;
        tenantry_catalog::session::prune(&client).await?;
        tenantry_catalog::password_reset::prune(&client).await?;
        tenantry_catalog::login_budget::prune(&client).await?;
        tenantry_catalog::usage_day::prune(&client).await?;
        Ok(())
    }
}
