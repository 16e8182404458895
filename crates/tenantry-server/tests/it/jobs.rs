//! A tenant's jobs over HTTP: its own admins see what they are about, operators why they failed, of one tenant and of all.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{App, Client};

async fn listed(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

async fn begin_anew(client: &Client, path: &str, kind: &str) -> Value {
    client.post(path, json!({ "kind": kind })).await.expect(200)
}

#[tokio::test]
async fn dead_jobs_are_listed_begun_anew_and_taken_out_in_every_isolation() {
    let app = App::start().await;
    let mut jobs = Vec::new();
    for tenant in &app.tenants {
        let first = app.dead_job(tenant, "first").await;
        jobs.push((tenant, first, app.dead_job(tenant, "second").await));
    }
    for (tenant, first, second) in jobs {
        let path = format!("/v1/tenants/{}/jobs", tenant.id);
        let dead = format!("{path}?state=dead");
        let own = listed(&tenant.client, &dead).await;
        let of_operator = listed(&app.operator, &dead).await;
        for shown in [&own, &of_operator] {
            let ids: Vec<_> = shown.iter().map(|job| &job["id"]).collect();
            assert_eq!(ids, [&json!(first), &json!(second)], "{}", tenant.isolation);
            let job = &shown[0];
            assert_eq!(
                (&job["tenant_id"], &job["kind"], &job["state"], &job["error"]),
                (
                    &json!(tenant.id),
                    &json!("marked"),
                    &json!("dead"),
                    &json!("no luck with first")
                ),
                "{job}"
            );
        }
        assert_eq!(own[0]["payload"], r#"{"mark":"first"}"#);
        assert!(
            of_operator.iter().all(|job| job.get("payload").is_none()),
            "{of_operator:?}"
        );

        let page = app.operator.get(&format!("{path}?limit=1")).await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = format!("{path}?limit=1&cursor={cursor}");
        let rest = app.operator.get(&rest).await.expect(200);
        assert_eq!(
            (&page["items"][0]["id"], &rest["items"][0]["id"]),
            (&json!(first), &json!(second))
        );
        assert_eq!(rest["next_cursor"], Value::Null);

        let retry = format!("{path}/{first}/retry");
        let retry = async || tenant.client.send(Method::POST, &retry, None).await;
        retry().await.expect(204);
        assert_eq!(
            listed(&tenant.client, &format!("{path}?state=waiting")).await[0]["id"],
            first
        );
        // It waits by now, and does not begin anew once more.
        retry().await.refused(404, "not-found");
        let job = format!("{path}/{first}");
        tenant.client.delete(&job).await.expect(204);
        tenant.client.delete(&job).await.refused(404, "not-found");

        let retry = format!("{path}/retry");
        let none = begin_anew(&tenant.client, &retry, "other").await;
        assert_eq!(none, json!({ "jobs": 0, "unreachable": [] }));
        assert_eq!(begin_anew(&app.operator, &retry, "marked").await["jobs"], 1);
        assert_eq!(listed(&tenant.client, &dead).await, Vec::<Value>::new());

        for query in ["state=gone", "limit=0", "limit=201", "cursor=yesterday"] {
            let refused = tenant.client.get(&format!("{path}?{query}")).await;
            refused.refused(422, "invalid-field");
        }
    }
}

#[tokio::test]
async fn operators_see_the_dead_jobs_of_all_and_which_databases_do_not_answer() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.dead_job(tenant, "unlucky").await;
    }
    let path = "/v1/jobs?state=dead&kind=marked";
    let all = app.operator.get(path).await.expect(200);
    let of: BTreeSet<_> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["tenant_id"].as_str())
        .collect();
    let expected: BTreeSet<_> = app.tenants.iter().map(|tenant| Some(tenant.id.as_str())).collect();
    assert_eq!((of, &all["unreachable"]), (expected, &json!([])), "{all}");
    assert!(!all.to_string().contains("payload"), "{all}");

    app.tenant_server.cut();
    let away = app.operator.get(path).await.expect(200);
    let changed = begin_anew(&app.operator, "/v1/jobs/retry", "marked").await;
    app.tenant_server.heal();
    assert_eq!((&away["items"], &changed["jobs"]), (&json!([]), &json!(0)), "{away}");
    for answer in [&away, &changed] {
        assert_eq!(answer["unreachable"].as_array().map(Vec::len), Some(2), "{answer}");
    }

    // The second page goes on where the first one ended, from one database to the next.
    let first = app.operator.get(&format!("{path}&limit=2")).await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = app
        .operator
        .get(&format!("{path}&limit=2&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(second["next_cursor"], Value::Null);
    let pages = [&first, &second].map(|page| page["items"].as_array().unwrap().clone());
    assert_eq!(json!(pages.concat()), all["items"]);
    let wrong = app.operator.get("/v1/jobs?cursor=yesterday").await;
    wrong.refused(422, "invalid-field");
    let wrong = json!({ "cursor": "yesterday" });
    let wrong = app.operator.post("/v1/jobs/retry", wrong).await;
    wrong.refused(422, "invalid-field");

    let changed = begin_anew(&app.operator, "/v1/jobs/retry", "marked").await;
    assert_eq!(changed, json!({ "jobs": 3, "unreachable": [], "next_cursor": null }));
    assert_eq!(listed(&app.operator, path).await, Vec::<Value>::new());
    assert_eq!(listed(&app.operator, "/v1/jobs?state=waiting").await.len(), 3);
}

#[tokio::test]
async fn schedules_are_listed_and_removed_in_every_isolation() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let path = format!("/v1/tenants/{}/schedules", tenant.id);
        assert_eq!(listed(&app.operator, &path).await, Vec::<Value>::new());
        for name in ["a night", "b/day"] {
            app.schedule(tenant, name).await;
        }
        for client in [&tenant.client, &app.operator] {
            let schedules = listed(client, &path).await;
            let names: Vec<_> = schedules.iter().map(|schedule| &schedule["name"]).collect();
            assert_eq!(names, [&json!("a night"), &json!("b/day")], "{}", tenant.isolation);
            let first = &schedules[0];
            assert_eq!(
                (
                    &first["cron"],
                    &first["zone"],
                    &first["missed"],
                    &first["kind"],
                    &first["everyone"],
                    &first["broken"]
                ),
                (
                    &json!("0 3 * * *"),
                    &json!("UTC"),
                    &json!("once"),
                    &json!("nightly"),
                    &json!(false),
                    &Value::Null
                ),
                "{first}"
            );
            assert!(first.get("payload").is_none(), "{first}");
        }
        // A name is whatever its tenant chose.
        let day = format!("{path}/b%2Fday");
        app.operator.delete(&day).await.expect(204);
        app.operator.delete(&day).await.refused(404, "not-found");
        tenant
            .client
            .delete(&format!("{path}/a%00night"))
            .await
            .refused(404, "not-found");
        tenant.client.delete(&format!("{path}/a%20night")).await.expect(204);
        assert_eq!(listed(&tenant.client, &path).await, Vec::<Value>::new());
        let other = app.tenants.iter().find(|other| other.id != tenant.id).unwrap();
        other.client.get(&path).await.refused(404, "not-found");
    }
}
