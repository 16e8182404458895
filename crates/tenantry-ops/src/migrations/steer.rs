//! What an operator may want of a roll-out that is under way: to pause it, to let it go on, to call it off. What schemas have stays in any
//! case.

use serde_json::json;
use tenantry_catalog::operation::{self, Operation, OperationState, Wish};
use tenantry_core::{OperationId, OperatorScope};

use crate::{
    Authority, Ops, Steer, SteerError,
    audit::{self, Act},
    moves::Wanted,
};

impl Ops {
    /// Says what is wanted of a roll-out. It is done by whoever works on the operation, between two schemas.
    ///
    /// # Errors
    /// See [`SteerError`]; nothing was changed.
    ///
    /// # Cancel safety
    /// It is recorded or not; ask again.
    pub(crate) async fn steer_rollout(
        &self,
        authority: &Authority,
        id: OperationId,
        steer: Steer,
    ) -> Result<Operation, SteerError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        // Whoever works on it holds the row as well when it ends: what is wanted comes before that, or is refused.
        let found = operation::hold_any(&transaction, id)
            .await?
            .ok_or(SteerError::NotFound)?;
        match wished(&found, steer)? {
            Wanted::Nothing => return Ok(found),
            Wanted::Is(wish) => operation::wish(&transaction, id, wish).await?,
        }
        let act = Act {
            action: action(steer),
            tenant: None,
            target: id.to_string(),
            before: None,
            after: Some(json!({ "operation": id })),
        };
        audit::record(&transaction, authority, act).await?;
        let now = operation::find(&transaction, id).await?.ok_or(SteerError::NotFound)?;
        transaction.commit().await?;
        Ok(now)
    }
}

const fn action(steer: Steer) -> &'static str {
    match steer {
        Steer::Pause => "migration.pause",
        Steer::Resume => "migration.resume",
        Steer::Abort => "migration.abort",
        // Refused before it comes to that.
        Steer::Rollback => "migration.rollback",
        Steer::Finish => "migration.finish",
    }
}

fn wished(found: &Operation, steer: Steer) -> Result<Wanted, SteerError> {
    if matches!(steer, Steer::Rollback | Steer::Finish) {
        return Err(SteerError::OfMovesOnly { steer });
    }
    if found.state.is_final() {
        return Err(SteerError::Ended {
            steer,
            state: found.state,
        });
    }
    let is_paused = found.state == OperationState::Paused;
    match (steer, found.wish) {
        (Steer::Abort, Some(Wish::Abort)) => Ok(Wanted::Nothing),
        (Steer::Abort, _) => Ok(Wanted::Is(Some(Wish::Abort))),
        (_, Some(Wish::Abort)) => Err(SteerError::CalledOff),
        (Steer::Pause, wish) if is_paused || wish == Some(Wish::Pause) => Ok(Wanted::Nothing),
        (Steer::Pause, _) => Ok(Wanted::Is(Some(Wish::Pause))),
        (_, wish) if is_paused || wish == Some(Wish::Pause) => Ok(Wanted::Is(None)),
        _ => Ok(Wanted::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::Value;
    use tenantry_catalog::operation::OperationKind;
    use uuid::Uuid;

    use super::*;

    fn found(state: OperationState, wish: Option<Wish>) -> Operation {
        Operation {
            id: OperationId::from_uuid(Uuid::nil()),
            kind: OperationKind::Migrate,
            tenant: None,
            database: None,
            state,
            step: "migrate".to_owned(),
            progress: json!({}),
            input: Value::Null,
            error_code: None,
            error: None,
            attempts: 1,
            run_after: Utc::now(),
            created_at: Utc::now(),
            updated_at: Utc::now(),
            finished_at: None,
            wish,
        }
    }

    /// Of each steer, what it does.
    fn all(state: OperationState, wish: Option<Wish>) -> [String; 5] {
        Steer::ALL.map(|steer| match wished(&found(state, wish), steer) {
            Ok(Wanted::Nothing) => "nothing".to_owned(),
            Ok(Wanted::Is(None)) => "on".to_owned(),
            Ok(Wanted::Is(Some(wish))) => wish.to_string(),
            Err(refused) => format!("{refused:?}").split(' ').next().unwrap().to_owned(),
        })
    }

    #[test]
    fn a_rollout_is_paused_resumed_and_called_off_and_nothing_else() {
        use OperationState::{Cancelled, Paused, Pending, Running};
        let never = "OfMovesOnly";
        for state in [Pending, Running] {
            assert_eq!(all(state, None), ["pause", "nothing", "abort", never, never]);
            let pausing = all(state, Some(Wish::Pause));
            assert_eq!(pausing, ["nothing", "on", "abort", never, never]);
            let stopping = all(state, Some(Wish::Abort));
            assert_eq!(stopping, ["CalledOff", "CalledOff", "nothing", never, never]);
        }
        assert_eq!(all(Paused, None), ["nothing", "on", "abort", never, never]);
        assert_eq!(all(Cancelled, None), ["Ended", "Ended", "Ended", never, never]);
    }
}
