//! Roll-outs that are stopped, as operations and as commands.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tenantry_testing::cluster;
use tokio_postgres::Client;

use crate::fleet::Installation;

/// Two tenants with schemas of their own, and a migration that they lack.
async fn behind() -> Installation {
    let installation = Installation::with_server().await;
    for slug in ["acme", "beta"] {
        installation.json(&["tenant", "create", slug, "--isolation", "schema"]);
    }
    installation.write("migrations/0002_body.sql", "alter table notes add column body text;\n");
    installation
}

/// As `POST /v1/migrations` makes it, where no `tenantry serve` runs.
async fn start(installation: &Installation) -> String {
    let sql = "insert into tenantry_catalog.operation (id, kind) values (gen_random_uuid(), 'migrate')
               returning id::text";
    let catalog = installation.catalog().await;
    catalog.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_rollout_by_the_control_plane_is_paused_resumed_and_called_off() {
    let installation = behind().await;
    let id = start(&installation).await;
    let paused = installation.json(&["operation", "pause", &id]);
    assert_eq!(
        (&paused["kind"], &paused["state"]),
        (&"migrate".into(), &"paused".into())
    );
    let refused = installation.run(&["operation", "finish", &id]);
    let error = refused.fails(1);
    assert!(error.contains("a roll-out of migrations has no finish"), "{error}");
    let done = installation.json(&["operation", "resume", &id]);
    assert_eq!(
        (&done["state"], &done["progress"]["applied"]),
        (&"done".into(), &3.into()),
        "{done}"
    );

    let id = start(&installation).await;
    let cancelled = installation.json(&["operation", "abort", &id]);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert_eq!(cancelled["error"]["code"], "aborted", "{cancelled}");
    let again = installation.run(&["operation", "abort", &id]);
    let error = again.fails(1);
    assert!(error.contains("the operation has ended (cancelled)"), "{error}");
}

/// Begins to apply, one schema after the other, and is sent Ctrl-C so often while one of them is locked.
async fn interrupted(installation: &Installation, admin: &Client, times: u32) -> Child {
    let mut command = installation.command(&["migrate", "apply", "--json", "--per-server", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = "select count(*) from pg_locks where not granted and locktype = 'relation'
                    and database = (select oid from pg_database where datname = current_database())";
    let end = Instant::now() + Duration::from_secs(60);
    while admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < end, "no schema is at work");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    for _ in 0..times {
        kill_process(pid, Signal::INT).unwrap();
        // Two at once would be one.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    child
}

/// The exit code, and what was said on stdout and on stderr.
async fn ended(child: Child) -> (Option<i32>, String, String) {
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    let ended = ended.await.unwrap().unwrap();
    let [out, err] = [ended.stdout, ended.stderr].map(|said| String::from_utf8(said).unwrap());
    (ended.status.code(), out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_interrupted_ends_with_the_schema_at_work_and_the_next_one_goes_on() {
    let installation = behind().await;
    let homes = ["acme", "beta"].map(|slug| installation.json(&["tenant", "show", slug])["placement"].clone());
    let tables = homes
        .each_ref()
        .map(|home| format!("{}.notes", home["schema"].as_str().unwrap()));
    let database = homes[0]["database"].as_str().unwrap();
    let holder = cluster().await.connect(database).await;
    let admin = cluster().await.connect(database).await;
    let lock = format!("begin; lock table {}", tables.join(", "));

    // Twice: what is at work is not waited for.
    holder.batch_execute(&lock).await.unwrap();
    let child = interrupted(&installation, &admin, 2).await;
    let (code, _, said) = ended(child).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ended in the middle"), "{said}");
    holder.batch_execute("rollback").await.unwrap();

    holder.batch_execute(&lock).await.unwrap();
    let mut child = interrupted(&installation, &admin, 1).await;
    assert!(child.try_wait().unwrap().is_none(), "it cuts off what is at work");
    holder.batch_execute("rollback").await.unwrap();
    let (code, answer, said) = ended(child).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stopped with 2 of 3 schemas left"), "{said}");
    let report: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&report["left"], &report["stopped"]),
        (&2.into(), &true.into()),
        "{report}"
    );
    let report = installation.json(&["migrate", "apply"]);
    let applied = report["applied"].as_array().unwrap().len();
    assert_eq!(
        (applied, &report["current"], &report["left"]),
        (2, &1.into(), &0.into()),
        "{report}"
    );
}
