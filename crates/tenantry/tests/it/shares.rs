//! One budget of connections to a server, over all processes that use it.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use tenantry::{Config, PoolConfig, Tenantry};
use tenantry_catalog::{Catalog, MasterKey, connection_share, placement};
use tenantry_core::{Isolation, ServerId, TenantId};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, Ops, ServerChange, ServerRequest, TenantRequest};
use tenantry_testing::{FaultProxy, TestDatabase, cluster, database};
use tokio::task::JoinHandle;

const BUDGET: usize = 8;
const LEASE: Duration = Duration::from_millis(900);
const KEY: [u8; 32] = [7; 32];
const CATALOG: &str = "TENANTRY_TEST_CATALOG";
const TENANT: &str = "TENANTRY_TEST_TENANT";

/// A catalog, a server with a small budget, and a tenant.
struct Fleet {
    catalog: TestDatabase,
    ops: Ops,
    tenant: TenantId,
    server: ServerId,
    role: String,
}

fn system() -> Authority {
    Authority::system("test")
}

impl Fleet {
    /// The catalog's address by way of a proxy that can fail.
    async fn behind_a_proxy(&self) -> (FaultProxy, String) {
        let server = cluster().await;
        let proxy = FaultProxy::start(server.host(), server.port()).await;
        let (there, here) = (format!(":{}/", server.port()), format!(":{}/", proxy.port()));
        (proxy, self.catalog.url().replace(&there, &here))
    }

    async fn new() -> Self {
        let database = database().await;
        let catalog = Catalog::connect(&database.url(), &MasterKey::from_bytes(KEY))
            .await
            .unwrap();
        let mut config = FleetConfig::default();
        let files = Files::from_embedded([("0001_notes.sql", "create table notes (id int primary key);")]).unwrap();
        config.migrations = Some(Arc::new(files));
        config.wait = Duration::from_secs(50);
        let ops = Ops::with_fleet(catalog, IdentityConfig::new("https://issuer.test", "tests"), config);
        let request = ServerRequest {
            name: "one".to_owned(),
            region: None,
            capacity: None,
            connections: Some(BUDGET as i32),
            admin_url: cluster().await.admin_url("postgres").into(),
        };
        let server = ops.add_server(&system(), &request).await.unwrap();
        let mut request = TenantRequest::new("acme".parse().unwrap(), "Acme".parse().unwrap());
        request.isolation = Some(Isolation::Shared);
        let tenant = ops.create_tenant(&system(), &request, None).await.unwrap().id;
        let client = ops.catalog().client().await.unwrap();
        let home = placement::locate(ops.catalog(), &client, tenant)
            .await
            .unwrap()
            .unwrap();
        drop(client);
        Self {
            catalog: database,
            tenant,
            server: server.id,
            role: home.database.app_role,
            ops,
        }
    }

    async fn process(&self) -> Process {
        Process::at(&self.catalog.url(), self.tenant).await
    }

    /// A process that can be killed: this test binary again.
    fn child(&self) -> Killed {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "shares::acts_as_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env(CATALOG, self.catalog.url())
            .env(TENANT, self.tenant.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Killed(child)
    }

    /// What the processes hold, as the catalog has it.
    async fn held(&self) -> Vec<u32> {
        let client = self.ops.catalog().client().await.unwrap();
        let rows = connection_share::list(&client, self.server).await.unwrap();
        rows.into_iter().map(|(_, held)| held).collect()
    }

    async fn until_held(&self, expected: &[u32]) {
        let since = Instant::now();
        loop {
            let held = self.held().await;
            if held == expected {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{held:?} instead of {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn watch(&self) -> Watch {
        let admin = cluster().await.connect("postgres").await;
        let watch = Watch(Arc::default());
        let (seen, role) = (watch.0.clone(), self.role.clone());
        tokio::spawn(async move {
            let sql = admin
                .prepare("select count(*) from pg_stat_activity where usename = $1")
                .await
                .unwrap();
            while !seen.stop.load(Ordering::SeqCst) {
                let count: i64 = admin.query_one(&sql, &[&role]).await.unwrap().get(0);
                let count = usize::try_from(count).unwrap();
                seen.now.store(count, Ordering::SeqCst);
                seen.most.fetch_max(count, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        watch
    }
}

#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    stop: AtomicBool,
}

/// Counts the connections of the application's role.
struct Watch(Arc<Seen>);

impl Watch {
    async fn until_there_are(&self, expected: usize) {
        let since = Instant::now();
        while self.0.now.load(Ordering::SeqCst) != expected {
            let now = self.0.now.load(Ordering::SeqCst);
            assert!(since.elapsed() < Duration::from_secs(30), "{now} instead of {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn assert_within_the_budget(&self) {
        let most = self.0.most.load(Ordering::SeqCst);
        assert!(most <= BUDGET, "{most} connections at a time");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// What a process of the application does: it always has more to ask than connections.
struct Process {
    tenantry: Tenantry,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    load: Vec<JoinHandle<()>>,
}

async fn connect(url: &str) -> Tenantry {
    let mut config = Config::new(url.to_owned(), MasterKey::from_bytes(KEY));
    config.pool = PoolConfig {
        share_lease: LEASE,
        connections_max: 12,
        wait_timeout: Duration::from_secs(30),
        ..PoolConfig::default()
    };
    Tenantry::connect(config).await.unwrap()
}

impl Process {
    async fn at(url: &str, tenant: TenantId) -> Self {
        let tenantry = connect(url).await;
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let scope = Arc::new(tenantry.system_context(tenant, "test").await.unwrap());
        let load = (0..12)
            .map(|_| {
                let (scope, stop, served) = (scope.clone(), stop.clone(), served.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        // While its share is lost it is refused; all else is a fault.
                        if scope.execute("select pg_sleep(0.02)", &[]).await.is_ok() {
                            served.fetch_add(1, Ordering::SeqCst);
                        } else {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                })
            })
            .collect();
        Self {
            tenantry,
            stop,
            served,
            load,
        }
    }

    /// Waits until another of its calls was served.
    async fn until_it_serves(&self) {
        let (before, since) = (self.served.load(Ordering::SeqCst), Instant::now());
        while self.served.load(Ordering::SeqCst) == before {
            assert!(since.elapsed() < Duration::from_secs(30), "nothing is served");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.load {
            task.await.unwrap();
        }
        // Dropped as soon as it has begun, it goes on.
        let dropped = tokio::time::timeout(Duration::ZERO, self.tenantry.close()).await;
        assert!(dropped.is_err(), "there was nothing to close");
        self.tenantry.close().await;
    }
}

struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, as a process of its own"]
async fn acts_as_a_process_of_its_own() {
    let (Ok(url), Ok(tenant)) = (std::env::var(CATALOG), std::env::var(TENANT)) else {
        panic!("this is no test: another one starts it");
    };
    let _process = Process::at(&url, tenant.parse().unwrap()).await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_come_and_go_share_the_budget_and_never_exceed_it() {
    let fleet = Fleet::new().await;
    let watch = fleet.watch().await;
    let first = fleet.process().await;
    fleet.until_held(&[8]).await;
    watch.until_there_are(8).await;
    let second = fleet.process().await;
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    let third = fleet.process().await;
    fleet.until_held(&[3, 3, 2]).await;
    watch.until_there_are(8).await;
    third.until_it_serves().await;
    // Leaves in order: the others have its share at once, long before a lease ends.
    second.end().await;
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    // The budget is changed while it is in use.
    let change = ServerChange {
        connections: Some(5),
        ..ServerChange::default()
    };
    fleet.ops.change_server(&system(), "one", &change).await.unwrap();
    fleet.until_held(&[3, 2]).await;
    watch.until_there_are(5).await;
    first.end().await;
    third.end().await;
    assert_eq!(fleet.held().await, [] as [u32; 0]);
    watch.until_there_are(0).await;
    watch.assert_within_the_budget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_process_that_was_killed_returns_after_its_lease() {
    let fleet = Fleet::new().await;
    let watch = fleet.watch().await;
    let mut child = fleet.child();
    fleet.until_held(&[8]).await;
    let stays = fleet.process().await;
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    child.kill();
    let killed_at = Instant::now();
    fleet.until_held(&[8]).await;
    watch.until_there_are(8).await;
    let returned = killed_at.elapsed();
    assert!(returned > LEASE, "before its lease ended: {returned:?}");
    assert!(returned < 6 * LEASE, "{returned:?}");
    stays.end().await;
    watch.assert_within_the_budget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_cut_off_from_the_catalog_gives_its_connections_up_before_others_take_them() {
    let fleet = Fleet::new().await;
    let watch = fleet.watch().await;
    let (proxy, url) = fleet.behind_a_proxy().await;
    let alone = Process::at(&url, fleet.tenant).await;
    let stays = fleet.process().await;
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    proxy.stall();
    fleet.until_held(&[8]).await;
    watch.until_there_are(8).await;
    let open: usize = alone
        .tenantry
        .server_status()
        .iter()
        .map(|(_, status)| status.open)
        .sum();
    assert_eq!(open, 0, "what others have is given up");
    proxy.heal();
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    alone.until_it_serves().await;
    alone.end().await;
    stays.end().await;
    watch.assert_within_the_budget();
}

#[cfg(all(feature = "sqlx", feature = "diesel"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_other_drivers_are_given_up_with_the_share_whatever_their_holders_do() {
    use diesel_async::RunQueryDsl as _;
    use futures_util::TryStreamExt as _;

    let fleet = Fleet::new().await;
    let watch = fleet.watch().await;
    let (proxy, url) = fleet.behind_a_proxy().await;
    let alone = connect(&url).await;
    let scope = alone.system_context(fleet.tenant, "test").await.unwrap();
    // Its whole share of later: two that do nothing, one that computes, one of whose rows nobody reads.
    let mut idle_sqlx = scope.begin_sqlx().await.unwrap();
    let mut idle_diesel = scope.begin_diesel().await.unwrap();
    let mut busy = scope.begin_sqlx().await.unwrap();
    let busy = tokio::spawn(async move { sqlx::query("select pg_sleep(60)").execute(&mut busy).await.map(|_| ()) });
    let mut rows = sqlx::query("select repeat('x', 1000) from generate_series(1, 1000000)").fetch(&scope);
    rows.try_next().await.unwrap().unwrap();
    watch.until_there_are(4).await;
    let stays = fleet.process().await;
    fleet.until_held(&[4, 4]).await;
    watch.until_there_are(8).await;
    proxy.stall();
    fleet.until_held(&[8]).await;
    watch.until_there_are(8).await;
    let open: usize = alone.server_status().iter().map(|(_, status)| status.open).sum();
    assert_eq!(open, 0, "what others have is given up");
    // Their holders learn of it when they go on.
    assert!(busy.await.unwrap().is_err());
    assert!(sqlx::query("select 1").execute(&mut idle_sqlx).await.is_err());
    assert!(diesel::sql_query("select 1").execute(&mut idle_diesel).await.is_err());
    while let Ok(row) = rows.try_next().await {
        assert!(row.is_some(), "it ended as if that were all");
    }
    drop(rows);
    proxy.heal();
    fleet.until_held(&[4, 4]).await;
    sqlx::query("select 1").execute(&scope).await.unwrap();
    alone.close().await;
    stays.end().await;
    watch.assert_within_the_budget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_passwords_and_another_address_are_taken_up_without_a_restart() {
    let fleet = Fleet::new().await;
    let process = fleet.process().await;
    process.until_it_serves().await;
    let scope = process.tenantry.system_context(fleet.tenant, "test").await.unwrap();
    let proxy = FaultProxy::start(cluster().await.host(), cluster().await.port()).await;
    let url = cluster().await.admin_url("postgres");
    let elsewhere = url.replace(&format!(":{}/", cluster().await.port()), &format!(":{}/", proxy.port()));
    assert_ne!(url, elsewhere);
    for round in 0..4 {
        let change = ServerChange {
            // There and back.
            admin_url: Some(if round % 2 == 0 { elsewhere.clone() } else { url.clone() }.into()),
            new_passwords: true,
            ..ServerChange::default()
        };
        fleet.ops.change_server(&system(), "one", &change).await.unwrap();
        for _ in 0..30 {
            // No call is refused, before and after all of this is known.
            scope.execute("select 1", &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // The second address leads nowhere any more, and nobody misses it.
    proxy.cut();
    scope.execute("select 1", &[]).await.unwrap();
    let client = fleet.ops.catalog().client().await.unwrap();
    let home = placement::locate(fleet.ops.catalog(), &client, fleet.tenant)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(home.admin_url.expose_secret(), url);
    drop(client);
    process.end().await;
}
