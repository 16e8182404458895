//! Roll-outs over HTTP, and tenants that are behind.

use reqwest::Method;
use serde_json::{Value, json};
use tenantry::ErrorKind;
use tenantry_core::OperatorScope;

use crate::harness::{App, Tenant};

#[tokio::test]
async fn a_rollout_is_started_and_followed_by_its_operation() {
    let app = App::start().await;
    let operation = app
        .operator
        .post(
            "/v1/migrations",
            json!({ "canaries": ["schema-ltd"], "max_failures": "1%", "per_server": 1, "connections": 4 }),
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
        (json!({ "canaries": ["nobody"] }), 422, "invalid-reference", "/canaries"),
        (json!({ "per_server": 0 }), 422, "invalid-field", "/per_server"),
        (json!({ "connections": -1 }), 422, "invalid-field", "/connections"),
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

#[tokio::test]
async fn a_rollout_stops_when_more_fail_than_it_bears() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.forget_newest_version(tenant).await;
    }
    app.spoil_ledger(&app.tenants[1]).await;
    // The canary fails: that is one too many, or one of three, which is borne.
    let figures = ["applied", "failed", "left", "total"];
    for (max_failures, expected, behind) in [("0", [0, 1, 2, 3], 3), ("34%", [2, 1, 0, 3], 1)] {
        let request = json!({ "canaries": ["schema-ltd"], "max_failures": max_failures });
        let operation = app.operator.post("/v1/migrations", request).await.expect(202);
        let seen = ended(&app, &operation).await;
        assert_eq!(
            (&seen["state"], &seen["error"]["code"]),
            (&json!("failed"), &json!("schemas_left_behind")),
            "{seen}"
        );
        let progress = &seen["progress"];
        let told = figures.map(|figure| progress[figure].as_u64().unwrap());
        assert_eq!(told, expected, "{seen}");
        assert_eq!(progress["behind"][0]["tenant"], "schema-ltd", "{seen}");
        let state = app.operator.get("/v1/migrations").await.expect(200);
        assert_eq!(
            (&state["behind"], &state["failed"]),
            (&json!(behind), &json!(1)),
            "{state}"
        );
    }
}

/// The operation, once it is so.
async fn until(app: &App, path: &str, so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let seen = app.operator.get(path).await.expect(200);
        if so(&seen) {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} does not come so far");
}

#[tokio::test]
async fn a_rollout_is_paused_resumed_and_called_off_by_who_may_begin_one() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.forget_newest_version(tenant).await;
    }
    let request = json!({ "canaries": ["schema-ltd"], "pause_seconds": 3600 });
    let operation = app.operator.post("/v1/migrations", request).await.expect(202);
    let path = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
    let steer = |steer: &str| format!("{path}/{steer}");
    // It waits for an hour behind the canary.
    let waits = until(&app, &path, |seen| seen["progress"]["next_wave_at"].is_string()).await;
    assert_eq!(
        (&waits["progress"]["done"], &waits["progress"]["total"]),
        (&json!(1), &json!(3)),
        "{waits}"
    );
    let moves = app.operator_with(&[OperatorScope::Tenants]).await;
    moves.post(&steer("pause"), json!({})).await.refused(403, "forbidden");
    let migrates = app.operator_with(&[OperatorScope::Migrations]).await;
    for never in ["rollback", "finish"] {
        let refused = migrates.post(&steer(never), json!({})).await;
        refused.refused(409, "conflict");
    }
    migrates.post(&steer("pause"), json!({})).await.expect(202);
    let paused = until(&app, &path, |seen| seen["state"] == "paused").await;
    assert_eq!(
        (
            &paused["progress"]["applied"],
            &paused["progress"]["left"],
            &paused["wish"]
        ),
        (&json!(1), &json!(2), &Value::Null),
        "{paused}"
    );
    let second = migrates.post("/v1/migrations", json!({})).await;
    second.refused(409, "conflict");
    migrates.post(&steer("resume"), json!({})).await.expect(202);
    until(&app, &path, |seen| seen["state"] == "running").await;
    migrates.post(&steer("abort"), json!({})).await.expect(202);
    let stopped = until(&app, &path, |seen| seen["state"] == "cancelled").await;
    assert_eq!(
        (&stopped["error"]["code"], &stopped["progress"]["left"]),
        (&json!("aborted"), &json!(2)),
        "{stopped}"
    );
    let again = migrates.post(&steer("abort"), json!({})).await;
    again.refused(409, "conflict");
    let state = app.operator.get("/v1/migrations").await.expect(200);
    assert_eq!(state["behind"], 2, "{state}");
}

/// Waits for the operation's end.
async fn ended(app: &App, operation: &Value) -> Value {
    let path = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
    for _ in 0..400 {
        let seen = app.operator.get(&path).await.expect(200);
        if ["done", "failed"].contains(&seen["state"].as_str().unwrap()) {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{operation} does not end");
}

#[tokio::test]
async fn the_fleets_state_is_listed_page_by_page_and_by_what_is_wrong() {
    let app = App::start().await;
    let newest = app.newest_version().await;
    app.forget_newest_version(&app.tenants[1]).await;
    let all = app.operator.get("/v1/migrations").await.expect(200);
    assert_eq!(
        (
            &all["version"],
            &all["schemas"],
            &all["behind"],
            &all["failed"],
            &all["minimum_version"]
        ),
        (&json!(newest), &json!(3), &json!(1), &json!(0), &json!(0)),
        "{all}"
    );
    let tenants = |answer: &Value| -> Vec<Option<String>> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|item| item["tenant"].as_str().map(str::to_owned)).collect()
    };
    let behind = app.operator.get("/v1/migrations?state=behind").await.expect(200);
    assert_eq!(tenants(&behind), [Some("schema-ltd".to_owned())]);
    assert_eq!(behind["items"][0]["pending"].as_array().unwrap().len(), 1, "{behind}");
    assert_eq!(behind["schemas"], 3);
    // Page by page one sees each once.
    let (mut paged, mut path) = (Vec::new(), "/v1/migrations?limit=1".to_owned());
    loop {
        let page = app.operator.get(&path).await.expect(200);
        paged.extend(tenants(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/migrations?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    let mut expected = tenants(&all);
    expected.sort();
    paged.sort();
    assert_eq!(paged, expected);
    for (query, pointer) in [("limit=0", "/limit"), ("state=odd", "/state"), ("cursor=x", "/cursor")] {
        let refused = app.operator.get(&format!("/v1/migrations?{query}")).await;
        assert_eq!(refused.refused_fields(422, "invalid-field"), [pointer]);
    }
}

#[tokio::test]
async fn a_plan_is_an_operation_that_tells_what_pending_files_do() {
    let app = App::start().await;
    app.forget_newest_version(&app.tenants[1]).await;
    let operation = app.operator.post("/v1/migrations/plan", json!({})).await.expect(202);
    assert_eq!(operation["kind"], "plan_migrations");
    let done = ended(&app, &operation).await;
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(done["progress"]["pending"], 1, "{done}");
    let copy = &done["progress"]["copies"][0];
    assert_eq!(
        (&copy["server"], &copy["schemas"]),
        (&json!("one"), &json!(1)),
        "{done}"
    );
    assert_eq!(copy["files"].as_array().unwrap().len(), 1, "{done}");
    // What isolation makes of it, and what the linter says.
    assert!(copy["files"][0]["notes"].is_array(), "{done}");
    assert!(done["progress"]["lint"].is_array(), "{done}");
    let refused = app.operator.post("/v1/migrations/plan", json!({ "sql": true })).await;
    assert_eq!(refused.refused_fields(422, "unknown-field"), ["/sql"]);
}

#[tokio::test]
async fn drift_is_found_by_an_operation_and_repaired_by_another() {
    let app = App::start_with(|options| options.isolations = &["schema"]).await;
    let dropped = app.drop_floor(&app.tenants[0], "contacts").await;
    let found = app.operator.post("/v1/migrations/verify", json!({})).await.expect(202);
    let found = ended(&app, &found).await;
    assert_eq!(
        (&found["state"], &found["error"]["code"], &found["progress"]["wrong"]),
        (&json!("failed"), &json!("schemas_differ"), &json!(1)),
        "{found}"
    );
    let difference = &found["progress"]["sites"][0]["differences"][0];
    assert_eq!(
        (&difference["object"], &difference["state"]),
        (&json!(dropped), &json!("repairable"))
    );
    let of_it = json!({ "tenants": ["schema-ltd"], "repair": true });
    let repaired = app.operator.post("/v1/migrations/verify", of_it).await.expect(202);
    let repaired = ended(&app, &repaired).await;
    assert_eq!(
        (
            &repaired["state"],
            &repaired["progress"]["repaired"],
            &repaired["progress"]["wrong"]
        ),
        (&json!("done"), &json!(1), &json!(0)),
        "{repaired}"
    );
    let again = app.operator.post("/v1/migrations/verify", json!({})).await.expect(202);
    assert_eq!(ended(&app, &again).await["state"], "done");
    let refused = app
        .operator
        .post("/v1/migrations/verify", json!({ "tenants": ["nobody"] }))
        .await;
    assert_eq!(refused.refused_fields(422, "invalid-reference"), ["/tenants"]);
}

#[tokio::test]
async fn who_failed_is_tried_again_and_nobody_else() {
    let app = App::start().await;
    for tenant in &app.tenants[1..] {
        app.forget_newest_version(tenant).await;
    }
    app.note_failure(&app.tenants[2]).await;
    let failed = app.operator.get("/v1/migrations?state=failed").await.expect(200);
    assert_eq!(failed["items"][0]["tenant"], "database-ltd", "{failed}");
    let retried = app.operator.post("/v1/migrations/retry", json!({})).await.expect(202);
    let retried = ended(&app, &retried).await;
    assert_eq!(
        (&retried["state"], &retried["progress"]["applied"]),
        (&json!("done"), &json!(1)),
        "{retried}"
    );
    let state = app.operator.get("/v1/migrations").await.expect(200);
    assert_eq!((&state["behind"], &state["failed"]), (&json!(1), &json!(0)), "{state}");
}

/// Looking needs the scope `read`, everything else `migrations`.
#[tokio::test]
async fn each_route_asks_for_its_scope() {
    let app = App::small().await;
    let reads = app.operator_with(&[OperatorScope::Read]).await;
    let migrates = app.operator_with(&[OperatorScope::Migrations]).await;
    reads.get("/v1/migrations").await.expect(200);
    migrates.get("/v1/migrations").await.refused(403, "forbidden");
    for path in ["", "/retry", "/plan", "/verify"] {
        let path = format!("/v1/migrations{path}");
        reads.post(&path, json!({})).await.refused(403, "forbidden");
        let operation = migrates.post(&path, json!({})).await.expect(202);
        ended(&app, &operation).await;
    }
    for (method, path, body) in [
        (Method::POST, "reconcile", json!({})),
        (Method::PUT, "minimum-version", json!({ "version": 0 })),
    ] {
        let (path, body) = (format!("/v1/migrations/{path}"), Some(body.to_string()));
        let refused = reads.send(method.clone(), &path, body.clone()).await;
        refused.refused(403, "forbidden");
        migrates.send(method, &path, body).await.expect(200);
    }
}

#[tokio::test]
async fn a_version_is_required_of_everybody_and_told_to_every_process() {
    let app = App::start().await;
    let newest = app.newest_version().await;
    let behind = &app.tenants[1];
    app.forget_newest_version(behind).await;
    let require = async |version: i64| {
        let body = Some(json!({ "version": version }).to_string());
        let path = "/v1/migrations/minimum-version";
        app.operator.send(Method::PUT, path, body).await
    };
    let required = require(newest).await.expect(200);
    assert_eq!(
        required,
        json!({ "minimum_version": newest, "schemas": 3, "behind": 1 }),
        "{required}"
    );
    let shown = app.operator.get("/v1/migrations").await.expect(200);
    assert_eq!(shown["minimum_version"], newest, "{shown}");
    app.within_a_second(async || behind.client.get("/app/contacts").await.status == 503)
        .await;
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    for nobody in [newest + 1, -1] {
        let refused = require(nobody).await;
        assert_eq!(refused.refused_fields(422, "invalid-reference"), ["/version"]);
    }
    assert_eq!(require(0).await.expect(200)["behind"], 0);
    app.within_a_second(async || behind.client.get("/app/contacts").await.status == 200)
        .await;
}

#[tokio::test]
async fn what_the_catalog_believes_wrongly_is_corrected_and_told() {
    let app = App::start().await;
    let newest = app.newest_version().await;
    app.forget_newest_version(&app.tenants[1]).await;
    let (_, schema) = app.tables_of(&app.tenants[1]).await;
    let reconcile = async || {
        let answer = app.operator.post("/v1/migrations/reconcile", json!({})).await;
        answer.expect(200)
    };
    let told = reconcile().await;
    assert_eq!(
        (&told["databases"], &told["corrected"]),
        (&json!(2), &json!(1)),
        "{told}"
    );
    let [item] = told["items"].as_array().unwrap().as_slice() else {
        panic!("{told}")
    };
    assert_eq!(
        (&item["server"], &item["corrected"], &item["error"]),
        (&json!("one"), &json!(1), &Value::Null),
        "{told}"
    );
    let line = &item["corrections"][0];
    assert_eq!(
        (&line["schema"], &line["version"], &line["mistake"]),
        (&json!(schema), &json!(newest), &json!("missing")),
        "{told}"
    );
    let state = app.operator.get("/v1/migrations").await.expect(200);
    assert_eq!(state["behind"], 0, "{state}");
    let again = reconcile().await;
    assert_eq!(
        (&again["corrected"], &again["items"]),
        (&json!(0), &json!([])),
        "{again}"
    );

    app.tenant_server.cut();
    let told = reconcile().await;
    app.tenant_server.heal();
    let silent = told["items"].as_array().unwrap();
    assert!(
        silent.len() == 2 && silent.iter().all(|item| item["error"].is_string()),
        "{told}"
    );
}

#[tokio::test]
async fn how_long_migrations_took_is_asked_of_the_databases_of_a_page() {
    let app = App::start().await;
    let newest = app.newest_version().await;
    let (admin, schema) = app.tables_of(&app.tenants[1]).await;
    let longer = "update tenantry_private.migration set duration_ms = 1234 where schema = $1 and version = $2";
    admin.execute(longer, &[&schema, &newest]).await.unwrap();
    let plain = app.operator.get("/v1/migrations").await.expect(200);
    assert!(
        plain.get("unreachable").is_none() && plain["items"][0].get("migrations").is_none(),
        "{plain}"
    );
    let timed = app.operator.get("/v1/migrations?durations=true").await.expect(200);
    assert_eq!(timed["unreachable"], json!([]), "{timed}");
    for item in timed["items"].as_array().unwrap() {
        let last = item["migrations"].as_array().unwrap().last().unwrap();
        assert!(last["name"].is_string() && last["applied_at"].is_string(), "{timed}");
        let took = last["duration_ms"].as_i64();
        assert_eq!(took == Some(1234), item["schema"] == schema.as_str(), "{timed}");
        assert_eq!(last["version"], newest, "{timed}");
    }
    let page = app.operator.get("/v1/migrations?durations=true&limit=1").await;
    assert_eq!(page.expect(200)["items"].as_array().unwrap().len(), 1);
    let refused = app.operator.get("/v1/migrations?durations=often").await;
    assert_eq!(refused.refused_fields(422, "invalid-field"), ["/durations"]);

    app.tenant_server.cut();
    let silent = app.operator.get("/v1/migrations?durations=true").await.expect(200);
    app.tenant_server.heal();
    assert_eq!(silent["unreachable"].as_array().unwrap().len(), 2, "{silent}");
    assert!(silent["items"][0].get("migrations").is_none(), "{silent}");
}
