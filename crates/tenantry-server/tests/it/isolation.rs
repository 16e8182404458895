//! What one tenant can do to another through the application: nothing, in any isolation.

use axum::{Router, routing};
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::{Scope, axum::Problem};

use crate::harness::{App, Tenant};

/// Every pair of tenants: who tries, and on whom.
fn pairs(app: &App) -> impl Iterator<Item = (&Tenant, &Tenant)> {
    let others = |attacker: &Tenant| {
        let id = attacker.id.clone();
        app.tenants.iter().filter(move |victim| victim.id != id)
    };
    app.tenants
        .iter()
        .flat_map(move |attacker| others(attacker).map(move |victim| (attacker, victim)))
}

async fn create(tenant: &Tenant, path: &str, body: Value) -> String {
    tenant.client.post(path, body).await.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn rows_of_others_are_not_found_and_stay_as_they_are() {
    let app = App::start().await;
    for (attacker, victim) in pairs(&app) {
        let contact = create(victim, "/app/contacts", json!({ "name": "canary" })).await;
        let project = create(victim, "/app/projects", json!({ "name": "canary" })).await;
        let task = create(
            victim,
            "/app/tasks",
            json!({ "title": "canary", "project_id": project }),
        )
        .await;
        for (path, change) in [
            (format!("/app/contacts/{contact}"), json!({ "name": "stolen" })),
            (format!("/app/projects/{project}"), json!({ "name": "stolen" })),
            (format!("/app/tasks/{task}"), json!({ "title": "stolen" })),
        ] {
            let before = victim.client.get(&path).await.expect(200);
            attacker.client.get(&path).await.refused(404, "not-found");
            attacker.client.patch(&path, change).await.refused(404, "not-found");
            attacker.client.delete(&path).await.refused(404, "not-found");
            assert_eq!(victim.client.get(&path).await.expect(200), before);
        }
        for path in ["/app/contacts", "/app/projects", "/app/tasks"] {
            let own = attacker.client.get(path).await.expect(200);
            assert!(!own.to_string().contains("canary"), "{}: {own}", attacker.slug);
            for filter in [
                format!("id={contact}"),
                "q=canary".to_owned(),
                format!("tenant_id={}", victim.id),
            ] {
                let answer = attacker.client.get(&format!("{path}?{filter}")).await;
                assert!(!answer.text.contains("canary"), "{}: {}", attacker.slug, answer.text);
            }
        }
        victim
            .client
            .delete(&format!("/app/projects/{project}"))
            .await
            .expect(204);
        victim
            .client
            .delete(&format!("/app/contacts/{contact}"))
            .await
            .expect(204);
    }
}

#[tokio::test]
async fn a_task_cannot_point_at_anothers_project() {
    let app = App::start().await;
    for (attacker, victim) in pairs(&app) {
        let project = create(victim, "/app/projects", json!({ "name": "theirs" })).await;
        let own = create(attacker, "/app/projects", json!({ "name": "own" })).await;
        let task = create(attacker, "/app/tasks", json!({ "title": "t", "project_id": own })).await;

        let made = attacker
            .client
            .post("/app/tasks", json!({ "title": "x", "project_id": project }))
            .await;
        assert_eq!(made.refused_fields(422, "invalid-reference"), ["/project_id"]);
        let path = format!("/app/tasks/{task}");
        let moved = attacker.client.patch(&path, json!({ "project_id": project })).await;
        assert_eq!(moved.refused_fields(422, "invalid-reference"), ["/project_id"]);
        assert_eq!(attacker.client.get(&path).await.expect(200)["project_id"], own);
        // The same answer as for a project that nobody has: the attacker learns nothing.
        let nobodys = attacker
            .client
            .post("/app/tasks", json!({ "title": "x", "project_id": uuid() }))
            .await;
        assert_eq!(nobodys.refused_fields(422, "invalid-reference"), ["/project_id"]);
    }
}

#[tokio::test]
async fn uniqueness_ends_at_the_tenant() {
    let app = App::start().await;
    let contact = json!({ "name": "Ann", "email": "ann@example.com" });
    for tenant in &app.tenants {
        tenant.client.post("/app/contacts", contact.clone()).await.expect(201);
    }
    for tenant in &app.tenants {
        let again = tenant.client.post("/app/contacts", contact.clone()).await;
        assert_eq!(again.refused_fields(409, "already-exists"), ["/email"]);
        let list = tenant
            .client
            .get("/app/contacts?email=ann@example.com")
            .await
            .expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{}", tenant.slug);
    }
}

#[tokio::test]
async fn a_tenant_or_id_in_the_body_is_refused_and_changes_nothing() {
    let app = App::start().await;
    for (attacker, victim) in pairs(&app) {
        let contact = create(attacker, "/app/contacts", json!({ "name": "own" })).await;
        let theirs = create(victim, "/app/contacts", json!({ "name": "theirs" })).await;
        for (field, value) in [
            ("tenant_id", &victim.id),
            ("tenant", &victim.slug),
            ("id", &theirs),
            ("created_at", &theirs),
        ] {
            let made = attacker
                .client
                .post("/app/contacts", json!({ "name": "x", field: value }))
                .await;
            assert_eq!(made.refused_fields(422, "unknown-field"), [format!("/{field}")]);
            let changed = attacker
                .client
                .patch(&format!("/app/contacts/{contact}"), json!({ field: value }))
                .await;
            assert_eq!(changed.refused_fields(422, "unknown-field"), [format!("/{field}")]);
        }
        assert_eq!(
            attacker.client.get("/app/contacts?name=x").await.expect(200)["items"],
            json!([])
        );
        assert_eq!(
            victim.client.get("/app/contacts?name=x").await.expect(200)["items"],
            json!([])
        );
    }
}

#[tokio::test]
async fn no_row_shows_whose_it_is() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let made = tenant
            .client
            .post("/app/projects", json!({ "name": "p" }))
            .await
            .expect(201);
        let mut fields: Vec<_> = made.as_object().unwrap().keys().cloned().collect();
        fields.sort();
        assert_eq!(
            fields,
            ["created_at", "description", "id", "name", "status", "updated_at"]
        );
    }
}

#[tokio::test]
async fn a_cursor_of_another_tenant_is_refused() {
    let app = App::start().await;
    for tenant in &app.tenants {
        for n in 0..3 {
            create(tenant, "/app/contacts", json!({ "name": format!("{n}") })).await;
        }
    }
    for (attacker, victim) in pairs(&app) {
        let page = victim.client.get("/app/contacts?limit=1").await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let answer = attacker.client.get(&format!("/app/contacts?cursor={cursor}")).await;
        assert_eq!(answer.refused_fields(422, "invalid-field"), ["/cursor"]);
        // And of another list of the same tenant.
        let answer = victim.client.get(&format!("/app/projects?cursor={cursor}")).await;
        assert_eq!(answer.refused_fields(422, "invalid-field"), ["/cursor"]);
    }
}

#[tokio::test]
async fn a_header_that_names_another_tenant_is_refused() {
    let app = App::start().await;
    for (attacker, victim) in pairs(&app) {
        for named in [&victim.id, &victim.slug] {
            let contradicting = attacker.client.with("x-tenant-id", named);
            contradicting.get("/app/contacts").await.refused(403, "tenant-mismatch");
            let body = Some(json!({ "name": "x" }).to_string());
            contradicting
                .send(Method::POST, "/app/contacts", body)
                .await
                .refused(403, "tenant-mismatch");
        }
        let agreeing = attacker.client.with("x-tenant-id", &attacker.slug);
        agreeing.get("/app/contacts").await.expect(200);
        let host = attacker.client.with("host", &format!("{}.example.com", victim.slug));
        host.get("/app/contacts").await.refused(403, "tenant-mismatch");
        let own_host = attacker
            .client
            .with("host", &format!("{}.example.com:8443", attacker.slug));
        own_host.get("/app/contacts").await.expect(200);
        // Two headers, of which each reader might believe another one.
        let twice = agreeing.with_also("x-tenant-id", &victim.slug);
        assert!([400, 403].contains(&twice.get("/app/contacts").await.status));
        // Nobody in between is trusted, so what a proxy would say is not heard.
        let forwarded = attacker
            .client
            .with("x-forwarded-host", &format!("{}.example.com", victim.slug));
        let seen = forwarded.get("/app/contacts").await.expect(200);
        assert_eq!(seen["items"], json!([]));
    }
}

/// The application, and a hole: whatever text comes is run as SQL in the caller's scope.
fn injectable() -> Router {
    async fn run(scope: Scope, statement: String) -> Result<String, Problem> {
        let rows = scope.query(&statement, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| row.get::<String>(0).unwrap_or_default())
            .collect())
    }
    tenantry_crm::router().route("/sql", routing::post(run))
}

/// What somebody tries who can run any SQL as another tenant.
fn attacks(victim: &Tenant, project: &str) -> Vec<String> {
    let Tenant { id, .. } = victim;
    let own_schema = format!("t_{}", id.replace('-', ""));
    let forged = format!("{}{:018}", id.replace('-', ""), 0);
    let mut attacks = vec![
        // Read.
        "select string_agg(p::text, '') from projects as p".to_owned(),
        format!("select string_agg(p::text, '') from projects as p where tenant_id = '{id}' or true"),
        "select string_agg(p::text, '') from app.projects as p".to_owned(),
        format!("select string_agg(p::text, '') from {own_schema}.projects as p"),
        "copy projects to stdout".to_owned(),
        "select string_agg(s::text, '') from pg_stats as s where tablename = 'projects'".to_owned(),
        "select string_agg(query, '') from pg_stat_activity".to_owned(),
        // Write.
        format!("update projects set name = 'stolen' where id = '{project}'"),
        "update projects set name = 'stolen'".to_owned(),
        format!("update projects set tenant_id = '{id}'"),
        format!("delete from projects where id = '{project}'"),
        format!("insert into projects (name, tenant_id) values ('planted', '{id}')"),
        format!(
            "insert into projects (id, name, tenant_id) values ('{project}', 'stolen', '{id}')
                 on conflict (tenant_id, id) do update set name = 'stolen' returning name"
        ),
        format!("insert into projects (id, name) values ('{project}', 'own') on conflict do nothing returning name"),
        format!("insert into tasks (project_id, title, tenant_id) values ('{project}', 'planted', '{id}')"),
        "truncate projects cascade".to_owned(),
        "drop table projects cascade".to_owned(),
        "alter table projects disable row level security".to_owned(),
        "create policy mine on projects using (true)".to_owned(),
    ];
    // Become the other one, and then read: in one call, if the call takes it.
    for become_other in [
        format!("set_config('tenantry.expect', '{forged}', true)"),
        format!("set_config('tenantry.expect', '{forged}', false)"),
        format!("set_config('tenantry.tenant', '{id}', false)"),
        format!("set_config('app.tenant_id', '{id}', false)"),
        format!("set_config('backtrace_functions', '{}{forged}', false)", &forged[..32]),
        "set_config('row_security', 'off', false)".to_owned(),
        "set_config('role', 'postgres', false)".to_owned(),
    ] {
        attacks.push(format!("select {become_other}"));
        attacks.push(format!(
            "select {become_other} || (select string_agg(p::text, '') from projects as p)"
        ));
    }
    for statement in [
        "reset all",
        "discard all",
        "reset role",
        "reset session authorization",
        "set role postgres",
        "set session authorization postgres",
        "select tenantry.leave()::text",
        "select tenantry.enter('\\x00'::bytea, '\\x00'::bytea)::text",
        "begin",
        "commit",
        "rollback",
    ] {
        attacks.push(statement.to_owned());
        attacks.push(format!(
            "{statement}; select string_agg(p::text, '') from projects as p"
        ));
    }
    attacks
}

#[tokio::test]
async fn injected_sql_reaches_no_other_tenant() {
    let app = App::start_with(|options| options.router = injectable).await;
    for (attacker, victim) in pairs(&app) {
        let sql = async |text: &str| {
            attacker
                .client
                .send(Method::POST, "/app/sql", Some(text.to_owned()))
                .await
        };
        create(attacker, "/app/projects", json!({ "name": "own" })).await;
        let own = sql("select string_agg(name, ',') from projects").await;
        assert!(
            own.status == 200 && own.text.contains("own"),
            "the hole is open: {}",
            own.text
        );

        let canary = format!("canary-{}", uuid());
        let project = create(victim, "/app/projects", json!({ "name": canary })).await;
        let before = victim.client.get("/app/projects").await.expect(200);
        for attack in attacks(victim, &project) {
            let answer = sql(&attack).await;
            let told = format!("{} on {}: {attack}: {}", attacker.slug, victim.slug, answer.text);
            assert!(!answer.text.contains(&canary), "{told}");
            // Nor over whatever connection the attacker's, or the victim's, next call gets.
            let seen = attacker.client.get("/app/projects").await.text;
            assert!(!seen.contains(&canary), "{told}: {seen}");
        }
        assert_eq!(
            victim.client.get("/app/projects").await.expect(200),
            before,
            "by {}",
            attacker.slug
        );
    }
}

fn uuid() -> String {
    uuid::Uuid::now_v7().to_string()
}
