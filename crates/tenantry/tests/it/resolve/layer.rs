//! The axum layer: what a handler gets and what a client is told.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
    routing::get,
};
use serde_json::Value;
use tenantry::{
    Config, Role, Tenantry, Verified,
    axum::{Problem, TenantLayer},
};
use tower::ServiceExt as _;

use super::support::{AUDIENCE, Fixture, ISSUER, config};

async fn router(fixture: &Fixture) -> Router {
    let mut connect = Config::new(fixture.database.url(), fixture.master_key.clone());
    connect.resolver = config();
    assert_eq!(
        (connect.resolver.issuer.as_str(), connect.resolver.audience.as_str()),
        (ISSUER, AUDIENCE)
    );
    let tenantry = Tenantry::connect(connect).await.unwrap();
    let handler = |headers: HeaderMap, verified: Verified, scope: tenantry::Scope| async move {
        assert_eq!(scope.context(), verified.context());
        match headers.contains_key("x-refuse") {
            true => Err(Problem::not_found()),
            false => Ok(format!("{} {}", verified.context().tenant, verified.context().role)),
        }
    };
    Router::new().route("/", get(handler)).layer(TenantLayer::new(tenantry))
}

async fn ask(router: &Router, headers: &[(&str, &str)]) -> (u16, String) {
    let (status, _, text) = send(router, headers).await;
    match serde_json::from_str::<Value>(&text) {
        Ok(problem) => (status, problem["code"].as_str().unwrap().to_owned()),
        Err(_) => (status, text),
    }
}

async fn send(router: &Router, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 100_000).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (parts.status.as_u16(), parts.headers, text)
}

/// Also where the layer is the only one of ours: a refusal by the layer, by a handler, and an answer.
#[tokio::test]
async fn every_answer_has_its_requests_id() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let token = format!("Bearer {}", fixture.token("ann@example.com", Some("acme")).await);
    let router = router(&fixture).await;
    for (headers, status) in [
        (vec![("x-request-id", "from-client")], 401),
        (
            vec![("authorization", token.as_str()), ("x-request-id", "from-client")],
            200,
        ),
        (
            vec![
                ("authorization", token.as_str()),
                ("x-request-id", "from-client"),
                ("x-refuse", "yes"),
            ],
            404,
        ),
    ] {
        let (found, headers, text) = send(&router, &headers).await;
        assert_eq!(found, status, "{text}");
        assert_eq!(headers["x-request-id"], "from-client");
        if status != 200 {
            let problem: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(problem["request_id"], "from-client", "{text}");
            assert_eq!(problem["status"], status);
            assert_eq!(headers["content-type"], "application/problem+json");
        }
    }
    // One of its own where the client has none, or one that does harm in a log.
    for sent in [vec![], vec![("x-request-id", "a b\tc")]] {
        let (_, headers, text) = send(&router, &sent).await;
        let problem: Value = serde_json::from_str(&text).unwrap();
        let id = problem["request_id"].as_str().unwrap();
        assert_eq!(headers["x-request-id"].to_str().unwrap(), id);
        assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    }
}

#[tokio::test]
async fn a_request_reaches_the_handler_with_its_scope_or_is_refused_with_its_code() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(globex, "ann@example.com", Role::Viewer).await;
    let named = format!("Bearer {}", fixture.token("ann@example.com", Some("acme")).await);
    let open = format!("Bearer {}", fixture.token("ann@example.com", None).await);
    let router = router(&fixture).await;
    let acme_owner = (200, format!("{acme} owner"));
    let refused = |status: u16, code: &str| (status, code.to_owned());
    for (headers, expected) in [
        (vec![("authorization", named.as_str())], acme_owner.clone()),
        (
            vec![("authorization", &open), ("x-tenant-id", "globex")],
            (200, format!("{globex} viewer")),
        ),
        (vec![], refused(401, "unauthenticated")),
        (vec![("authorization", "Bearer x")], refused(401, "bad-token")),
        (vec![("authorization", "Basic x")], refused(401, "bad-token")),
        (
            vec![("authorization", &named), ("authorization", &open)],
            refused(401, "bad-token"),
        ),
        (vec![("authorization", &open)], refused(400, "tenant-unresolved")),
        (
            vec![("authorization", &open), ("host", "acme.example.com")],
            refused(400, "tenant-unresolved"),
        ),
        (
            vec![("authorization", &open), ("x-tenant-id", "nobody")],
            refused(403, "forbidden"),
        ),
        (
            vec![
                ("authorization", &open),
                ("x-tenant-id", "acme"),
                ("x-tenant-id", "globex"),
            ],
            refused(400, "tenant-unresolved"),
        ),
        (
            vec![("authorization", &named), ("x-tenant-id", "globex")],
            refused(403, "tenant-mismatch"),
        ),
        (
            vec![
                ("authorization", &named),
                ("x-tenant-id", "acme"),
                ("x-tenant-id", "acme"),
            ],
            refused(403, "tenant-mismatch"),
        ),
        (
            vec![("authorization", &named), ("host", "globex.example.com")],
            refused(403, "tenant-mismatch"),
        ),
        // No proxy of ours sent this: the request has no peer at all here.
        (
            vec![("authorization", &named), ("x-forwarded-host", "globex.example.com")],
            acme_owner,
        ),
    ] {
        assert_eq!(ask(&router, &headers).await, expected, "{headers:?}");
    }
    fixture.set_state(acme, "suspended").await;
    let client = fixture.catalog.client().await.unwrap();
    tenantry_catalog::change::announce(&client, tenantry_core::Change::Tenant(acme))
        .await
        .unwrap();
    let headers = [("authorization", named.as_str())];
    while ask(&router, &headers).await.0 == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&router, &headers).await, refused(403, "tenant-suspended"));
}
