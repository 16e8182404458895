//! Calling off a restore in a tenant's place: until the rows are the backup's.

use serde_json::json;
use tenantry_catalog::{
    operation::{self, Operation, OperationKind, OperationState, Wish},
    tenant,
};
use tenantry_core::{OperationId, OperatorScope};

use crate::{
    Authority, Ops, Steer, SteerError,
    audit::{self, Act},
    moves::Wanted,
    runner::restore::may_be_called_off,
};

impl Ops {
    /// Says that a restore is not wanted any more. Whoever works on it lets the tenant in again with the rows that it had, unless they have
    /// become the backup's meanwhile.
    ///
    /// # Errors
    /// See [`SteerError`]; nothing was changed.
    ///
    /// # Cancel safety
    /// It is recorded or not; ask again.
    pub(crate) async fn steer_restore(
        &self,
        authority: &Authority,
        id: OperationId,
        steer: Steer,
    ) -> Result<Operation, SteerError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let found = operation::find(&transaction, id).await?.ok_or(SteerError::NotFound)?;
        let (OperationKind::Restore, Some(tenant)) = (found.kind, found.tenant) else {
            return Err(SteerError::NotSteered { kind: found.kind });
        };
        // Whoever ends it holds both rows as well: what is wanted comes before that, or is refused.
        tenant::hold(&transaction, tenant).await?;
        let found = operation::hold_any(&transaction, id)
            .await?
            .ok_or(SteerError::NotFound)?;
        match wished(&found, steer)? {
            Wanted::Nothing => return Ok(found),
            Wanted::Is(wish) => operation::wish(&transaction, id, wish).await?,
        }
        let act = Act {
            action: "tenant.restore_abort",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: None,
            after: Some(json!({ "operation": id.to_string() })),
        };
        audit::record(&transaction, authority, act).await?;
        let now = operation::find(&transaction, id).await?.ok_or(SteerError::NotFound)?;
        transaction.commit().await?;
        Ok(now)
    }
}

fn wished(found: &Operation, steer: Steer) -> Result<Wanted, SteerError> {
    if steer != Steer::Abort {
        return Err(SteerError::OnlyCalledOff { steer });
    }
    if found.state.is_final() {
        return Err(SteerError::Ended {
            steer,
            state: found.state,
        });
    }
    if found.state == OperationState::Undoing || found.wish == Some(Wish::Abort) {
        return Ok(Wanted::Nothing);
    }
    match may_be_called_off(&found.step) {
        true => Ok(Wanted::Is(Some(Wish::Abort))),
        false => Err(SteerError::Restored),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;

    fn answer(state: OperationState, step: &str, wish: Option<Wish>, steer: Steer) -> String {
        let found = Operation {
            id: OperationId::from_uuid(Uuid::nil()),
            kind: OperationKind::Restore,
            tenant: None,
            database: None,
            state,
            step: step.to_owned(),
            progress: json!({}),
            input: json!({}),
            error_code: None,
            error: None,
            attempts: 1,
            run_after: Utc::now(),
            created_at: Utc::now(),
            updated_at: Utc::now(),
            finished_at: None,
            wish,
        };
        match wished(&found, steer) {
            Ok(Wanted::Nothing) => "nothing".to_owned(),
            Ok(Wanted::Is(wish)) => format!("{wish:?}"),
            Err(refused) => format!("{refused:?}").split(' ').next().unwrap().to_owned(),
        }
    }

    #[test]
    fn a_restore_is_called_off_until_the_rows_are_the_backups_and_never_paused() {
        use OperationState::{Done, Pending, Running, Undoing};
        for step in ["", "fence", "drain", "load"] {
            assert_eq!(answer(Running, step, None, Steer::Abort), "Some(Abort)", "{step}");
        }
        assert_eq!(answer(Pending, "drain", None, Steer::Abort), "Some(Abort)");
        assert_eq!(answer(Running, "load", Some(Wish::Abort), Steer::Abort), "nothing");
        assert_eq!(answer(Undoing, "load", None, Steer::Abort), "nothing");
        for step in ["beside", "open", "activate"] {
            assert_eq!(answer(Running, step, None, Steer::Abort), "Restored", "{step}");
        }
        assert_eq!(answer(Done, "activate", None, Steer::Abort), "Ended");
        for steer in [Steer::Pause, Steer::Resume, Steer::Rollback, Steer::Finish] {
            assert_eq!(answer(Running, "load", None, steer), "OnlyCalledOff", "{steer}");
        }
    }
}
