//! A tenant that is written to while it moves: what was acknowledged is there, once, in the home where it lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry::{Error, ErrorKind, Scope, TenantId, Tenantry};
use tenantry_core::Isolation;
use tenantry_ops::{MoveRequest, OperationState};

use crate::jobs::fleet::{Fleet, handle_at, system};

/// What writers were told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<BTreeMap<i32, String>>,
    /// Numbers of writes whose fate is not known, or that had none.
    failed: Mutex<BTreeMap<i32, ErrorKind>>,
    last: AtomicI32,
    stop: AtomicBool,
}

impl Told {
    fn next(&self) -> i32 {
        self.last.fetch_add(2, Ordering::Relaxed)
    }

    fn note(&self, numbers: &[i32], outcome: Result<String, Error>) {
        match outcome {
            Ok(place) => self
                .acknowledged
                .lock()
                .extend(numbers.iter().map(|number| (*number, format!("{place} {numbers:?}")))),
            Err(error) => self
                .failed
                .lock()
                .extend(numbers.iter().map(|number| (*number, error.kind()))),
        }
    }
}

const INSERT: &str = "insert into done (job, note) values ($1, 'x')
    returning current_schema() || ' in ' || current_database() || ' by ' || pg_backend_pid() || ' at ' || extract(epoch from clock_timestamp())";

/// Between two writes of one: who writes as fast as the machine allows makes so many rows that to move them is all that it does.
const PAUSE: Duration = Duration::from_millis(2);

async fn write_singly(scope: Scope, told: Arc<Told>) {
    while !told.stop.load(Ordering::Relaxed) {
        let number = told.next();
        let written = scope
            .query_one(INSERT, &[&number])
            .await
            .and_then(|row| row.get::<String>(0));
        told.note(&[number], written);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write_two(scope: &Scope, one: i32, other: i32) -> Result<String, Error> {
    let mut transaction = scope.begin().await?;
    transaction.execute(INSERT, &[&one]).await?;
    let place = transaction.query_one(INSERT, &[&other]).await?.get::<String>(0)?;
    transaction.commit().await?;
    Ok(place)
}

/// Two at a time, which hold together.
async fn write_in_transactions(scope: Scope, told: Arc<Told>) {
    while !told.stop.load(Ordering::Relaxed) {
        let (one, other) = (told.next(), told.next());
        let written = write_two(&scope, one, other).await;
        told.note(&[one, other], written);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn scope(tenantry: &Tenantry, tenant: TenantId) -> Scope {
    tenantry.system_context(tenant, "test").await.unwrap()
}

pub(crate) async fn moved(fleet: &Fleet, tenant: TenantId, to: Isolation) {
    let request = MoveRequest {
        to,
        server: None,
        force: false,
        wait: false,
        soak: None,
    };
    let begun = fleet
        .ops
        .move_tenant(&system(), &tenant.into(), &request, None)
        .await
        .unwrap();
    let ended = fleet.ops.finish_move(&system(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_during_moves_is_there_once() {
    let fleet = Fleet::start().await;
    let tenant = fleet.tenants[0];
    let told = Arc::new(Told::default());
    // Another process hears of the move by itself.
    let elsewhere = handle_at(&fleet.catalog.url()).await;
    let mut writers = Vec::new();
    for tenantry in [&fleet.tenantry, &elsewhere] {
        writers.push(tokio::spawn(write_singly(scope(tenantry, tenant).await, told.clone())));
        writers.push(tokio::spawn(write_in_transactions(
            scope(tenantry, tenant).await,
            told.clone(),
        )));
    }
    for to in [
        Isolation::Schema,
        Isolation::Database,
        Isolation::Shared,
        Isolation::Database,
        Isolation::Schema,
        Isolation::Shared,
    ] {
        let before = told.acknowledged.lock().len();
        moved(&fleet, tenant, to).await;
        while told.acknowledged.lock().len() < before + 20 {
            tokio::task::yield_now().await;
        }
    }
    told.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let rows = fleet
        .scope(0)
        .await
        .query("select job, count(*) from done group by job", &[])
        .await
        .unwrap();
    let found: BTreeMap<i32, i64> = rows
        .iter()
        .map(|row| (row.get::<i32>(0).unwrap(), row.get::<i64>(1).unwrap()))
        .collect();
    let (acknowledged, failed) = (told.acknowledged.lock(), told.failed.lock());
    assert!(found.values().all(|count| *count == 1), "doubled");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|(number, _)| !found.contains_key(*number))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let unknown: Vec<_> = found
        .keys()
        .filter(|number| !acknowledged.contains_key(*number) && !failed.contains_key(*number))
        .collect();
    assert!(unknown.is_empty(), "from nowhere: {unknown:?}");
    // Connections were ended where both homes are in one database; everybody else was held, or told that the tenant moves.
    let kinds: BTreeSet<_> = failed.values().map(|kind| format!("{kind:?}")).collect();
    assert!(
        kinds.iter().all(|kind| kind == "TenantMoving" || kind == "Unavailable"),
        "{kinds:?}"
    );
    println!(
        "{} acknowledged, {} failed: {kinds:?}",
        acknowledged.len(),
        failed.len()
    );
}

/// Those who wait come all at once, and find one there instead of opening as many as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_the_new_home_is_open_before_the_tenant_lives_there() {
    let fleet = Fleet::start().await;
    let (tenant, told) = (fleet.tenants[0], Arc::new(Told::default()));
    // While it lasts, the old home's fence is closed and the tenant does not move.
    let mut lasts = fleet.scope(0).await.begin().await.unwrap();
    lasts.execute(INSERT, &[&-1]).await.unwrap();
    let request = MoveRequest {
        to: Isolation::Database,
        server: None,
        force: false,
        wait: false,
        soak: None,
    };
    let begun = fleet
        .ops
        .move_tenant(&system(), &tenant.into(), &request, None)
        .await
        .unwrap();
    let database = begun.input["to"]["database_name"].as_str().unwrap().to_owned();
    let moving = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.finish_move(&system(), begun.id, &|_| ()).await.unwrap() }
    });
    let writer = tokio::spawn(write_singly(scope(&fleet.tenantry, tenant).await, told.clone()));
    let server = tenantry_testing::cluster().await.connect("postgres").await;
    // Not the mover, nor the administrator.
    let sql = "select count(*) from pg_stat_activity a join pg_roles r on r.rolname = a.usename
                where a.datname = $1 and not r.rolsuper and a.usename not like '%mover%' and a.backend_type = 'client backend'";
    let since = Instant::now();
    while server.query_one(sql, &[&database]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody has opened one");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!moving.is_finished(), "the tenant has moved by now");
    let _ = lasts.commit().await;
    assert_eq!(moving.await.unwrap().state, OperationState::Done);
    told.stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

/// A home of a tenant's, with the administrator's connection to it.
struct Home {
    tenant: TenantId,
    epoch: i64,
    database: String,
    admin: tokio_postgres::Client,
}

impl Home {
    async fn of(fleet: &Fleet, tenant: TenantId) -> Self {
        let found = fleet.ops.get_tenant(&system(), &tenant.into()).await.unwrap();
        let placement = found.placement.unwrap();
        let admin = tenantry_testing::cluster().await.connect(&placement.database).await;
        // What is set for the database's sessions is none of its own.
        let usual = "set default_transaction_isolation = 'read committed'";
        admin.batch_execute(usual).await.unwrap();
        Self {
            tenant,
            epoch: placement.epoch.0,
            database: placement.database,
            admin,
        }
    }

    /// Sessions that begin from now on run their transactions so.
    async fn set_level(&self, level: &str) {
        let set = format!(
            "alter database \"{}\" set default_transaction_isolation = '{level}'",
            self.database
        );
        self.admin.batch_execute(&set).await.unwrap();
    }

    /// As a move does before the last copy.
    async fn close(&self) {
        let close = format!(
            "select tenantry.fence_close('{}', {}, 1::int2)",
            self.tenant, self.epoch
        );
        self.admin.batch_execute(&close).await.unwrap();
    }

    /// As a move does that is called off.
    async fn open(&self) {
        let open = format!("select tenantry.fence_open('{}', {})", self.tenant, self.epoch);
        self.admin.batch_execute(&open).await.unwrap();
    }
}

async fn count(scope: &Scope) -> i64 {
    let row = scope.query_one("select count(*) from done", &[]).await.unwrap();
    row.get::<i64>(0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_move_meets_is_told_so_and_nothing_of_it_is_kept() {
    let fleet = Fleet::start().await;
    let mut number = 0;
    for level in ["read committed", "repeatable read", "serializable"] {
        let mut homes = Vec::new();
        for tenant in &fleet.tenants {
            let home = Home::of(&fleet, *tenant).await;
            home.set_level(level).await;
            homes.push(home);
        }
        // Its connections are new ones.
        let tenantry = handle_at(&fleet.catalog.url()).await;
        for home in &homes {
            let scope = scope(&tenantry, home.tenant).await;
            number += 1;
            let before = count(&scope).await;
            let mut transaction = scope.begin().await.unwrap();
            let insert =
                "insert into done (job, note) values ($1, 'half') returning current_setting('transaction_isolation')";
            let row = transaction.query_one(insert, &[&number]).await.unwrap();
            assert_eq!(row.get::<String>(0).unwrap(), level);
            home.close().await;
            // Another lock than the one that it holds: whoever has all that a statement needs does not hear of the fence, and is
            // waited for.
            let refused = transaction
                .query("select job from done order by job", &[])
                .await
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::TenantMoving, "{level}: {refused:?}");
            assert!(transaction.commit().await.is_err(), "{level}: it can only be undone");
            home.open().await;
            assert_eq!(count(&scope).await, before, "{level}: nothing of it was kept");
            // It is worth beginning again.
            let mut again = scope.begin().await.unwrap();
            again.execute(INSERT, &[&number]).await.unwrap();
            again.commit().await.unwrap();
            assert_eq!(count(&scope).await, before + 1, "{level}");
        }
    }
}
