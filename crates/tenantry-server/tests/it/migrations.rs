//! Roll-outs over HTTP, and tenants that are behind.

use serde_json::{Value, json};
use tenantry::ErrorKind;

use crate::harness::{App, Tenant};

#[tokio::test]
async fn a_rollout_is_started_and_followed_by_its_operation() {
    let app = App::start().await;
    let operation = app
        .operator
        .post(
            "/v1/migrations",
            json!({ "canaries": ["schema-ltd"], "max_failures": "1%" }),
        )
        .await
        .expect(202);
    assert_eq!(
        (&operation["kind"], &operation["tenant_id"]),
        (&json!("migrate"), &Value::Null)
    );
    let path = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
    let mut seen = Value::Null;
    for _ in 0..200 {
        seen = app.operator.get(&path).await.expect(200);
        if seen["state"] == "done" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(seen["state"], "done", "{seen}");
    assert_eq!(seen["progress"]["current"], 3, "{seen}");
    assert_eq!(seen["progress"]["behind"], json!([]), "{seen}");
}

#[tokio::test]
async fn a_rollout_that_can_not_be_is_refused_by_its_field() {
    let app = App::start_with(|options| options.isolations = &["schema"]).await;
    for (body, status, code, pointer) in [
        (json!({ "max_failures": "few" }), 422, "invalid-field", "/max_failures"),
        (json!({ "waves": [50, 10] }), 422, "invalid-field", "/waves"),
        (json!({ "waves": "all" }), 422, "invalid-field", "/waves"),
        (json!({ "wave_of": ["gold"] }), 422, "invalid-field", "/wave_of"),
        (
            json!({ "pause_seconds": 100_000 }),
            422,
            "invalid-field",
            "/pause_seconds",
        ),
        (json!({ "tenants": ["nobody"] }), 422, "invalid-reference", "/tenants"),
        (json!({ "force": true }), 422, "unknown-field", "/force"),
    ] {
        let refused = app.operator.post("/v1/migrations", body).await;
        assert_eq!(refused.refused_fields(status, code), [pointer]);
    }
}

/// Who is behind what is required is told so, others are served; and both hear of a change within a second.
#[tokio::test]
async fn a_tenant_that_is_behind_is_told_that_it_is_migrated_and_others_are_served() {
    let app = App::start().await;
    for tenant in &app.tenants {
        tenant.client.get("/app/contacts").await.expect(200);
    }
    let newest = app.newest_version().await;
    let (shared, behind) = (&app.tenants[0], &app.tenants[1]);
    app.forget_newest_version(behind).await;
    app.require_version(newest).await;
    app.within_a_second(async || behind.client.get("/app/contacts").await.status == 503)
        .await;
    let refused = behind.client.get("/app/contacts").await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    refused.refused(503, "tenant-migrating");
    for served in [shared, &app.tenants[2]] {
        served.client.get("/app/contacts").await.expect(200);
    }
    // The library says the same, and tells a handler the version that it has remembered with the home.
    let scope = async |tenant: &Tenant| {
        let id = tenant.id.parse().unwrap();
        app.tenantry.system_context(id, "a test").await.unwrap()
    };
    let error = scope(behind).await.query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantMigrating);
    assert!(error.to_string().contains(&newest.to_string()), "{error}");
    let other = scope(shared).await;
    assert_eq!(other.schema_version().await.unwrap(), Some(newest));
    // Without asking anybody: the catalog answers nothing meanwhile.
    app.catalog_server.stall();
    let told = tokio::time::timeout(std::time::Duration::from_millis(500), async {
        other.query("select 1", &[]).await.unwrap();
        other.schema_version().await.unwrap()
    });
    assert_eq!(told.await.unwrap(), Some(newest));
    app.catalog_server.heal();
    // What the control plane says about the tenant does not need its tables.
    app.operator
        .get(&format!("/v1/tenants/{}", behind.id))
        .await
        .expect(200);
    app.require_version(0).await;
    app.within_a_second(async || behind.client.get("/app/contacts").await.status == 200)
        .await;
}
