//! What else goes on while processes are killed: operations that they run, and the tenant's jobs.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tenantry::{
    Catalog, MasterKey, PoolConfig, ResolverConfig, TenantId, Tenantry,
    jobs::{Failure, Job, JobState, Run, Worker},
};
use tokio::sync::oneshot;

use super::{Process, Seen};
use crate::fleet::KEY;

/// Creates one tenant after the other, each by one request that is repeated at the next process where one dies. Gives their slugs.
pub(super) async fn create_tenants(
    operator_key: String,
    processes: Arc<Vec<Process>>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
) -> BTreeSet<String> {
    // What a killed process had begun is another's when its lease ends, which takes 15 s.
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(90))
        .build()
        .unwrap();
    let mut made = BTreeSet::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let slug = format!("during-{number}");
        let body = json!({ "slug": slug, "name": slug, "isolation": "schema" }).to_string();
        for process in processes.iter().cycle().skip(number) {
            if process.in_doubt.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let kills = process.killed.load(Ordering::SeqCst);
            let url = process.http.read().unwrap().clone();
            let request = http
                .post(format!("{url}/v1/tenants"))
                .header("content-type", "application/json")
                .header("idempotency-key", &slug)
                .bearer_auth(&operator_key)
                .body(body.clone());
            let answered = async {
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                Ok::<_, reqwest::Error>((status, answer.text().await?))
            };
            match answered.await {
                Ok((201, _)) => {
                    made.insert(slug);
                    break;
                }
                Ok((status, text)) => {
                    seen.wrong.lock().unwrap().push(format!("{slug}: {status}: {text}"));
                    break;
                }
                Err(error) if process.killed.load(Ordering::SeqCst) == kills => {
                    seen.wrong.lock().unwrap().push(format!("{slug}: {error:?}"));
                    break;
                }
                // It was killed, and the next one is asked the same.
                Err(_) => {}
            }
        }
        number += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    made
}

/// Writes a contact.
#[derive(serde::Serialize, serde::Deserialize)]
struct Write {
    name: String,
}

impl Job for Write {
    const KIND: &'static str = "write";
}

async fn write(run: Run, job: Write) -> Result<(), Failure> {
    run.transaction(async |tx| {
        tx.execute("insert into contacts (name) values ($1)", &[&job.name])
            .await?;
        Ok(())
    })
    .await
}

/// Enqueues jobs of the tenant and works on them, in this process: all are over when this ends.
pub(super) async fn work_on_jobs(catalog_url: String, tenant: TenantId, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    let key = MasterKey::parse(KEY).unwrap();
    let catalog = Catalog::connect(&catalog_url, &key).await.unwrap();
    let pool = PoolConfig {
        connections_max: 4,
        server_connections_max: 4,
        ..PoolConfig::default()
    };
    let tenantry = Tenantry::on_catalog(catalog, ResolverConfig::new("tests", "tests"), pool).unwrap();
    let (stop_worker, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(&tenantry)
        .handle(write)
        .poll(Duration::from_millis(5), Duration::from_millis(20));
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    let scope = tenantry.system_context(tenant, "test").await.unwrap();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let name = format!("job-{number}");
        match scope.enqueue(&Write { name: name.clone() }).await {
            Ok(_) => drop(seen.made.lock().unwrap().insert(name)),
            Err(error) => seen.wrong.lock().unwrap().push(format!("{name}: {error}")),
        }
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    while !scope.jobs(&JobState::ALL, None, 10).await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "jobs are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = stop_worker.send(());
    let report = running.await.unwrap();
    assert!(report.done > 10, "hardly any job: {report:?}");
    tenantry.close().await;
}
