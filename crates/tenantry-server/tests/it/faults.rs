//! Databases that are away or busy: a documented refusal, nothing changes, and all is well again afterwards.

use std::time::Duration;

use serde_json::json;

use crate::harness::App;

#[tokio::test]
async fn a_tenants_database_that_is_away_is_said_and_comes_back() {
    let app = App::start().await;
    for tenant in &app.tenants {
        tenant
            .client
            .post("/app/contacts", json!({ "name": "before" }))
            .await
            .expect(201);
    }
    app.tenant_server.cut();
    for tenant in &app.tenants {
        tenant.client.get("/app/contacts").await.refused(503, "unavailable");
        tenant
            .client
            .post("/app/contacts", json!({ "name": "lost" }))
            .await
            .refused(503, "unavailable");
    }
    app.anonymous.get("/health/live").await.expect(200);
    app.anonymous.get("/health/ready").await.expect(200);
    let health = app.operator.get("/health/tenants").await.expect(200);
    assert!(
        health["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["reachable"] == false),
        "{health}"
    );

    app.tenant_server.heal();
    for tenant in &app.tenants {
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 200)
            .await;
        let list = tenant.client.get("/app/contacts").await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    }
}

#[tokio::test]
async fn a_catalog_that_is_away_lets_nobody_in() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    tenant.client.get("/app/contacts").await.expect(200);
    app.catalog_server.cut();
    // Whether a membership still holds is not known any more, so nothing is opened.
    app.within_seconds(3, async || tenant.client.get("/app/contacts").await.status == 503)
        .await;
    tenant.client.get("/app/contacts").await.refused(503, "unavailable");
    app.operator.get("/v1/tenants").await.refused(503, "unavailable");
    app.anonymous.get("/health/ready").await.refused(503, "unavailable");
    app.anonymous.get("/health/live").await.expect(200);
    app.log_in(&tenant.email, "whatever it is", None)
        .await
        .refused(503, "unavailable");

    app.catalog_server.heal();
    app.within_seconds(3, async || tenant.client.get("/app/contacts").await.status == 200)
        .await;
    app.anonymous.get("/health/ready").await.expect(200);
}

#[tokio::test]
async fn a_full_pool_refuses_at_once_and_recovers() {
    let app = App::start_with(|options| {
        options.pool.connections_max = 1;
        options.pool.waiting_max = 2;
        options.pool.wait_timeout = Duration::from_millis(300);
        options.pool.statement_timeout = Duration::from_millis(600);
    })
    .await;
    let client = &app.tenants[0].client;
    client.get("/app/contacts").await.expect(200);
    app.tenant_server.stall();
    let asking = (0..12).map(|_| client.get("/app/contacts"));
    for answer in futures_util::future::join_all(asking).await {
        answer.refused(503, "unavailable");
    }
    app.tenant_server.heal();
    app.within_seconds(3, async || client.get("/app/contacts").await.status == 200)
        .await;
}

#[tokio::test]
async fn a_tenant_for_a_server_that_is_away_is_not_half_made() {
    let app = App::start_with(|options| options.operation_wait = Duration::from_secs(1)).await;
    app.tenant_server.cut();
    let tenant = json!({ "slug": "unlucky", "name": "Unlucky", "isolation": "database" });
    let refused = app.operator.post("/v1/tenants", tenant).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let seen = app.operator.get("/v1/tenants/unlucky").await;
    assert!(
        seen.status == 404 || seen.text.contains("\"provisioning\""),
        "{}",
        seen.text
    );
    app.tenant_server.heal();
}

/// A program never meets a database of an older Tenantry half prepared: `serve` brings it up to date first, and until then
/// its tenants are refused.
#[tokio::test]
async fn a_database_that_is_out_of_date_is_not_used() {
    let app = App::start().await;
    for tenant in &app.tenants {
        tenant.client.get("/app/contacts").await.expect(200);
    }
    app.in_catalog("update tenant_database set bootstrap_version = bootstrap_version - 1")
        .await;
    for tenant in &app.tenants {
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 503)
            .await;
        tenant.client.get("/app/contacts").await.refused(503, "unavailable");
    }
    app.in_catalog("update tenant_database set bootstrap_version = bootstrap_version + 1")
        .await;
    for tenant in &app.tenants {
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 200)
            .await;
    }
}
