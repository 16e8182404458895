//! The contract.

use std::sync::Arc;

use axum::{Extension, http::header, response::IntoResponse};
use utoipa::openapi::OpenApi;

/// The whole description as text: written once, since it never changes while the process runs.
#[derive(Clone)]
pub(crate) struct Document(Arc<str>);

impl Document {
    pub(crate) fn new(control: OpenApi, application: OpenApi) -> Self {
        let whole = control.nest("/app", application);
        Self(whole.to_json().expect("a description has only texts as keys").into())
    }
}

/// Read this description.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub(crate) async fn get_openapi(Extension(document): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.0.to_string())
}
