//! How a roll-out goes over the fleet: what it asks, in which waves, over how many connections, and who goes on with one that was
//! killed.

use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tenantry_catalog::operation::OperationState;
use tenantry_core::Isolation;
use tenantry_ops::{Rollout, RolloutRequest};
use tenantry_testing::{OwnClusterOptions, database_on, own_cluster};

use crate::{
    child::Process,
    fleet::{Fleet, config, operator, ops_on, request},
    migrate_killed,
    migrate_verify::ended,
};

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_pending_the_catalog_is_asked_once_and_nobody_else() {
    let own = own_cluster(OwnClusterOptions {
        settings: vec![("log_statement".to_owned(), "all".to_owned())],
        ..OwnClusterOptions::default()
    })
    .await;
    let catalog = database_on(own.cluster()).await;
    let ops = ops_on(&catalog.url(), config()).await;
    let fleet = Fleet { catalog, ops };
    fleet.add("one", own.cluster()).await;
    for isolation in Isolation::ALL {
        fleet.create(&format!("a-{isolation}"), isolation).await.unwrap();
    }
    let log = || std::fs::read_to_string(own.cluster().log_file()).unwrap();
    let before = log().len();
    let report = fleet.ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.current, report.failed.len()), (0, 3, 0));
    let said = log().split_off(before);
    let here = format!("@{} ", fleet.catalog.name());
    let (asked, elsewhere): (Vec<&str>, Vec<&str>) = said
        .lines()
        .filter(|line| line.contains("LOG:  statement") || line.contains("LOG:  execute"))
        // The process looks for changes every half second, whatever else it does.
        .filter(|line| !line.contains("pg_snapshot_xmin") && !line.contains("s.xmin"))
        .partition(|line| line.contains(&here));
    assert!(asked.len() == 1 && asked[0].contains("with expected as"), "{asked:#?}");
    assert_eq!(elsewhere, Vec::<&str>::new());
}

/// What was done is in the ledgers: whoever takes the operation over does the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_whose_process_is_killed_is_gone_on_with_by_another() {
    let fleet = Fleet::start().await;
    for n in 0..3 {
        fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(1)).await;
    ops.derive_migrations().await.unwrap();
    let held = fleet.settled("t1").await.placement.unwrap().schema;
    let holder = fleet.shared_admin().await;
    holder
        .batch_execute(&format!("begin; lock table {held}.contacts"))
        .await
        .unwrap();
    let operation = ops
        .start_rollout(&operator(), &RolloutRequest::default())
        .await
        .unwrap();
    let child = Process::start(&fleet.catalog.url(), "run-migrate", "1", "");
    let admin = fleet.shared_admin().await;
    let done = async || -> i64 {
        let sql = "select count(*) from tenantry_private.migration where version = 3";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    };
    fleet
        .poll("the child to do what it can", async || done().await == 2)
        .await;
    drop(child);
    let left = ops.get_operation(&operator(), operation.id).await.unwrap();
    assert_eq!(left.state, OperationState::Running, "{left:?}");
    holder.batch_execute("rollback").await.unwrap();
    let runner = tokio::spawn({
        let ops = ops.clone();
        async move { ops.run_operations().await }
    });
    let ended = ended(&fleet, &ops, &operation).await;
    runner.abort();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(ended.progress["failed"], 0, "{}", ended.progress);
    assert_eq!(done().await, 4, "each schema has it once, the shared tables too");
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(status.iter().all(|site| site.pending.is_empty()), "{status:?}");
}

/// The pause is over at the time at which it would have been, and what failed is counted once, of as many as there were, and not tried
/// again: a roll-out whose process is killed does what one does that nobody has killed.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_on_with_a_killed_rollout_waits_out_the_pause_and_counts_what_failed() {
    let fleet = Fleet::start().await;
    let mut tables = Vec::new();
    for n in 0..3 {
        let tenant = fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
        tables.push(format!("{}.contacts", tenant.placement.unwrap().schema));
    }
    let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(1)).await;
    ops.derive_migrations().await.unwrap();
    let admin = fleet.shared_admin().await;
    // What the migration adds is there already in two of them.
    for table in &tables[..2] {
        let sql = format!("alter table {table} add column c0 text");
        admin.batch_execute(&sql).await.unwrap();
    }
    let request = RolloutRequest {
        canaries: vec!["t0".to_owned()],
        pause_seconds: 10,
        // One of four is borne, and of three it would not be.
        max_failures: Some("30%".to_owned()),
        per_server: NonZeroU16::new(1),
        ..RolloutRequest::default()
    };
    let operation = ops.start_rollout(&operator(), &request).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "run-migrate", "1", "");
    let seen = async || ops.get_operation(&operator(), operation.id).await.unwrap();
    fleet
        .poll("the pause behind the canary", async || {
            seen().await.progress["next_wave_at"].is_string()
        })
        .await;
    drop(child);
    let left = seen().await;
    assert_eq!(left.state, OperationState::Running, "{left:?}");
    assert_eq!(
        (
            &left.progress["done"],
            &left.progress["total"],
            &left.progress["failed"]
        ),
        (&1.into(), &4.into(), &1.into())
    );
    let next_wave_at: DateTime<Utc> = left.progress["next_wave_at"].as_str().unwrap().parse().unwrap();
    // It would go well by now.
    let sql = format!("alter table {} drop column c0", tables[0]);
    admin.batch_execute(&sql).await.unwrap();

    let runner = tokio::spawn({
        let ops = ops.clone();
        async move { ops.run_operations().await }
    });
    let ended = ended(&fleet, &ops, &operation).await;
    runner.abort();
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    assert_eq!(ended.error_code.as_deref(), Some("schemas_left_behind"));
    let progress = &ended.progress;
    assert_eq!((&progress["failed"], &progress["total"]), (&2.into(), &4.into()));
    assert!(progress["left"].as_u64().unwrap() > 0, "{progress}");
    let behind = progress["behind"].as_array().unwrap().iter();
    let mut behind: Vec<_> = behind.map(|site| site["tenant"].as_str().unwrap()).collect();
    behind.sort_unstable();
    assert_eq!(behind, ["t0", "t1"], "{progress}");
    let client = fleet.ops.catalog().client().await.unwrap();
    let sql = "select max(failed_at) from app_migration_failure";
    let failed_at: DateTime<Utc> = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(failed_at >= next_wave_at, "{failed_at} before {next_wave_at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_go_by_the_labels_and_plans_of_tenants_with_a_pause_between() {
    let fleet = Fleet::start().await;
    for (slug, plan, settings) in [
        ("usual", None, None),
        (
            "early",
            None,
            Some(serde_json::json!({ "labels": { "ring": "first" } })),
        ),
        ("rich", Some("gold"), None),
    ] {
        let mut request = request(slug, Isolation::Schema);
        request.plan = plan.map(|plan: &str| plan.parse().unwrap());
        request.settings = settings;
        fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(1)).await;
    ops.derive_migrations().await.unwrap();
    let mut rollout = Rollout::default();
    rollout.labels = vec!["ring=first".parse().unwrap(), "plan=gold".parse().unwrap()];
    rollout.pause = Duration::from_millis(300);
    let (heard, pauses) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let report = ops
        .roll_out(&operator(), &rollout, &|progress| {
            // Before each wave but the first it is told that there is a pause.
            match progress.next_wave_at {
                Some(_) => pauses.lock().push(progress.wave),
                None => heard.lock().push((progress.wave, progress.done, Instant::now())),
            }
        })
        .await
        .unwrap();
    let applied: Vec<_> = report.applied.iter().map(|site| site.slug.as_deref()).collect();
    assert_eq!(
        applied,
        [Some("early"), Some("rich"), Some("usual"), None],
        "{report:?}"
    );
    let heard = heard.into_inner();
    let waves: Vec<_> = heard.iter().map(|(wave, done, _)| (wave.as_str(), *done)).collect();
    let single = "schemas and databases of single tenants";
    assert_eq!(
        waves,
        [
            ("ring=first", 0),
            ("ring=first", 1),
            ("plan=gold", 1),
            ("plan=gold", 2),
            (single, 2),
            (single, 3),
            ("shared tables", 3),
            ("shared tables", 4)
        ]
    );
    assert_eq!(pauses.into_inner(), ["plan=gold", single, "shared tables"]);
    for between in heard[1..heard.len() - 1].chunks(2) {
        let waited = between[1].2 - between[0].2;
        assert!(waited >= rollout.pause, "{waited:?} before {}", between[1].0);
    }
}

/// Every schema is locked by somebody, so that whatever works on one has to wait, and is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_has_no_more_connections_to_a_server_than_it_may() {
    let fleet = Fleet::start().await;
    let mut tables = Vec::new();
    for n in 0..5 {
        let tenant = fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
        tables.push(format!("{}.contacts", tenant.placement.unwrap().schema));
    }
    let (holder, admin) = (fleet.shared_admin().await, fleet.shared_admin().await);
    for (more, per_server, in_all, expected) in [(1, 2, 16, 2_i64), (2, 4, 1, 1)] {
        let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(more)).await;
        ops.derive_migrations().await.unwrap();
        let lock = format!("begin; lock table {}", tables.join(", "));
        holder.batch_execute(&lock).await.unwrap();
        let since: String = admin
            .query_one("select clock_timestamp()::text", &[])
            .await
            .unwrap()
            .get(0);
        let mut rollout = Rollout::default();
        (rollout.per_server, rollout.connections_max) = (per_server, in_all);
        let running = tokio::spawn({
            let ops = ops.clone();
            async move { ops.roll_out(&operator(), &rollout, &|_| {}).await }
        });
        let connections = async || -> i64 {
            let sql = format!(
                "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'
                    and backend_start > '{since}'"
            );
            admin.query_one(&sql, &[]).await.unwrap().get(0)
        };
        let waits = "select count(*) from pg_locks where not granted and locktype = 'relation'
                        and database = (select oid from pg_database where datname = current_database())";
        fleet
            .poll("the roll-out to wait for the schemas", async || {
                assert!(connections().await <= expected);
                connections().await == expected && admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
            })
            .await;
        for _ in 0..20 {
            assert_eq!(connections().await, expected);
        }
        holder.batch_execute("rollback").await.unwrap();
        let report = running.await.unwrap().unwrap();
        assert_eq!((report.applied.len(), report.failed.len()), (6, 0), "{report:?}");
    }
}
