//! What a claim reads and gives: no more than it is asked for, whatever else waits, and in order over all its kinds.

use std::sync::Arc;

use parking_lot::Mutex;
use tenantry::{
    Error,
    jobs::{Enqueue, Failure, JobId, JobState, Run},
};
use tenantry_wire::Connection;
use uuid::Uuid;

use super::{ALL, Add, Odd, jobs_left, work, worker};
use crate::world::World;

/// A connection as workers have it, and what proves on it that the key is known.
async fn as_worker(world: &World) -> (Connection, tenantry_core::seal::Signed) {
    let home = world.source.homes.lock()[&world.tenants[0]].clone();
    let options = tenantry_wire::Options::default();
    let connection = Connection::connect(home.endpoint.clone(), &options).await.unwrap();
    let now_us = chrono::Utc::now().timestamp_micros();
    let proof = home.key.sign_worker(connection.process_id(), now_us);
    (connection, proof)
}

/// So many more like this one, of a kind.
async fn copy(world: &World, of: JobId, kind: &str, lane: i16, count: i32) {
    let sql = "insert into tenantry_private.job (tenant, id, kind, payload, role, state, lane, priority, run_at, attempts_max, kid, mac)
               select j.tenant, gen_random_uuid(), $2::text, j.payload, j.role, 0, $3::int2, 0, now(), 1, j.kid, j.mac
                 from tenantry_private.job j, generate_series(1, $4::int4) where j.id = $1";
    let admin = &world.databases[0].admin;
    let made = admin.execute(sql, &[of.as_uuid(), &kind, &lane, &count]).await.unwrap();
    assert_eq!(made, u64::try_from(count).unwrap());
}

async fn sign(world: &World) {
    let sign =
        "update tenantry_private.job j set mac = tenantry_private.job_mac(j.kid, j) where j.kind in ('add', 'mail')";
    world.databases[0].admin.execute(sign, &[]).await.unwrap();
}

/// How many pages each of eight claims of four looks at.
async fn pages(world: &World, kinds: &str) -> Vec<u64> {
    let (mut connection, worker) = as_worker(world).await;
    // What schedules made has the turn.
    let claim = format!(
        "explain (analyze, buffers)
         select * from tenantry.job_take($1, $2, 'x', '{kinds}', 1::int2, null, null, 4, '60 s', null, false, true)"
    );
    let mut looked_at = Vec::new();
    for _ in 0..8 {
        let plan = connection
            .query(&claim, &[&worker.message.as_slice(), &worker.mac.as_slice()])
            .await
            .unwrap();
        let lines: Vec<String> = plan.rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert!(lines[0].contains("rows=4"), "{lines:?}");
        let pages = lines.iter().find_map(|line| {
            line.split_once("shared hit=")?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        looked_at.push(pages.unwrap_or_else(|| panic!("{lines:?}")));
    }
    looked_at
}

/// Who has very many waiting costs a claim no more than who has one, whatever PostgreSQL knows of the table: it has not looked yet.
#[tokio::test]
async fn a_claim_does_not_go_through_what_waits() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let first = scope.enqueue(&Add { id: 1000 }).await.unwrap();
    copy(&world, first, "add", 0, 5000).await;
    sign(&world).await;
    let looked_at = pages(&world, "{add}").await;
    // The first ones read the system catalogs, and mark what the signing above left behind.
    assert!(
        looked_at[4..].iter().all(|pages| *pages < 500),
        "pages that claims of four looked at: {looked_at:?}"
    );
}

/// What waits for handlers of other workers costs a claim nothing: be it much of the same tenant, or some of very many tenants.
#[tokio::test]
async fn a_claim_does_not_go_through_what_waits_of_other_kinds() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let first = scope.enqueue(&Add { id: 1000 }).await.unwrap();
    copy(&world, first, "add", 0, 20).await;
    copy(&world, first, "mail", 0, 20).await;
    // Sorts before, between and behind the others, in both lanes.
    for kind in ["aaa", "archive", "report"] {
        copy(&world, first, kind, 0, 2000).await;
        copy(&world, first, kind, 1, 2000).await;
    }
    let admin = &world.databases[0].admin;
    let many = "with made as (insert into tenantry_private.fence (tenant, epoch, state)
                              select gen_random_uuid(), 1, 0 from generate_series(1, 2000) returning tenant)
                insert into tenantry_private.job (tenant, id, kind, payload, role, state, lane, priority, run_at, attempts_max, kid, mac)
                select m.tenant, gen_random_uuid(), 'report', '{}', 3, 0, l, 0, now(), 1, j.kid, j.mac
                  from made m, generate_series(0, 1) l, tenantry_private.job j where j.id = $1";
    admin.execute(many, &[first.as_uuid()]).await.unwrap();
    sign(&world).await;
    let looked_at = pages(&world, "{add,mail}").await;
    assert!(
        looked_at[4..].iter().all(|pages| *pages < 500),
        "pages that claims of four looked at: {looked_at:?}"
    );
    assert_eq!(
        scope.jobs(&[JobState::Running], None, 100).await.unwrap().len(),
        32,
        "eight claims of four"
    );
}

/// Priorities and the order of enqueueing are a tenant's, whatever kinds its jobs are of.
#[tokio::test]
async fn jobs_of_several_kinds_keep_their_order() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let odd = |how: &str| Odd { how: how.to_owned() };
    scope.enqueue(&odd("first")).await.unwrap();
    scope.enqueue(&Add { id: 2 }).await.unwrap();
    scope.enqueue(&odd("third")).await.unwrap();
    scope
        .enqueue_with(&Add { id: 5 }, Enqueue::new().priority(5))
        .await
        .unwrap();
    scope
        .enqueue_with(&odd("ninth"), Enqueue::new().priority(9))
        .await
        .unwrap();
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let (odds, adds) = (order.clone(), order.clone());
    let worker = worker(&world.tenantry)
        .concurrency(1)
        .handle(move |_: Run, job: Odd| {
            odds.lock().push(job.how);
            async { Ok::<(), Failure>(()) }
        })
        .handle(move |_: Run, job: Add| {
            adds.lock().push(job.id.to_string());
            async { Ok::<(), Failure>(()) }
        });
    work(worker, async || jobs_left(&scope, &ALL).await == 0).await;
    assert_eq!(*order.lock(), ["ninth", "5", "first", "2", "third"]);
}

/// A claim waits for no other one, and takes what that one left, of several kinds too.
#[tokio::test]
async fn a_claim_passes_by_what_another_one_is_at() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let mut ids = Vec::new();
    for id in 0..3 {
        ids.push(scope.enqueue(&Add { id }).await.unwrap());
        ids.push(scope.enqueue(&Odd { how: String::new() }).await.unwrap());
    }
    let admin = &world.databases[0].admin;
    let held: Vec<Uuid> = ids[..2].iter().map(|id| *id.as_uuid()).collect();
    admin.batch_execute("begin").await.unwrap();
    let hold = "select from tenantry_private.job where id = any ($1) for update";
    assert_eq!(admin.query(hold, &[&held]).await.unwrap().len(), 2);
    let (mut connection, worker) = as_worker(&world).await;
    let claim =
        "select id from tenantry.job_take($1, $2, 'x', '{add,odd}', 0::int2, null, null, 3, '60 s', null, false, true)";
    let taken = connection
        .query(claim, &[&worker.message.as_slice(), &worker.mac.as_slice()])
        .await
        .unwrap();
    let taken: Vec<Uuid> = taken.rows.iter().map(|row| row.get(0).unwrap()).collect();
    let next: Vec<Uuid> = ids[2..5].iter().map(|id| *id.as_uuid()).collect();
    assert_eq!(taken, next);
    admin.batch_execute("rollback").await.unwrap();
    assert_eq!(jobs_left(&scope, &[JobState::Waiting]).await, 3);
}

/// Enqueued by an API key, as the library says it.
async fn enqueue_by_key(scope: &tenantry::Scope, key: Uuid) -> Uuid {
    let sql = "select tenantry.enqueue($1, 'add', '{\"id\": 100}', '0 s', 0::int2, 1::int2, null, $2)";
    let id = Uuid::now_v7();
    scope.query_one(sql, &[&id, &key]).await.unwrap();
    id
}

/// A worker that does not know of API keys would take a key's job for the application's own: it gets none.
#[tokio::test]
async fn jobs_of_api_keys_are_not_for_workers_of_the_version_before() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let of_key = enqueue_by_key(&scope, Uuid::now_v7()).await;
    let other = scope.enqueue(&Add { id: 101 }).await.unwrap();
    let (mut connection, worker) = as_worker(&world).await;
    for (claim, expected) in [
        (
            "select id from tenantry.job_take($1, $2, 'x', '{add}', 0::int2, null, null, 4, '60 s', null, true)",
            *other.as_uuid(),
        ),
        (
            "select id from tenantry.job_take($1, $2, 'x', '{add}', 0::int2, null, null, 4, '60 s', null, true, true)",
            of_key,
        ),
    ] {
        let taken = connection
            .query(claim, &[&worker.message.as_slice(), &worker.mac.as_slice()])
            .await
            .unwrap();
        let taken: Vec<Uuid> = taken.rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(taken, [expected], "{claim}");
    }
}

/// What was signed before there were keys in the rows still holds; and no key can be taken out of a row, or another one put in.
#[tokio::test]
async fn the_api_key_is_signed_where_there_is_one() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    scope.enqueue(&Add { id: 101 }).await.unwrap();
    let admin = &world.databases[0].admin;
    let as_before = "select j.mac = sha256(m.ok || sha256(m.ik || convert_to('tenantry job', 'UTF8') || uuid_send(j.id) || uuid_send(j.tenant)
                              || coalesce(uuid_send(j.account), decode(repeat('00', 16), 'hex')) || int2send(j.role)
                              || sha256(convert_to(j.kind, 'UTF8')) || sha256(convert_to(j.payload, 'UTF8'))))
                       from tenantry_private.job j join tenantry_private.mac_key m on m.kid = j.kid";
    assert!(admin.query_one(as_before, &[]).await.unwrap().get::<_, bool>(0));
    admin.execute("delete from tenantry_private.job", &[]).await.unwrap();
    for (n, change) in ["api_key = null", "api_key = gen_random_uuid()"]
        .into_iter()
        .enumerate()
    {
        let id = enqueue_by_key(&scope, Uuid::now_v7()).await;
        let change = format!("update tenantry_private.job set {change} where id = $1");
        assert_eq!(admin.execute(&change, &[&id]).await.unwrap(), 1);
        let worker = worker(&world.tenantry).handle(super::add);
        let report = work(worker, async || jobs_left(&scope, &[JobState::Dead]).await == n + 1).await;
        assert_eq!(report.done, 0);
    }
    for dead in scope.jobs(&[JobState::Dead], None, 10).await.unwrap() {
        assert!(dead.error.unwrap().contains("not as this database signed it"));
    }
    let bulk = scope
        .transaction::<_, Error, _>(async |tx| {
            tx.enqueue(&Add { id: 102 }).await?;
            Ok(())
        })
        .await;
    assert!(bulk.is_ok(), "others are as before");
}
