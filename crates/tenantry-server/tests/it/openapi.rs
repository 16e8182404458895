//! The contract and the routes are the same.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::App;

const ID: &str = "01900000-0000-7000-8000-000000000000";

/// Every method and path that the contract names.
fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase())
            .collect::<Vec<_>>();
        methods
            .into_iter()
            .map(|method| (method, path.clone()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn concrete(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { ID } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn every_promised_route_stands_in_the_contract() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let expected = "
        POST GET /v1/tenants
        GET PATCH DELETE /v1/tenants/{id}
        POST /v1/tenants/{id}/suspend
        PUT DELETE /v1/tenants/{id}/legal-hold
        POST /v1/tenants/{id}/resume
        POST /v1/tenants/{id}/moves
        GET /v1/tenants/{id}/erasure
        POST GET /v1/tenants/{id}/backups
        GET PUT DELETE /v1/tenants/{id}/backup-schedule
        POST /v1/tenants/{id}/exports
        POST /v1/backups/{backup}/restore
        POST /v1/tenants/{id}/restore
        GET /v1/servers
        POST /v1/servers/{name}/check
        PUT /v1/servers/{name}/replicas
        PUT /v1/servers/{name}/spares
        POST /v1/servers/{name}/drain
        POST /v1/servers/rebalance
        GET /v1/tenants/{id}/size
        GET /v1/tenants/{id}/usage
        GET /v1/plans
        PUT DELETE /v1/plans/{plan}
        POST GET /v1/tenants/{id}/members
        PATCH DELETE /v1/tenants/{id}/members/{account}
        POST GET /v1/tenants/{id}/api-keys
        DELETE /v1/tenants/{id}/api-keys/{key}
        GET /v1/tenants/{id}/jobs
        POST /v1/tenants/{id}/jobs/retry
        POST /v1/tenants/{id}/jobs/{job}/retry
        DELETE /v1/tenants/{id}/jobs/{job}
        GET /v1/tenants/{id}/schedules
        DELETE /v1/tenants/{id}/schedules/{schedule}
        GET /v1/jobs
        POST /v1/jobs/retry
        GET /v1/operations/{id}
        GET /v1/operations/{id}/certificate
        POST /v1/operations/{id}/pause
        POST /v1/operations/{id}/resume
        POST /v1/operations/{id}/abort
        POST /v1/operations/{id}/rollback
        POST /v1/operations/{id}/finish
        GET POST /v1/migrations
        POST /v1/migrations/retry
        POST /v1/migrations/plan
        POST /v1/migrations/verify
        POST /v1/migrations/reconcile
        PUT /v1/migrations/minimum-version
        POST /v1/auth/login
        POST /v1/auth/refresh
        POST /v1/auth/switch
        POST /v1/auth/accept
        POST /v1/auth/password
        POST /v1/auth/reset-password
        POST /v1/password-resets
        POST /v1/auth/logout
        GET /v1/auth/me
        GET /.well-known/jwks.json
        GET /openapi.json
        GET /metrics
        GET /health/live
        GET /health/ready
        GET /health/tenants
        GET POST /app/contacts
        GET PATCH DELETE /app/contacts/{id}
        GET POST /app/projects
        GET PATCH DELETE /app/projects/{id}
        GET POST /app/tasks
        GET PATCH DELETE /app/tasks/{id}
        GET /app/tasks/{id}/history
        GET /app/search";
    let expected: BTreeSet<_> = expected
        .lines()
        .map(str::split_whitespace)
        .flat_map(|words| {
            let words: Vec<_> = words.map(str::to_owned).collect();
            let (path, methods) = words
                .split_last()
                .map(|(path, methods)| (path.clone(), methods.to_vec()))
                .unwrap_or_default();
            methods.into_iter().map(move |method| (method, path.clone()))
        })
        .collect();
    assert_eq!(operations(&document), expected);
}

#[tokio::test]
async fn the_contract_says_that_bodies_take_no_other_fields() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let closed: BTreeSet<_> = schemas
        .iter()
        .filter(|(_, schema)| schema["additionalProperties"] == json!(false))
        .map(|(name, _)| name.as_str())
        .collect();
    for read in [
        "NewTenant",
        "FirstOwner",
        "TenantChange",
        "NewMember",
        "NewApiKey",
        "NewContact",
    ] {
        assert!(closed.contains(read), "{read} is not among {closed:?}");
    }
    // An answer may have more fields in a later version.
    for shown in ["Tenant", "Member", "ApiKey", "Contact", "Problem"] {
        assert!(schemas.contains_key(shown) && !closed.contains(shown), "{shown}");
    }
    let roles = json!(["viewer", "member", "admin", "owner"]);
    assert_eq!(schemas["NewMember"]["properties"]["role"]["enum"], roles);
    assert_eq!(
        schemas["NewTenant"]["properties"]["isolation"]["enum"],
        json!(["shared", "schema", "database"])
    );
}

#[tokio::test]
async fn a_path_answers_the_methods_of_the_contract_and_no_others() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let operations = operations(&document);
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path.clone()).collect();
    for path in &paths {
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            let body = Some(json!({}).to_string());
            // The layer around the application comes before its routes.
            let client = if path.starts_with("/app") {
                &app.tenants[0].client
            } else {
                &app.anonymous
            };
            let answer = client.send(method.parse().unwrap(), &concrete(path), body).await;
            let known = operations.contains(&(method.to_owned(), path.clone()));
            assert_eq!(answer.status != 405, known, "{method} {path}: {}", answer.text);
            if !known {
                answer.refused(405, "method-not-allowed");
            }
        }
    }
}

#[tokio::test]
async fn a_route_wants_a_credential_where_the_contract_says_so() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let mut public = BTreeSet::new();
    for (method, path) in operations(&document) {
        if document["paths"][&path][method.to_lowercase()]["security"] != json!([{ "bearer": [] }]) {
            public.insert(path);
            continue;
        }
        let method: Method = method.parse().unwrap();
        let path = concrete(&path);
        app.anonymous
            .send(method.clone(), &path, Some("{}".to_owned()))
            .await
            .refused(401, "unauthenticated");
        // Also when the body is wrong: whoever is not known learns nothing of the route.
        app.anonymous
            .send(method.clone(), &path, Some("{".to_owned()))
            .await
            .refused(401, "unauthenticated");
        app.anonymous
            .bearer("nonsense")
            .send(method, &path, Some("{}".to_owned()))
            .await
            .refused(401, "bad-token");
    }
    let expected = [
        "/.well-known/jwks.json",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/v1/auth/login",
        "/v1/auth/refresh",
        "/v1/auth/reset-password",
    ];
    assert_eq!(public, expected.map(str::to_owned).into());
}
