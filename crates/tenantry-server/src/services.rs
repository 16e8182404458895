//! What the server stands on.

use axum::Router;
use tenantry::Tenantry;
use tenantry_ops::Ops;
use utoipa::openapi::OpenApi;

/// What the routes use. Cheap to clone: handles.
#[derive(Clone)]
pub struct Services {
    /// The use cases.
    pub ops: Ops,
    /// Access to tenants' rows, for the application.
    pub tenantry: Tenantry,
}

/// The application that is served below `/app`.
#[derive(Clone, Default)]
pub struct Application {
    /// Its routes. The server puts the layer around them that resolves who asks.
    pub router: Router,
    /// What they take and answer, shown in `/openapi.json`.
    pub openapi: OpenApi,
}
