//! A worker at work while its tenant moves to another database: wherever its handlers are by then, each job has one effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tenantry::{
    Error,
    jobs::{Failure, Job, Run},
};
use tenantry_core::Isolation;
use tokio::sync::{oneshot, watch};

use super::{ALL, fleet::Fleet, jobs_left, worker};
use crate::moves::moved;

/// Writes its number down.
#[derive(Serialize, Deserialize)]
struct Note {
    number: i32,
}

impl Job for Note {
    const KIND: &'static str = "note";
}

/// Has begun and done nothing yet when the tenant leaves, and goes on where it lives then.
const BEFORE: i32 = 1;
/// Has written, and not committed, when the tenant leaves.
const WITHIN: i32 = 2;
/// Has committed, and goes on with something else.
const AFTER: i32 = 3;

#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
enum Tenant {
    IsHere,
    Leaves,
    IsThere,
}

async fn until(tenant: &watch::Sender<Tenant>, wanted: Tenant) {
    let mut seen = tenant.subscribe();
    seen.wait_for(|now| *now >= wanted).await.unwrap();
}

async fn soon(so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_the_middle_of_its_handler_has_one_effect_when_its_tenant_moves_to_another_database() {
    let fleet = Fleet::start().await;
    // From a database of its own to shared tables, both of which the worker knows.
    let id = fleet.tenants[2];
    let scope = fleet.scope(2).await;
    let place = "select current_database()";
    let before: String = scope.query_one(place, &[]).await.unwrap().get(0).unwrap();
    for number in [BEFORE, WITHIN, AFTER] {
        scope.enqueue(&Note { number }).await.unwrap();
    }
    let tenant = Arc::new(watch::Sender::new(Tenant::IsHere));
    let at_work: Arc<Mutex<BTreeSet<i32>>> = Arc::default();
    let note = {
        let (tenant, at_work) = (tenant.clone(), at_work.clone());
        move |run: Run, Note { number }: Note| {
            let (tenant, at_work) = (tenant.clone(), at_work.clone());
            async move {
                if number == BEFORE {
                    at_work.lock().insert(number);
                    until(&tenant, Tenant::IsThere).await;
                }
                let written: Result<(), Error> = run
                    .transaction(async |tx| {
                        tx.execute("insert into done (job, note) values ($1, 'moved')", &[&number])
                            .await?;
                        if number == WITHIN {
                            at_work.lock().insert(number);
                            until(&tenant, Tenant::Leaves).await;
                        }
                        Ok(())
                    })
                    .await;
                written?;
                if number == AFTER {
                    at_work.lock().insert(number);
                    until(&tenant, Tenant::IsThere).await;
                }
                Ok::<(), Failure>(())
            }
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker(&fleet.tenantry).handle(note).run(async {
        let _ = stopped.await;
    }));
    soon(async || at_work.lock().len() == 3).await;

    // Gone with its end: the move drops the database.
    let source = tenantry_testing::cluster().await.connect(&before).await;
    let leaving = {
        let tenant = tenant.clone();
        async move {
            let fence = "select state from tenantry_private.fence where tenant = $1";
            while source.query_one(fence, &[id.as_uuid()]).await.unwrap().get::<_, i16>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tenant.send_replace(Tenant::Leaves);
        }
    };
    let moving = async { tokio::join!(moved(&fleet, id, Isolation::Shared), leaving) };
    tokio::time::timeout(Duration::from_secs(60), moving)
        .await
        .expect("the move comes to its end");
    tenant.send_replace(Tenant::IsThere);
    soon(async || jobs_left(&scope, &ALL).await == 0).await;
    let _ = stop.send(());
    let report = running.await.unwrap();

    let after: String = scope.query_one(place, &[]).await.unwrap().get(0).unwrap();
    assert_ne!(before, after);
    let rows = scope
        .query("select job, count(*) from done group by job", &[])
        .await
        .unwrap();
    let found: BTreeMap<i32, i64> = rows
        .iter()
        .map(|row| (row.get(0).unwrap(), row.get(1).unwrap()))
        .collect();
    let once = BTreeMap::from([(BEFORE, 1), (WITHIN, 1), (AFTER, 1)]);
    assert_eq!(found, once, "{report:?}");
}
