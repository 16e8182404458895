//! The reference application: make, read, change, delete, list.

use serde_json::{Value, json};

use crate::harness::{App, Client};

/// Makes a thing, reads it, changes it, empties what can be empty, deletes it.
async fn lives_through(client: &Client, path: &str, new: Value, change: Value, emptied: &str) {
    let made = client.post(path, new.clone()).await.expect(201);
    let own = format!("{path}/{}", made["id"].as_str().unwrap());
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(&made[field], value, "{path} {field}");
    }
    assert_eq!(client.get(&own).await.expect(200), made);

    let changed = client.patch(&own, change.clone()).await.expect(200);
    for (field, value) in made.as_object().unwrap() {
        let expected = change.get(field).unwrap_or(value);
        assert!(
            field == "updated_at" || &changed[field] == expected,
            "{path} {field}: {changed}"
        );
    }
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());

    let without = client.patch(&own, json!({ emptied: null })).await.expect(200);
    assert_eq!(without[emptied], Value::Null);

    client.delete(&own).await.expect(204);
    client.get(&own).await.refused(404, "not-found");
    client.delete(&own).await.refused(404, "not-found");
    client.patch(&own, change).await.refused(404, "not-found");
}

#[tokio::test]
async fn contacts_projects_and_tasks_live_in_every_isolation() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let client = &tenant.client;
        let contact = json!({
            "name": "Ann", "email": "ann@example.com", "phone": "+49 30 1234", "company": "Example", "notes": "a\nb"
        });
        lives_through(
            client,
            "/app/contacts",
            contact,
            json!({ "name": "Zoë 🙂", "email": "zoe@example.com" }),
            "email",
        )
        .await;
        let project = json!({ "name": "Move", "description": "to the sea", "status": "active" });
        lives_through(
            client,
            "/app/projects",
            project,
            json!({ "status": "archived" }),
            "description",
        )
        .await;
        let project = client
            .post("/app/projects", json!({ "name": "Move" }))
            .await
            .expect(201)["id"]
            .clone();
        let task = json!({
            "project_id": project, "title": "Pack", "description": "boxes", "status": "todo", "due_on": "2026-12-31",
            "assignee_id": tenant.account
        });
        lives_through(
            client,
            "/app/tasks",
            task,
            json!({ "status": "done", "due_on": "2027-01-01" }),
            "assignee_id",
        )
        .await;
    }
}

#[tokio::test]
async fn deleting_a_project_deletes_its_tasks() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let project = tenant
            .client
            .post("/app/projects", json!({ "name": "p" }))
            .await
            .expect(201)["id"]
            .clone();
        let task = json!({ "project_id": project, "title": "t" });
        let task = tenant.client.post("/app/tasks", task).await.expect(201)["id"].clone();
        tenant
            .client
            .delete(&format!("/app/projects/{}", project.as_str().unwrap()))
            .await
            .expect(204);
        tenant
            .client
            .get(&format!("/app/tasks/{}", task.as_str().unwrap()))
            .await
            .refused(404, "not-found");
    }
}

#[tokio::test]
async fn an_assignee_is_a_member() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let project = tenant
            .client
            .post("/app/projects", json!({ "name": "p" }))
            .await
            .expect(201)["id"]
            .clone();
        let strangers = app
            .tenants
            .iter()
            .filter(|other| other.id != tenant.id)
            .map(|other| other.account.clone());
        for stranger in strangers.chain([uuid::Uuid::now_v7().to_string()]) {
            let task = json!({ "project_id": project, "title": "t", "assignee_id": stranger });
            let made = tenant.client.post("/app/tasks", task).await;
            assert_eq!(made.refused_fields(422, "invalid-reference"), ["/assignee_id"]);
        }
        assert_eq!(tenant.client.get("/app/tasks").await.expect(200)["items"], json!([]));
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn lists_are_filtered_searched_and_sorted() {
    let app = App::start().await;
    for tenant in &app.tenants {
        for (name, company, notes) in [
            ("Ann", "Sea", "100%"),
            ("Bob", "Land", "100 of 100"),
            ("Cyd", "Sea", "a_b"),
        ] {
            let contact = json!({ "name": name, "company": company, "notes": notes });
            tenant.client.post("/app/contacts", contact).await.expect(201);
        }
        for (query, expected) in [
            ("", &["Cyd", "Bob", "Ann"][..]),
            ("?sort=-created_at", &["Cyd", "Bob", "Ann"]),
            ("?sort=created_at", &["Ann", "Bob", "Cyd"]),
            ("?sort=-name", &["Cyd", "Bob", "Ann"]),
            ("?sort=name&company=Sea", &["Ann", "Cyd"]),
            ("?company=sea", &[]),
            ("?name=Bob&company=Sea", &[]),
            ("?q=SEA", &["Cyd", "Ann"]),
            ("?q=100%25", &["Ann"]),
            ("?q=a_b", &["Cyd"]),
            ("?q=%27%20or%201%3D1%20--", &[]),
            ("?q=land&name=Bob", &["Bob"]),
        ] {
            let page = tenant.client.get(&format!("/app/contacts{query}")).await.expect(200);
            assert_eq!(names(&page), expected, "{query}");
            assert_eq!(page["next_cursor"], Value::Null, "{query}");
        }
    }
}

#[tokio::test]
async fn pages_show_every_row_once_also_while_rows_are_added() {
    let app = App::start().await;
    for tenant in &app.tenants {
        // Every second name is the same, so that a page ends between equal values.
        for n in 0..7 {
            tenant
                .client
                .post("/app/projects", json!({ "name": format!("p{}", n / 2) }))
                .await
                .expect(201);
        }
        for sort in ["-created_at", "created_at", "name", "-name"] {
            let mut seen = Vec::new();
            let mut path = format!("/app/projects?limit=2&sort={sort}");
            loop {
                let page = tenant.client.get(&path).await.expect(200);
                seen.extend(
                    page["items"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| item["id"].to_string()),
                );
                match page["next_cursor"].as_str() {
                    Some(cursor) => path = format!("/app/projects?limit=2&sort={sort}&cursor={cursor}"),
                    None => break,
                }
            }
            assert_eq!(seen.len(), 7, "{sort}");
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 7, "{sort}");
        }
        let page = tenant.client.get("/app/projects?limit=3").await.expect(200);
        tenant
            .client
            .post("/app/projects", json!({ "name": "newer" }))
            .await
            .expect(201);
        let cursor = page["next_cursor"].as_str().unwrap();
        let next = tenant
            .client
            .get(&format!("/app/projects?limit=100&cursor={cursor}"))
            .await
            .expect(200);
        assert_eq!(next["items"].as_array().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn a_list_takes_known_parameters_only() {
    let app = App::small().await;
    let client = &app.tenants[0].client;
    for (query, pointer, code) in [
        ("tenant_id=x", "/tenant_id", "unknown-field"),
        ("colour=red", "/colour", "unknown-field"),
        ("limit=0", "/limit", "invalid-field"),
        ("limit=201", "/limit", "invalid-field"),
        ("limit=-1", "/limit", "invalid-field"),
        ("limit=99999999999999999999", "/limit", "invalid-field"),
        ("limit=1&limit=2", "/limit", "invalid-field"),
        ("sort=name%3Bdrop%20table%20contacts", "/sort", "invalid-field"),
        ("sort=tenant_id", "/sort", "invalid-field"),
        ("cursor=x", "/cursor", "invalid-field"),
        ("id=7", "/id", "invalid-field"),
        ("q=%00", "/q", "invalid-field"),
        ("name=%00", "/name", "invalid-field"),
        ("created_at=yesterday", "/created_at", "invalid-field"),
    ] {
        let answer = client.get(&format!("/app/contacts?{query}")).await;
        assert_eq!(answer.refused_fields(422, code), [pointer], "{query}");
    }
    let answer = client.get("/app/tasks?due_on=2026-02-30&status=later").await;
    assert_eq!(answer.refused_fields(422, "invalid-field"), ["/due_on", "/status"]);
}
