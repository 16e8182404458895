//! Bodies that no route reads: each gets the documented refusal, and nothing changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{App, Client};

/// Every route with a body, with who may send it one and what a good one looks like.
fn routes(app: &App) -> Vec<(Client, Method, String, Value)> {
    let tenant = &app.tenants[0];
    let own = format!("/v1/tenants/{}", tenant.id);
    let (post, patch) = (Method::POST, Method::PATCH);
    let id = uuid::Uuid::now_v7();
    let project = json!({ "name": "x" });
    let whole = [
        "/v1/migrations",
        "/v1/migrations/retry",
        "/v1/migrations/plan",
        "/v1/migrations/verify",
        "/v1/migrations/reconcile",
        "/v1/jobs/retry",
        &format!("{own}/jobs/retry"),
        &format!("{own}/backups"),
        &format!("{own}/exports"),
        "/v1/servers/one/drain",
        "/v1/servers/rebalance",
    ];
    // Nothing has to be said there.
    let optional = whole.map(|path| (app.operator.clone(), post.clone(), path.to_owned(), json!({})));
    let mut routes = optional.to_vec();
    let plan = "/v1/plans/bad-input".to_owned();
    routes.push((app.operator.clone(), Method::PUT, plan, json!({})));
    let minimum = "/v1/migrations/minimum-version".to_owned();
    routes.push((app.operator.clone(), Method::PUT, minimum, json!({ "version": 0 })));
    let replicas = "/v1/servers/one/replicas".to_owned();
    routes.push((app.operator.clone(), Method::PUT, replicas, json!({ "replicas": [] })));
    let spares = "/v1/servers/one/spares".to_owned();
    routes.push((app.operator.clone(), Method::PUT, spares, json!({})));
    routes.extend([
        (
            app.operator.clone(),
            post.clone(),
            "/v1/tenants".to_owned(),
            json!({ "slug": "bad-input", "name": "x" }),
        ),
        (app.operator.clone(), patch.clone(), own.clone(), json!({ "name": "x" })),
        (
            app.operator.clone(),
            post.clone(),
            format!("{own}/members"),
            json!({ "email": "x@example.com", "role": "viewer" }),
        ),
        (
            tenant.client.clone(),
            patch.clone(),
            format!("{own}/members/{}", tenant.account),
            json!({ "role": "owner" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            format!("{own}/api-keys"),
            json!({ "name": "bad-input", "role": "viewer" }),
        ),
        (
            app.anonymous.clone(),
            post.clone(),
            "/v1/auth/login".to_owned(),
            json!({ "email": "x@example.com", "password": "x" }),
        ),
        (
            app.anonymous.clone(),
            post.clone(),
            "/v1/auth/refresh".to_owned(),
            json!({ "refresh_token": "x" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            "/v1/auth/switch".to_owned(),
            json!({ "tenant": "x" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            "/v1/auth/accept".to_owned(),
            json!({ "tenant": "x" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            "/v1/auth/password".to_owned(),
            json!({ "password": "x", "new_password": "x" }),
        ),
        (
            app.anonymous.clone(),
            post.clone(),
            "/v1/auth/reset-password".to_owned(),
            json!({ "token": "x", "new_password": "x" }),
        ),
        (
            app.operator.clone(),
            post.clone(),
            "/v1/password-resets".to_owned(),
            json!({ "email": "x@example.com" }),
        ),
        (
            app.operator.clone(),
            post.clone(),
            format!("/v1/backups/{id}/restore"),
            json!({ "slug": "bad-input" }),
        ),
        (
            app.operator.clone(),
            post.clone(),
            format!("{own}/restore"),
            json!({ "at": "latest" }),
        ),
        (
            app.operator.clone(),
            Method::PUT,
            format!("{own}/legal-hold"),
            json!({ "reason": "x" }),
        ),
        (
            app.operator.clone(),
            Method::PUT,
            format!("{own}/backup-schedule"),
            json!({ "interval_h": 24 }),
        ),
        (
            app.operator.clone(),
            post.clone(),
            format!("{own}/moves"),
            json!({ "to": "schema" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            "/app/contacts".to_owned(),
            json!({ "name": "bad-input" }),
        ),
        (
            tenant.client.clone(),
            patch.clone(),
            format!("/app/contacts/{id}"),
            json!({ "name": "x" }),
        ),
        (
            tenant.client.clone(),
            post.clone(),
            "/app/projects".to_owned(),
            project.clone(),
        ),
        (
            tenant.client.clone(),
            patch.clone(),
            format!("/app/projects/{id}"),
            project,
        ),
        (
            tenant.client.clone(),
            post,
            "/app/tasks".to_owned(),
            json!({ "title": "x", "project_id": id }),
        ),
        (
            tenant.client.clone(),
            patch,
            format!("/app/tasks/{id}"),
            json!({ "title": "x" }),
        ),
    ]);
    routes
}

/// The names of a schema's properties, or of those that are required, as pointers.
fn pointers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut pointers: Vec<_> = names.map(|name| format!("/{name}")).collect();
    pointers.sort();
    pointers
}

/// Whether a request to this path is one to the route that the contract names so.
fn fits(template: &str, path: &str) -> bool {
    template.split('/').count() == path.split('/').count()
        && template
            .split('/')
            .zip(path.split('/'))
            .all(|(part, sent)| part == sent || part.starts_with('{'))
}

/// The schema of the body that the contract names for this request.
fn schema<'a>(document: &'a Value, method: &Method, path: &str) -> &'a Value {
    let paths = document["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| fits(template, path)).expect(path);
    let body = &item[method.as_str().to_lowercase()]["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    document
        .pointer(body.as_str().expect(path).trim_start_matches('#'))
        .expect(path)
}

async fn nothing_was_made(app: &App) {
    app.operator
        .get("/v1/tenants/bad-input")
        .await
        .refused(404, "not-found");
    let tenant = &app.tenants[0];
    for path in [
        "/app/contacts",
        "/app/projects",
        "/app/tasks",
        &format!("/v1/tenants/{}/api-keys", tenant.id),
    ] {
        assert_eq!(tenant.client.get(path).await.expect(200)["items"], json!([]), "{path}");
    }
    assert_eq!(app.operator.get("/v1/plans").await.expect(200)["items"], json!([]));
    let members = app
        .operator
        .get(&format!("/v1/tenants/{}/members", tenant.id))
        .await
        .expect(200);
    assert_eq!(members["items"].as_array().unwrap().len(), 1);
}

/// So that nobody forgets one.
#[tokio::test]
async fn every_route_of_the_contract_with_a_body_is_tried_here() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    let tried = routes(&app);
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_tried = tried
                .iter()
                .any(|(_, tried, path, _)| tried.as_str() == method.to_uppercase() && fits(template, path));
            assert_eq!(operation["requestBody"].is_object(), is_tried, "{method} {template}");
        }
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_malformed() {
    let app = App::small().await;
    let deep = format!("{{\"name\": {}", "[".repeat(50_000));
    for (client, method, path, body) in routes(&app) {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "\"x\"",
            "{\"name\": }",
            "{} {}",
            "\u{0}",
            "{'name': 'x'}",
            &deep,
        ] {
            client
                .send(method.clone(), &path, Some(text.to_owned()))
                .await
                .refused(400, "malformed-body");
        }
        let text = body.to_string();
        let twice = format!("{},{}", &text[..text.len() - 1], &text[1..]);
        client
            .send(method.clone(), &path, Some(twice))
            .await
            .refused(400, "malformed-body");
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "",
        ] {
            let answer = client
                .send_as(method.clone(), &path, content_type, Some(text.clone()))
                .await;
            answer.refused(400, "malformed-body");
        }
        client.send(method, &path, None).await.refused(400, "malformed-body");
    }
    nothing_was_made(&app).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_an_answer() {
    let app = App::small().await;
    let name = "x".repeat(2_000_000);
    for (client, method, path, mut body) in routes(&app) {
        body["notes"] = json!(name);
        client
            .send(method, &path, Some(body.to_string()))
            .await
            .refused(413, "body-too-large");
    }
    nothing_was_made(&app).await;
}

#[tokio::test]
async fn a_field_too_many_is_named() {
    let app = App::small().await;
    for (client, method, path, body) in routes(&app) {
        for field in ["tenant_id", "surprise", "__proto__", "a/b", "🙂"] {
            let mut body = body.clone();
            body[field] = json!(1);
            let answer = client.send(method.clone(), &path, Some(body.to_string())).await;
            assert_eq!(
                answer.refused_fields(422, "unknown-field"),
                [format!("/{}", field.replace('/', "~1"))],
                "{path}"
            );
        }
    }
    nothing_was_made(&app).await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named() {
    let app = App::small().await;
    for (client, method, path, body) in routes(&app) {
        for (field, value) in body.as_object().unwrap() {
            for wrong in [json!(7), json!([]), json!({}), json!(true), json!(null)] {
                // An empty list is right where a list is, and one number where another one is.
                if wrong.is_array() && value.is_array() || wrong.is_number() && value.is_number() {
                    continue;
                }
                let mut body = body.clone();
                body[field] = wrong;
                let answer = client.send(method.clone(), &path, Some(body.to_string())).await;
                assert_eq!(
                    answer.refused_fields(422, "invalid-field"),
                    [format!("/{field}")],
                    "{path}"
                );
            }
        }
        if method != Method::PATCH && body != json!({}) {
            let mut pointers: Vec<_> = body
                .as_object()
                .unwrap()
                .keys()
                .map(|field| format!("/{field}"))
                .collect();
            pointers.sort();
            let answer = client.send(method, &path, Some("{}".to_owned())).await;
            assert_eq!(answer.refused_fields(422, "invalid-field"), pointers, "{path}");
        }
    }
    nothing_was_made(&app).await;
}

#[tokio::test]
async fn texts_that_cannot_be_stored_are_refused() {
    let app = App::small().await;
    let client = &app.tenants[0].client;
    let long = "x".repeat(201);
    for (body, pointer) in [
        (json!({ "name": "a\u{0}b" }), "/name"),
        (json!({ "name": "  " }), "/name"),
        (json!({ "name": long }), "/name"),
        (json!({ "name": "x", "notes": "a\u{0}b" }), "/notes"),
        (json!({ "name": "x", "notes": "x".repeat(20_001) }), "/notes"),
        (json!({ "name": "x", "phone": "1".repeat(51) }), "/phone"),
        (json!({ "name": "x", "email": "nobody" }), "/email"),
        (json!({ "name": "x", "email": "a@b@c" }), "/email"),
    ] {
        assert_eq!(
            client
                .post("/app/contacts", body)
                .await
                .refused_fields(422, "invalid-field"),
            [pointer]
        );
    }
    let task =
        json!({ "title": "x", "project_id": "7", "status": "later", "due_on": "2026-02-30", "assignee_id": "me" });
    let answer = client.post("/app/tasks", task).await;
    assert_eq!(
        answer.refused_fields(422, "invalid-field"),
        ["/assignee_id", "/due_on", "/project_id", "/status"]
    );
    // What the field should be, in words of the interface.
    for (field, value, expected) in [
        ("due_on", json!("2026-02-30"), "a date, YYYY-MM-DD"),
        ("due_on", json!("2026-02-03T00:00:00Z"), "a date, YYYY-MM-DD"),
        ("project_id", json!("7"), "a uuid"),
        ("assignee_id", json!("me"), "a uuid"),
    ] {
        let problem = client
            .post("/app/tasks", json!({ "title": "x", field: value }))
            .await
            .refused(422, "invalid-field");
        let errors = problem["errors"].as_array().unwrap();
        let error = errors
            .iter()
            .find(|error| error["pointer"] == format!("/{field}"))
            .unwrap();
        assert!(error["detail"].as_str().unwrap().starts_with(expected), "{error}");
    }
    // What only looks dangerous is text like any other.
    for name in [
        "'; drop table contacts; --",
        "<script>",
        "%s %n",
        "../../etc/passwd",
        "\u{202e}abc",
        "🙂",
    ] {
        let made = client.post("/app/contacts", json!({ "name": name })).await.expect(201);
        assert_eq!(made["name"], name);
    }
}

#[tokio::test]
async fn ids_that_are_none_are_not_found() {
    let app = App::small().await;
    let client = &app.tenants[0].client;
    for id in [
        "7",
        "x",
        "%00",
        "..%2f..",
        "00000000-0000-0000-0000-000000000000",
        "'%20or%20'1'='1",
    ] {
        for path in ["contacts", "projects", "tasks"] {
            client.get(&format!("/app/{path}/{id}")).await.refused(404, "not-found");
            client
                .delete(&format!("/app/{path}/{id}"))
                .await
                .refused(404, "not-found");
        }
    }
}

#[tokio::test]
async fn the_contract_names_the_fields_that_are_read() {
    let app = App::small().await;
    let document = app.anonymous.get("/openapi.json").await.expect(200);
    for (client, method, path, _) in routes(&app) {
        let schema = schema(&document, &method, &path);
        // Of some nothing can be said.
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        // No field takes a list of lists, so each that is known is invalid.
        let body: Value = properties.keys().map(|name| (name.clone(), json!([[]]))).collect();
        let answer = client.send(method.clone(), &path, Some(body.to_string())).await;
        let known = pointers(properties.keys().map(String::as_str));
        assert_eq!(answer.refused_fields(422, "invalid-field"), known, "{path}");
        if let Some(required) = schema["required"].as_array() {
            let answer = client.send(method, &path, Some("{}".to_owned())).await;
            let required = pointers(required.iter().map(|name| name.as_str().unwrap()));
            assert_eq!(answer.refused_fields(422, "invalid-field"), required, "{path}");
        }
    }
}

/// Two readers of such a text could differ in what they see: at whatever depth.
#[tokio::test]
async fn settings_that_name_a_field_twice_are_refused() {
    let app = App::small().await;
    let path = format!("/v1/tenants/{}", app.tenants[0].id);
    for settings in [
        r#"{"locale": "de", "locale": "en"}"#,
        r#"{"mail": {"from": "a", "from": "b"}}"#,
        r#"{"mail": [{"to": [{"x": 1, "x": 2}]}]}"#,
    ] {
        let patch = format!(r#"{{"settings": {settings}}}"#);
        let refused = app.operator.send(Method::PATCH, &path, Some(patch)).await;
        refused.refused(400, "malformed-body");
        let new = format!(r#"{{"slug": "twice", "name": "Twice", "settings": {settings}}}"#);
        let refused = app.operator.send(Method::POST, "/v1/tenants", Some(new)).await;
        refused.refused(400, "malformed-body");
    }
    let patch = json!({ "settings": { "a": { "x": 1 }, "b": [{ "x": -2.5 }, null] } });
    let patched = app.operator.patch(&path, patch.clone()).await.expect(200);
    assert_eq!(patched["settings"], patch["settings"]);
}
