//! The control plane: tenants, members, operations, health.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_ops::{Authority, ServerRequest};
use tenantry_testing::{FaultProxy, second_cluster};

use crate::harness::{App, Client, PASSWORD, Tenant};

#[tokio::test]
async fn a_new_tenant_is_ready_when_it_is_answered() {
    let app = App::small().await;
    for isolation in ["shared", "schema", "database"] {
        let slug = format!("new-{isolation}");
        let email = format!("{isolation}@new.example.com");
        let tenant = json!({
            "slug": slug, "name": "New", "isolation": isolation, "plan": "gold", "settings": { "theme": "dark" },
            "admin": { "email": email, "password": PASSWORD, "name": "Ann" }
        });
        let made = app.operator.post("/v1/tenants", tenant).await.expect(201);
        assert_eq!(
            (&made["slug"], &made["isolation"], &made["state"]),
            (&json!(slug), &json!(isolation), &json!("active"))
        );
        assert_eq!(
            (&made["plan"], &made["settings"]),
            (&json!("gold"), &json!({ "theme": "dark" }))
        );
        assert!(
            made["placement"]["server"].is_string() && made["placement"]["schema"].is_string(),
            "{made}"
        );
        for path in [made["id"].as_str().unwrap(), slug.as_str()] {
            assert_eq!(app.operator.get(&format!("/v1/tenants/{path}")).await.expect(200), made);
        }
        let tokens = app.log_in(&email, PASSWORD, Some(&slug)).await.expect(200);
        let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
        client
            .post("/app/contacts", json!({ "name": "first" }))
            .await
            .expect(201);
    }
}

#[tokio::test]
async fn a_tenant_without_an_isolation_gets_its_plans() {
    let app = App::small().await;
    let made = app
        .operator
        .post("/v1/tenants", json!({ "slug": "plain", "name": "Plain" }))
        .await
        .expect(201);
    assert_eq!((&made["plan"], &made["isolation"]), (&json!("free"), &json!("shared")));
}

#[tokio::test]
async fn slugs_are_unique_and_no_look_alikes() {
    let app = App::small().await;
    let create = async |slug: &str| {
        app.operator
            .post("/v1/tenants", json!({ "slug": slug, "name": "x" }))
            .await
    };
    create("paypal").await.expect(201);
    create("paypal").await.refused(409, "tenant-slug-taken");
    create("paypa1").await.refused(409, "tenant-slug-taken");
    let long = "a".repeat(10_000);
    for slug in ["www", "A", "a", "-a", "a_b", "аcme", "a b", "", "a'b", long.as_str()] {
        assert_eq!(
            create(slug).await.refused_fields(422, "invalid-field"),
            ["/slug"],
            "{slug:.20}"
        );
    }
}

#[tokio::test]
async fn every_wrong_field_of_a_tenant_is_told() {
    let app = App::small().await;
    let tenant = json!({
        "slug": 7, "isolation": "cloud", "server": "no-such-server", "plan": "Gold!", "settings": [],
        "admin": { "email": "x", "password": "short" }
    });
    let answer = app.operator.post("/v1/tenants", tenant).await;
    let expected = ["/admin/email", "/isolation", "/name", "/plan", "/settings", "/slug"];
    assert_eq!(answer.refused_fields(422, "invalid-field"), expected);
    let server = json!({ "slug": "elsewhere", "name": "x", "server": "no-such-server" });
    assert_eq!(
        app.operator
            .post("/v1/tenants", server)
            .await
            .refused_fields(422, "invalid-reference"),
        ["/server"]
    );
    let password =
        json!({ "slug": "weak", "name": "x", "admin": { "email": "a@example.com", "password": "password1" } });
    let answer = app.operator.post("/v1/tenants", password).await;
    assert_eq!(answer.refused_fields(422, "invalid-field"), ["/admin/password"]);
    app.operator.get("/v1/tenants/weak").await.refused(404, "not-found");
    app.operator
        .get("/v1/tenants/elsewhere")
        .await
        .refused(404, "not-found");
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_request() {
    let app = App::small().await;
    let operator = app.operator.with("idempotency-key", "order-7");
    let tenant = json!({ "slug": "once", "name": "Once" });
    let (first, second) = tokio::join!(
        operator.post("/v1/tenants", tenant.clone()),
        operator.post("/v1/tenants", tenant.clone())
    );
    let first = first.expect(201);
    assert_eq!(second.expect(201)["id"], first["id"]);
    assert_eq!(
        operator.post("/v1/tenants", tenant).await.expect(201)["id"],
        first["id"]
    );
    let other = json!({ "slug": "other", "name": "Other" });
    operator
        .post("/v1/tenants", other)
        .await
        .refused(422, "idempotency-key-reused");
    app.operator.get("/v1/tenants/other").await.refused(404, "not-found");
}

#[tokio::test]
async fn a_repeated_request_does_nothing_twice() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let keyed = |key: &str| app.operator.with("idempotency-key", key);
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let ann = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann", "role": "viewer" });
    let adding = keyed("ann");
    let (first, second) = tokio::join!(adding.post(&members, ann.clone()), adding.post(&members, ann.clone()));
    let first = first.expect(201);
    assert_eq!(second.expect(201), first);
    app.operator
        .post(&members, ann.clone())
        .await
        .refused(409, "already-member");
    let bob = json!({ "email": "bob@example.com", "role": "viewer" });
    adding.post(&members, bob).await.refused(422, "idempotency-key-reused");
    // Another caller's key is another key.
    let owner = tenant.client.with("idempotency-key", "ann");
    owner.post(&members, ann.clone()).await.refused(409, "already-member");
    // What was undone since is not done again.
    let account = first["account_id"].as_str().unwrap();
    app.operator.delete(&format!("{members}/{account}")).await.expect(204);
    adding.post(&members, ann).await.refused(404, "not-found");

    let suspend = format!("/v1/tenants/{}/suspend", tenant.id);
    let resume = format!("/v1/tenants/{}/resume", tenant.id);
    let (suspending, resuming) = (keyed("stop"), keyed("go"));
    let state = async |client: &Client, path: &str| {
        let tenant = client.post(path, json!({})).await.expect(200);
        tenant["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&suspending, &suspend).await, "suspended");
    assert_eq!(state(&resuming, &resume).await, "active");
    assert_eq!(state(&suspending, &suspend).await, "active", "it was resumed since");
    assert_eq!(state(&app.operator, &suspend).await, "suspended");
    assert_eq!(state(&resuming, &resume).await, "suspended");
    suspending
        .post(&resume, json!({}))
        .await
        .refused(422, "idempotency-key-reused");
    for bad in [keyed(""), keyed(&"x".repeat(256))] {
        for path in [&members, &suspend, &resume] {
            let body = json!({ "email": "eve@example.com", "role": "viewer" });
            let body = if path == &members { body } else { json!({}) };
            bad.post(path, body).await.refused(422, "invalid-field");
        }
    }
    let twice = keyed("one").with_also("idempotency-key", "two");
    twice.post(&suspend, json!({})).await.refused(422, "invalid-field");
}

#[tokio::test]
async fn a_repeated_request_for_an_api_key_makes_one_and_shows_its_text_once() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let asking = tenant.client.with("idempotency-key", "billing");
    let billing = json!({ "name": "billing", "role": "viewer" });
    let (first, second) = tokio::join!(asking.post(&keys, billing.clone()), asking.post(&keys, billing.clone()));
    let (first, second) = (first.expect(201), second.expect(201));
    let third = asking.post(&keys, billing.clone()).await.expect(201);
    assert_eq!((&first["id"], &second["id"]), (&second["id"], &third["id"]));
    assert_ne!(first["key"].is_string(), second["key"].is_string(), "{first} {second}");
    assert!(third["key"].is_null(), "{third}");
    let text = [&first, &second]
        .iter()
        .find_map(|answer| answer["key"].as_str())
        .unwrap()
        .to_owned();
    app.anonymous.bearer(&text).get("/app/contacts").await.expect(200);
    let listed = tenant.client.get(&keys).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);

    // Another request, another caller.
    let other = json!({ "name": "billing", "role": "member" });
    asking.post(&keys, other).await.refused(422, "idempotency-key-reused");
    let operator = app.operator.with("idempotency-key", "billing");
    operator
        .post(&keys, billing.clone())
        .await
        .refused(409, "already-exists");
    for bad in ["", &"x".repeat(256)] {
        let bad = tenant.client.with("idempotency-key", bad);
        bad.post(&keys, billing.clone()).await.refused(422, "invalid-field");
    }
    // What was revoked since is not made again.
    let id = first["id"].as_str().unwrap();
    tenant.client.delete(&format!("{keys}/{id}")).await.expect(204);
    asking.post(&keys, billing).await.refused(404, "not-found");
}

#[tokio::test]
async fn tenants_are_listed_and_filtered() {
    let app = App::start().await;
    let slugs = async |query: &str| -> Vec<String> {
        let page = app.operator.get(&format!("/v1/tenants{query}")).await.expect(200);
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["slug"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut newest_first: Vec<_> = app.tenants.iter().map(|tenant| tenant.slug.clone()).collect();
    newest_first.reverse();
    assert_eq!(slugs("").await, newest_first);
    for tenant in &app.tenants {
        assert_eq!(
            slugs(&format!("?isolation={}", tenant.isolation)).await,
            std::slice::from_ref(&tenant.slug)
        );
        assert_eq!(
            slugs(&format!("?q={}&state=active", tenant.slug.to_uppercase())).await,
            std::slice::from_ref(&tenant.slug)
        );
    }
    assert!(slugs("?state=suspended").await.is_empty());
    let page = app.operator.get("/v1/tenants?limit=2").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        slugs(&format!("?limit=2&cursor={cursor}")).await,
        [newest_first[2].clone()]
    );
    for (query, pointer, code) in [
        ("colour=red", "/colour", "unknown-field"),
        ("state=happy", "/state", "invalid-field"),
        ("isolation=cloud", "/isolation", "invalid-field"),
        ("cursor=x", "/cursor", "invalid-field"),
        ("limit=0", "/limit", "invalid-field"),
    ] {
        let answer = app.operator.get(&format!("/v1/tenants?{query}")).await;
        assert_eq!(answer.refused_fields(422, code), [pointer]);
    }
}

#[tokio::test]
async fn a_tenant_is_changed_also_its_slug() {
    let app = App::start().await;
    let tenant = &app.tenants[0];
    let path = format!("/v1/tenants/{}", tenant.id);
    let change = json!({ "name": "Renamed", "slug": "renamed", "plan": "gold", "settings": { "a": 1 } });
    let changed = app.operator.patch(&path, change.clone()).await.expect(200);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(&changed[field], value);
    }
    app.operator.get("/v1/tenants/renamed").await.expect(200);
    app.operator
        .get(&format!("/v1/tenants/{}", tenant.slug))
        .await
        .refused(404, "not-found");
    app.operator
        .patch(&path, json!({ "slug": app.tenants[1].slug }))
        .await
        .refused(409, "tenant-slug-taken");
    let state = app
        .operator
        .patch(&path, json!({ "state": "suspended", "isolation": "schema" }))
        .await;
    assert_eq!(state.refused_fields(422, "unknown-field"), ["/isolation", "/state"]);
    tenant.client.get("/app/contacts").await.expect(200);
}

#[tokio::test]
async fn a_deleted_tenant_opens_nothing() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let path = format!("/v1/tenants/{}", tenant.id);
        let operation = app.operator.delete(&path).await.expect(202);
        assert!(operation["id"].is_string(), "{operation}");
        let seen = app
            .operator
            .get(&format!("/v1/operations/{}", operation["id"].as_str().unwrap()))
            .await
            .expect(200);
        assert_eq!(seen["id"], operation["id"]);
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 403)
            .await;
        tenant
            .client
            .get("/app/contacts")
            .await
            .refused(403, "tenant-suspended");
        assert_eq!(app.operator.get(&path).await.expect(200)["state"], "deleted");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let app = App::small().await;
    for path in [
        "/v1/tenants/no-such",
        "/v1/tenants/7",
        "/v1/operations/x",
        "/v1/nothing",
        "/app/nothing",
        "/app",
        "/v2",
    ] {
        app.operator.get(path).await.refused(404, "not-found");
    }
    let nobody = format!("/v1/tenants/{}", uuid::Uuid::now_v7());
    app.operator.get(&nobody).await.refused(404, "not-found");
    app.operator
        .patch(&nobody, json!({ "name": "x" }))
        .await
        .refused(404, "not-found");
    app.operator.delete(&nobody).await.refused(404, "not-found");
    app.operator
        .post(&format!("{nobody}/suspend"), json!({}))
        .await
        .refused(404, "not-found");
    app.operator
        .get(&format!("{nobody}/members"))
        .await
        .refused(404, "not-found");
    let new = json!({ "email": "a@example.com", "role": "viewer" });
    app.operator
        .post(&format!("{nobody}/members"), new)
        .await
        .refused(404, "not-found");
}

async fn owners(client: &Client, members: &str) -> usize {
    client.get(&format!("{members}?role=owner")).await.expect(200)["items"]
        .as_array()
        .unwrap()
        .len()
}

#[tokio::test]
async fn the_last_owner_stays_also_when_two_leave_at_once() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let first = format!("{members}/{}", tenant.account);
    tenant.client.delete(&first).await.refused(409, "last-owner");
    tenant
        .client
        .patch(&first, json!({ "role": "admin" }))
        .await
        .refused(409, "last-owner");

    // Whoever was only invited keeps no tenant.
    let invited = json!({ "email": "invited@example.com", "password": PASSWORD, "role": "owner" });
    let invited = app.operator.post(&members, invited).await.expect(201);
    assert_eq!(invited["status"], "invited");
    app.operator.delete(&first).await.refused(409, "last-owner");
    let invited = format!("{members}/{}", invited["account_id"].as_str().unwrap());
    app.operator.delete(&invited).await.expect(204);

    let second = app.member(tenant, "owner").await;
    let account = second.get("/v1/auth/me").await.expect(200)["account_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let demote = json!({ "role": "admin" });
    let path = format!("{members}/{account}");
    let (one, two) = tokio::join!(
        app.operator.patch(&first, demote.clone()),
        app.operator.patch(&path, demote)
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(owners(&app.operator, &members).await, 1);
}

#[tokio::test]
async fn members_and_keys_are_reached_by_the_tenants_slug_too() {
    let app = App::start().await;
    let (own, other) = (&app.tenants[0], &app.tenants[1]);
    let slug = &own.slug;
    for what in ["members", "api-keys"] {
        let (by_id, by_slug) = (
            format!("/v1/tenants/{}/{what}", own.id),
            format!("/v1/tenants/{slug}/{what}"),
        );
        for who in [&app.operator, &own.client] {
            assert_eq!(who.get(&by_slug).await.expect(200), who.get(&by_id).await.expect(200));
        }
        // Whoever is of another tenant does not learn that this one exists.
        other.client.get(&by_slug).await.refused(404, "not-found");
        app.operator
            .get(&format!("/v1/tenants/nobodys/{what}"))
            .await
            .refused(404, "not-found");
    }
    let new = json!({ "email": "bea@example.com", "password": PASSWORD, "role": "member" });
    let bea = own
        .client
        .post(&format!("/v1/tenants/{slug}/members"), new)
        .await
        .expect(201);
    let path = format!("/v1/tenants/{slug}/members/{}", bea["account_id"].as_str().unwrap());
    own.client.patch(&path, json!({ "role": "viewer" })).await.expect(200);
    other.client.delete(&path).await.refused(404, "not-found");
    own.client.delete(&path).await.expect(204);
    let key = own
        .client
        .post(
            &format!("/v1/tenants/{slug}/api-keys"),
            json!({ "name": "ci", "role": "viewer" }),
        )
        .await
        .expect(201);
    let path = format!("/v1/tenants/{slug}/api-keys/{}", key["id"].as_str().unwrap());
    own.client.delete(&path).await.expect(204);
}

#[tokio::test]
async fn members_are_added_listed_changed_and_removed() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let new = json!({ "email": "Bob@Example.com", "password": PASSWORD, "name": "Bob", "role": "member" });
    let bob = app.operator.post(&members, new.clone()).await.expect(201);
    assert_eq!(
        (&bob["email"], &bob["role"]),
        (&json!("bob@example.com"), &json!("member"))
    );
    app.operator.post(&members, new).await.refused(409, "already-member");
    let listed = tenant.client.get(&format!("{members}?q=bob")).await.expect(200);
    assert_eq!(listed["items"], json!([bob]));
    let path = format!("{members}/{}", bob["account_id"].as_str().unwrap());
    assert_eq!(
        tenant.client.patch(&path, json!({ "role": "admin" })).await.expect(200)["role"],
        "admin"
    );
    let page = tenant.client.get(&format!("{members}?limit=1")).await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = tenant
        .client
        .get(&format!("{members}?limit=1&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(
        (rest["items"][0]["account_id"].as_str(), &rest["next_cursor"]),
        (Some(tenant.account.as_str()), &Value::Null)
    );
    tenant.client.delete(&path).await.expect(204);
    tenant.client.delete(&path).await.refused(404, "not-found");
    for (body, pointers) in [
        (json!({}), vec!["/email", "/role"]),
        (json!({ "email": "x", "role": "king" }), vec!["/email", "/role"]),
        (
            json!({ "email": "a@example.com", "role": "viewer", "password": "short" }),
            vec!["/password"],
        ),
        (
            json!({ "email": "a@example.com", "role": "viewer", "password": "x".repeat(129) }),
            vec!["/password"],
        ),
    ] {
        assert_eq!(
            app.operator
                .post(&members, body)
                .await
                .refused_fields(422, "invalid-field"),
            pointers
        );
    }
}

#[tokio::test]
async fn health_tells_process_catalog_and_placements() {
    let app = App::small().await;
    assert_eq!(app.anonymous.get("/health/live").await.expect(200)["status"], "ok");
    assert_eq!(app.anonymous.get("/health/ready").await.expect(200)["status"], "ok");
    app.anonymous
        .get("/health/tenants")
        .await
        .refused(401, "unauthenticated");
    let health = app.operator.get("/health/tenants").await.expect(200);
    let items = health["items"].as_array().unwrap();
    assert!(
        !items.is_empty() && items.iter().all(|item| item["reachable"] == true),
        "{health}"
    );
    assert_eq!(
        (&health["status"], &health["tenants"], &health["tenants_reachable"]),
        (&"ok".into(), &1.into(), &1.into())
    );
}

#[tokio::test]
async fn health_looks_for_the_place_of_each_tenant() {
    let app = App::start().await;
    let of = |health: &Value, tenant: &Tenant| {
        let items = health["items"].as_array().unwrap();
        let schema = tenant.id.replace('-', "");
        let has = |item: &&Value| item["missing_schemas"].to_string().contains(&schema);
        items.iter().any(|item| has(&item))
    };
    let health = app.operator.get("/health/tenants").await.expect(200);
    assert_eq!(
        (&health["status"], &health["tenants"]),
        (&"ok".into(), &3.into()),
        "{health}"
    );
    assert_eq!(
        (&health["databases"], &health["databases_reachable"]),
        (&2.into(), &2.into()),
        "{health}"
    );
    let tenant = &app.tenants[1];
    let (admin, schema) = app.tables_of(tenant).await;
    admin
        .batch_execute(&format!("alter schema {schema} rename to gone_for_now"))
        .await
        .unwrap();
    let health = app.operator.get("/health/tenants").await.expect(200);
    admin
        .batch_execute(&format!("alter schema gone_for_now rename to {schema}"))
        .await
        .unwrap();
    assert!(health["status"] == "degraded" && of(&health, tenant), "{health}");
    // One that does not answer holds nobody up.
    app.tenant_server.stall();
    let asked = std::time::Instant::now();
    let health = app.operator.get("/health/tenants").await.expect(200);
    app.tenant_server.heal();
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    assert_eq!(
        (&health["status"], &health["tenants_reachable"]),
        (&"degraded".into(), &0.into()),
        "{health}"
    );
}

#[tokio::test]
async fn a_placement_that_stalls_is_told_in_time_beside_those_that_answer() {
    let app = App::start().await;
    let cluster = second_cluster().await;
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let through = (format!(":{}/", cluster.port()), format!(":{}/", proxy.port()));
    let second = ServerRequest {
        name: "second".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: cluster.admin_url("postgres").replace(&through.0, &through.1).into(),
    };
    app.ops.add_server(&Authority::system("test"), &second).await.unwrap();
    let there = json!({ "slug": "there", "name": "There", "isolation": "database", "server": "second" });
    app.operator.post("/v1/tenants", there).await.expect(201);
    let health = app.operator.get("/health/tenants").await.expect(200);
    assert_eq!(health["status"], "ok", "{health}");

    proxy.stall();
    let asked = std::time::Instant::now();
    let health = app.operator.get("/health/tenants").await.expect(200);
    let took = asked.elapsed();
    // So that the tenant can be served again, and its database be removed.
    proxy.heal();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(
        (&health["status"], &health["tenants"], &health["tenants_reachable"]),
        (&"degraded".into(), &4.into(), &3.into()),
        "{health}"
    );
    for item in health["items"].as_array().unwrap() {
        assert_eq!(item["reachable"], item["server"] != "second", "{health}");
    }
    // The others were looked at as if nothing were wrong.
    let others = app.tenants.iter().map(|tenant| tenant.client.get("/app/contacts"));
    for answer in futures_util::future::join_all(others).await {
        answer.expect(200);
    }
    let health = app.operator.get("/health/tenants").await.expect(200);
    assert_eq!(health["status"], "ok", "{health}");
}

#[tokio::test]
async fn metrics_have_bounded_labels() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    for n in 0..20 {
        app.anonymous
            .get(&format!("/nothing/{n}"))
            .await
            .refused(404, "not-found");
        tenant
            .client
            .get(&format!("/app/contacts/{}", uuid::Uuid::now_v7()))
            .await
            .refused(404, "not-found");
    }
    let metrics = app.anonymous.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.text.contains(r#"route="/app/contacts/{id}""#),
        "{}",
        metrics.text
    );
    assert!(metrics.text.contains(r#"route="unmatched""#));
    let series = r#"tenantry_http_requests_total{method="GET",route="/app/contacts/{id}",status="404"} "#;
    let counted: Vec<&str> = metrics
        .text
        .lines()
        .filter_map(|line| line.strip_prefix(series))
        .collect();
    assert!(
        matches!(counted[..], [count] if count.parse::<u32>().unwrap() >= 20),
        "{}",
        metrics.text
    );
    assert!(
        !metrics.text.contains(&tenant.id)
            && !metrics.text.contains(&tenant.slug)
            && !metrics.text.contains("/nothing/")
    );
}
