//! Gives each request an id, under which the log, the answer and the audit log know it.

use axum::{extract::Request, response::Response};
use tenantry::axum::RequestId;
use tracing::Instrument;

/// The id in the request's extensions, in the span of everything logged meanwhile, and in the answer's header.
pub(super) async fn identify(mut request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span(&request);
    request.extensions_mut().insert(id.clone());
    let mut response = next(request).instrument(span).await;
    id.mark(&mut response);
    response
}
