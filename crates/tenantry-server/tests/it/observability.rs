//! What can be seen of the server from outside: log lines, traces, metrics, sizes.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::{Value, json};
use tenantry_ops::{Authority, TenantRef};

use crate::harness::{App, Log, Marked};

#[tokio::test]
async fn a_line_of_a_requests_work_says_whose_it_is_and_where() {
    let log = Log::listen();
    // Each statement is a slow one, so that the pool says something in the middle of the work.
    let app = App::start_with(|options| options.pool.slow_statement = Duration::ZERO).await;
    for tenant in &app.tenants {
        let id = format!("whose-{}", tenant.slug);
        let client = tenant.client.with("x-request-id", &id);
        client
            .post("/app/contacts", json!({ "name": "canary-of-a-row" }))
            .await
            .expect(201);
        let lines = log.of_request(&id);
        let told: Vec<&Value> = lines
            .iter()
            .filter(|line| {
                ["a slow statement", "request answered"].contains(&line["fields"]["message"].as_str().unwrap_or(""))
            })
            .collect();
        assert!(told.len() >= 2, "{lines:?}");
        for line in told {
            let span = &line["span"];
            assert_eq!(
                (&span["tenant.id"], &span["account.id"]),
                (&json!(tenant.id), &json!(tenant.account)),
                "{line}"
            );
            assert_eq!(span["isolation"], tenant.isolation, "{line}");
            let (_, schema) = app.tables_of(tenant).await;
            let place = span["placement"].as_str().unwrap();
            assert!(place.contains(&format!("/{schema}@1")), "{line}");
            assert!(
                span["trace.id"].as_str().is_some_and(|trace| trace.len() == 32),
                "{line}"
            );
        }
        let slow = lines
            .iter()
            .find(|line| line["fields"]["message"] == "a slow statement")
            .unwrap();
        let statement = slow["fields"]["statement"].as_str().unwrap();
        assert!(
            statement.contains("insert into contacts") && statement.contains("$1"),
            "{slow}"
        );
        assert_eq!(slow["fields"]["tenant.id"], json!(tenant.id));
        assert!(
            !lines.iter().any(|line| line.to_string().contains("canary-of-a-row")),
            "{lines:?}"
        );
    }
    // Of an operator's request it says which tenant it is about, and of one with a key which key it is.
    let tenant = &app.tenants[0];
    let operator = app.operator.with("x-request-id", "by-operator");
    operator
        .get(&format!("/v1/tenants/{}/members", tenant.slug))
        .await
        .expect(200);
    let lines = log.of_request("by-operator");
    let answered = lines
        .iter()
        .find(|line| line["fields"]["message"] == "request answered")
        .unwrap();
    assert_eq!(answered["span"]["tenant.id"], json!(tenant.id));
    assert!(answered["span"]["operator.id"].is_string(), "{answered}");
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let made = app
        .operator
        .post(&keys, json!({ "name": "k", "role": "viewer" }))
        .await
        .expect(201);
    let by_key = app
        .anonymous
        .bearer(made["key"].as_str().unwrap())
        .with("x-request-id", "by-key");
    by_key.get("/app/contacts").await.expect(200);
    let lines = log.of_request("by-key");
    let answered = lines
        .iter()
        .find(|line| line["fields"]["message"] == "request answered")
        .unwrap();
    assert_eq!(answered["span"]["api_key.id"], made["id"]);
}

#[tokio::test]
async fn a_callers_trace_is_gone_on_with_and_the_answer_names_it() {
    let log = Log::listen();
    let app = App::small().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let client = app
        .anonymous
        .with("x-request-id", "traced")
        .with("traceparent", &parent);
    let answer = client.get("/v1/tenants").await;
    let told = answer.headers["traceresponse"].to_str().unwrap();
    assert!(
        told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01"),
        "{told}"
    );
    assert!(!told.contains("00f067aa0ba902b7"), "the part of the trace is ours");
    assert_eq!(log.of_request("traced")[0]["span"]["trace.id"], trace);
    // What is not of the form, or is there twice, begins a new trace and refuses nobody.
    for bad in ["nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let answer = app.anonymous.with("traceparent", bad).get("/health/live").await;
        assert_eq!(answer.status, 200);
        let told = answer.headers["traceresponse"].to_str().unwrap();
        assert!(
            told.len() == 55 && !told.contains(trace) && !told.contains("-00000000000000000000000000000000-"),
            "{told}"
        );
    }
    let twice = client.with_also("traceparent", &parent).get("/health/live").await;
    assert!(!twice.headers["traceresponse"].to_str().unwrap().contains(trace));
}

/// Names of the metrics that are exported, with the suffixes of a histogram's series.
fn exported(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}")));
        }
    }
    names
}

/// Words that could be names of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tenantry_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn what_becomes_of_jobs_is_counted() {
    let app = App::small().await;
    let failed = async || {
        let text = app.anonymous.get("/metrics").await.text;
        let line = text
            .lines()
            .find(|line| line.starts_with(r#"tenantry_jobs_total{outcome="failed"}"#));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = failed().await;
    app.dead_job(&app.tenants[0], "unlucky").await;
    assert!(failed().await > before);
}

#[tokio::test]
async fn how_long_jobs_take_is_a_histogram_of_few_series() {
    let app = App::small().await;
    let series = async || -> Vec<(String, f64)> {
        let text = app.anonymous.get("/metrics").await.text;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("tenantry_job_duration_seconds_"));
        let split = lines.map(|line| line.rsplit_once(' ').unwrap());
        split
            .map(|(name, figure)| (name.to_owned(), figure.parse().unwrap()))
            .collect()
    };
    let figure = |series: &[(String, f64)], end: &str| -> f64 {
        let name = format!("tenantry_job_duration_seconds_{end}");
        let found = series.iter().find(|(found, _)| *found == name);
        found.unwrap_or_else(|| panic!("{name}: {series:?}")).1
    };
    let before = series().await;
    app.dead_job(&app.tenants[0], "unlucky").await;
    let after = series().await;
    let (count, sum) = (r#"count{outcome="failed"}"#, r#"sum{outcome="failed"}"#);
    assert!(figure(&after, count) > figure(&before, count), "{after:?}");
    assert!(figure(&after, sum) > figure(&before, sum), "{after:?}");
    for outcome in ["done", "failed", "given_back", "lost"] {
        let bucket = format!("tenantry_job_duration_seconds_bucket{{outcome=\"{outcome}\",");
        let buckets: Vec<f64> = after
            .iter()
            .filter(|(name, _)| name.starts_with(&bucket))
            .map(|(_, figure)| *figure)
            .collect();
        assert!(buckets.len() > 10 && buckets.is_sorted(), "{outcome}: {after:?}");
        let all = figure(&after, &format!("bucket{{outcome=\"{outcome}\",le=\"+Inf\"}}"));
        assert_eq!(all, figure(&after, &format!("count{{outcome=\"{outcome}\"}}")));
    }
    // Nothing of it is a tenant's, a kind's or a job's.
    assert_eq!(after.len(), before.len());
    assert!(after.len() < 100, "{after:?}");
}

#[tokio::test]
async fn jobs_that_wait_and_are_dead_are_counted_over_the_fleet_whoever_works_on_them() {
    let app = App::start().await;
    for tenant in &app.tenants {
        app.dead_job(tenant, "unlucky").await;
    }
    for tenant in &app.tenants {
        let scope = app.tenantry.system_context(tenant.id.parse().unwrap(), "test").await;
        let waits = Marked {
            mark: "waits".to_owned(),
        };
        scope.unwrap().enqueue(&waits).await.unwrap();
    }
    // What nobody may take waits for no worker; what is dead there has to be looked at all the same.
    let suspended = TenantRef::Id(app.tenants[2].id.parse().unwrap());
    let system = Authority::system("test");
    app.ops.suspend_tenant(&system, &suspended).await.unwrap();
    assert!(app.ops.count_job_backlog().await.unwrap() >= 2);
    let text = app.anonymous.get("/metrics").await.text;
    let figure = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    assert_eq!(
        (figure("tenantry_jobs_waiting"), figure("tenantry_jobs_dead")),
        (2.0, 3.0)
    );
    let oldest = figure("tenantry_jobs_oldest_waiting_seconds");
    assert!(oldest > 0.0 && oldest < 60.0, "{oldest}");
    // Another process that comes round asks nobody again.
    assert_eq!(app.ops.count_job_backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn dashboard_alerts_and_documentation_name_metrics_that_are_exported() {
    let app = App::small().await;
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    let exported = exported(&app.operator.get("/metrics").await.text);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    for file in ["ops/grafana-dashboard.json", "ops/prometheus-alerts.yaml"] {
        let named = named(&read(file));
        assert!(named.len() > 5, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} are not exported: {exported:?}");
    }
    // What is exported is explained.
    let explained = named(&read("docs/observability.md"));
    let series: BTreeSet<_> = exported
        .iter()
        .filter(|name| {
            name.starts_with("tenantry_") && !["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
        })
        .cloned()
        .collect();
    let rows: String = read("docs/observability.md")
        .lines()
        .filter(|line| line.starts_with("| `tenantry_"))
        .map(|line| format!("{line}\n"))
        .collect();
    let gone: Vec<_> = named(&rows).difference(&exported).cloned().collect();
    assert!(
        gone.is_empty(),
        "docs/observability.md explains {gone:?}, which are not exported"
    );
    let missing: Vec<_> = series.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/observability.md says nothing of {missing:?}");
    let dashboard: Value = serde_json::from_str(&read("ops/grafana-dashboard.json")).unwrap();
    for shown in [
        "tenantry_job_duration_seconds_bucket",
        "tenantry_http_request_duration_seconds_bucket",
    ] {
        assert!(named(&dashboard.to_string()).contains(shown), "no panel shows {shown}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 12 && panels.iter().all(|panel| panel["title"].is_string()));
}

#[tokio::test]
async fn which_tenants_are_busiest_is_shown_to_operators_and_bounded() {
    let app = App::start().await;
    for (n, tenant) in app.tenants.iter().enumerate() {
        for _ in 0..=n {
            tenant.client.get("/app/contacts").await.expect(200);
        }
    }
    let public = app.anonymous.get("/metrics").await.text;
    let members = app.tenants[0].client.get("/metrics").await.text;
    for tenant in &app.tenants {
        assert!(!public.contains(&tenant.id) && !public.contains(&tenant.slug) && !members.contains(&tenant.id));
    }
    app.anonymous
        .bearer("nonsense")
        .get("/metrics")
        .await
        .refused(401, "bad-token");
    let shown = app.operator.get("/metrics").await.text;
    let figure = |tenant: &str| -> f64 {
        let series = format!("tenantry_tenant_requests_per_second{{tenant=\"{tenant}\"}} ");
        let line = shown.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("{tenant}: {shown}")).parse().unwrap()
    };
    let figures: Vec<f64> = app.tenants.iter().map(|tenant| figure(&tenant.id)).collect();
    assert!(
        figures[0] > 0.0 && (figures[2] / figures[0] - 3.0).abs() < 0.01,
        "{figures:?}"
    );
    assert_eq!(figure("other"), 0.0);
    // What the fleet has is counted, and names nobody.
    for line in [
        "tenantry_tenants{state=\"active\"} 3",
        "tenantry_migration_behind 0",
        "tenantry_catalog_current 1",
        "tenantry_draining 0",
    ] {
        assert!(public.lines().any(|shown| shown == line), "{line}: {public}");
    }
}

#[tokio::test]
async fn a_tenants_size_is_told_by_statistics_in_each_isolation() {
    let app = App::start().await;
    for tenant in &app.tenants {
        // Another tenant in the same tables, with three times as many rows.
        let neighbour = (tenant.isolation == "shared").then(|| {
            json!({ "slug": "neighbour", "name": "N", "isolation": "shared", "admin": { "email": "n@n.example", "password": crate::harness::PASSWORD, "name": "N" } })
        });
        for n in 0..20 {
            tenant
                .client
                .post(
                    "/app/contacts",
                    json!({ "name": format!("c{n}"), "notes": "x".repeat(500) }),
                )
                .await
                .expect(201);
        }
        if let Some(body) = neighbour {
            app.operator.post("/v1/tenants", body).await.expect(201);
            let tokens = app
                .log_in("n@n.example", crate::harness::PASSWORD, Some("neighbour"))
                .await
                .expect(200);
            let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
            for n in 0..60 {
                client
                    .post(
                        "/app/contacts",
                        json!({ "name": format!("n{n}"), "notes": "x".repeat(500) }),
                    )
                    .await
                    .expect(201);
            }
        }
        let (admin, schema) = app.tables_of(tenant).await;
        admin
            .batch_execute(&format!(
                "analyze {schema}.contacts, {schema}.projects, {schema}.tasks, {schema}.search_words"
            ))
            .await
            .unwrap();
        let path = format!("/v1/tenants/{}/size", tenant.slug);
        let size = app.operator.get(&path).await.expect(200);
        // The contacts, and two words of each for the search.
        let rows = 20 + 2 * 20;
        assert_eq!(
            (&size["isolation"], &size["rows"]),
            (&json!(tenant.isolation), &json!(rows)),
            "{size}"
        );
        assert_eq!(size["bytes_estimated"], tenant.isolation == "shared", "{size}");
        let tables = size["tables"].as_array().unwrap();
        let contacts = tables.iter().find(|table| table["table"] == "contacts").unwrap();
        let bytes = contacts["bytes"].as_i64().unwrap();
        assert!((8_000..2_000_000).contains(&bytes), "{size}");
        let all = size["bytes"].as_i64().unwrap();
        match tenant.isolation {
            // The whole database, with its catalogs.
            "database" => assert!(all > 5_000_000, "{size}"),
            _ => assert!(all < 2_000_000, "{size}"),
        }
        // Its own admins may know, others not.
        assert_eq!(tenant.client.get(&path).await.expect(200)["rows"], rows);
    }
    let path = format!("/v1/tenants/{}/size", app.tenants[1].id);
    app.tenants[0].client.get(&path).await.refused(404, "not-found");
}

#[tokio::test]
async fn a_server_that_stops_is_not_ready_and_still_serves_while_it_waits() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.drain_delay = Duration::from_secs(2);
    })
    .await;
    let (anonymous, client) = (app.anonymous.clone(), app.tenants[0].client.clone());
    anonymous.get("/health/ready").await.expect(200);
    let stopping = tokio::spawn(app.server.stop());
    let mut ready = anonymous.get("/health/ready").await;
    while ready.status == 200 {
        ready = anonymous.get("/health/ready").await;
    }
    ready.refused(503, "unavailable");
    client.get("/app/contacts").await.expect(200);
    assert!(anonymous.get("/metrics").await.text.contains("tenantry_draining 1"));
    let drained = stopping.await.unwrap();
    assert!(drained.is_clean(), "{drained:?}");
}
