//! Full-text search in the tenant's own tables.

use serde_json::{Value, json};
use tenantry_core::TenantId;

use crate::harness::{App, Client, Tenant};

async fn make(client: &Client, path: &str, body: Value) -> String {
    client.post(path, body).await.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn contact(tenant: &Tenant, name: &str, notes: &str) -> String {
    make(&tenant.client, "/app/contacts", json!({ "name": name, "notes": notes })).await
}

/// What is found, the best first: kinds and names.
async fn found(tenant: &Tenant, text: &str) -> Vec<(String, String)> {
    let query: String = url_encoded(text);
    let answer = tenant.client.get(&format!("/app/search?q={query}")).await.expect(200);
    let word = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
    let items = answer["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| (word(item, "kind"), word(item, "name")))
        .collect()
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn only(kind: &str, name: &str) -> Vec<(String, String)> {
    vec![(kind.to_owned(), name.to_owned())]
}

#[tokio::test]
async fn items_are_found_by_their_words_in_every_isolation() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let grace = contact(tenant, "Grace Hopper", "Compilers, and a moth\nÜbergrößenträger").await;
        let project = make(
            &tenant.client,
            "/app/projects",
            json!({ "name": "Moth hunt", "description": "in relays" }),
        )
        .await;
        let task = json!({ "title": "Open panel F", "description": "the moth is in relay 70", "project_id": project });
        make(&tenant.client, "/app/tasks", task).await;

        for text in [
            "grace",
            "GRACE hop",
            "hopper gra",
            "compilers  hopper",
            "übergrößen",
            "grace hopper moth",
        ] {
            assert_eq!(
                found(tenant, text).await,
                only("contact", "Grace Hopper"),
                "{}: {text}",
                tenant.slug
            );
        }
        // Each word has to be there, and only the last one may be a beginning.
        for text in [
            "grace relays",
            "gra hopper",
            "race",
            "no%",
            "_race",
            "' or 1=1 --",
            "?!",
            "tenant_id",
        ] {
            assert_eq!(found(tenant, text).await, [], "{}: {text}", tenant.slug);
        }
        // A word in a name counts more than one in a text.
        let moths = found(tenant, "moth").await;
        assert_eq!(moths.len(), 3, "{}: {moths:?}", tenant.slug);
        assert_eq!(moths[0], only("project", "Moth hunt")[0], "{}", tenant.slug);

        let path = format!("/app/contacts/{grace}");
        tenant
            .client
            .patch(&path, json!({ "name": "Ada Lovelace", "notes": null }))
            .await
            .expect(200);
        assert_eq!(found(tenant, "grace").await, [], "{}", tenant.slug);
        assert_eq!(
            found(tenant, "lovelace").await,
            only("contact", "Ada Lovelace"),
            "{}",
            tenant.slug
        );
        tenant.client.delete(&path).await.expect(204);
        assert_eq!(found(tenant, "lovelace").await, [], "{}", tenant.slug);
        // A project takes its tasks along.
        tenant
            .client
            .delete(&format!("/app/projects/{project}"))
            .await
            .expect(204);
        assert_eq!(found(tenant, "moth").await, [], "{}", tenant.slug);
    }
}

#[tokio::test]
async fn what_is_no_search_is_refused() {
    let app = App::small().await;
    let client = &app.tenants[0].client;
    for query in [
        "",
        "q=",
        "q=%20",
        "q=a%00b",
        "q=a&limit=0",
        "q=a&limit=201",
        "q=a&limit=x",
        "q=a&tenant_id=x",
    ] {
        let answer = client.get(&format!("/app/search?{query}")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text);
    }
    let long = "a".repeat(201);
    assert_eq!(client.get(&format!("/app/search?q={long}")).await.status, 422);
}

#[tokio::test]
async fn other_tenants_change_neither_what_is_found_nor_its_order() {
    let app = App::small().await;
    let ours = &app.tenants[0];
    let theirs = app.create_tenant("neighbour-ltd", "shared").await;
    contact(ours, "Blue whale", "whale whale").await;
    contact(ours, "Sperm", "a whale").await;
    contact(ours, "Orca", "is no whale at all, whale").await;
    let path = "/app/search?q=whale";
    let before = ours.client.get(path).await.expect(200);
    assert_eq!(before["items"].as_array().map(Vec::len), Some(3));

    for n in 0..20 {
        contact(&theirs, &format!("Whale {n}"), "whale whales whaling blue sperm orca").await;
    }
    assert_eq!(ours.client.get(path).await.expect(200), before);
    assert_eq!(found(ours, "whaling").await, []);
    assert_eq!(found(&theirs, "sperm").await.len(), 20);
}

#[tokio::test]
async fn a_search_reads_ranges_of_the_tenants_own_words() {
    let app = App::small().await;
    let ours = &app.tenants[0];
    let theirs = app.create_tenant("neighbour-ltd", "shared").await;
    for tenant in [ours, &theirs] {
        let id: TenantId = tenant.id.parse().unwrap();
        let scope = app.tenantry.system_context(id, "a test").await.unwrap();
        let sql = "insert into contacts (name, notes) select 'Person ' || n, 'note' || n || ' about thing' || n % 500 \
                   from generate_series(1, 2000) n";
        scope.execute(sql, &[]).await.unwrap();
    }
    app.analyze_shared_tables().await;
    let scope = app
        .tenantry
        .system_context(ours.id.parse().unwrap(), "a test")
        .await
        .unwrap();
    let sql = format!("explain (costs off) {}", tenantry_crm::SEARCH);
    let rows = scope.query(&sql, &[&"note17 thing", &20_i64]).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    let condition = plan
        .iter()
        .find(|line| line.contains("Index Cond") && line.contains("word >="))
        .unwrap_or_else(|| panic!("no range of words is read: {plan:#?}"));
    assert!(
        condition.contains("tenant_id = ") && condition.contains("word <"),
        "not within the tenant's own: {plan:#?}"
    );
    assert!(
        !plan.iter().any(|line| line.contains("Seq Scan on search_words")),
        "{plan:#?}"
    );
}
