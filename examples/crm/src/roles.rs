//! Viewers read.

use axum::{extract::Request, middleware::Next, response::Response};
use tenantry::{
    Scope,
    axum::{Code, Problem},
};

/// Refuses a viewer's change before its body is read, so that the answer is the same whether or not there is something
/// to change. PostgreSQL refuses it too: whoever forgets this layer lets nobody write.
pub(crate) async fn viewers_read(scope: Scope, request: Request, next: Next) -> Result<Response, Problem> {
    if request.method().is_safe() || scope.context().role.may_write() {
        return Ok(next.run(request).await);
    }
    Err(Problem::new(Code::Forbidden, "Your role in this tenant may read only."))
}
