//! A legal hold: as long as there is one, a deleted tenant is not purged, whatever its retention time says and whoever asks.

use super::*;

/// Why a tenant may not be purged: 1 to 500 characters, none of them control characters.
pub const HOLD_REASON_LEN_MAX: usize = 500;

impl Ops {
    /// Keeps a tenant from being purged, for this reason; a second hold takes the place of the first. It can be active, suspended or
    /// deleted, and stays so.
    ///
    /// # Errors
    /// See [`TenantError`]. Of a tenant that is being purged nothing can be held any more.
    pub async fn hold_tenant(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        reason: &str,
    ) -> Result<Tenant, TenantError> {
        let reason = reason.trim();
        let is_sentence = (1..=HOLD_REASON_LEN_MAX).contains(&reason.chars().count());
        if !is_sentence || reason.chars().any(char::is_control) {
            return Err(TenantError::HoldReason);
        }
        self.set_hold(authority, tenant, Some(reason)).await
    }

    /// Ends the hold. A tenant whose retention time is over is purged then.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn release_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Tenant, TenantError> {
        self.set_hold(authority, tenant, None).await
    }

    async fn set_hold(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        reason: Option<&str>,
    ) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        // The purge looks under the same lock before there is no way back.
        let before = find_locked(&transaction, tenant).await?;
        if before.state == TenantState::Purged {
            return Err(TenantError::State {
                state: before.state,
                needs: "nothing of it can be kept any more",
            });
        }
        if before.legal_hold.as_deref() != reason {
            tenant::set_legal_hold(&transaction, before.id, reason).await?;
            if reason.is_none() {
                wake_purge(&transaction, before.id).await?;
            }
            let act = Act {
                action: if reason.is_some() {
                    "tenant.hold"
                } else {
                    "tenant.release"
                },
                tenant: Some(before.id),
                target: before.id.to_string(),
                before: Some(json!({ "legal_hold": before.legal_hold })),
                after: Some(json!({ "legal_hold": reason })),
            };
            audit::record(&transaction, authority, act).await?;
        }
        transaction.commit().await?;
        drop(client);
        self.get_tenant(&Authority::system("held"), &before.id.into()).await
    }
}

/// It sleeps again until the retention time is over, if it is not.
async fn wake_purge(transaction: &Transaction<'_>, tenant: TenantId) -> Result<(), TenantError> {
    if let Some(live) = operation::find_live(transaction, tenant).await?
        && live.kind == OperationKind::Purge
    {
        operation::run_now(transaction, live.id).await?;
    }
    Ok(())
}
