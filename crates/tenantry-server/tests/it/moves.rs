//! Moves over HTTP: a plan, the operation, refusals, and the application's requests meanwhile.

use axum::{Router, http::StatusCode, routing};
use serde_json::{Value, json};
use tenantry::{Scope, axum::Problem};
use tenantry_ops::{Authority, OperationKind};
use tokio::sync::Semaphore;

use crate::harness::App;

#[tokio::test]
async fn a_tenant_is_moved_by_an_operation_and_its_requests_go_on() {
    let app = App::start().await;
    let tenant = app
        .tenants
        .iter()
        .find(|tenant| tenant.slug.starts_with("shared"))
        .unwrap_or(&app.tenants[0]);
    let contacts = tenant.client.get("/app/contacts").await.expect(200);
    let project = json!({ "name": "Along" });
    let project = tenant.client.post("/app/projects", project).await.expect(201);
    let task = json!({ "title": "Pack", "project_id": project["id"] });
    let task = tenant.client.post("/app/tasks", task).await.expect(201);
    let task = format!("/app/tasks/{}", task["id"].as_str().unwrap());
    tenant
        .client
        .patch(&task, json!({ "status": "doing" }))
        .await
        .expect(200);
    let history = format!("{task}/history");
    let noted = tenant.client.get(&history).await.expect(200);
    let path = format!("/v1/tenants/{}/moves", tenant.slug);
    let wish = json!({ "to": "database" });
    let plan = app
        .operator
        .post(&path, json!({ "to": "database", "dry_run": true }))
        .await
        .expect(200);
    assert_eq!(
        (&plan["to"]["isolation"], &plan["obstacles"]),
        (&json!("database"), &json!([])),
        "{plan}"
    );
    let operation = app.operator.post(&path, wish.clone()).await.expect(202);
    assert_eq!(
        (&operation["kind"], &operation["tenant_id"]),
        (&json!("move"), &json!(tenant.id))
    );
    let followed = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
    let mut seen = Value::Null;
    for _ in 0..600 {
        tenant.client.get("/app/contacts").await.expect(200);
        seen = app.operator.get(&followed).await.expect(200);
        if seen["state"] != "running" && seen["state"] != "pending" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(seen["state"], "done", "{seen}");
    assert!(seen["progress"]["verified"].is_array(), "{seen}");
    assert_eq!(tenant.client.get("/app/contacts").await.expect(200), contacts);
    assert_eq!(tenant.client.get(&history).await.expect(200), noted);
    assert_eq!(noted["items"].as_array().unwrap().len(), 2);
    let moved = app
        .operator
        .get(&format!("/v1/tenants/{}", tenant.id))
        .await
        .expect(200);
    assert_eq!(moved["isolation"], "database");
    app.operator.post(&path, wish).await.refused(409, "conflict");
    let certificate = app.operator.get(&format!("{followed}/certificate")).await.expect(200);
    assert_eq!(certificate, seen["progress"]["certificate"]);
    let jws = certificate["jws"].as_str().unwrap();
    assert_eq!(app.opened(jws, "tenantry-move+jwt").await, certificate["certificate"]);
    // It opens nothing.
    let with_it = app.anonymous.bearer(jws).get("/v1/auth/me").await;
    with_it.refused(401, "bad-token");
    let made = app
        .ops
        .list_operations(&Authority::system("test"), Some(tenant.id.parse().unwrap()), None, 100)
        .await
        .unwrap();
    let made = made.iter().find(|one| one.kind == OperationKind::Provision).unwrap();
    let none = app
        .operator
        .get(&format!("/v1/operations/{}/certificate", made.id))
        .await;
    none.refused(409, "conflict");
    for steer in ["pause", "resume", "abort", "rollback", "finish"] {
        let path = format!("{followed}/{steer}");
        app.operator.post(&path, json!({})).await.refused(409, "conflict");
    }
}

#[tokio::test]
async fn a_move_that_can_not_be_is_refused_by_its_field() {
    let app = App::small().await;
    let path = format!("/v1/tenants/{}/moves", app.tenants[0].id);
    for (body, status, code, pointer) in [
        (json!({}), 422, "invalid-field", "/to"),
        (json!({ "to": "elsewhere" }), 422, "invalid-field", "/to"),
        (
            json!({ "to": "database", "server": "nowhere" }),
            422,
            "invalid-reference",
            "/server",
        ),
        (json!({ "to": "database", "soak": 1 }), 422, "unknown-field", "/soak"),
    ] {
        let refused = app.operator.post(&path, body).await;
        assert_eq!(refused.refused_fields(status, code), [pointer]);
    }
    let nobody = json!({ "to": "database" });
    app.operator
        .post("/v1/tenants/nobody/moves", nobody)
        .await
        .refused(404, "not-found");
}

/// It has waited for as long as a call waits for a move.
#[tokio::test]
async fn a_request_of_a_tenant_that_moves_for_long_is_told_when_to_come_again() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.pool.move_wait = std::time::Duration::from_millis(200);
    })
    .await;
    let tenant = &app.tenants[0];
    let (admin, _) = app.tables_of(tenant).await;
    tenant.client.get("/app/contacts").await.expect(200);
    let close = format!("select tenantry.fence_close('{}', 1, 1::int2)", tenant.id);
    admin.batch_execute(&close).await.unwrap();
    // Bound from before the first time, and anew the second.
    for _ in 0..2 {
        tenant.client.get("/app/contacts").await.refused(503, "tenant-moving");
    }
    let open = format!("select tenantry.fence_open('{}', 1)", tenant.id);
    admin.batch_execute(&open).await.unwrap();
    tenant.client.get("/app/contacts").await.expect(200);
}

/// A permit for each transaction that has begun.
static BEGUN: Semaphore = Semaphore::const_new(0);
/// A permit for each that may go on.
static GOES_ON: Semaphore = Semaphore::const_new(0);

/// The application, and a route whose transaction takes as long as is wanted.
fn patient() -> Router {
    async fn run(scope: Scope) -> Result<StatusCode, Problem> {
        let mut transaction = scope.begin().await?;
        transaction
            .execute("insert into projects (name) values ('half')", &[])
            .await?;
        BEGUN.add_permits(1);
        GOES_ON.acquire().await.unwrap().forget();
        // Another lock than the one that it holds: whoever has all that a statement needs does not hear of the fence, and is waited for.
        transaction.query("select name from projects", &[]).await?;
        transaction.commit().await?;
        Ok(StatusCode::NO_CONTENT)
    }
    tenantry_crm::router().route("/patient", routing::post(run))
}

/// It can't wait: what it has done is undone. Whoever asked may ask again.
#[tokio::test]
async fn a_request_whose_transaction_the_move_meets_is_told_to_come_again() {
    let app = App::start_with(|options| options.router = patient).await;
    for tenant in &app.tenants {
        let (admin, _) = app.tables_of(tenant).await;
        let close = format!("select tenantry.fence_close('{}', 1, 1::int2)", tenant.id);
        let open = format!("select tenantry.fence_open('{}', 1)", tenant.id);
        let moves = async {
            BEGUN.acquire().await.unwrap().forget();
            admin.batch_execute(&close).await.unwrap();
            GOES_ON.add_permits(1);
        };
        let (answer, ()) = tokio::join!(tenant.client.post("/app/patient", json!({})), moves);
        assert!(answer.headers.contains_key("retry-after"), "{}", answer.text);
        answer.refused(503, "tenant-moving");
        admin.batch_execute(&open).await.unwrap();
        let projects = tenant.client.get("/app/projects").await.expect(200);
        assert_eq!(projects["items"], json!([]), "{}", tenant.isolation);
        // Nothing is in its way the next time.
        GOES_ON.add_permits(1);
        tenant.client.post("/app/patient", json!({})).await.expect(204);
        BEGUN.acquire().await.unwrap().forget();
        let projects = tenant.client.get("/app/projects").await.expect(200);
        assert_eq!(projects["items"].as_array().unwrap().len(), 1, "{}", tenant.isolation);
    }
}
