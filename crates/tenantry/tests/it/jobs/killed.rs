//! `kill -9` of worker processes and of the database: no job is lost, none is done twice.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tenantry::{
    Error, Scope,
    jobs::{Failure, Job, Run},
};
use tenantry_testing::{OwnClusterOptions, TestCluster, own_cluster};

use super::{
    ALL,
    fleet::{Fleet, handle_at},
    jobs_left, worker,
};

const CATALOG: &str = "TENANTRY_TEST_JOBS_CATALOG";

/// Writes down that it was done, and takes its time between two statements.
#[derive(serde::Serialize, serde::Deserialize)]
struct Slow {
    job: i32,
}

impl Job for Slow {
    const KIND: &'static str = "slow";
}

async fn slow(run: Run, job: Slow) -> Result<(), Failure> {
    run.transaction(async |tx| {
        tx.execute("insert into done (job) values ($1)", &[&job.job]).await?;
        tokio::time::sleep(Duration::from_millis(u64::from(job.job.unsigned_abs() % 7))).await;
        tx.execute("update done set note = 'whole' where job = $1", &[&job.job])
            .await?;
        Ok(())
    })
    .await
}

/// This test binary again, as a worker, killed at the latest when this value goes.
struct Process(Child);

impl Process {
    fn start(catalog: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "jobs::killed::works_as_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env(CATALOG, catalog)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a process that other tests start"]
fn works_as_a_process_of_its_own() {
    let Ok(catalog) = std::env::var(CATALOG) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tenantry = handle_at(&catalog).await;
        worker(&tenantry).handle(slow).run(std::future::pending()).await;
    });
}

const JOBS: i32 = 250;

/// In one transaction for each tenant.
async fn enqueue(fleet: &Fleet) {
    for n in 0..3 {
        fleet
            .scope(n)
            .await
            .transaction::<_, Error, _>(async |tx| {
                for job in 0..JOBS {
                    tx.enqueue(&Slow { job }).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
    }
}

/// Jobs that were done, and how many of these once, wholly.
async fn done(scope: &Scope) -> (i64, i64) {
    let sql = "select count(*), count(*) filter (where times = 1 and whole) from
                 (select job, count(*) as times, bool_and(note = 'whole') as whole from done group by job) d";
    let row = scope.query_one(sql, &[]).await.unwrap();
    (row.get(0).unwrap(), row.get(1).unwrap())
}

async fn all_done(fleet: &Fleet) -> bool {
    for n in 0..3 {
        let Ok(scope) = fleet.tenantry.system_context(fleet.tenants[n], "test").await else {
            return false;
        };
        match scope.query_one("select count(distinct job) from done", &[]).await {
            Ok(row) if row.get::<i64>(0).unwrap() == i64::from(JOBS) => {}
            _ => return false,
        }
    }
    true
}

/// How many rows were written, as far as the database answers.
async fn written(fleet: &Fleet) -> i64 {
    let mut all = 0;
    for tenant in &fleet.tenants {
        let Ok(scope) = fleet.tenantry.system_context(*tenant, "test").await else {
            continue;
        };
        if let Ok(row) = scope.query_one("select count(*) from done", &[]).await {
            all += row.get::<i64>(0).unwrap();
        }
    }
    all
}

/// For a failed test: what is where.
async fn standing(fleet: &Fleet) -> String {
    let mut told = String::new();
    for tenant in &fleet.tenants {
        told += &match fleet.tenantry.system_context(*tenant, "test").await {
            Err(error) => format!("{error}; "),
            Ok(scope) => {
                let jobs = scope.jobs(&ALL, None, 1000).await.unwrap_or_default();
                let errors: std::collections::BTreeSet<_> = jobs.iter().filter_map(|job| job.error.clone()).collect();
                let states: Vec<_> = ALL
                    .iter()
                    .map(|state| (*state, jobs.iter().filter(|job| job.state == *state).count()))
                    .collect();
                format!("{states:?} {errors:?} {:?}; ", done(&scope).await)
            }
        };
    }
    told
}

async fn each_was_done_once(fleet: &Fleet) {
    for n in 0..3 {
        let scope = fleet.scope(n).await;
        assert_eq!(done(&scope).await, (i64::from(JOBS), i64::from(JOBS)), "{n}");
        // What was done is no longer there, in whatever state.
        let begun = Instant::now();
        while jobs_left(&scope, &ALL).await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{n}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_workers_are_killed_are_done_once_by_others() {
    let fleet = Fleet::start().await;
    enqueue(&fleet).await;
    let url = fleet.catalog.url();
    let mut workers: Vec<Process> = (0..2).map(|_| Process::start(&url)).collect();
    let begun = Instant::now();
    let (mut kills, mut seen) = (0_u64, 0);
    while !all_done(&fleet).await {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "after {kills} kills: {}",
            standing(&fleet).await
        );
        tokio::time::sleep(Duration::from_millis(20 + kills * 37 % 100)).await;
        // The older one, at whatever it does, once something was done since the last time.
        let done = written(&fleet).await;
        if done >= seen + 15 {
            drop(workers.remove(0));
            workers.push(Process::start(&url));
            (kills, seen) = (kills + 1, done);
        }
    }
    assert!(kills > 2, "it was over before anybody was killed");
    each_was_done_once(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_database_is_killed_are_done_once_after_it_is_back() {
    let mut own = own_cluster(OwnClusterOptions::default()).await;
    let cluster: TestCluster = own.cluster().clone();
    let fleet = Fleet::on(&cluster).await;
    enqueue(&fleet).await;
    let url = fleet.catalog.url();
    let _workers: Vec<Process> = (0..2).map(|_| Process::start(&url)).collect();
    let begun = Instant::now();
    let (mut kills, mut seen) = (0_u64, 0);
    while !all_done(&fleet).await {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "after {kills} kills: {}",
            standing(&fleet).await
        );
        tokio::time::sleep(Duration::from_millis(100 + kills * 53 % 300)).await;
        let done = written(&fleet).await;
        if kills < 4 && done >= seen + 30 {
            seen = done;
            own = tokio::task::spawn_blocking(move || {
                own.kill();
                own.restart();
                own
            })
            .await
            .unwrap();
            kills += 1;
        }
    }
    assert!(kills > 1, "it was over before the database was killed");
    each_was_done_once(&fleet).await;
    drop(fleet);
}
