//! What a plan gives, and what whoever asks for more is told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tenantry::axum::TenantLayer;
use tenantry_core::{JobState, PlanLimits};

use crate::harness::{Answer, App, Marked, PASSWORD};

fn rate(per_s: u32, burst: u32) -> PlanLimits {
    PlanLimits {
        requests_per_s: per_s.try_into().ok(),
        burst: burst.try_into().ok(),
        ..PlanLimits::default()
    }
}

/// How many of so many requests at once are let through.
async fn let_through(client: &crate::harness::Client, number: usize) -> usize {
    let asking = (0..number).map(|_| client.get("/app/contacts"));
    let answers = futures_util::future::join_all(asking).await;
    answers.iter().filter(|answer| answer.status == 200).count()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn requests_beyond_the_plans_rate_are_refused_with_when_to_come_again() {
    let app = App::start().await;
    let (one, other) = (&app.tenants[0].client, &app.tenants[1].client);
    let free = one.get("/app/contacts").await;
    assert!(
        header(&free, "ratelimit").is_empty(),
        "nothing is said where nothing is limited"
    );
    app.limit_plan(&rate(1, 5)).await;
    let first = one.get("/app/contacts").await;
    assert_eq!(header(&first, "ratelimit-policy"), r#""requests";q=5;w=5"#);
    assert_eq!(header(&first, "ratelimit"), r#""requests";r=4;t=1"#);
    first.expect(200);
    assert!((4..=5).contains(&let_through(one, 20).await), "the burst");
    let refused = one.get("/app/contacts").await;
    assert!(
        header(&refused, "ratelimit").starts_with(r#""requests";r=0;t="#),
        "{:?}",
        refused.headers
    );
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    let problem = refused.refused(429, "rate-limited");
    assert_eq!(
        (&problem["limit"]["name"], &problem["limit"]["quota"]),
        (&json!("requests"), &json!(5)),
        "{problem}"
    );
    assert!(
        problem["limit"]["reset_s"]
            .as_u64()
            .is_some_and(|reset| (4..=6).contains(&reset)),
        "{problem}"
    );
    // It is each tenant's own, and comes back.
    other.get("/app/contacts").await.expect(200);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    one.get("/app/contacts").await.expect(200);
    // The control plane is not the tenant's application: its admins can still see what is used.
    let usage = format!("/v1/tenants/{}/usage", app.tenants[0].id);
    one.get(&usage).await.expect(200);
}

#[tokio::test]
async fn processes_divide_what_a_plan_gives() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.pool.share_lease = Duration::from_secs(2);
    })
    .await;
    app.limit_plan(&rate(1, 12)).await;
    let client = &app.tenants[0].client;
    assert!((12..=13).contains(&let_through(client, 30).await));
    // Another one comes, and serves tenants too.
    let second = app.another_process();
    drop(TenantLayer::new(second.clone()));
    let tenant = app.tenants[0].id.parse().unwrap();
    let scope = second.system_context(tenant, "another process").await.unwrap();
    let policy = |answer: &Answer| header(answer, "ratelimit").to_owned();
    let served = async || scope.query("select 1 as one", &[]).await.is_ok();
    app.within_seconds(10, served).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Half of twelve at once, and one every other second; what was used before is paid by then.
    app.limit_plan(&rate(1000, 12)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What was owed at the smaller rate is owed once more, at the larger one's price.
    client.get("/app/contacts").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = client.get("/app/contacts").await;
    assert!(policy(&answer).contains(";r=5;"), "{:?}", answer.headers);
    // It goes, and the first has all of it again.
    drop(scope);
    second.close().await;
    drop(second);
    let whole = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        policy(&client.get("/app/contacts").await).contains(";r=11;")
    };
    app.within_seconds(15, whole).await;
}

#[tokio::test]
async fn a_process_that_serves_no_requests_takes_nothing_from_those_that_do() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.pool.share_lease = Duration::from_secs(2);
    })
    .await;
    app.limit_plan(&rate(1000, 12)).await;
    let client = &app.tenants[0].client;
    let left = async || {
        // Until what was used is paid.
        tokio::time::sleep(Duration::from_millis(50)).await;
        header(&client.get("/app/contacts").await, "ratelimit").to_owned()
    };
    let worker = app.another_process();
    let tenant = app.tenants[0].id.parse().unwrap();
    let scope = worker.system_context(tenant, "works on jobs").await.unwrap();
    app.within_seconds(10, async || scope.query("select 1 as one", &[]).await.is_ok())
        .await;
    // It has a lease by now, of which the others have heard by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let alone = left().await;
    assert!(alone.contains(";r=11;"), "{alone}");
    // It serves too, from now on.
    drop(TenantLayer::new(worker.clone()));
    app.within_seconds(3, async || left().await.contains(";r=5;")).await;
    drop(scope);
    worker.close().await;
}

#[tokio::test]
async fn a_statement_may_take_as_long_as_the_plan_gives_and_others_as_ever() {
    let app = App::start_with(|options| options.isolations = &["shared"]).await;
    let tenant = app.tenants[0].id.parse().unwrap();
    let scope = app.tenantry.system_context(tenant, "test").await.unwrap();
    // A statement that takes long without sleeping.
    let slow = "select count(*) from generate_series(1, 30000000)";
    scope.query("select 1 as one", &[]).await.unwrap();
    let limits = PlanLimits {
        statement_ms: 200.try_into().ok(),
        ..PlanLimits::default()
    };
    app.limit_plan(&limits).await;
    let begun = Instant::now();
    let error = scope.query(slow, &[]).await.expect_err("it takes too long");
    assert_eq!(error.kind(), tenantry::ErrorKind::Timeout);
    assert!(error.to_string().contains("200 ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut transaction = scope.begin().await.unwrap();
    let in_transaction = transaction.query(slow, &[]).await.expect_err("it takes too long");
    assert_eq!(in_transaction.kind(), tenantry::ErrorKind::Timeout);
    let streamed = async {
        let mut rows = scope.query_stream(slow, &[]).await?;
        rows.next().await
    };
    let in_stream = streamed.await.expect_err("it takes too long");
    assert_eq!(in_stream.kind(), tenantry::ErrorKind::Timeout);
    app.limit_plan(&PlanLimits::default()).await;
    scope
        .query("select count(*) from generate_series(1, 3000000)", &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_tenant_has_no_more_calls_at_a_time_than_its_plan_gives() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        // Long enough for a connection to open on a busy machine, short enough to wait for in vain.
        options.pool.wait_timeout = Duration::from_secs(3);
    })
    .await;
    let tenant = app.tenants[0].id.parse().unwrap();
    let scope = app.tenantry.system_context(tenant, "test").await.unwrap();
    let limits = PlanLimits {
        concurrent: 2.try_into().ok(),
        ..PlanLimits::default()
    };
    app.limit_plan(&limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut transaction = scope.begin().await.unwrap();
        transaction.query("select 1 as one", &[]).await.unwrap();
        held.push(transaction);
    }
    let error = scope.query("select 1 as one", &[]).await.expect_err("both are in use");
    assert_eq!(error.kind(), tenantry::ErrorKind::TenantBusy);
    app.tenants[0]
        .client
        .get("/app/contacts")
        .await
        .refused(429, "rate-limited");
    held.pop().unwrap().rollback().await.unwrap();
    scope.query("select 1 as one", &[]).await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_has_as_much_as_its_plan_gives_adds_nothing_and_may_make_room() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.limit_plan(&PlanLimits::default()).await;
        let mut made = Vec::new();
        for n in 0..5 {
            let contact = tenant
                .client
                .post("/app/contacts", json!({ "name": format!("c{n}") }))
                .await
                .expect(201);
            made.push(contact["id"].as_str().unwrap().to_owned());
        }
        let (admin, schema) = app.tables_of(tenant).await;
        let analyze = format!("analyze {schema}.contacts");
        admin.batch_execute(&analyze).await.unwrap();
        let limits = PlanLimits {
            rows: BTreeMap::from([("contacts".to_owned(), 5)]),
            ..PlanLimits::default()
        };
        app.limit_plan(&limits).await;
        assert!(app.measure().await > 0);
        let refused = tenant.client.post("/app/contacts", json!({ "name": "one more" })).await;
        let problem = refused.refused(402, "plan-limit-reached");
        assert_eq!(
            problem["limit"],
            json!({ "name": "rows.contacts", "quota": 5, "used": 5, "reset_s": null }),
            "{problem}"
        );
        // Reading and removing go on.
        tenant.client.get("/app/contacts").await.expect(200);
        let usage = tenant
            .client
            .get(&format!("/v1/tenants/{}/usage", tenant.id))
            .await
            .expect(200);
        assert_eq!(
            usage["exceeded"],
            json!([{ "limit": "rows.contacts", "quota": 5, "used": 5 }]),
            "{usage}"
        );
        assert_eq!(usage["days"][0]["rows"]["contacts"], 5, "{usage}");
        for id in &made[..3] {
            tenant.client.delete(&format!("/app/contacts/{id}")).await.expect(204);
        }
        // As the autovacuum does after a while.
        admin
            .batch_execute(&format!("vacuum analyze {schema}.contacts"))
            .await
            .unwrap();
        assert!(app.measure().await > 0);
        tenant
            .client
            .post("/app/contacts", json!({ "name": "again" }))
            .await
            .expect(201);
    }
}

#[tokio::test]
async fn a_tenant_with_as_many_bytes_as_its_plan_gives_adds_nothing_and_sees_what_it_has() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.limit_plan(&PlanLimits::default()).await;
        let add = async || tenant.client.post("/app/contacts", json!({ "name": "one" })).await;
        add().await.expect(201);
        let (admin, schema) = app.tables_of(tenant).await;
        admin
            .batch_execute(&format!("analyze {schema}.contacts"))
            .await
            .unwrap();
        let path = format!("/v1/tenants/{}/usage", tenant.id);
        let measure = async |name: &str| -> Value {
            let usage = tenant.client.get(&path).await.expect(200);
            let measures = usage["measures"].as_array().unwrap();
            let found = measures.iter().find(|measure| measure["name"] == name);
            found
                .unwrap_or_else(|| panic!("nothing is said of {name}: {usage}"))
                .clone()
        };
        // Nothing is limited, and everything is told.
        for (name, used) in [("members", 1), ("jobs", 0), ("files_bytes", 0), ("rows.contacts", 1)] {
            let expected = json!({ "name": name, "used": used, "limit": null });
            assert_eq!(measure(name).await, expected, "{}", tenant.isolation);
        }
        let storage = measure("storage_bytes").await;
        assert!(
            storage["used"].as_u64() > Some(1000) && storage["limit"].is_null(),
            "{storage}"
        );

        let limits = PlanLimits {
            storage_bytes: 1000.try_into().ok(),
            ..PlanLimits::default()
        };
        app.limit_plan(&limits).await;
        // A request brings the tenant among those that are measured.
        tenant.client.get("/app/contacts").await.expect(200);
        assert!(app.measure().await > 0);
        let problem = add().await.refused(402, "plan-limit-reached");
        let hit = &problem["limit"];
        assert_eq!(
            (&hit["name"], &hit["quota"]),
            (&json!("storage_bytes"), &json!(1000)),
            "{problem}"
        );
        assert!(hit["used"].as_u64() > Some(1000), "{problem}");
        assert_eq!(measure("storage_bytes").await["limit"], 1000);
        let usage = tenant.client.get(&path).await.expect(200);
        assert_eq!(usage["days"][0]["bytes"], hit["used"], "{usage}");
        let more = PlanLimits {
            storage_bytes: 1_000_000_000_000.try_into().ok(),
            ..PlanLimits::default()
        };
        app.limit_plan(&more).await;
        app.within_a_second(async || add().await.status == 201).await;
    }
}

#[tokio::test]
async fn usage_is_told_while_the_tenants_server_is_away() {
    let app = App::small().await;
    let path = format!("/v1/tenants/{}/usage", app.tenants[0].id);
    app.tenant_server.cut();
    let usage = app.operator.get(&path).await.expect(200);
    app.tenant_server.heal();
    let measures = usage["measures"].as_array().unwrap();
    let of = |name: &str| measures.iter().find(|measure| measure["name"] == name).unwrap();
    assert_eq!(
        (&of("members")["used"], &of("storage_bytes")["used"]),
        (&json!(1), &Value::Null),
        "{usage}"
    );
}

#[tokio::test]
async fn a_tenant_whose_plan_no_longer_limits_what_it_has_too_much_of_opens_within_a_second() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let path = format!("/v1/tenants/{}", tenant.id);
    let of_rows = |quota: u64| PlanLimits {
        rows: BTreeMap::from([("contacts".to_owned(), quota)]),
        ..PlanLimits::default()
    };
    let add = async || tenant.client.post("/app/contacts", json!({ "name": "more" })).await;
    let opens = async || add().await.status == 201;
    add().await.expect(201);
    add().await.expect(201);
    let (admin, schema) = app.tables_of(tenant).await;
    admin
        .batch_execute(&format!("analyze {schema}.contacts"))
        .await
        .unwrap();
    let fill = async || {
        app.limit_plan(&of_rows(2)).await;
        assert!(app.measure().await > 0);
        add().await.refused(402, "plan-limit-reached");
    };

    // Another plan, which limits something else.
    fill().await;
    let gold = json!({ "requests_per_s": 1000 }).to_string();
    let set = app.operator.send(Method::PUT, "/v1/plans/gold", Some(gold)).await;
    set.expect(200);
    app.operator.patch(&path, json!({ "plan": "gold" })).await.expect(200);
    app.within_a_second(&opens).await;
    let usage = app.operator.get(&format!("{path}/usage")).await.expect(200);
    assert_eq!(usage["exceeded"], json!([]), "{usage}");
    app.operator.patch(&path, json!({ "plan": "free" })).await.expect(200);

    // The same plan, which gives less: it is too much still, of what is given now.
    fill().await;
    app.limit_plan(&of_rows(1)).await;
    let problem = add().await.refused(402, "plan-limit-reached");
    assert_eq!(problem["limit"]["quota"], 1, "{problem}");
    // Which gives more.
    let more = json!({ "rows": { "contacts": 1000 } }).to_string();
    let set = app.operator.send(Method::PUT, "/v1/plans/free", Some(more)).await;
    set.expect(200);
    app.within_a_second(&opens).await;

    // Of which nothing is said any more.
    fill().await;
    app.operator.delete("/v1/plans/free").await.expect(204);
    app.within_a_second(&opens).await;

    // What an older program left over is gone with the next measuring.
    fill().await;
    app.in_catalog("delete from plan_limit").await;
    app.measure().await;
    app.within_a_second(&opens).await;
}

#[tokio::test]
async fn a_tenant_with_as_many_jobs_as_its_plan_gives_enqueues_none_and_works_on() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.limit_plan(&PlanLimits::default()).await;
        let job = app.dead_job(tenant, "stays").await;
        let limits = PlanLimits {
            jobs: 1.try_into().ok(),
            ..PlanLimits::default()
        };
        app.limit_plan(&limits).await;
        // A request brings the tenant among those that are measured.
        tenant.client.get("/app/contacts").await.expect(200);
        assert!(app.measure().await > 0);
        let id = tenant.id.parse().unwrap();
        let scope = app.tenantry.system_context(id, "test").await.unwrap();
        let more = Marked {
            mark: "more".to_owned(),
        };
        let by_itself = scope.enqueue(&more).await.unwrap_err();
        let within: Result<(), tenantry::Error> = scope.transaction(async |tx| tx.enqueue(&more).await.map(drop)).await;
        for error in [by_itself, within.unwrap_err()] {
            assert_eq!(error.kind(), tenantry::ErrorKind::PlanLimit);
            assert_eq!(
                error
                    .limit()
                    .map(|limit| (limit.limit.as_str(), limit.quota, limit.used)),
                Some(("jobs", 1, 1))
            );
            assert!(error.to_string().contains("the tenant has 1 of the 1 jobs"), "{error}");
        }
        assert_eq!(scope.jobs(&JobState::ALL, None, 10).await.unwrap().len(), 1);
        // Rows are another matter.
        tenant
            .client
            .post("/app/contacts", json!({ "name": "works on" }))
            .await
            .expect(201);
        let path = format!("/v1/tenants/{}", tenant.id);
        let usage = tenant.client.get(&format!("{path}/usage")).await.expect(200);
        assert_eq!(
            usage["exceeded"],
            json!([{ "limit": "jobs", "quota": 1, "used": 1 }]),
            "{usage}"
        );
        tenant.client.delete(&format!("{path}/jobs/{job}")).await.expect(204);
        assert!(app.measure().await > 0);
        scope.enqueue(&more).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_members_than_the_plan_gives_come_in_at_once_either() {
    let app = App::small().await;
    let limits = PlanLimits {
        members: 3.try_into().ok(),
        ..PlanLimits::default()
    };
    app.limit_plan(&limits).await;
    let members = format!("/v1/tenants/{}/members", app.tenants[0].id);
    let adding = (0..6).map(|n| {
        let body = json!({ "email": format!("m{n}@example.net"), "password": PASSWORD, "role": "member" });
        app.tenants[0].client.post(&members, body)
    });
    let answers = futures_util::future::join_all(adding).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 201).count(),
        2,
        "{answers:?}"
    );
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        let problem = answer.refused(402, "plan-limit-reached");
        assert_eq!(
            problem["limit"],
            json!({ "name": "members", "quota": 3, "used": 3, "reset_s": null })
        );
    }
    // Another tenant's admins learn nothing, and its own see what is used.
    let usage = app.tenants[0]
        .client
        .get(&format!("/v1/tenants/{}/usage", app.tenants[0].id))
        .await
        .expect(200);
    assert_eq!(
        (&usage["members"], &usage["limits"]["members"]),
        (&json!(3), &json!(3)),
        "{usage}"
    );
}

#[tokio::test]
async fn what_is_used_is_counted_by_the_day_once_and_by_tenant() {
    let app = App::start_with(|options| options.isolations = &["shared", "schema"]).await;
    for _ in 0..7 {
        app.tenants[0].client.get("/app/contacts").await.expect(200);
    }
    app.tenants[0].client.get("/app/contacts/nonsense").await;
    app.tenants[1].client.get("/app/contacts").await.expect(200);
    // Given up at whatever moment, nothing is lost.
    for us in [0, 50, 200, 500] {
        let _ = tokio::time::timeout(Duration::from_micros(us), app.tenantry.flush_usage()).await;
    }
    app.tenantry.flush_usage().await.unwrap();
    app.tenantry.flush_usage().await.unwrap();
    let days = async |n: usize| {
        let path = format!("/v1/tenants/{}/usage?days=1", app.tenants[n].id);
        app.operator.get(&path).await.expect(200)["days"].clone()
    };
    let day = days(0).await;
    let requests = day[0]["requests"].as_i64().unwrap();
    // What was being written when it was given up may have been written all the same.
    assert!(requests >= 8 && requests % 8 == 0, "{day}");
    assert_eq!((&day[0]["limited"], &day[0]["failed"]), (&json!(0), &json!(0)), "{day}");
    // A catalog that is away loses nothing either.
    app.catalog_server.cut();
    assert!(app.tenantry.flush_usage().await.is_ok(), "nothing to write");
    app.catalog_server.heal();
    let path = format!("/v1/tenants/{}/usage", app.tenants[0].id);
    app.operator
        .get(&format!("{path}?days=0"))
        .await
        .refused(422, "invalid-field");
    app.tenants[1].client.get(&path).await.refused(404, "not-found");
}

#[tokio::test]
async fn what_was_refused_and_what_failed_is_counted_by_the_day_too() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    app.limit_plan(&rate(1, 2)).await;
    let asked = 6;
    let served = let_through(&tenant.client, asked).await;
    assert!(served < asked, "nothing was refused");
    app.limit_plan(&PlanLimits::default()).await;
    app.tenant_server.cut();
    tenant.client.get("/app/contacts").await.refused(503, "unavailable");
    app.tenant_server.heal();
    app.tenantry.flush_usage().await.unwrap();
    let path = format!("/v1/tenants/{}/usage?days=1", tenant.id);
    let day = app.operator.get(&path).await.expect(200)["days"][0].clone();
    assert_eq!(
        (&day["requests"], &day["limited"], &day["failed"]),
        (&json!(asked + 1), &json!(asked - served), &json!(1)),
        "{day}"
    );
    assert!(day["busy_ms"].as_u64() > Some(0), "{day}");
}

#[tokio::test]
async fn plans_are_set_listed_and_removed() {
    let app = App::small().await;
    let limits =
        json!({ "requests_per_s": 5, "members": 3, "storage_bytes": 10_000_000_000_u64, "rows": { "contacts": 100 } });
    let put = async |plan: &str, limits: Value| {
        let path = format!("/v1/plans/{plan}");
        app.operator.send(Method::PUT, &path, Some(limits.to_string())).await
    };
    let set = put("gold", limits).await.expect(200);
    assert_eq!(
        (&set["plan"], &set["limits"]["burst"]),
        (&json!("gold"), &json!(5)),
        "{set}"
    );
    put("silver", json!({ "members": 1 })).await.expect(200);
    let listed = app.operator.get("/v1/plans").await.expect(200);
    let names: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["plan"])
        .collect();
    assert_eq!(names, ["gold", "silver"]);
    assert_eq!(listed["items"][0], set);
    // A limit that is not named is one no more.
    let set = put("gold", json!({ "jobs": 7 })).await.expect(200);
    assert_eq!(
        (&set["limits"]["jobs"], &set["limits"]["members"]),
        (&json!(7), &Value::Null)
    );
    // They count: the tenant is of the plan, and has one member already.
    let tenant = &app.tenants[0];
    let path = format!("/v1/tenants/{}", tenant.id);
    app.operator.patch(&path, json!({ "plan": "silver" })).await.expect(200);
    let member = json!({ "email": "two@example.net", "role": "viewer" });
    let refused = app.operator.post(&format!("{path}/members"), member.clone()).await;
    refused.refused(402, "plan-limit-reached");
    app.operator.delete("/v1/plans/silver").await.expect(204);
    app.operator.delete("/v1/plans/silver").await.refused(404, "not-found");
    app.operator.post(&format!("{path}/members"), member).await.expect(201);
    for (limits, pointer) in [
        (json!({ "burst": 3 }), "/burst"),
        (json!({ "members": 0 }), "/members"),
        (json!({ "jobs": -1 }), "/jobs"),
        (json!({ "concurrent": 1.5 }), "/concurrent"),
        (json!({ "statement_ms": 5_000_000_000_u64 }), "/statement_ms"),
        (json!({ "rows": { "contacts": -1 } }), "/rows/contacts"),
        (json!({ "rows": { "": 1 } }), "/rows/"),
        (json!({ "rows": ["contacts"] }), "/rows"),
    ] {
        let refused = put("gold", limits).await;
        assert_eq!(refused.refused_fields(422, "invalid-field"), [pointer]);
    }
    let refused = put(&"x".repeat(300), json!({})).await;
    assert_eq!(refused.refused_fields(422, "invalid-field"), ["/plan"]);
    let listed = app.operator.get("/v1/plans").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
}
