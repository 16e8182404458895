//! What an operator wants of an operation that is under way, as far as it ends the work.

use std::time::Duration;

use tenantry_catalog::operation::{self, Wish};

use super::Journal;
use crate::Ops;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// A wish that ends the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Pause,
    Abort,
}

/// Waits until an operator wants the operation to stop. A catalog that does not answer wants nothing: the lease is lost over that.
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
