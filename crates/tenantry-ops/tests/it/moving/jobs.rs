//! Tenants with many jobs.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tenantry_core::{Isolation, TenantId};
use tenantry_ops::OperationState;
use tenantry_testing::second_logical_cluster;
use uuid::Uuid;

use super::online::{following, logical};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

/// More than are taken at once.
const MANY: i64 = 5_500;

async fn enqueue(fleet: &Fleet, tenant: TenantId, count: i64) {
    let client = fleet.enter(tenant).await.unwrap();
    let enqueue = format!(
        "select tenantry.enqueue(gen_random_uuid(), 'mail', '{{}}', '0', 0::int2, 5::int2, null) from generate_series(1, {count})"
    );
    client.execute(&enqueue, &[]).await.unwrap();
}

/// Every job of a tenant with what is its own, and whether its database has signed it.
async fn jobs(client: &tokio_postgres::Client, tenant: TenantId) -> Vec<String> {
    let rows = client
        .query(
            "select (j.id, j.kind, j.payload, j.state, j.priority, extract(epoch from j.run_at), j.attempt, j.error,
                     j.mac is not distinct from tenantry_private.job_mac(j.kid, j))::text
               from tenantry_private.job j where j.tenant = $1 order by j.id",
            &[tenant.as_uuid()],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Enqueues and removes jobs as the tenant, wherever it lives, until it is told to stop. Tells which are left.
async fn come_and_go(fleet: &Fleet, tenant: TenantId, stop: &AtomicBool) -> BTreeSet<Uuid> {
    let mut there: BTreeSet<Uuid> = BTreeSet::new();
    let (mut client, mut n) = (None, 0_u32);
    while !stop.load(Ordering::Relaxed) {
        let bound: tokio_postgres::Client = match client.take() {
            Some(bound) => bound,
            None => match fleet.enter(tenant).await {
                Ok(bound) => bound,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        n += 1;
        // Some hundred in a second: who writes as fast as the machine allows keeps it from everything else, the move among it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let first = there.first().copied().filter(|_| n.is_multiple_of(3));
        let done = match first {
            Some(id) => {
                let removed = bound.query_one("select tenantry.job_remove($1)", &[&id]).await;
                removed.map(|row| {
                    assert!(row.get::<_, bool>(0), "{id} is lost");
                    there.remove(&id);
                })
            }
            None => {
                let id = Uuid::now_v7();
                let enqueue = "select tenantry.enqueue($1, 'late', '{}', '0', 0::int2, 5::int2, null)";
                let enqueued = bound.query_one(enqueue, &[&id]).await;
                enqueued.map(|_| {
                    there.insert(id);
                })
            }
        };
        if done.is_ok() {
            client = Some(bound);
        }
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_many_jobs_moves_while_they_come_and_go() {
    let fleet = logical(following()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    enqueue(&fleet, tenant, MANY).await;
    for to in ["database@two", "shared@one"] {
        let stop = AtomicBool::new(false);
        let moving = async {
            let ended = fleet.moved(tenant, to).await;
            stop.store(true, Ordering::Relaxed);
            ended
        };
        let (late, ended) = tokio::join!(come_and_go(&fleet, tenant, &stop), moving);
        assert_eq!(ended.state, OperationState::Done, "{to}: {ended:?}");
        assert_eq!(fleet.place(tenant).await, to);
        let admin = fleet.home_admin(tenant).await;
        let rows = admin
            .query(
                "select id from tenantry_private.job where tenant = $1 and kind = 'late'",
                &[tenant.as_uuid()],
            )
            .await
            .unwrap();
        let found: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, late, "{to}");
        let all = jobs(&admin, tenant).await;
        assert_eq!(all.len(), usize::try_from(MANY).unwrap() + late.len(), "{to}");
        assert!(all.iter().all(|job| job.ends_with(",t)")), "{to}: all are signed");
        let clear = "delete from tenantry_private.job where tenant = $1 and kind = 'late'";
        admin.execute(clear, &[tenant.as_uuid()]).await.unwrap();
        fleet.lives_once(tenant, to).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_killed_when_jobs_were_brought_ends_with_those_that_there_are() {
    let fleet = logical(following()).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    enqueue(&fleet, tenant, MANY).await;
    let admin = fleet.home_admin(tenant).await;
    let change = async |what: &str, from: i64, count: i64| {
        let sql = format!(
            "{what} where tenant = $1 and id in (select id from tenantry_private.job where tenant = $1 and payload = '{{}}'
                                                  order by id offset {from} limit {count})"
        );
        let changed = admin.execute(&sql, &[tenant.as_uuid()]).await.unwrap();
        assert_eq!(changed, u64::try_from(count).unwrap(), "{what}");
    };
    let forge = "update tenantry_private.job set payload = '[]'";
    change(forge, 7, 2).await;
    let place = "move.before_close";
    let child = Process::start(
        &fleet.catalog.url(),
        "follow-shared@two",
        "acme",
        &format!("{place}=stop"),
    );
    child.gets_killed_at(place).await;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let database: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    let there = second_logical_cluster().await.connect(&database).await;
    assert_eq!(jobs(&there, tenant).await, jobs(&admin, tenant).await, "they are there");
    // Done, dead, changed by hand and new, as of one process or the other.
    change("delete from tenantry_private.job", 10, 30).await;
    change("update tenantry_private.job set state = 2, error = 'why'", 100, 20).await;
    change(forge, 200, 2).await;
    enqueue(&fleet, tenant, 10).await;
    let expected = jobs(&admin, tenant).await;
    let forged = expected.iter().filter(|job| job.ends_with(",f)")).count();
    assert_eq!((forged, expected.len()), (4, usize::try_from(MANY).unwrap() - 30 + 10));
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.settled("acme").await;
    runner.abort();
    let newest = fleet.ops.list_operations(&operator(), Some(tenant), None, 1).await;
    let ended = newest.unwrap().remove(0);
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(fleet.place(tenant).await, "shared@two");
    assert_eq!(jobs(&there, tenant).await, expected);
    assert_eq!(
        jobs(&admin, tenant).await,
        Vec::<String>::new(),
        "the old home is empty"
    );
    fleet.lives_once(tenant, "jobs").await;
}
