//! The history of a tenant's rows, as its admins read it.

use serde_json::{Value, json};

use crate::harness::{App, Client};

async fn history(client: &Client, task: &str, query: &str) -> Value {
    client
        .get(&format!("/app/tasks/{task}/history{query}"))
        .await
        .expect(200)
}

#[tokio::test]
async fn admins_read_who_changed_a_task_in_every_isolation() {
    let app = App::start().await;
    for (n, tenant) in app.tenants.iter().enumerate() {
        let owner = &tenant.client;
        let member = app.member(tenant, "member").await;
        let id_of = async |client: &Client| client.get("/v1/auth/me").await.expect(200)["account_id"].clone();
        let (by_owner, by_member) = (id_of(owner).await, id_of(&member).await);
        let project = owner
            .post("/app/projects", json!({ "name": "Relay" }))
            .await
            .expect(201);
        let task = json!({ "title": "Open panel F", "project_id": project["id"] });
        let task = owner.post("/app/tasks", task).await.expect(201)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("/app/tasks/{task}");
        member.patch(&path, json!({ "status": "doing" })).await.expect(200);
        member.delete(&path).await.expect(204);

        let told = history(owner, &task, "").await;
        let items = told["items"].as_array().unwrap();
        let acts: Vec<_> = items
            .iter()
            .map(|entry| (entry["act"].as_str().unwrap(), &entry["account_id"]))
            .collect();
        assert_eq!(
            acts,
            [("delete", &by_member), ("update", &by_member), ("insert", &by_owner)]
        );
        assert_eq!(
            (&items[1]["old"]["status"], &items[1]["new"]["status"]),
            (&json!("todo"), &json!("doing"))
        );
        assert_eq!(items[1]["new"]["title"], Value::Null, "only what changed");
        assert_eq!(items[0]["old"]["title"], "Open panel F");
        assert!(!told.to_string().contains("tenant_id"));

        // Page by page.
        let first = history(owner, &task, "?limit=2").await;
        let next = format!("?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
        let second = history(owner, &task, &next).await;
        let pages: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|page| page["items"].as_array().unwrap().clone())
            .collect();
        assert_eq!((&pages, &second["next_cursor"]), (items, &Value::Null));
        for (query, code) in [
            ("?limit=0", "invalid-field"),
            ("?cursor=yesterday", "invalid-field"),
            ("?table=contacts", "unknown-field"),
        ] {
            owner.get(&format!("{path}/history{query}")).await.refused(422, code);
        }

        for client in [&member, &app.member(tenant, "viewer").await] {
            client.get(&format!("{path}/history")).await.refused(403, "forbidden");
        }
        let other = &app.tenants[(n + 1) % app.tenants.len()].client;
        other.get(&format!("{path}/history")).await.refused(404, "not-found");
    }
}
