//! Transactions that a move would wait for: told before it begins, since nobody knows when they end. One that comes later is waited for.

use std::collections::BTreeSet;

use tenantry_core::{Placement, ServerId};
use tenantry_engine::transfer::{self, Obstacle};

use super::{MoveRequest, soak_s};
use crate::{
    Ops,
    runner::{Failure, administer},
};

impl Ops {
    /// Which have been open for so long that they are in the way: of the fence, and where changes are followed or the way back is kept,
    /// of the slots.
    pub(super) async fn lingering(
        &self,
        from: &Placement,
        to: ServerId,
        request: &MoveRequest,
        follows: bool,
    ) -> Result<Vec<Obstacle>, Failure> {
        let age = self.fleet().move_transaction_age;
        let (admin, _) = administer(self, from.server).await?;
        let source = admin.connect(&from.database_name).await?;
        let mut found = Vec::new();
        for one in transfer::before_a_fence(&source, age).await? {
            // A session is ended by force, and a prepared transaction has none.
            if !request.force || one.pid.is_none() {
                found.push((one, "the old home's fence can't close"));
            }
        }
        if follows {
            let writers = transfer::before_a_slot(&source, age).await?;
            found.extend(
                writers
                    .into_iter()
                    .map(|one| (one, "the stream of the tenant's changes can't begin")),
            );
        }
        if soak_s(request).is_some() {
            let (admin, _) = administer(self, to).await?;
            let target = admin.connect_maintenance().await?;
            let writers = transfer::before_a_slot(&target, age).await?;
            found.extend(writers.into_iter().map(|one| (one, "the way back can't be made")));
        }
        let mut obstacles = Vec::new();
        let mut told = BTreeSet::new();
        for (one, waits) in &found {
            if told.insert((&one.name, &one.whose)) {
                obstacles.push(one.obstacle(waits));
            }
        }
        Ok(obstacles)
    }
}
