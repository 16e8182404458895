//! The bounds of one request: time and body.

use std::time::Duration;

use axum::{
    extract::{DefaultBodyLimit, Request},
    response::{IntoResponse, Response},
};
use tenantry::axum::{BodyLimit, Code, Problem};
use tokio::sync::watch;

use crate::Config;

#[derive(Clone)]
pub(super) struct Limits {
    time: Duration,
    body: BodyLimit,
    cut: Cut,
}

/// Done when requests that still run are to be ended: the server's grace is over, or the server was dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cut(pub(crate) watch::Receiver<()>);

impl Cut {
    async fn done(mut self) {
        // Both mean it: a change, and a sender that is gone.
        let _ = self.0.changed().await;
    }
}

impl Limits {
    pub(super) fn new(config: &Config, cut: Cut) -> Self {
        Self {
            time: config.request_timeout,
            body: BodyLimit(config.body_bytes_max),
            cut,
        }
    }
}

/// Dropping a handler that takes too long is safe: scoped calls and use cases leave nothing half-done behind.
pub(super) async fn bound(
    limits: Limits,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    request.extensions_mut().insert(limits.body);
    DefaultBodyLimit::max(limits.body.0).apply(&mut request);
    let cut = limits.cut.done();
    // Whichever ends first, dropping the handler is safe, as said above.
    tokio::select! {
        response = next(request) => response,
        () = tokio::time::sleep(limits.time) => {
            tracing::warn!(timeout_s = limits.time.as_secs(), "a request took too long and was ended");
            unavailable("The request took too long.")
        }
        () = cut => unavailable("The server stops."),
    }
}

fn unavailable(detail: &'static str) -> Response {
    Problem::new(Code::Unavailable, detail)
        .retry_after(RETRY_AFTER)
        .into_response()
}

/// What took this long will not be faster in the next second.
const RETRY_AFTER: Duration = Duration::from_secs(5);
