//! Operations, for whoever asks how far they are.

use std::time::Duration;

use tenantry_catalog::{
    CatalogError,
    operation::{self, Operation, OperationState},
};
use tenantry_core::{OperationId, OperatorScope, TenantId};
use tokio::time::Instant;

use crate::{Authority, Forbidden, Ops, TenantError};

/// Why an operation is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such operation.
    #[error("there is no such operation")]
    NotFound,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
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
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(operation::list(&client, tenant, state, limit).await?)
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
                _ if Instant::now() >= deadline => return Err(TenantError::StillRunning { operation: id }),
                // Another runner has it, or it waits before it tries again. A quick look is cheap beside what it does.
                _ => tokio::time::sleep(pause).await,
            }
            self.run_operation(id).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
}
