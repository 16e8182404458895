//! `tenantry job`, end to end on a real server.

use std::time::Duration;

use serde_json::Value;
use tenantry::{
    Catalog, MasterKey, PoolConfig, ResolverConfig, Tenantry,
    jobs::{Failure, Job, JobState, Run, Schedule, Worker},
};
use tokio::sync::oneshot;

use crate::fleet::{Installation, KEY};

/// Fails, once and for all.
#[derive(serde::Serialize, serde::Deserialize)]
struct Mail {
    secret: String,
}

impl Job for Mail {
    const KIND: &'static str = "mail";
}

async fn fails(_: Run, _: Mail) -> Result<(), Failure> {
    Err(Failure::never("the address is wrong"))
}

/// Two dead jobs of each tenant.
async fn die(installation: &Installation, tenants: &[Value]) {
    let key = MasterKey::parse(KEY).unwrap();
    let catalog = Catalog::connect(&installation.catalog_url(), &key).await.unwrap();
    let tenantry = Tenantry::on_catalog(catalog, ResolverConfig::new("tests", "tests"), PoolConfig::default()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(&tenantry)
        .handle(fails)
        .poll(Duration::from_millis(5), Duration::from_millis(20));
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    for tenant in tenants {
        let id = tenant["id"].as_str().unwrap().parse().unwrap();
        let scope = tenantry.system_context(id, "test").await.unwrap();
        for _ in 0..2 {
            let secret = "not for operators".to_owned();
            scope.enqueue(&Mail { secret }).await.unwrap();
        }
        let begun = std::time::Instant::now();
        while scope.jobs(&[JobState::Dead], None, 10).await.unwrap().len() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(30), "they do not die");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    tenantry.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_are_listed_retried_and_removed_of_a_tenant_and_of_all() {
    let installation = Installation::with_server().await;
    let tenants = ["shared", "schema", "database"]
        .map(|isolation| installation.json(&["tenant", "create", &format!("a-{isolation}"), "--isolation", isolation]));
    die(&installation, &tenants).await;
    let all = installation.json(&["job", "list", "--all-tenants"]);
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 6);
    assert_eq!(all["unreachable"], Value::Array(Vec::new()));
    let first = &items[0];
    assert_eq!((&first["kind"], &first["state"]), (&"mail".into(), &"dead".into()));
    assert_eq!(first["error"], "the address is wrong");
    assert!(
        !all.to_string().contains("not for operators"),
        "a payload is its tenant's"
    );
    // What is cut says so, and where it goes on.
    let cut = installation.json(&["job", "list", "--all-tenants", "--limit", "4"]);
    assert_eq!(all["next_cursor"], Value::Null);
    let cursor = cut["next_cursor"].as_str().unwrap();
    let rest = installation.json(&["job", "list", "--all-tenants", "--limit", "4", "--after", cursor]);
    assert_eq!(rest["next_cursor"], Value::Null);
    let ids = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|job| job["id"].to_string()).collect()
    };
    assert_eq!([ids(&cut), ids(&rest)].concat(), ids(&all));
    let text = installation.run(&["job", "list", "a-schema", "--limit", "1"]).stdout;
    assert!(text.contains("there are more: --after "), "{text}");
    installation
        .run(&["job", "list", "a-schema", "--after", "yesterday"])
        .fails(2);
    let table = installation.run(&["job", "list", "a-schema"]);
    assert!(!table.stdout.contains("there are more"), "{table:?}");
    assert_eq!(table.code, 0, "{table:?}");
    assert_eq!(table.stdout.matches("the address is wrong").count(), 2, "{table:?}");

    let of_one = installation.json(&["job", "list", "a-shared"]);
    let id = of_one["items"][0]["id"].as_str().unwrap();
    assert_eq!(
        installation.json(&["job", "retry", "a-shared", "--job", id])["retried"],
        1
    );
    assert_eq!(
        installation.json(&["job", "list", "a-shared"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let waiting = installation.json(&["job", "list", "a-shared", "--state", "waiting"]);
    assert_eq!(waiting["items"][0]["id"], id);
    assert!(
        installation
            .run(&["job", "retry", "a-shared", "--job", id])
            .fails(1)
            .contains("no such tenant or job")
    );
    assert_eq!(
        installation.json(&["job", "remove", "a-shared", "--job", id])["removed"],
        1
    );
    assert_eq!(
        installation.json(&["job", "retry", "--all-tenants", "--kind", "bill"])["retried"],
        0
    );
    assert_eq!(installation.json(&["job", "retry", "a-schema"])["retried"], 2);
    assert!(
        installation
            .run(&["job", "remove", "--all-tenants"])
            .fails(2)
            .contains("--yes")
    );
    assert_eq!(
        installation.json(&["job", "remove", "--all-tenants", "--yes"])["removed"],
        3
    );
    assert_eq!(
        installation.json(&["job", "list", "--all-tenants"])["items"]
            .as_array()
            .unwrap()
            .len(),
        0
    );

    assert!(installation.run(&["job", "list"]).fails(2).contains("--all-tenants"));
    installation.run(&["job", "list", "a-shared", "--all-tenants"]).fails(2);
    installation.run(&["job", "list", "nobody"]).fails(1);
    installation
        .run(&["job", "list", "a-shared", "--state", "gone"])
        .fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_and_ended() {
    let installation = Installation::with_server().await;
    let tenant = installation.json(&["tenant", "create", "acme", "--isolation", "schema"]);
    let schedules = || installation.json(&["job", "schedules", "acme"]);
    assert_eq!(schedules()["items"], Value::Array(Vec::new()));
    let key = MasterKey::parse(KEY).unwrap();
    let catalog = Catalog::connect(&installation.catalog_url(), &key).await.unwrap();
    let tenantry = Tenantry::on_catalog(catalog, ResolverConfig::new("tests", "tests"), PoolConfig::default()).unwrap();
    let id = tenant["id"].as_str().unwrap().parse().unwrap();
    let scope = tenantry.system_context(id, "test").await.unwrap();
    let mail = Mail {
        secret: "not for operators".to_owned(),
    };
    let nightly = Schedule::in_zone("0 3 * * *", "Europe/Zurich").unwrap();
    scope.set_schedule("the nightly one", &nightly, &mail).await.unwrap();
    tenantry.close().await;

    let listed = schedules();
    let first = &listed["items"][0];
    assert_eq!(
        (&first["name"], &first["zone"], &first["kind"], &first["broken"]),
        (
            &"the nightly one".into(),
            &"Europe/Zurich".into(),
            &"mail".into(),
            &Value::Null
        )
    );
    assert!(
        !listed.to_string().contains("not for operators"),
        "a payload is its tenant's"
    );
    let table = installation.run(&["job", "schedules", "acme"]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("the nightly one"), "{table:?}");

    installation
        .run(&["job", "unschedule", "nobody", "the nightly one"])
        .fails(1);
    let ended = installation.json(&["job", "unschedule", "acme", "the nightly one"]);
    assert_eq!(ended["removed"], "the nightly one");
    let again = installation.run(&["job", "unschedule", "acme", "the nightly one"]);
    assert!(again.fails(1).contains("no schedule of its own"));
    assert_eq!(schedules()["items"], Value::Array(Vec::new()));
}
