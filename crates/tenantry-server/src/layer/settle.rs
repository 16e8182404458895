//! After a change: the caller's next request meets it.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use crate::Services;

/// Holds the answer to a change back until this process knows of it, at most half a second. Other processes follow
/// within a second by themselves, and so does this one if the catalog is slow.
pub(crate) async fn settle(State(services): State<Services>, request: Request, next: Next) -> Response {
    let is_change = !request.method().is_safe();
    let response = next.run(request).await;
    if is_change
        && response.status().is_success()
        && let Ok(resolver) = services.tenantry.resolver()
        && let Err(error) = resolver.catch_up().await
    {
        tracing::debug!(%error, "a change was answered before it was known to count here");
    }
    response
}
