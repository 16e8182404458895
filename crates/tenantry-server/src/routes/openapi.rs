//! The contract.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Extension, http::header, response::IntoResponse};
use serde_json::{Value, json};
use tenantry::axum::Code;
use utoipa::openapi::OpenApi;

/// The paths that answer without a credential.
const PUBLIC: &[&str] = &[
    "/v1/auth/login",
    "/v1/auth/refresh",
    "/v1/auth/reset-password",
    "/.well-known/jwks.json",
    "/openapi.json",
    "/metrics",
    "/health/live",
    "/health/ready",
];

/// The whole description as text: written once, since it never changes while the process runs.
#[derive(Clone)]
pub(crate) struct Document(Arc<str>);

impl Document {
    pub(crate) fn new(control: OpenApi, application: OpenApi) -> Self {
        Self(complete(control.nest("/app", application)).to_string().into())
    }
}

/// Adds what is the same for every route: how to show a credential, and what a refusal looks like.
fn complete(document: OpenApi) -> Value {
    let mut document = serde_json::to_value(document).expect("a description has only texts as keys");
    document["components"]["securitySchemes"]["bearer"] = json!({
        "type": "http", "scheme": "bearer",
        "description": "An operator key, an access token or an API key."
    });
    close_bodies(&mut document);
    document["components"]["schemas"]["Problem"] = problem();
    let refusal = json!({
        "description": "The request is refused.",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
    });
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            if !PUBLIC.contains(&path.as_str()) {
                operation["security"] = json!([{ "bearer": [] }]);
            }
            let responses = operation["responses"].as_object_mut().into_iter().flatten();
            // What is written at a route without a body is a refusal that it is good to know of.
            for (status, response) in responses {
                if status.starts_with(['4', '5']) {
                    *response = refusal.clone();
                }
            }
            operation["responses"]["default"] = refusal.clone();
        }
    }
    document
}

/// Says of everything that requests are made of that other fields are refused.
fn close_bodies(document: &mut Value) {
    let mut names = BTreeSet::new();
    for item in document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.values())
    {
        for operation in item.as_object().into_iter().flat_map(|item| item.values()) {
            collect_references(&operation["requestBody"], &mut names);
        }
    }
    let mut waiting: Vec<_> = names.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let schema = &mut document["components"]["schemas"][&name];
        schema["additionalProperties"] = Value::Bool(false);
        let mut inner = BTreeSet::new();
        collect_references(schema, &mut inner);
        waiting.extend(inner.into_iter().filter(|name| names.insert(name.clone())));
    }
}

/// The names of the schemas that `value` refers to.
fn collect_references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            names.extend(
                name.and_then(|name| name.strip_prefix("#/components/schemas/"))
                    .map(str::to_owned),
            );
            fields.values().for_each(|field| collect_references(field, names));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn problem() -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let text = json!({ "type": "string" });
    let error = json!({
        "type": "object",
        "required": ["pointer", "code", "detail"],
        "properties": { "pointer": text, "code": { "type": "string", "enum": codes }, "detail": text }
    });
    json!({
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": text, "title": text, "status": { "type": "integer" }, "code": { "type": "string", "enum": codes },
            "detail": text, "request_id": text,
            "errors": { "type": "array", "description": "Every wrong field.", "items": error }
        }
    })
}

/// Read this description.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub(crate) async fn get_openapi(Extension(document): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.0.to_string())
}
