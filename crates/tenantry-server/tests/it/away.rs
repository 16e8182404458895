//! Every route of the contract while a database is away or its connections are taken: a documented answer in time, and nothing changes.
//!
//! What single routes do then, and how they come back, is in [`faults`](super::faults).

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    authorization::{Access, Victim, access, routes},
    harness::{Answer, App, Client},
};

/// Nobody waits longer for an answer.
const SOON: Duration = Duration::from_secs(8);

/// What answers from memory.
const OF_NO_DATABASE: [(&str, u16); 5] = [
    ("/health/live", 200),
    ("/metrics", 200),
    ("/openapi.json", 200),
    // What the tests send there is no token to begin with.
    ("/v1/auth/refresh", 401),
    ("/v1/auth/reset-password", 401),
];

/// What begins an operation, or ends what all others need: tried where it can't succeed only.
const OF_CONSEQUENCE: [(&str, &str); 14] = [
    ("POST", "/v1/tenants"),
    ("DELETE", "/v1/tenants/{id}"),
    ("POST", "/v1/tenants/{id}/suspend"),
    ("POST", "/v1/tenants/{id}/resume"),
    ("PUT", "/v1/tenants/{id}/legal-hold"),
    ("POST", "/v1/tenants/{id}/moves"),
    ("DELETE", "/v1/tenants/{id}/members/{account}"),
    ("POST", "/v1/migrations"),
    ("POST", "/v1/migrations/retry"),
    ("POST", "/v1/migrations/plan"),
    ("POST", "/v1/migrations/verify"),
    ("POST", "/v1/password-resets"),
    ("POST", "/v1/auth/switch"),
    ("POST", "/v1/auth/logout"),
];

/// The routes of the contract, with somebody who may use each.
async fn all(app: &App, victim: &Victim<'_>) -> Vec<(String, String, Client)> {
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let who = |method: &str, path: &str| match access(method, path) {
        Access::Public => app.anonymous.clone(),
        Access::Operator => app.operator.clone(),
        _ => victim.tenant.client.clone(),
    };
    routes(&document)
        .into_iter()
        .map(|(method, path)| {
            let who = who(&method, &path);
            (method, path, who)
        })
        .collect()
}

async fn ask(victim: &Victim<'_>, client: &Client, method: &str, path: &str) -> Answer {
    let body = victim.body(method, path).map(|body| body.to_string());
    let method: Method = method.parse().unwrap();
    let told = format!("{method} {path} is answered");
    let path = victim.path(path);
    let answer = client.send(method, &path, body);
    tokio::time::timeout(SOON, answer).await.expect(&told)
}

#[tokio::test]
async fn with_the_catalog_away_every_route_says_so() {
    let app = App::start().await;
    let victim = Victim::furnish(&app, &app.tenants[0]).await;
    let before = victim.everything().await;
    let routes = all(&app, &victim).await;
    app.catalog_server.cut();
    // Until then a membership may be believed that was read just before.
    app.within_seconds(3, async || {
        victim.tenant.client.get("/app/contacts").await.status == 503
    })
    .await;
    for (method, path, client) in &routes {
        let answer = ask(&victim, client, method, path).await;
        match OF_NO_DATABASE.iter().find(|(known, _)| *known == path) {
            Some((_, status)) => assert_eq!(answer.status, *status, "{}: {}", answer.request, answer.text),
            None => drop(answer.refused(503, "unavailable")),
        }
    }
    app.catalog_server.heal();
    app.within_seconds(3, async || {
        victim.tenant.client.get("/app/contacts").await.status == 200
    })
    .await;
    assert_eq!(victim.everything().await, before);
    app.operator.get("/v1/tenants/planted").await.refused(404, "not-found");
}

/// Whether a route runs over the application's connections.
fn is_of_the_application(path: &str) -> bool {
    path.starts_with("/app/")
}

/// Whether a route reads or writes in the tenant's own database.
fn is_of_a_tenants_database(path: &str) -> bool {
    let is_of_jobs = path.contains("/jobs") || path.contains("/schedules");
    is_of_the_application(path) || is_of_jobs && path.contains("{id}")
}

/// Asks everything that is not of consequence; what is meant must be refused.
async fn is_said_by_every_route(app: &App, victim: &Victim<'_>, is_meant: fn(&str) -> bool) {
    for (method, path, client) in all(app, victim).await {
        if OF_CONSEQUENCE.contains(&(method.as_str(), path.as_str())) {
            continue;
        }
        let answer = ask(victim, &client, &method, &path).await;
        if is_meant(&path) || answer.status >= 500 {
            answer.refused(503, "unavailable");
        }
    }
}

/// What a tenant's application shows.
async fn rows(app: &App) -> Vec<serde_json::Value> {
    let mut rows = Vec::new();
    for tenant in &app.tenants {
        for path in ["/app/contacts", "/app/projects", "/app/tasks"] {
            app.within_seconds(3, async || tenant.client.get(path).await.status == 200)
                .await;
            rows.push(tenant.client.get(path).await.expect(200));
        }
    }
    rows
}

#[tokio::test]
async fn with_a_tenants_database_away_every_route_of_it_says_so() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let victim = Victim::furnish(&app, tenant).await;
        let before = rows(&app).await;
        app.tenant_server.cut();
        is_said_by_every_route(&app, &victim, is_of_a_tenants_database).await;
        app.tenant_server.heal();
        assert_eq!(rows(&app).await, before, "{}", tenant.isolation);
    }
}

#[tokio::test]
async fn with_a_full_pool_every_route_of_the_application_says_so() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.pool.connections_max = 1;
        options.pool.waiting_max = 2;
        options.pool.wait_timeout = Duration::from_millis(200);
    })
    .await;
    let victim = Victim::furnish(&app, &app.tenants[0]).await;
    let before = rows(&app).await;
    // The one connection is taken for as long as this is held.
    let tenant = app.tenants[0].id.parse().unwrap();
    let scope = app.tenantry.system_context(tenant, "full pool").await.unwrap();
    let held = scope.begin().await.unwrap();
    is_said_by_every_route(&app, &victim, is_of_the_application).await;
    held.rollback().await.unwrap();
    assert_eq!(rows(&app).await, before);
    let made = app.tenants[0].client.post("/app/contacts", json!({ "name": "after" }));
    made.await.expect(201);
}
