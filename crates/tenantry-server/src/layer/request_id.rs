//! Gives each request an id and a trace, under which the log, the answer and the audit log know it.

use axum::{extract::Request, response::Response};
use tenantry::axum::RequestLog;
use tracing::Instrument;

/// The names in the request's extensions, in the span of everything logged meanwhile, and in the answer's headers.
pub(super) async fn identify(mut request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let log = RequestLog::begin(&mut request);
    let mut response = next(request).instrument(log.span()).await;
    log.mark(&mut response);
    response
}
