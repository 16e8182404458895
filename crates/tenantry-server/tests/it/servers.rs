//! Drains and rebalances over HTTP.

use secrecy::SecretString;
use serde_json::json;
use tenantry_ops::{Authority, ServerRequest};
use tenantry_testing::second_cluster;

use crate::harness::App;

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
