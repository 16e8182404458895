//! Lost connections, full disks, and things of other people in the way.

use std::{process::Command, time::Duration};

use tenantry_core::{Isolation, TenantState, own_database_name, own_schema_name};
use tenantry_ops::{OperationState, ServerRequest, TenantError, TenantRef, Unfinished};
use tenantry_testing::{FaultProxy, OwnClusterOptions, cluster, own_cluster};

use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on, request},
};

/// A fleet whose server is behind a proxy.
async fn behind_a_proxy() -> (Fleet, FaultProxy) {
    let mut config = config();
    config.patience_per_try = Duration::from_secs(3);
    let fleet = Fleet::empty(config).await;
    let cluster = cluster().await;
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let address = format!(
        "postgres://{}:{}@127.0.0.1:{}/postgres",
        cluster.superuser(),
        cluster.password(),
        proxy.port()
    );
    let request = ServerRequest {
        name: "one".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: address.into(),
    };
    fleet.ops.add_server(&operator(), &request).await.unwrap();
    (fleet, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_anywhere_end_in_one_working_tenant_or_in_none() {
    let (fleet, proxy) = behind_a_proxy().await;
    let before = fleet.objects().await;
    for isolation in Isolation::ALL {
        for bytes in [1, 600, 900, 1_500, 4_000, 9_000] {
            let slug = format!("cut-{bytes}-{isolation}");
            proxy.cut_after_answer_bytes(bytes);
            let (created, ()) = tokio::join!(fleet.create(&slug, isolation), async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                proxy.heal();
            });
            match created {
                Ok(tenant) => {
                    assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"], "{slug}");
                    fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
                    fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
                }
                Err(TenantError::Failed { .. }) => {}
                Err(error) => panic!("{slug}: {error}"),
            }
        }
    }
    assert_eq!(fleet.objects().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_fails_the_creation_and_is_tidied_when_it_is_back() {
    let (fleet, proxy) = behind_a_proxy().await;
    let before = fleet.objects().await;
    proxy.cut();
    let (created, ()) = tokio::join!(fleet.create("acme", Isolation::Schema), async {
        // Until the tries are used up and the undo waits for the server.
        fleet
            .poll("the undo", async || {
                let all = fleet
                    .ops
                    .list_operations(&operator(), None, Some(OperationState::Undoing), 1)
                    .await
                    .unwrap();
                !all.is_empty()
            })
            .await;
        proxy.heal();
    });
    let Err(TenantError::Failed { code, .. }) = created else {
        panic!("{created:?}")
    };
    assert_eq!(code, "server_unreachable");
    assert_eq!(fleet.objects().await, before);
    fleet.create("acme", Isolation::Schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_nothing_does_not_hold_an_operation_for_ever() {
    let (fleet, proxy) = behind_a_proxy().await;
    proxy.stall();
    let (created, ()) = tokio::join!(fleet.create("acme", Isolation::Schema), async {
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        proxy.heal();
    });
    let tenant = created.unwrap();
    assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_counts_while_the_server_is_away_and_reaches_it_later() {
    let (fleet, proxy) = behind_a_proxy().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    proxy.cut();
    let mut impatient = config();
    impatient.wait = Duration::from_millis(300);
    let ops = ops_on(&fleet.catalog.url(), impatient).await;
    let suspended = ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(suspended.state, TenantState::Suspended);
    proxy.heal();
    let runner = tokio::spawn(async move { ops.run_operations().await });
    fleet.operations_end().await;
    runner.abort();
    assert_eq!(
        fleet.enter(tenant.id).await.unwrap_err().code().unwrap().code(),
        "TN002"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_or_database_that_somebody_else_made_is_refused_and_stays() {
    let fleet = Fleet::start().await;
    let shared = fleet
        .create("first", Isolation::Shared)
        .await
        .unwrap()
        .placement
        .unwrap()
        .database;
    for isolation in [Isolation::Schema, Isolation::Database] {
        let slug = format!("acme-{isolation}");
        // Stopped before it makes anything, its id is known and the name can be taken.
        let place = match isolation {
            Isolation::Schema => "provision.recorded_schema",
            _ => "provision.recorded_database",
        };
        let child = Process::start(
            &fleet.catalog.url(),
            &format!("create-{isolation}"),
            &slug,
            &format!("{place}=stop"),
        );
        child.gets_killed_at(place).await;
        let tenant = fleet
            .ops
            .get_tenant(&operator(), &TenantRef::Slug(slug.clone()))
            .await
            .unwrap();
        let (database, theirs) = match isolation {
            Isolation::Schema => {
                let schema = own_schema_name(tenant.id);
                (
                    shared.clone(),
                    format!("create schema {schema}; create table {schema}.precious (x int)"),
                )
            }
            _ => (
                "postgres".to_owned(),
                format!(
                    "create database {}",
                    own_database_name(fleet.ops.catalog().installation(), tenant.id)
                ),
            ),
        };
        let server = cluster().await.connect(&database).await;
        server.batch_execute(&theirs).await.unwrap();

        let runner = tokio::spawn({
            let ops = fleet.ops.clone();
            async move { ops.run_operations().await }
        });
        let settled = fleet.settled(&slug).await;
        runner.abort();
        assert_eq!(settled.state, TenantState::Purged);
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant.id), None, 10)
            .await
            .unwrap();
        assert_eq!(operations[0].error_code.as_deref(), Some("not_ours"), "{operations:?}");
        let there = match isolation {
            Isolation::Schema => format!("select count(*) from {}.precious", own_schema_name(tenant.id)),
            _ => format!(
                "select 1 / count(*) from pg_database where datname = '{}'",
                own_database_name(fleet.ops.catalog().installation(), tenant.id)
            ),
        };
        server.query_one(&there, &[]).await.expect("it is still there");
    }
}

/// A small file system of its own, as long as this value lives.
struct TinyDisk(std::path::PathBuf);

impl TinyDisk {
    fn mount(folder: std::path::PathBuf, megabytes: u32, like: &std::path::Path) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        let disk = Self(folder);
        let owned = Command::new("chown").arg("--reference").arg(like).arg(&disk.0).status();
        owned.is_ok_and(|status| status.success()).then_some(disk)
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }

    /// Leaves this many bytes free.
    fn fill(&self, keep: u64) {
        let free = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&self.0)
            .output()
            .unwrap();
        let free: u64 = String::from_utf8(free.stdout)
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        std::fs::write(self.filler(), vec![1; (free - keep) as usize]).unwrap();
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_undoes_the_creation_and_room_lets_it_succeed() {
    let own = own_cluster(OwnClusterOptions::default()).await;
    let data = own.folder().join("data");
    let Some(disk) = TinyDisk::mount(own.folder().join("tiny"), 40, &data) else {
        eprintln!("SKIPPED: a full disk needs a small file system, which only root can mount here");
        return;
    };
    let fleet = Fleet::empty(config()).await;
    fleet.add("one", own.cluster()).await;
    let server = own.connect("postgres").await;
    let at = disk.0.display();
    // What is made from now on stands on the small disk: tables by the administrator's setting, databases with template0.
    server
        .batch_execute(&format!("create tablespace tiny location '{at}'"))
        .await
        .unwrap();
    server
        .batch_execute("grant create on tablespace tiny to public")
        .await
        .unwrap();
    server
        .batch_execute("alter database template0 set tablespace tiny")
        .await
        .unwrap();
    let admin = own.cluster().superuser();
    server
        .batch_execute(&format!("alter role \"{admin}\" set default_tablespace = tiny"))
        .await
        .unwrap();
    disk.fill(16 * 1024);

    for isolation in [Isolation::Schema, Isolation::Database] {
        let outcome = fleet.create("acme", isolation).await;
        let Err(TenantError::Failed { message, .. }) = &outcome else {
            panic!("{isolation}: {outcome:?}")
        };
        assert!(message.contains("No space left on device"), "{message}");
    }
    let left = server
        .query_one("select count(*) from pg_database where datname ~ '_[0-9a-f]{32}$' and datname not in (select datname from pg_database where dattablespace = (select oid from pg_tablespace where spcname = 'pg_default'))", &[])
        .await
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);

    std::fs::remove_file(disk.filler()).unwrap();
    for isolation in [Isolation::Schema, Isolation::Database] {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_is_told_what_is_in_the_way() {
    let (fleet, proxy) = behind_a_proxy().await;
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    let mut impatient = config();
    impatient.wait = Duration::from_secs(3);
    impatient.patience_per_try = Duration::from_secs(1);
    let ops = ops_on(&fleet.catalog.url(), impatient).await;
    proxy.cut();

    let suspended = ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(suspended.state, TenantState::Suspended, "the catalog's word stands");
    let newest = ops
        .list_operations(&operator(), Some(tenant.id), None, 1)
        .await
        .unwrap();
    let fence = Unfinished::of(&newest[0]).expect("it has not ended");
    assert!(fence.error.is_some(), "{fence:?}");

    let created = ops
        .create_tenant(&operator(), &request("late", Isolation::Schema), None)
        .await;
    let Err(TenantError::StillRunning(unfinished)) = created else {
        panic!("{created:?}")
    };
    let reason = unfinished.error.clone().expect("the last error");
    let said = unfinished.to_string();
    assert!(said.contains(&reason) && said.contains("next at"), "{said}");
    assert!(
        said.contains(&format!("tenantry operation show {}", unfinished.operation)),
        "{said}"
    );
    proxy.heal();
}
