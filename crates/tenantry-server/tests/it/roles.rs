//! What each role may do.

use axum::{Router, http::StatusCode, routing};
use reqwest::Method;
use serde_json::json;
use tenantry::{Scope, axum::Problem};

use crate::harness::{App, Client};

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing_in_every_isolation() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let project = tenant
            .client
            .post("/app/projects", json!({ "name": "p" }))
            .await
            .expect(201);
        let path = format!("/app/projects/{}", project["id"].as_str().unwrap());
        let viewer = app.member(tenant, "viewer").await;
        assert_eq!(viewer.get(&path).await.expect(200), project);
        viewer.get("/app/tasks").await.expect(200);

        viewer
            .post("/app/projects", json!({ "name": "x" }))
            .await
            .refused(403, "forbidden");
        viewer
            .post("/app/contacts", json!({ "name": "x" }))
            .await
            .refused(403, "forbidden");
        let task = json!({ "title": "x", "project_id": project["id"] });
        viewer.post("/app/tasks", task).await.refused(403, "forbidden");
        viewer
            .patch(&path, json!({ "name": "x" }))
            .await
            .refused(403, "forbidden");
        viewer.delete(&path).await.refused(403, "forbidden");
        // Also where there is nothing to change, or nobody can tell what.
        viewer.post("/app/projects", json!([])).await.refused(403, "forbidden");
        let nothing = format!("/app/projects/{}", uuid::Uuid::now_v7());
        viewer
            .patch(&nothing, json!({ "name": "x" }))
            .await
            .refused(403, "forbidden");
        viewer.delete(&nothing).await.refused(403, "forbidden");
        assert_eq!(
            tenant.client.get("/app/projects").await.expect(200)["items"],
            json!([project])
        );
    }
}

/// The application, and a route by somebody who thought of no roles.
fn careless() -> Router {
    async fn run(scope: Scope, statement: String) -> Result<StatusCode, Problem> {
        scope.execute(&statement, &[]).await?;
        Ok(StatusCode::NO_CONTENT)
    }
    tenantry_crm::router().route("/run", routing::post(run))
}

#[tokio::test]
async fn postgresql_refuses_a_viewers_change_where_the_application_forgets_to() {
    let app = App::start_with(|options| options.router = careless).await;
    for tenant in &app.tenants {
        let project = tenant
            .client
            .post("/app/projects", json!({ "name": "p" }))
            .await
            .expect(201);
        let viewer = app.member(tenant, "viewer").await;
        for statement in [
            "insert into projects (name) values ('x')",
            "update projects set name = 'x'",
            "delete from projects",
            "with gone as (delete from projects returning 1) select count(*) from gone",
        ] {
            let run = async |client: &Client| client.send(Method::POST, "/app/run", Some(statement.to_owned())).await;
            run(&viewer).await.refused(403, "forbidden");
        }
        assert_eq!(
            tenant.client.get("/app/projects").await.expect(200)["items"],
            json!([project])
        );
    }
}

#[tokio::test]
async fn members_write_rows_and_manage_nobody() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let member = app.member(tenant, "member").await;
    member.post("/app/contacts", json!({ "name": "x" })).await.expect(201);
    let members = format!("/v1/tenants/{}/members", tenant.id);
    member.get(&members).await.refused(403, "forbidden");
    let new = json!({ "email": "new@example.com", "role": "viewer" });
    member.post(&members, new).await.refused(403, "forbidden");
    member
        .get(&format!("/v1/tenants/{}/api-keys", tenant.id))
        .await
        .refused(403, "forbidden");
    member.get("/v1/tenants").await.refused(403, "forbidden");
}

#[tokio::test]
async fn admins_manage_members_below_owners() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let admin = app.member(tenant, "admin").await;
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let new = |role: &str| json!({ "email": format!("{role}@example.org"), "role": role });
    admin.post(&members, new("viewer")).await.expect(201);
    admin.post(&members, new("admin")).await.expect(201);
    admin.post(&members, new("owner")).await.refused(403, "forbidden");
    let owner = format!("{members}/{}", tenant.account);
    admin
        .patch(&owner, json!({ "role": "member" }))
        .await
        .refused(403, "forbidden");
    admin.delete(&owner).await.refused(403, "forbidden");
    let list = admin.get(&format!("{members}?role=owner")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn members_of_one_tenant_are_nobody_in_another() {
    let app = App::start().await;
    let (tenant, other) = (&app.tenants[0], &app.tenants[1]);
    let members = format!("/v1/tenants/{}/members", other.id);
    tenant.client.get(&members).await.refused(404, "not-found");
    let new = json!({ "email": "spy@example.com", "role": "viewer" });
    tenant.client.post(&members, new).await.refused(404, "not-found");
    let owner = format!("{members}/{}", other.account);
    tenant
        .client
        .patch(&owner, json!({ "role": "viewer" }))
        .await
        .refused(404, "not-found");
    tenant.client.delete(&owner).await.refused(404, "not-found");
    // A member of the other tenant, below the own tenant's path.
    let mixed = format!("/v1/tenants/{}/members/{}", tenant.id, other.account);
    tenant.client.delete(&mixed).await.refused(404, "not-found");
    let keys = format!("/v1/tenants/{}/api-keys", other.id);
    tenant.client.get(&keys).await.refused(404, "not-found");
    tenant
        .client
        .post(&keys, json!({ "name": "k", "role": "viewer" }))
        .await
        .refused(404, "not-found");
}

#[tokio::test]
async fn only_operators_administer_the_fleet() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let own = format!("/v1/tenants/{}", tenant.id);
    for (method, path) in [
        (Method::GET, "/v1/tenants".to_owned()),
        (Method::GET, own.clone()),
        (Method::POST, format!("{own}/suspend")),
        (Method::POST, format!("{own}/resume")),
        (Method::DELETE, own.clone()),
        (Method::GET, "/health/tenants".to_owned()),
        (Method::GET, format!("/v1/operations/{}", uuid::Uuid::now_v7())),
    ] {
        tenant.client.send(method, &path, None).await.refused(403, "forbidden");
    }
    let rollout = tenant.client.post("/v1/migrations", json!({})).await;
    rollout.refused(403, "forbidden");
    let new = json!({ "slug": "mine", "name": "Mine" });
    tenant.client.post("/v1/tenants", new).await.refused(403, "forbidden");
    tenant
        .client
        .patch(&own, json!({ "plan": "gold" }))
        .await
        .refused(403, "forbidden");
    // And an operator is no member: the fleet's key opens no tenant's rows.
    app.operator.get("/app/contacts").await.refused(403, "forbidden");
    app.operator
        .with("x-tenant-id", &tenant.id)
        .get("/app/contacts")
        .await
        .refused(403, "forbidden");
}

#[tokio::test]
async fn an_api_key_acts_with_its_role_in_its_tenant_until_it_is_revoked() {
    let app = App::start().await;
    let (tenant, other) = (&app.tenants[0], &app.tenants[1]);
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let made = tenant
        .client
        .post(&keys, json!({ "name": "import", "role": "member" }))
        .await
        .expect(201);
    let key = app.anonymous.bearer(made["key"].as_str().unwrap());
    key.post("/app/contacts", json!({ "name": "imported" }))
        .await
        .expect(201);
    key.with("x-tenant-id", &other.slug)
        .get("/app/contacts")
        .await
        .refused(403, "tenant-mismatch");
    key.get(&format!("/v1/tenants/{}/members", other.id))
        .await
        .refused(404, "not-found");
    key.get("/v1/auth/me").await.refused(403, "forbidden");

    let listed = tenant.client.get(&keys).await.expect(200);
    assert_eq!(listed["items"][0]["name"], "import");
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap()));
    let again = tenant
        .client
        .post(&keys, json!({ "name": "import", "role": "viewer" }))
        .await;
    assert_eq!(again.refused_fields(409, "already-exists"), ["/name"]);

    tenant
        .client
        .delete(&format!("{keys}/{}", made["id"].as_str().unwrap()))
        .await
        .expect(204);
    app.within_a_second(async || key.get("/app/contacts").await.status == 401)
        .await;
    key.get("/app/contacts").await.refused(401, "bad-token");
}
