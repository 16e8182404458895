//! Operations, for whoever asks how far they are.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use tenantry_catalog::{
    CatalogError,
    operation::{self, Operation, OperationKind, OperationState},
};
use tenantry_core::{OperationId, OperatorScope, TenantId};
use tokio::time::Instant;

use crate::{
    Authority, CertificateError, Forbidden, Ops, Steer, SteerError, TenantError, moves::rests, runner::NEWER_FILES,
};

/// How often an operation is looked at by who waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// Why an operation is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such operation.
    #[error("there is no such operation: `tenantry operation list` shows those there are")]
    NotFound,
    /// It has shown nothing that would be signed.
    #[error(
        "the operation has no certificate: a move has one when its tenant is served in its new home; those of purged tenants are in the \
         audit log only (tenant.move_certified), and `tenantry tenant erasure` has those of purges"
    )]
    NoCertificate,
    /// What it keeps is no certificate of this installation any more.
    #[error("the certificate that the operation keeps is not as it was signed: {0}")]
    Certificate(#[from] CertificateError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// An operation that has not ended, and what is in its way, as far as that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Which.
    pub operation: OperationId,
    /// Why it could not go on when it was tried last.
    pub error: Option<String>,
    /// It is not tried again before.
    pub next_try: DateTime<Utc>,
}

impl Unfinished {
    /// What there is to say of it; `None` where it has ended.
    #[must_use]
    pub fn of(operation: &Operation) -> Option<Self> {
        (!operation.state.is_final()).then(|| Self {
            operation: operation.id,
            error: operation.error.clone(),
            next_try: operation.run_after,
        })
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.operation;
        match &self.error {
            Some(error) => write!(
                f,
                "operation {id} can't go on yet: {error}; a `tenantry serve` that runs tries it again, next at {} UTC, and \
                 `tenantry operation show {id}` says how far it is",
                self.next_try.format("%H:%M:%S"),
            ),
            None => write!(
                f,
                "operation {id} is still running: `tenantry operation show {id}` says how far it is"
            ),
        }
    }
}

impl Ops {
    /// One operation.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn get_operation(&self, authority: &Authority, id: OperationId) -> Result<Operation, OperationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        operation::find(&client, id).await?.ok_or(OperationError::NotFound)
    }

    /// The newest operations, of one tenant or of all, in one state or in any.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn list_operations(
        &self,
        authority: &Authority,
        tenant: Option<TenantId>,
        state: Option<OperationState>,
        limit: i64,
    ) -> Result<Vec<Operation>, OperationError> {
        self.list_operations_after(authority, tenant, state, None, limit).await
    }

    /// The same from where a page ended: those that are older than this one.
    ///
    /// # Errors
    /// See [`OperationError`]; [`OperationError::NotFound`] where there is no such operation to go on after.
    pub async fn list_operations_after(
        &self,
        authority: &Authority,
        tenant: Option<TenantId>,
        state: Option<OperationState>,
        after: Option<OperationId>,
        limit: i64,
    ) -> Result<Vec<Operation>, OperationError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let after = match after {
            Some(id) => Some(operation::find(&client, id).await?.ok_or(OperationError::NotFound)?),
            None => None,
        };
        Ok(operation::list(&client, tenant, state, after.as_ref(), limit).await?)
    }

    /// Says what is wanted of a move, a roll-out of migrations or a restore in a tenant's place. It is done by whoever works on the operation, in this process or
    /// another; [`Ops::finish_steered`] waits for it. The same again changes nothing.
    ///
    /// # Errors
    /// See [`SteerError`]; nothing was changed.
    ///
    /// # Cancel safety
    /// It is recorded or not; ask again.
    pub async fn steer_operation(
        &self,
        authority: &Authority,
        id: OperationId,
        steer: Steer,
    ) -> Result<Operation, SteerError> {
        require_steering(authority)?;
        let client = self.catalog().client().await?;
        let found = operation::find(&client, id).await?.ok_or(SteerError::NotFound)?;
        drop(client);
        match found.kind {
            OperationKind::Move => self.steer_move(authority, id, steer).await,
            OperationKind::Migrate => self.steer_rollout(authority, id, steer).await,
            OperationKind::Restore => self.steer_restore(authority, id, steer).await,
            kind => Err(SteerError::NotSteered { kind }),
        }
    }

    /// Works on what was steered here and now, unless another process does, and waits until it has ended, is paused, or has moved its
    /// tenant and soaks. `told` is called with the operation whenever it has been looked at.
    ///
    /// # Errors
    /// When the authority does not allow it, the operation is not there, or the catalog fails. How it ended, the operation tells.
    ///
    /// # Cancel safety
    /// The operation goes on when the future is dropped.
    pub async fn finish_steered(
        &self,
        authority: &Authority,
        id: OperationId,
        told: &(dyn Fn(&Operation) + Send + Sync),
    ) -> Result<Operation, SteerError> {
        require_steering(authority)?;
        self.work_on(id, told).await?.ok_or(SteerError::NotFound)
    }

    /// Works on an operation here and now, unless another runner does, until it has ended or rests; `None` where there is none.
    ///
    /// # Cancel safety
    /// The operation goes on when the future is dropped.
    pub(crate) async fn work_on(
        &self,
        id: OperationId,
        told: &(dyn Fn(&Operation) + Send + Sync),
    ) -> Result<Option<Operation>, CatalogError> {
        loop {
            let work = self.run_operation(id);
            tokio::pin!(work);
            loop {
                let worked = tokio::time::timeout(LOOK, &mut work).await.is_ok();
                let client = self.catalog().client().await?;
                let found = operation::find(&client, id).await?;
                drop(client);
                let Some(found) = found else { return Ok(None) };
                told(&found);
                if found.state.is_final() || rests(&found) {
                    return Ok(Some(found));
                }
                if worked {
                    break;
                }
            }
            // It was put off, or another process has it.
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Works on the operation here and now, unless another runner does, and waits until it has ended.
    ///
    /// # Cancel safety
    /// The operation goes on when the future is dropped.
    pub(crate) async fn finish_operation(&self, id: OperationId) -> Result<(), TenantError> {
        self.run_operation(id).await;
        self.await_operation(id).await
    }

    /// The same for one that was worked on here a moment ago: most often it has ended.
    pub(crate) async fn await_operation(&self, id: OperationId) -> Result<(), TenantError> {
        let deadline = Instant::now() + self.fleet().wait;
        let mut pause = Duration::from_millis(20);
        loop {
            let client = self.catalog().client().await?;
            let found = operation::find(&client, id).await?.ok_or(TenantError::NotFound)?;
            drop(client);
            let unfinished = Unfinished::of(&found);
            match found.state {
                OperationState::Done => return Ok(()),
                OperationState::Failed | OperationState::Cancelled => {
                    let code = found.error_code.unwrap_or_else(|| found.state.to_string());
                    let message = found.error.unwrap_or_else(|| found.state.to_string());
                    return Err(TenantError::Failed {
                        operation: id,
                        code,
                        message,
                    });
                }
                _ if Instant::now() >= deadline => {
                    return Err(unfinished.map_or(TenantError::NotFound, TenantError::StillRunning));
                }
                // Another runner has it, or it waits before it tries again. A quick look is cheap beside what it does.
                _ => tokio::time::sleep(pause).await,
            }
            // What this process is too old for is left to the others, who don't look as often.
            if found.error_code.as_deref() != Some(NEWER_FILES) {
                self.run_operation(id).await;
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
}

/// Whoever may steer nothing does not hear which operations there are.
fn require_steering(authority: &Authority) -> Result<(), Forbidden> {
    authority
        .require_operator(OperatorScope::Tenants)
        .or_else(|_| authority.require_operator(OperatorScope::Migrations))
}
