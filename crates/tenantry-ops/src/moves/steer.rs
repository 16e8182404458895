//! What an operator may want of a move that is under way: to pause it, to call it off, to take the tenant back. Of roll-outs, which can be
//! paused and called off as well, see [`Ops::steer_operation`].
//!
//! A wish stands with the operation; whoever works on it looks. It is recorded under the tenant's row, which the switch holds too: so it
//! comes before the switch, which then does not happen, or after it, and is refused if it comes too late.

use std::fmt;

use serde_json::json;
use tenantry_catalog::{
    CatalogError,
    operation::{self, Operation, OperationKind, OperationState, Wish},
    placement, tenant,
};
use tenantry_core::{OperationId, OperatorScope};

use super::{MoveInput, MoveStep};
use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
};

/// What an operator wants of a move, of a roll-out of migrations, or, [`Steer::Abort`] only, of a restore in a tenant's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steer {
    /// To stop until it is resumed. The tenant is served where it was; what was copied stays, and where changes are followed, the old home's
    /// server keeps its log for them. Of a roll-out: the schemas at work end, and no other one begins.
    Pause,
    /// To go on after a pause.
    Resume,
    /// To end it and remove what it made. The tenant is served where it was. Of a roll-out: to end it with the schemas at work; what schemas
    /// have stays. Of a restore: the tenant is served with the rows that it had.
    Abort,
    /// To take the tenant back to the home that it has left, which is still in step.
    Rollback,
    /// To end the soak now: the home that it has left is removed.
    Finish,
}

impl Steer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Abort, Self::Rollback, Self::Finish];

    /// The word in routes and commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::Finish => "finish",
        }
    }
}

impl fmt::Display for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation is not steered so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such operation.
    #[error("there is no such operation: `tenantry operation list` shows those there are")]
    NotFound,
    /// Only moves, roll-outs and restores are steered.
    #[error(
        "the operation is a {kind}: only moves and roll-outs of migrations can be paused and called off, and restores in a tenant's place \
         called off"
    )]
    NotSteered {
        /// What it is.
        kind: OperationKind,
    },
    /// A roll-out leaves nothing to go back to.
    #[error("a roll-out of migrations has no {steer}: schemas keep what they have; pause it, or call it off")]
    OfMovesOnly {
        /// What was wanted.
        steer: Steer,
    },
    /// A restore does not wait with a tenant that nobody serves.
    #[error("a restore in a tenant's place has no {steer}: it can be called off until the rows are the backup's")]
    OnlyCalledOff {
        /// What was wanted.
        steer: Steer,
    },
    /// The rows of before are gone.
    #[error("the tenant has the backup's rows already: restore another backup, or wait for the operation's end")]
    Restored,
    /// The roll-out ends as soon as nothing is at work any more.
    #[error("the roll-out was called off, and ends with the schemas that are at work: wait for its end")]
    CalledOff,
    /// It has ended.
    #[error("the operation has ended ({state}): there is nothing to {steer}")]
    Ended {
        /// What was wanted.
        steer: Steer,
        /// How it ended.
        state: OperationState,
    },
    /// What it made is being removed already.
    #[error("the move has failed or was called off, and what it made is being removed: wait for its end")]
    BeingUndone,
    /// The tenant lives in its new home.
    #[error("the tenant lives in its new home already: {}", instead(*.soaks))]
    TooLate {
        /// Whether it can be taken back.
        soaks: bool,
    },
    /// The tenant lives in its old home still.
    #[error("the tenant still lives in its old home: call the move off with `tenantry operation abort`, or wait")]
    TooEarly,
    /// The old home is not kept.
    #[error("the old home is not kept: the move was begun without a soak, or its soak has ended")]
    NotKept,
    /// The old home is not in step any more.
    #[error(
        "there is no way back: {reason}. The old home stays as it was until `tenantry operation finish`, or the soak's end"
    )]
    NoWayBack {
        /// Why.
        reason: String,
    },
    /// The tenant is being taken back.
    #[error("the tenant is being taken back to its old home: wait for the operation's end")]
    ComingBack,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for SteerError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

const fn instead(soaks: bool) -> &'static str {
    match soaks {
        true => "take it back with `tenantry operation rollback`",
        false => "move it back with another move",
    }
}

/// Where the tenant lives, seen from its move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lives {
    Before,
    After,
    Back,
}

impl Ops {
    /// Says what is wanted of a move, and of nothing else. It is done by whoever works on the operation, in this process or another;
    /// [`Ops::finish_move`] waits for it. The same again changes nothing.
    ///
    /// # Errors
    /// See [`SteerError`]; nothing was changed.
    ///
    /// # Cancel safety
    /// It is recorded or not; ask again.
    pub async fn steer_move(
        &self,
        authority: &Authority,
        id: OperationId,
        steer: Steer,
    ) -> Result<Operation, SteerError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let found = operation::find(&transaction, id).await?.ok_or(SteerError::NotFound)?;
        let (OperationKind::Move, Some(tenant)) = (found.kind, found.tenant) else {
            return Err(SteerError::NotSteered { kind: found.kind });
        };
        tenant::hold(&transaction, tenant).await?;
        let found = operation::hold_any(&transaction, id)
            .await?
            .ok_or(SteerError::NotFound)?;
        let Ok(input) = serde_json::from_value::<MoveInput>(found.input.clone()) else {
            return Err(SteerError::NotFound);
        };
        let epoch = placement::epoch_of(&transaction, tenant).await?;
        let lives = if epoch == Some(input.from.epoch) {
            Lives::Before
        } else if epoch == Some(input.to.epoch) {
            Lives::After
        } else {
            Lives::Back
        };
        match wished(&found, lives, steer)? {
            Wanted::Nothing => return Ok(found),
            Wanted::Is(wish) => operation::wish(&transaction, id, wish).await?,
        }
        let act = Act {
            action: action(steer),
            tenant: Some(tenant),
            target: tenant.to_string(),
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
        Steer::Pause => "tenant.move_pause",
        Steer::Resume => "tenant.move_resume",
        Steer::Abort => "tenant.move_abort",
        Steer::Rollback => "tenant.move_rollback",
        Steer::Finish => "tenant.move_finish",
    }
}

/// What is to be recorded.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// It is so already.
    Nothing,
    Is(Option<Wish>),
}

fn wished(found: &Operation, lives: Lives, steer: Steer) -> Result<Wanted, SteerError> {
    if found.state.is_final() {
        return Err(SteerError::Ended {
            steer,
            state: found.state,
        });
    }
    if found.state == OperationState::Undoing {
        return match steer {
            Steer::Abort => Ok(Wanted::Nothing),
            _ => Err(SteerError::BeingUndone),
        };
    }
    let soaks = MoveStep::of(&found.step) == Some(MoveStep::Soak);
    match (steer, lives) {
        (Steer::Pause | Steer::Resume | Steer::Abort, Lives::After) => Err(SteerError::TooLate {
            soaks: soaks && lost(found).is_none(),
        }),
        (_, Lives::Back) => Err(SteerError::ComingBack),
        (Steer::Rollback | Steer::Finish, Lives::Before) => Err(SteerError::TooEarly),
        (Steer::Pause, Lives::Before) => Ok(match (found.state, found.wish) {
            (OperationState::Paused, _) | (_, Some(Wish::Pause)) => Wanted::Nothing,
            (_, Some(Wish::Abort)) => return Err(SteerError::BeingUndone),
            _ => Wanted::Is(Some(Wish::Pause)),
        }),
        (Steer::Resume, Lives::Before) => Ok(match (found.state, found.wish) {
            (OperationState::Paused, _) | (_, Some(Wish::Pause)) => Wanted::Is(None),
            (_, Some(Wish::Abort)) => return Err(SteerError::BeingUndone),
            _ => Wanted::Nothing,
        }),
        (Steer::Abort, Lives::Before) => Ok(match found.wish {
            Some(Wish::Abort) => Wanted::Nothing,
            _ => Wanted::Is(Some(Wish::Abort)),
        }),
        (Steer::Rollback, Lives::After) => match (found.wish, lost(found)) {
            (Some(Wish::Rollback), _) => Ok(Wanted::Nothing),
            _ if !soaks || found.wish.is_some() => Err(SteerError::NotKept),
            (_, Some(reason)) => Err(SteerError::NoWayBack { reason }),
            _ => Ok(Wanted::Is(Some(Wish::Rollback))),
        },
        (Steer::Finish, Lives::After) => match found.wish {
            Some(Wish::Finish) => Ok(Wanted::Nothing),
            Some(Wish::Rollback) => Err(SteerError::ComingBack),
            _ if soaks => Ok(Wanted::Is(Some(Wish::Finish))),
            _ => Err(SteerError::NotKept),
        },
    }
}

/// Why the old home is not in step any more.
fn lost(found: &Operation) -> Option<String> {
    found.progress.get("way_back_lost")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    fn found(state: OperationState, step: MoveStep, wish: Option<Wish>, progress: Value) -> Operation {
        Operation {
            id: OperationId::from_uuid(Uuid::nil()),
            kind: OperationKind::Move,
            tenant: None,
            database: None,
            state,
            step: step.as_str().to_owned(),
            progress,
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

    fn answer(state: OperationState, step: MoveStep, wish: Option<Wish>, lives: Lives, steer: Steer) -> String {
        match wished(&found(state, step, wish, json!({})), lives, steer) {
            Ok(Wanted::Nothing) => "nothing".to_owned(),
            Ok(Wanted::Is(None)) => "on".to_owned(),
            Ok(Wanted::Is(Some(wish))) => wish.to_string(),
            Err(refused) => format!("{refused:?}").split(' ').next().unwrap().to_owned(),
        }
    }

    /// Of each steer, what it does.
    fn all(state: OperationState, step: MoveStep, wish: Option<Wish>, lives: Lives) -> [String; 5] {
        Steer::ALL.map(|steer| answer(state, step, wish, lives, steer))
    }

    #[test]
    fn what_is_wanted_fits_where_the_tenant_lives() {
        use Lives::{After, Back, Before};
        use OperationState::{Done, Paused, Pending, Running, Undoing};
        let running = all(Running, MoveStep::CatchUp, None, Before);
        assert_eq!(running, ["pause", "nothing", "abort", "TooEarly", "TooEarly"]);
        let paused = all(Paused, MoveStep::CatchUp, None, Before);
        assert_eq!(paused, ["nothing", "on", "abort", "TooEarly", "TooEarly"]);
        let aborted = all(Running, MoveStep::Copy, Some(Wish::Abort), Before);
        assert_eq!(
            aborted,
            ["BeingUndone", "BeingUndone", "nothing", "TooEarly", "TooEarly"]
        );
        let undoing = all(Undoing, MoveStep::Copy, None, Before);
        assert_eq!(undoing[2], "nothing");
        assert_eq!(undoing[0], "BeingUndone");
        let soaks = all(Pending, MoveStep::Soak, None, After);
        assert_eq!(soaks, ["TooLate", "TooLate", "TooLate", "rollback", "finish"]);
        let removes = all(Running, MoveStep::Remove, None, After);
        assert_eq!(removes, ["TooLate", "TooLate", "TooLate", "NotKept", "NotKept"]);
        let coming = all(Running, MoveStep::BackOpen, Some(Wish::Rollback), Back);
        assert_eq!(coming, ["ComingBack"; 5]);
        let ended = all(Done, MoveStep::Remove, None, After);
        assert!(ended.iter().all(|refused| refused == "Ended"), "{ended:?}");
    }

    #[test]
    fn without_a_way_back_there_is_no_rollback() {
        let progress = json!({ "way_back_lost": "its tables were migrated" });
        let found = found(OperationState::Pending, MoveStep::Soak, None, progress);
        let refused = wished(&found, Lives::After, Steer::Rollback).unwrap_err();
        assert!(refused.to_string().contains("its tables were migrated"), "{refused}");
        assert!(wished(&found, Lives::After, Steer::Finish).is_ok());
    }
}
