//! What an operator wants of a move that is under way.

use tenantry_catalog::operation::{self, Wish};

use super::{Failure, Moving, Standing};
use crate::runner::steered::Stop;

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
