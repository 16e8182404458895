//! Suspend, resume, delete, purge: the catalog's word first, since every process hears it within a second; then the
//! fence in the tenant's database, as an operation, so that it happens even if that database is away just now.

use std::time::{Duration, Instant};

use super::*;
use crate::{Steer, SteerError, idempotency::Keyed};

/// How long a recovery waits for a deletion that has begun to be asleep; it closes a fence meanwhile.
const DELETION_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const DELETION_LOOK: Duration = Duration::from_millis(50);

/// What can be done to a tenant and undone again.
#[derive(Clone, Copy)]
enum StateChange {
    Suspend,
    Resume,
}

impl StateChange {
    const fn action(self) -> &'static str {
        match self {
            Self::Suspend => "tenant.suspend",
            Self::Resume => "tenant.resume",
        }
    }

    const fn after(self) -> TenantState {
        match self {
            Self::Suspend => TenantState::Suspended,
            Self::Resume => TenantState::Active,
        }
    }
}

/// A change of a tenant's state that is recorded.
struct Begun {
    tenant: TenantId,
    /// What makes it so in the tenant's database; none where it was so already.
    operation: Option<OperationId>,
}

impl Ops {
    /// Stops serving a tenant; its rows stay.
    ///
    /// The catalog refuses it from the commit on. The fence in its database closes in the same call where the database
    /// can be reached, and else as soon as it can be.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn suspend_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Tenant, TenantError> {
        self.suspend_tenant_once(authority, tenant, None).await
    }

    /// The same. With an idempotency key, the same request again is the same request.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn suspend_tenant_once(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        idempotency_key: Option<&str>,
    ) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let begun = self
            .begin_change(authority, tenant, StateChange::Suspend, idempotency_key)
            .await?;
        if let Some(operation) = begun.operation {
            match self.finish_operation(operation).await {
                // The catalog's word stands; the fence follows.
                Err(TenantError::StillRunning(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        self.get_tenant(&Authority::system("suspended"), &begun.tenant.into())
            .await
    }

    /// Records the change and its operation; nothing where the tenant is so already.
    async fn begin_change(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        change: StateChange,
        idempotency_key: Option<&str>,
    ) -> Result<Begun, TenantError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = find_locked(&transaction, tenant).await?;
        let keyed = Keyed::new(authority, idempotency_key, &json!([change.action(), before.id]))?;
        let operation = match keyed.claim(&transaction).await? {
            Some(again) => again.operation,
            None => {
                let operation = match change {
                    StateChange::Suspend => suspend(&transaction, &before).await?,
                    StateChange::Resume => resume(&transaction, &before).await?,
                };
                keyed.record(&transaction, before.id, operation).await?;
                let is_suspend = matches!(change, StateChange::Suspend);
                if operation.is_some() || is_suspend && stay_suspended(&transaction, before.id).await? {
                    record_state(&transaction, authority, change.action(), &before, change.after()).await?;
                }
                transaction.commit().await?;
                operation
            }
        };
        Ok(Begun {
            tenant: before.id,
            operation,
        })
    }

    /// Serves a suspended tenant again, or recovers a deleted one within its retention time.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn resume_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Tenant, TenantError> {
        self.resume_tenant_once(authority, tenant, None).await
    }

    /// The same. With an idempotency key, the same request again is the same request.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn resume_tenant_once(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        idempotency_key: Option<&str>,
    ) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let deadline = Instant::now() + DELETION_PATIENCE;
        let begun = loop {
            match self
                .begin_change(authority, tenant, StateChange::Resume, idempotency_key)
                .await
            {
                // A deletion that has only just begun closes the fence, and can be called off when it sleeps.
                Err(TenantError::Busy {
                    kind: OperationKind::Purge,
                    ..
                }) if Instant::now() < deadline => tokio::time::sleep(DELETION_LOOK).await,
                begun => break begun?,
            }
        };
        if let Some(operation) = begun.operation {
            self.finish_operation(operation).await?;
        }
        self.get_tenant(&Authority::system("resumed"), &begun.tenant.into())
            .await
    }

    /// Marks a tenant deleted: refused like a suspended one, and purged by the returned operation once the retention
    /// time has ended. [`Ops::resume_tenant`] recovers it until then. A restore in its place is called off, or waited for.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn delete_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Operation, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let deadline = Instant::now() + DELETION_PATIENCE;
        let (purge, is_new) = loop {
            match self.begin_deletion(authority, tenant).await {
                Err(TenantError::Busy {
                    operation,
                    kind: OperationKind::Restore,
                }) if Instant::now() < deadline => self.call_off_restore(authority, operation).await?,
                begun => break begun?,
            }
        };
        if is_new {
            // Closes the fence, and then sleeps until the retention time has ended.
            self.run_operation(purge).await;
        }
        let client = self.catalog().client().await?;
        operation::find(&client, purge).await?.ok_or(TenantError::NotFound)
    }

    /// Nobody needs the rows of a tenant that is to be deleted. It is for a moment what it was before, and then the deletion is tried again.
    async fn call_off_restore(&self, authority: &Authority, restore: OperationId) -> Result<(), TenantError> {
        // Where it is too late for that, it ends by itself.
        if let Err(SteerError::Catalog(error)) = self.steer_restore(authority, restore, Steer::Abort).await {
            return Err(error.into());
        }
        // Nobody may be at it. It goes on where this is dropped.
        let _ = tokio::time::timeout(DELETION_LOOK, self.run_operation(restore)).await;
        tokio::time::sleep(DELETION_LOOK).await;
        Ok(())
    }

    /// The operation that purges the tenant, and whether it was made now.
    async fn begin_deletion(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
    ) -> Result<(OperationId, bool), TenantError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = find_locked(&transaction, tenant).await?;
        if before.state == TenantState::Deleted {
            let purge = operation::find_latest(&transaction, before.id, OperationKind::Purge).await?;
            return Ok((purge.ok_or(TenantError::NotFound)?.id, false));
        }
        if !before.state.may_become(TenantState::Deleted) {
            let needs = "only an active or suspended tenant can be deleted";
            return Err(TenantError::State {
                state: before.state,
                needs,
            });
        }
        let purge_after = chrono::Utc::now() + self.fleet().retention;
        let purge = begin(&transaction, before.id, OperationKind::Purge).await?;
        must_change(tenant::set_deleted(&transaction, before.id, before.state, purge_after).await?)?;
        record_state(&transaction, authority, "tenant.delete", &before, TenantState::Deleted).await?;
        transaction.commit().await?;
        Ok((purge, true))
    }

    /// Removes a deleted tenant's rows and home for good, now.
    ///
    /// # Errors
    /// See [`TenantError`]. A tenant that is not deleted has to be deleted first.
    pub async fn purge_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Operation, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = find_locked(&transaction, tenant).await?;
        let purge = operation::find_latest(&transaction, before.id, OperationKind::Purge).await?;
        let purge = match (before.state, purge) {
            (TenantState::Deleted | TenantState::Purged, Some(purge)) => purge,
            (state, _) => {
                return Err(TenantError::State {
                    state,
                    needs: "delete it first",
                });
            }
        };
        if let (TenantState::Deleted, Some(reason)) = (before.state, before.legal_hold.clone()) {
            return Err(TenantError::OnHold { reason });
        }
        if !purge.state.is_final() {
            operation::run_now(&transaction, purge.id).await?;
            tenant::set_purge_now(&transaction, before.id).await?;
            let act = Act {
                action: "tenant.purge",
                tenant: Some(before.id),
                target: before.id.to_string(),
                before: Some(shown(&before)),
                after: None,
            };
            audit::record(&transaction, authority, act).await?;
        }
        transaction.commit().await?;
        drop(client);
        self.finish_operation(purge.id).await?;
        let client = self.catalog().client().await?;
        operation::find(&client, purge.id).await?.ok_or(TenantError::NotFound)
    }
}

async fn suspend(transaction: &Transaction<'_>, before: &Tenant) -> Result<Option<OperationId>, TenantError> {
    if before.state == TenantState::Suspended {
        return Ok(None);
    }
    if !before.state.may_become(TenantState::Suspended) {
        return Err(TenantError::State {
            state: before.state,
            needs: "only an active tenant can be suspended",
        });
    }
    let operation = begin(transaction, before.id, OperationKind::Suspend).await?;
    must_change(tenant::set_state(transaction, before.id, before.state, TenantState::Suspended).await?)?;
    Ok(Some(operation))
}

/// A tenant whose rows are being replaced is suspended for that, and let in again at the end; not so where an operator wants it suspended.
/// Whether this is news.
async fn stay_suspended(transaction: &Transaction<'_>, tenant: TenantId) -> Result<bool, TenantError> {
    let live = operation::find_live(transaction, tenant).await?;
    let live = live.filter(|live| live.kind == OperationKind::Restore && live.input["let_in"] == true);
    let Some(restore) = live else { return Ok(false) };
    operation::amend_input(transaction, restore.id, &json!({ "let_in": false })).await?;
    Ok(true)
}

/// The operation makes it active when its fence is open.
async fn resume(transaction: &Transaction<'_>, before: &Tenant) -> Result<Option<OperationId>, TenantError> {
    match before.state {
        TenantState::Active => return Ok(None),
        TenantState::Suspended | TenantState::Deleted => {}
        TenantState::Provisioning | TenantState::Purged => {
            return Err(TenantError::State {
                state: before.state,
                needs: "only a suspended or deleted tenant can be resumed",
            });
        }
    }
    call_off_purge(transaction, before.id).await?;
    Ok(Some(begin(transaction, before.id, OperationKind::Resume).await?))
}

fn must_change(changed: Changed) -> Result<(), TenantError> {
    match changed {
        Changed::Yes => Ok(()),
        // The row is locked and its state was read under the lock.
        Changed::No | Changed::Clash(_) => Err(TenantError::NotFound),
    }
}

/// Makes the tenant's next operation, or says which one is in the way.
async fn begin(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    kind: OperationKind,
) -> Result<OperationId, TenantError> {
    let id = crate::secret::operation_id();
    let input = json!({});
    let new = NewOperation {
        id,
        kind,
        tenant: Some(tenant),
        database: None,
        input: &input,
        run_after: None,
    };
    if operation::insert(transaction, &new).await? {
        return Ok(id);
    }
    let live = operation::find_live(transaction, tenant).await?;
    Err(TenantError::Busy {
        operation: live.as_ref().map_or(id, |live| live.id),
        kind: live.map_or(kind, |live| live.kind),
    })
}

async fn call_off_purge(transaction: &Transaction<'_>, tenant: TenantId) -> Result<(), TenantError> {
    match operation::find_live(transaction, tenant).await? {
        Some(live) if live.kind == OperationKind::Purge => {
            if operation::cancel(transaction, live.id).await? {
                Ok(())
            } else {
                Err(TenantError::Busy {
                    operation: live.id,
                    kind: live.kind,
                })
            }
        }
        _ => Ok(()),
    }
}

async fn record_state(
    transaction: &Transaction<'_>,
    authority: &Authority,
    action: &'static str,
    before: &Tenant,
    after: TenantState,
) -> Result<(), TenantError> {
    change::announce(transaction, Change::Tenant(before.id)).await?;
    let act = Act {
        action,
        tenant: Some(before.id),
        target: before.id.to_string(),
        before: Some(json!({ "state": before.state })),
        after: Some(json!({ "state": after })),
    };
    Ok(audit::record(transaction, authority, act).await?)
}
