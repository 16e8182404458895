//! Behind a real PgBouncer in transaction mode, of a version that knows no prepared statements there.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tenantry::{
    ErrorKind, PoolConfig, Tenantry,
    jobs::{Failure, Job, JobState, Run, Worker},
};
use tenantry_testing::PgBouncer;
use tenantry_wire::{Address, Endpoint};

use crate::world::World;
use secrecy::ExposeSecret as _;

/// A fleet in small whose shared database is reached by way of a pooler with two connections, or why there is no pooler here.
async fn pooled(pool: PoolConfig) -> Option<(World, PgBouncer)> {
    let world = World::with(pool).await;
    let database = &world.databases[0];
    let endpoint = Endpoint::clone(&database.home.endpoint);
    let started = tenantry_testing::pgbouncer(
        database.test.cluster(),
        &endpoint.user,
        endpoint.password.expose_secret(),
        2,
    );
    let pooler = match started.await {
        Ok(pooler) => pooler,
        Err(reason) => {
            eprintln!("\n*** SKIPPED, NOTHING IS SHOWN: there is no PgBouncer on this machine: {reason} ***\n");
            return None;
        }
    };
    tenantry_engine::keys::allow_pooled(&database.admin, true)
        .await
        .unwrap();
    for n in 0..4 {
        let mut homes = world.source.homes.lock();
        let home = homes.get_mut(&world.tenants[n]).unwrap();
        let mut endpoint = Endpoint::clone(&home.endpoint);
        endpoint.address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: pooler.port(),
        };
        home.endpoint = Arc::new(endpoint);
        home.pooled = true;
    }
    world.tenantry.forget_placements();
    // From here on only the pooler has connections of the role.
    let role = database.home.endpoint.user.clone();
    let sql =
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = $1 and application_name <> 'x'";
    database.admin.execute(sql, &[&role]).await.unwrap();
    Some((world, pooler))
}

/// The backends of the role, the statements they have prepared are nobody's business: what each of them ran last.
async fn backends(world: &World) -> Vec<String> {
    let database = &world.databases[0];
    let sql = "select query from pg_stat_activity where usename = $1";
    let rows = database
        .admin
        .query(sql, &[&database.home.endpoint.user])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_interleaved_over_a_poolers_few_connections_see_their_own_rows() {
    let Some((world, _pooler)) = pooled(PoolConfig::default()).await else {
        return;
    };
    // Two in shared tables and two in schemas of their own, many at once over two backends.
    for round in 0..8 {
        let calls = (0..24).map(|n| {
            let world = &world;
            async move {
                let names = world.names(n % 4).await;
                assert_eq!(names, [format!("contact of {}", n % 4)], "round {round}");
                let scope = world.scope(n % 4).await;
                let sql = "select name from project where id = $1";
                let project: (String,) = scope.query_one_as(sql, &[&1_i32]).await.unwrap();
                assert_eq!(project.0, format!("project of {}", n % 4));
            }
        });
        join_all(calls).await;
    }
    let backends = backends(&world).await;
    assert!((1..=2).contains(&backends.len()), "{backends:?}");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_streams_and_copies_go_through_a_pooler() {
    let Some((world, _pooler)) = pooled(PoolConfig::default()).await else {
        return;
    };
    let writes = (0..4).map(|n| {
        let world = &world;
        async move {
            let scope = world.scope(n).await;
            let id = 10_i32;
            let kept = scope
                .transaction(async |tx| -> Result<_, tenantry::Error> {
                    tx.execute("insert into contact (id, name) values ($1, 'kept')", &[&id])
                        .await?;
                    let undone = tx
                        .savepoint(async |tx| -> Result<_, tenantry::Error> {
                            tx.execute("insert into contact (id, name) values (11, 'undone')", &[])
                                .await?;
                            tx.execute("select 1 / 0", &[]).await
                        })
                        .await;
                    assert_eq!(undone.unwrap_err().kind(), ErrorKind::Database);
                    tx.query_one_as::<(i64,)>("select count(*) from contact", &[]).await
                })
                .await
                .unwrap();
            assert_eq!(kept, (2,));
            let failed = scope
                .transaction(async |tx| -> Result<_, tenantry::Error> {
                    tx.execute("insert into contact (id, name) values (12, 'lost')", &[])
                        .await?;
                    tx.execute("select 1 / 0", &[]).await
                })
                .await;
            assert!(failed.is_err());
            let mut rows = scope
                .query_stream("select id from contact order by id", &[])
                .await
                .unwrap();
            let mut ids = Vec::new();
            while let Some(row) = rows.next().await.unwrap() {
                ids.push(row.get::<i32>("id").unwrap());
            }
            assert_eq!(ids, [1, 10]);
        }
    });
    join_all(writes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_time_outs_and_dropped_calls_leave_nothing_behind_a_pooler() {
    let Some((world, _pooler)) = pooled(PoolConfig {
        statement_timeout: Duration::from_secs(2),
        ..PoolConfig::default()
    })
    .await
    else {
        return;
    };
    let scope = world.scope(0).await;
    let error = scope
        .execute("insert into contact (id, name) values (1, 'twice')", &[])
        .await
        .unwrap_err();
    assert_eq!(error.database().unwrap().code(), "23505");
    let error = scope.execute("select nothing from contact", &[]).await.unwrap_err();
    assert_eq!(error.database().unwrap().code(), "42703");
    let error = scope.execute("select pg_sleep(60)", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // Long enough for it to have begun: a request to stop what has not is for nothing.
    let dropped = tokio::time::timeout(Duration::from_millis(800), scope.execute("select pg_sleep(61)", &[])).await;
    assert!(dropped.is_err());
    for _ in 0..400 {
        let busy = backends(&world).await.iter().any(|query| query.contains("pg_sleep(6"));
        if !busy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        // What was cancelled makes way for the next.
        world.names(1).await;
    }
    let running = backends(&world).await;
    assert!(running.iter().all(|query| !query.contains("pg_sleep(6")), "{running:?}");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_session_is_refused_before_it_is_sent_to_a_pooler() {
    let Some((world, _pooler)) = pooled(PoolConfig::default()).await else {
        return;
    };
    let scope = world.scope(0).await;
    let refused = scope.raw().query("select 1", &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    // Those that go to their server itself are served as ever.
    let rows = world.scope(4).await.raw().query("select 1", &[]).await.unwrap();
    assert_eq!(rows.rows.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_changed_its_type_is_not_read_by_its_old_one() {
    let Some((world, _pooler)) = pooled(PoolConfig::default()).await else {
        return;
    };
    let scope = world.scope(2).await;
    let sql = "select id from project";
    let (before,): (i32,) = scope.query_one_as(sql, &[]).await.unwrap();
    assert_eq!(before, 1);
    let schema = world.source.homes.lock()[&world.tenants[2]].placement.schema.clone();
    // Of the same size on the wire, so that only the description tells.
    let alter = format!(
        "alter table {schema}.project drop column id cascade; alter table {schema}.project add column id float4 not null default 1.5"
    );
    world.databases[0].admin.batch_execute(&alter).await.unwrap();
    let first = scope.query_one_as::<(i32,)>(sql, &[]).await;
    assert!(first.is_err(), "{first:?}");
    let (after,): (f32,) = scope.query_one_as(sql, &[]).await.unwrap();
    assert_eq!(after, 1.5);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Add {
    id: i32,
}

impl Job for Add {
    const KIND: &'static str = "add";
}

/// Enqueueing goes through; a worker proves its right to the very backend it calls, so it goes to the server itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_enqueued_through_a_pooler_and_worked_on_beside_it() {
    let Some((world, _pooler)) = pooled(PoolConfig::default()).await else {
        return;
    };
    for n in [0, 2] {
        let scope = world.scope(n).await;
        scope.enqueue(&Add { id: 100 }).await.unwrap();
        scope
            .transaction::<_, tenantry::Error, _>(async |tx| {
                tx.enqueue(&Add { id: 101 }).await?;
                tx.execute("insert into project (id, name) values (2, 'beside')", &[])
                    .await?;
                tx.enqueue(&Add { id: 102 }).await
            })
            .await
            .unwrap();
        assert_eq!(scope.jobs(&[JobState::Waiting], None, 10).await.unwrap().len(), 3);
    }
    // Refused before anything is sent, with the reason.
    let pools = tenantry_pool::Pools::new(world.source.clone(), PoolConfig::default());
    let sql = "select * from tenantry.schedule_due($1, $2, '{}', '{add}', 10)";
    let refused = pools.as_worker(world.databases[0].id, sql, &[]).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, tenantry_pool::Error::NeedsSession), "{refused}");
    assert!(refused.to_string().contains("pooler in transaction mode"), "{refused}");

    let add = |run: Run, job: Add| async move {
        run.execute("insert into contact (id, name) values ($1, 'by a job')", &[&job.id])
            .await?;
        Ok::<(), Failure>(())
    };
    let through = Worker::new(&world.tenantry)
        .handle(add)
        .poll(Duration::from_millis(5), Duration::from_millis(20));
    let report = through.run(tokio::time::sleep(Duration::from_millis(300))).await;
    assert_eq!(report.done, 0, "{report:?}");
    // The same homes as they are reached beside the pooler.
    for home in world.source.homes.lock().values_mut() {
        if home.placement.database == world.databases[0].id {
            home.endpoint = world.databases[0].home.endpoint.clone();
            home.pooled = false;
        }
    }
    let beside = Tenantry::from_source(world.source.clone(), world.audit.clone(), PoolConfig::default());
    let worker = Worker::new(&beside)
        .handle(add)
        .poll(Duration::from_millis(5), Duration::from_millis(20));
    let report = worker.run(tokio::time::sleep(Duration::from_millis(1500))).await;
    assert_eq!((report.done, report.failed), (6, 0), "{report:?}");
}
