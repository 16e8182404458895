//! The bounds of one request: time and body.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    extract::{DefaultBodyLimit, Request},
    response::{IntoResponse, Response},
};
use tenantry::axum::{BodyLimit, Code, Problem};
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};

use crate::{Config, life::Life};

#[derive(Clone)]
pub(super) struct Limits {
    time: Duration,
    body: BodyLimit,
    cut: Cut,
    life: Life,
    idle: Arc<Mutex<Vec<Timer>>>,
}

/// A timer goes on from request to request and is set anew only when it rings, so that a request neither enters nor leaves the
/// runtime's list of timers. None is ever set for later than [`TICK`] from now.
type Timer = Pin<Box<Sleep>>;

/// How often a request that runs looks whether its time is up or the server stops; shorter where its time is.
const TICK: Duration = Duration::from_millis(200);

/// Done when requests that still run are to be ended: the server's grace is over, or the server was dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cut(pub(crate) watch::Receiver<()>);

impl Cut {
    fn is_done(&self) -> bool {
        // Both mean it: a change, and a sender that is gone.
        !matches!(self.0.has_changed(), Ok(false))
    }
}

impl Limits {
    pub(super) fn new(config: &Config, cut: Cut, life: Life) -> Self {
        Self {
            time: config.request_timeout,
            body: BodyLimit(config.body_bytes_max),
            cut,
            life,
            idle: Arc::default(),
        }
    }

    /// Awaits the answer, unless time is up or the server stops.
    async fn in_time(&self, mut answer: Pin<&mut impl Future<Output = Response>>) -> Result<Response, Ended> {
        let deadline = Instant::now() + self.time;
        let tick = TICK.min(self.time);
        let mut timer: Option<Timer> = None;
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            let timer = timer.get_or_insert_with(|| self.timers().pop().unwrap_or_else(|| Box::pin(sleep(tick))));
            while timer.as_mut().poll(cx).is_ready() {
                if self.cut.is_done() {
                    return Poll::Ready(Err(Ended::ServerStops));
                }
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Ended::TimeIsUp));
                }
                timer.as_mut().reset((Instant::now() + tick).min(deadline).into());
            }
            Poll::Pending
        });
        let outcome = outcome.await;
        self.timers().extend(timer);
        outcome
    }

    fn timers(&self) -> std::sync::MutexGuard<'_, Vec<Timer>> {
        // Nothing that panics is done while it is locked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request was ended.
enum Ended {
    TimeIsUp,
    ServerStops,
}

/// Dropping a handler that takes too long is safe: scoped calls and use cases leave nothing half-done behind.
pub(super) async fn bound(
    limits: Limits,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    request.extensions_mut().insert(limits.body);
    DefaultBodyLimit::max(limits.body.0).apply(&mut request);
    match limits.in_time(pin!(next(request))).await {
        Ok(response) => response,
        Err(Ended::TimeIsUp) => {
            tracing::warn!(
                timeout_s = limits.time.as_secs(),
                "a request took too long and was ended"
            );
            unavailable("The request took too long.")
        }
        Err(Ended::ServerStops) => {
            // The span of the request says which it was, and whose.
            tracing::warn!("a request held on until the time to stop was over, and was ended");
            limits.life.note_cut();
            unavailable("The server stops.")
        }
    }
}

fn unavailable(detail: &'static str) -> Response {
    Problem::new(Code::Unavailable, detail)
        .retry_after(RETRY_AFTER)
        .into_response()
}

/// What took this long will not be faster in the next second.
const RETRY_AFTER: Duration = Duration::from_secs(5);
