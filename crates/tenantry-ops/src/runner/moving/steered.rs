//! What an operator wants of a move that is under way.

use std::time::Duration;

use tenantry_catalog::operation::{self, Wish};

use super::{Failure, Journal, Moving, Standing};
use crate::Ops;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// A wish that ends the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Pause,
    Abort,
}

/// Waits until an operator wants the move to stop. A catalog that does not answer wants nothing: the lease is lost over that.
pub(super) async fn stop_is_wanted(ops: &Ops, journal: &Journal) -> Stop {
    loop {
        if let Ok(client) = ops.catalog().client().await
            && let Ok(wish) = operation::wish_of(&client, journal.operation.id).await
            && let Some(stop) = Stop::of(wish)
        {
            return stop;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Stop {
    pub(super) fn of(wish: Option<Wish>) -> Option<Self> {
        match wish {
            Some(Wish::Pause) => Some(Self::Pause),
            Some(Wish::Abort) => Some(Self::Abort),
            _ => None,
        }
    }
}

impl Moving<'_> {
    /// Lets the tenant into its old home, and does what was wanted. Tells what is to be done with the operation.
    pub(super) async fn stop(&self, stop: Stop) -> Failure {
        match self.reopen().await {
            Ok(Standing::Source) => {}
            // It was wanted too late.
            Ok(Standing::Target) => return Failure::retry("switched", "the tenant has moved: going on from there"),
            Err(failure) => return failure,
        }
        match stop {
            Stop::Abort => Failure::permanent("aborted", "an operator called the move off"),
            Stop::Pause => match self.pause().await {
                Ok(()) => Failure::Parked,
                Err(failure) => failure,
            },
        }
    }

    async fn pause(&self) -> Result<(), Failure> {
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        self.journal.hold(&transaction).await?;
        // Taken back meanwhile, or the move was called off.
        let wish = operation::wish_of(&transaction, self.journal.operation.id).await?;
        if wish != Some(Wish::Pause) {
            return Err(Failure::retry("steered", "an operator wants something else: going on"));
        }
        self.journal.pause(&transaction).await?;
        Ok(transaction.commit().await?)
    }
}
