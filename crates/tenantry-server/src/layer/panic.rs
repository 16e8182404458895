//! A panic in a handler ends its request, not the process, and says nothing to the client.

use std::any::Any;

use axum::response::{IntoResponse, Response};
use tenantry::axum::{Code, Problem};

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the payload over")]
pub(super) fn answer(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("not a text"), "a handler panicked");
    Problem::new(Code::Internal, "The request could not be served.").into_response()
}
