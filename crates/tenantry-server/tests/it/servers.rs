//! Servers over HTTP: drains and rebalances, replicas, spares.

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tenantry_core::OperatorScope;
use tenantry_ops::{Authority, OperatorKeyRequest, ServerRequest};
use tenantry_testing::{OwnClusterOptions, own_cluster, second_cluster};

use crate::harness::{App, Client};

#[tokio::test]
async fn a_server_is_drained_by_operations_of_its_tenants() {
    let app = App::small().await;
    let by = Authority::system("test");
    let first = app.ops.list_servers(&by).await.unwrap()[0].clone();
    let drain = format!("/v1/servers/{}/drain", first.name);
    app.operator.post(&drain, json!({})).await.refused(409, "conflict");
    let second = ServerRequest {
        name: "second".to_owned(),
        region: Some(first.region.clone()),
        capacity: None,
        connections: None,
        admin_url: SecretString::from(second_cluster().await.admin_url("postgres")),
    };
    app.ops.add_server(&by, &second).await.unwrap();
    app.operator
        .post("/v1/servers/none/drain", json!({}))
        .await
        .refused(404, "not-found");
    let refused = app.operator.post(&drain, json!({ "to": ["none"] })).await;
    assert_eq!(refused.refused_fields(422, "invalid-reference"), ["/to"]);
    let planned = app.operator.post(&drain, json!({ "dry_run": true })).await.expect(200);
    let moves = planned["moves"].as_array().unwrap();
    assert_eq!(moves.len(), app.tenants.len());
    assert!(
        moves
            .iter()
            .all(|one| one["to"] == "second" && one["operation"].is_null())
    );
    let begun = app.operator.post(&drain, json!({})).await.expect(202);
    for one in begun["moves"].as_array().unwrap() {
        let path = format!("/v1/operations/{}", one["operation"].as_str().unwrap());
        app.within_seconds(30, async || {
            app.operator.get(&path).await.expect(200)["state"] == "done"
        })
        .await;
    }
    let tenant = app
        .operator
        .get(&format!("/v1/tenants/{}", app.tenants[0].id))
        .await
        .expect(200);
    assert_eq!(tenant["placement"]["server"], "second");
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    let rest = app
        .operator
        .post("/v1/servers/rebalance", json!({ "dry_run": true }))
        .await
        .expect(200);
    // One that is drained takes nobody back.
    assert_eq!(rest["moves"], json!([]));
}

/// Who may list replicas, and who may only look.
async fn with_scope(app: &App, scope: OperatorScope) -> Client {
    let request = OperatorKeyRequest {
        name: scope.to_string(),
        scopes: vec![scope].into(),
        expires_at: None,
    };
    let made = app.ops.create_operator_key(&Authority::system("test"), &request).await;
    app.anonymous.bearer(made.unwrap().1.expose_secret())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_listed_checked_and_seen_in_health() {
    let app = App::small().await;
    let mut primary = own_cluster(OwnClusterOptions::default()).await;
    let mut standby = primary.standby(None);
    let address = format!("{}:{}", standby.cluster().host(), standby.cluster().port());
    let two = ServerRequest {
        name: "two".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: SecretString::from(primary.cluster().admin_url("postgres")),
    };
    app.ops.add_server(&Authority::system("test"), &two).await.unwrap();
    let (reader, keeper) = (
        with_scope(&app, OperatorScope::Read).await,
        with_scope(&app, OperatorScope::Servers).await,
    );
    let set = async |client: &Client, server: &str, replicas: &[&str]| {
        let body = json!({ "replicas": replicas }).to_string();
        client
            .send(Method::PUT, &format!("/v1/servers/{server}/replicas"), Some(body))
            .await
    };
    set(&reader, "two", &[&address]).await.refused(403, "forbidden");
    set(&keeper, "none", &[&address]).await.refused(404, "not-found");
    for (wrong, code) in [("nowhere", "invalid-field"), ("127.0.0.1:1", "invalid-reference")] {
        let refused = set(&keeper, "two", &[&address, wrong]).await;
        assert_eq!(refused.refused_fields(422, code), ["/replicas"]);
    }
    let listed = set(&keeper, "two", &[&address]).await.expect(200);
    assert_eq!(
        (&listed["name"], &listed["replicas"]),
        (&json!("two"), &json!([address]))
    );
    let servers = reader.get("/v1/servers").await.expect(200);
    let names: Vec<_> = servers["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(servers["items"][1], listed);

    standby.until_it_shows(&primary).await;
    let check = "/v1/servers/two/check";
    let checked = reader.post(check, json!({})).await.expect(200);
    assert_eq!(
        (&checked["ok"], &checked["problems"]),
        (&json!(true), &json!([])),
        "{checked}"
    );
    let replica = &checked["replicas"][0];
    assert_eq!(
        (&replica["reachable"], &replica["take_off"]),
        (&json!(true), &Value::Null),
        "{checked}"
    );
    assert!(replica["behind_bytes"].is_u64(), "{checked}");
    reader
        .post("/v1/servers/none/check", json!({}))
        .await
        .refused(404, "not-found");

    let replica = async || {
        let health = reader.get("/health/tenants").await.expect(200);
        assert_eq!(health["status"], "ok", "{health}");
        assert_eq!(health["replicas"].as_array().unwrap().len(), 1, "{health}");
        health["replicas"][0].clone()
    };
    let seen = replica().await;
    assert_eq!(
        (&seen["server"], &seen["address"]),
        (&json!("two"), &json!(address)),
        "{seen}"
    );
    assert!(seen["reachable"] == true && seen["behind_bytes"].is_u64(), "{seen}");
    assert_eq!(
        (&seen["lag_ms"], &seen["read_from"]),
        (&Value::Null, &Value::Null),
        "nobody reads: {seen}"
    );

    let new = json!({ "slug": "far", "name": "Far", "server": "two" });
    let far = app.operator.post("/v1/tenants", new).await.expect(201);
    let far = far["id"].as_str().unwrap().parse().unwrap();
    let scope = app.tenantry.system_context(far, "test").await.unwrap();
    let read = async || drop(scope.read_only().query("select 1", &[]).await.unwrap());
    app.within_seconds(20, async || {
        read().await;
        let seen = replica().await;
        seen["read_from"] == true && seen["lag_ms"].is_f64()
    })
    .await;
    let label = format!("tenantry_replica_lag_seconds{{replica={}}}", seen["id"]);
    read().await;
    let metrics = app.anonymous.get("/metrics").await;
    assert!(metrics.text.contains(&label), "{label}: {}", metrics.text);

    // One that is away is named with what takes it off the list, before a move begins that would wait for it.
    standby.stop();
    let moves = "/v1/tenants/far/moves";
    let obstacles = async || {
        let plan = json!({ "to": "schema", "dry_run": true });
        app.operator.post(moves, plan).await.expect(200)["obstacles"].clone()
    };
    let command = "tenantry server set two --no-replicas";
    let told = obstacles().await;
    assert_eq!(
        (told.as_array().unwrap().len(), &told[0]["code"]),
        (1, &json!("replica")),
        "{told}"
    );
    assert!(told[0]["what"].as_str().unwrap().contains(&address), "{told}");
    assert!(told[0]["mend"].as_str().unwrap().contains(command), "{told}");
    app.operator
        .post(moves, json!({ "to": "schema" }))
        .await
        .refused(409, "conflict");
    let checked = reader.post(check, json!({})).await.expect(200);
    assert_eq!(
        (&checked["ok"], &checked["replicas"][0]["take_off"]),
        (&json!(false), &json!(command)),
        "{checked}"
    );
    app.within_seconds(20, async || {
        read().await;
        let seen = replica().await;
        seen["reachable"] == false && seen["read_from"] == false && seen["lag_ms"].is_null()
    })
    .await;
    let silent = format!("{label} -1");
    let shown = async |line: &str| {
        read().await;
        app.anonymous.get("/metrics").await.text.contains(line)
    };
    assert!(shown(&silent).await, "an alert tells of it");
    set(&keeper, "two", &[]).await.expect(200);
    assert_eq!(obstacles().await, json!([]));
    let health = reader.get("/health/tenants").await.expect(200);
    assert_eq!(health["replicas"], json!([]));
    // And of what is off the list it tells no more, without a restart.
    app.within_seconds(5, async || !shown(seen["id"].as_str().unwrap()).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_own_numbers_of_spares_are_set_shown_kept_to_and_taken_away() {
    let app = App::small().await;
    let (reader, keeper) = (
        with_scope(&app, OperatorScope::Read).await,
        with_scope(&app, OperatorScope::Servers).await,
    );
    let set = async |client: &Client, server: &str, body: Value| {
        let path = format!("/v1/servers/{server}/spares");
        client.send(Method::PUT, &path, Some(body.to_string())).await
    };
    let numbers = |server: &Value| (server["spare_schemas"].clone(), server["spare_databases"].clone());
    let listed = async || reader.get("/v1/servers").await.expect(200)["items"][0].clone();
    assert_eq!(numbers(&listed().await), (Value::Null, Value::Null));
    let one = json!({ "spare_schemas": 1 });
    set(&reader, "one", one.clone()).await.refused(403, "forbidden");
    set(&keeper, "none", one.clone()).await.refused(404, "not-found");
    for wrong in [json!(-1), json!(65_536), json!(1.5), json!("1")] {
        let body = json!({ "spare_schemas": wrong, "spare_databases": wrong });
        let refused = set(&keeper, "one", body).await;
        assert_eq!(
            refused.refused_fields(422, "invalid-field"),
            ["/spare_databases", "/spare_schemas"]
        );
    }
    let no_databases = json!({ "spare_databases": 0 });
    let no_databases = set(&keeper, "one", no_databases).await.expect(200);
    assert_eq!(numbers(&no_databases), (Value::Null, json!(0)));

    let (admin, _) = app.tables_of(&app.tenants[0]).await;
    let count = "select count(*) from pg_namespace where starts_with(nspname::text, 'spare_')";
    let waiting = async || admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0);
    let set_one = set(&keeper, "one", one).await.expect(200);
    assert_eq!(numbers(&set_one), (json!(1), Value::Null));
    assert_eq!(listed().await, set_one);
    app.within_seconds(30, async || waiting().await == 1).await;
    let none = set(&keeper, "one", json!({})).await.expect(200);
    assert_eq!(numbers(&none), (Value::Null, Value::Null));
    app.within_seconds(30, async || waiting().await == 0).await;
}
