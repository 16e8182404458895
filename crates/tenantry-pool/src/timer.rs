//! Limits the time of calls, at next to no cost for each.

use std::{
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::Error;

/// The timer of a connection. It goes on from call to call and is set anew only when it rings, so that a call neither
/// enters nor leaves the runtime's list of timers.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Awaits the call for at most `limit` from `now` on.
    ///
    /// A timer that was set for later than this, by a call that may take longer, is set anew; as a rule all have the same limit.
    pub(crate) async fn limit<T>(
        &mut self,
        now: Instant,
        limit: Duration,
        mut call: Pin<&mut impl Future<Output = Result<T, tenantry_wire::Error>>>,
    ) -> Result<T, Error> {
        let deadline = now + limit;
        poll_fn(|cx| {
            if let Poll::Ready(result) = call.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Error::Statement));
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            let at = tokio::time::Instant::from_std(deadline);
            if sleep.deadline() > at {
                sleep.as_mut().reset(at);
            }
            while sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Error::StatementTimeout(limit)));
                }
                sleep.as_mut().reset(deadline.into());
            }
            Poll::Pending
        })
        .await
    }
}
