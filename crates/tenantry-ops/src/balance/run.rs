//! Carries a plan out, some moves at a time from each server.

use std::collections::BTreeMap;

use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream};
use tenantry_catalog::operation::{Operation, OperationKind, OperationState};
use tenantry_core::{OperationId, OperatorScope, TenantId};

use super::plan::{FleetPlan, PlannedMove};
use crate::{Authority, Forbidden, MoveError, MoveRequest, Ops, TenantRef};

/// How one tenant's move ended, or that it was begun.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MoveOutcome {
    /// Who.
    pub tenant: TenantId,
    /// As it is called.
    pub slug: String,
    /// Where it was.
    pub from: String,
    /// Where it was to go.
    pub to: String,
    /// The operation, if one was begun.
    pub operation: Option<OperationId>,
    /// Why it is not moved, where that is so; it is served where it was.
    pub refused: Option<String>,
}

impl MoveOutcome {
    fn of(planned: &PlannedMove, ended: Result<OperationId, (Option<OperationId>, String)>) -> Self {
        let (operation, refused) = match ended {
            Ok(operation) => (Some(operation), None),
            Err((operation, why)) => (operation, Some(why)),
        };
        Self {
            tenant: planned.tenant,
            slug: planned.slug.clone(),
            from: planned.from.clone(),
            to: planned.to.clone(),
            operation,
            refused,
        }
    }
}

impl Ops {
    /// Makes the moves of a plan, this many at a time from each server, and waits for each. One that is refused or fails leaves its tenant where
    /// it was, and the others go on. `told` hears of each tenant's operation as it goes on.
    ///
    /// A tenant that another process is moving is waited for.
    ///
    /// # Errors
    /// When the authority does not allow it. How each move ended is the answer.
    ///
    /// # Cancel safety
    /// Moves that were begun go on as the operations that they are.
    pub async fn carry_out(
        &self,
        authority: &Authority,
        plan: &FleetPlan,
        at_once: usize,
        told: &(dyn Fn(&PlannedMove, &Operation) + Send + Sync),
    ) -> Result<Vec<MoveOutcome>, Forbidden> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut by_source: BTreeMap<&str, Vec<&PlannedMove>> = BTreeMap::new();
        for one in &plan.moves {
            by_source.entry(&one.from).or_default().push(one);
        }
        let mut from_each = Vec::with_capacity(by_source.len());
        for moves in by_source.into_values() {
            // Boxed: else the compiler can't tell that they may go from thread to thread.
            let each: Vec<_> = moves
                .into_iter()
                .map(|one| {
                    let carried = self.carry_one(authority, one, told);
                    async move { MoveOutcome::of(one, carried.await) }.boxed()
                })
                .collect();
            from_each.push(stream::iter(each).buffer_unordered(at_once.max(1)).collect::<Vec<_>>());
        }
        Ok(join_all(from_each).await.into_iter().flatten().collect())
    }

    /// Only asks for the moves of a plan: they go on by themselves, as many at a time from each server as
    /// [`FleetConfig::moves_per_source`](crate::FleetConfig::moves_per_source) says.
    ///
    /// # Errors
    /// When the authority does not allow it.
    ///
    /// # Cancel safety
    /// Moves that were begun go on as the operations that they are.
    pub async fn begin_moves(&self, authority: &Authority, plan: &FleetPlan) -> Result<Vec<MoveOutcome>, Forbidden> {
        authority.require_operator(OperatorScope::Tenants)?;
        let mut begun = Vec::with_capacity(plan.moves.len());
        for one in &plan.moves {
            let outcome = match self
                .move_tenant(authority, &one.tenant.into(), &request(one), None)
                .await
            {
                Ok(operation) => Ok(operation.id),
                Err(MoveError::Busy {
                    operation,
                    kind: OperationKind::Move,
                }) => Ok(operation),
                Err(error) => Err((None, error.to_string())),
            };
            begun.push(MoveOutcome::of(one, outcome));
        }
        Ok(begun)
    }

    async fn carry_one(
        &self,
        authority: &Authority,
        planned: &PlannedMove,
        told: &(dyn Fn(&PlannedMove, &Operation) + Send + Sync),
    ) -> Result<OperationId, (Option<OperationId>, String)> {
        let tenant = TenantRef::Id(planned.tenant);
        let begun = match self.move_tenant(authority, &tenant, &request(planned), None).await {
            Ok(begun) => begun.id,
            // An earlier run was stopped, or somebody else moves it: where it ends up is looked at afterwards.
            Err(MoveError::Busy {
                operation,
                kind: OperationKind::Move,
            }) => operation,
            Err(error) => return Err((None, error.to_string())),
        };
        let failed = |error: String| (Some(begun), error);
        let ended = self
            .finish_move(authority, begun, &|operation| told(planned, operation))
            .await
            .map_err(|error| failed(error.to_string()))?;
        if ended.state != OperationState::Done {
            return Err(failed(ended.error.unwrap_or_else(|| ended.state.to_string())));
        }
        let found = self.get_tenant(authority, &tenant).await;
        let found = found.map_err(|error| failed(error.to_string()))?;
        match found.placement {
            Some(placement) if placement.server == planned.from => Err(failed(
                "another move took it elsewhere on its server: run this again".to_owned(),
            )),
            _ => Ok(begun),
        }
    }
}

fn request(planned: &PlannedMove) -> MoveRequest {
    MoveRequest {
        to: planned.isolation,
        server: Some(planned.to.clone()),
        force: false,
        wait: false,
        soak: None,
    }
}
