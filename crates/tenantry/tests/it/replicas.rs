//! Reads from a streaming standby: what they show, what they refuse, and where they go when it is not there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry::{Bookmark, Config, ErrorKind, PoolConfig, ReadOnly, Role, Scope, Tenantry};
use tenantry_catalog::{Catalog, MasterKey, connection_share, replica};
use tenantry_core::Epoch;
use tenantry_core::Isolation;
use tenantry_engine::fence::{self, Closed};
use tenantry_engine::migrate::Files;
use tenantry_ops::{Authority, FleetConfig, IdentityConfig, Ops, ServerChange, ServerRequest, TenantRequest};
use tenantry_testing::{OwnCluster, OwnClusterOptions, own_cluster};
use tenantry_wire::Address;

use crate::{dropped::dropped_after, world::World};

/// A fleet in small on a primary, and the primary's standby.
struct Pair {
    world: World,
    standby: OwnCluster,
    primary: OwnCluster,
}

impl Pair {
    async fn new() -> Self {
        Self::with(PoolConfig::default()).await
    }

    async fn with(pool: PoolConfig) -> Self {
        let mut primary = own_cluster(OwnClusterOptions::default()).await;
        let standby = primary.standby(None);
        let pair = Self {
            world: World::on(primary.cluster(), pool).await,
            standby,
            primary,
        };
        let address = Address::Tcp {
            host: pair.standby.cluster().host().to_owned(),
            port: pair.standby.cluster().port(),
        };
        pair.world.source.replicas.lock().push(address);
        pair.world.tenantry.forget_placements();
        pair.standby.until_it_shows(&pair.primary).await;
        pair
    }

    async fn scope(&self, n: usize) -> Scope {
        self.world.scope(n).await
    }

    /// Stops or goes on with replaying.
    async fn replay(&self, on: bool) {
        let sql = if on {
            "select pg_wal_replay_resume()"
        } else {
            "select pg_wal_replay_pause()"
        };
        let client = self.standby.connect("postgres").await;
        client.execute(sql, &[]).await.unwrap();
        let sql = "select pg_get_wal_replay_pause_state() in ('paused', 'pause requested')";
        // A standby without anything to replay pauses with the next record.
        assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0), !on);
    }
}

/// Whether a replica answers.
async fn at_replica(reads: &ReadOnly) -> bool {
    let row = reads.query_one("select pg_is_in_recovery()", &[]).await.unwrap();
    row.get(0).unwrap()
}

/// Waits until reads go there.
async fn until(reads: &ReadOnly, replica: bool) {
    let since = Instant::now();
    while at_replica(reads).await != replica {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "reads do not go to a replica: {replica}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn names(reads: &ReadOnly) -> Vec<String> {
    let rows = reads
        .query_as::<(String,)>("select name from contact order by id", &[])
        .await
        .unwrap();
    rows.into_iter().map(|(name,)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_shows_each_tenant_its_own_rows_and_takes_no_writes() {
    let pair = Pair::new().await;
    for n in 0..6 {
        let scope = pair.scope(n).await;
        let reads = scope.read_only();
        // The first read asks how far the replica is, and nobody waits for the answer.
        until(&reads, true).await;
        assert_eq!(names(&reads).await, [format!("contact of {n}")]);
        let foreign = pair.world.tenants[n ^ 1];
        let sql = "select count(*) from contact where tenant_id = $1";
        assert_eq!(
            reads.query_one_as::<(i64,)>(sql, &[foreign.as_uuid()]).await.unwrap(),
            (0,)
        );
        let mut rows = reads
            .query_stream("select name from contact, generate_series(1, 500)", &[])
            .await
            .unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().await.unwrap() {
            assert_eq!(row.get::<String>(0).unwrap(), format!("contact of {n}"));
            count += 1;
        }
        assert_eq!(count, 500);
        let mut data = reads
            .copy_out("copy (select name, pg_is_in_recovery() from contact) to stdout")
            .await
            .unwrap();
        assert_eq!(data.next().await.unwrap().unwrap(), format!("contact of {n}\tt\n"));
        assert!(data.next().await.unwrap().is_none());

        // In either place, also by way of a function, a role that may write, or a setting.
        for reads in [reads.clone(), reads.clone().max_staleness(Duration::ZERO)] {
            for sql in [
                "insert into contact (id, name) values (9, 'x')",
                "with gone as (delete from contact returning id) select id from gone",
                "select set_config('transaction_read_only', 'off', true)",
            ] {
                let error = reads.query(sql, &[]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Database, "{error}");
                let code = error.database().unwrap().code();
                assert!(code == "25006" || code == "25001" || code == "0A000", "{sql}: {error}");
            }
            assert_eq!(names(&reads).await, [format!("contact of {n}")]);
        }
        // What was read-only is so for its call only.
        let scope = pair.scope(n).await;
        scope.execute("update contact set name = name", &[]).await.unwrap();
        // With fewer rights too.
        let viewer = scope.at_most(Role::Viewer).read_only();
        until(&viewer, true).await;
        assert_eq!(names(&viewer).await, [format!("contact of {n}")]);
    }
    pair.world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_as_new_as_it_asks_for_and_shows_what_its_caller_wrote() {
    let pair = Pair::new().await;
    let (writer, other) = (pair.scope(0).await, pair.scope(0).await);
    let reads = other.read_only();
    until(&reads, true).await;

    pair.replay(false).await;
    let sql = "update contact set name = 'new' where id = 1";
    writer.execute(sql, &[]).await.unwrap();
    // Who wrote sees it at once, by every clone, whatever age is allowed; the bookmark carries that elsewhere.
    let late = Duration::from_secs(3600);
    for scope in [writer.clone(), writer.at_most(Role::Viewer)] {
        assert_eq!(names(&scope.read_only().max_staleness(late)).await, ["new"]);
    }
    let bookmark: Bookmark = writer.bookmark().await.unwrap().to_string().parse().unwrap();
    assert_eq!(
        names(&other.read_only().max_staleness(late).after(&bookmark)).await,
        ["new"]
    );
    // Others may see what was, as long as they allow it.
    assert!(at_replica(&other.read_only().max_staleness(late)).await);
    assert_eq!(names(&other.read_only().max_staleness(late)).await, ["contact of 0"]);
    // Past the bound everybody reads from the primary.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!at_replica(&reads).await);
    assert_eq!(names(&reads).await, ["new"]);

    pair.replay(true).await;
    for reads in [reads, writer.read_only(), other.read_only().after(&bookmark)] {
        until(&reads, true).await;
        assert_eq!(names(&reads).await, ["new"]);
    }
    // A bookmark of another database's key, or of nobody's, is behind everything.
    let foreign = pair.scope(4).await.bookmark().await.unwrap();
    assert!(!at_replica(&other.read_only().after(&foreign)).await);

    // Each write of many is seen by who wrote it, wherever it is read.
    for round in 0..40 {
        let name = format!("round {round}");
        let work = async |tx: &mut tenantry::Transaction| -> Result<(), tenantry::Error> {
            tx.execute("update contact set name = $1 where id = 1", &[&name])
                .await?;
            Ok(())
        };
        match round % 2 {
            0 => writer.transaction(work).await.unwrap(),
            _ => drop(
                writer
                    .query("update contact set name = $1 where id = 1 returning id", &[&name])
                    .await
                    .unwrap(),
            ),
        }
        assert_eq!(names(&writer.read_only().max_staleness(late)).await, [name.as_str()]);
        let bookmark = writer.bookmark().await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 5)).await;
        assert_eq!(
            names(&other.read_only().max_staleness(late).after(&bookmark)).await,
            [name.as_str()]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_replica_a_read_goes_to_the_primary_and_comes_back() {
    let mut pair = Pair::new().await;
    let scope = pair.scope(2).await;
    let reads = scope.read_only();
    until(&reads, true).await;
    assert_eq!(pair.world.tenantry.replica_status().len(), 1);
    assert!(pair.world.tenantry.replica_status()[0].lag.is_some());

    pair.standby.kill();
    // None of them fails, the first included, which may be under way to it.
    for _ in 0..50 {
        assert_eq!(names(&reads).await, ["contact of 2"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!at_replica(&reads).await);
    assert_eq!(pair.world.tenantry.replica_status()[0].lag, None);
    pair.standby.restart();
    until(&reads, true).await;
    assert_eq!(names(&reads).await, ["contact of 2"]);

    // A statement in the way of what is replayed is ended there and answered by the primary.
    let client = pair.standby.connect("postgres").await;
    for sql in [
        "alter system set max_standby_streaming_delay = 0",
        "select pg_reload_conf()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let sql = "select name, (select max(md5(n::text)) from generate_series(1, 2000000) n) from contact";
    let slow = reads.query(sql, &[]);
    let locking = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let admin = &pair.world.databases[0].admin;
        let schema = tenantry_core::own_schema_name(pair.world.tenants[2]);
        let sql = format!("begin; lock table \"{schema}\".contact; select pg_current_xact_id(); commit");
        admin.batch_execute(&sql).await.unwrap();
    };
    let (rows, ()) = tokio::join!(slow, locking);
    assert_eq!(rows.unwrap().len(), 1);

    // One that was promoted is nobody's replica any more.
    until(&reads, true).await;
    client.execute("select pg_promote(true, 30)", &[]).await.unwrap();
    scope.execute("update contact set name = 'after'", &[]).await.unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        let late = scope.read_only().max_staleness(Duration::from_secs(3600));
        assert_eq!(names(&late).await, ["after"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(pair.world.tenantry.replica_status()[0].lag, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_suspended_is_refused_at_the_replica_too() {
    let pair = Pair::new().await;
    for n in [0, 2, 4] {
        let (scope, neighbour) = (pair.scope(n).await, pair.scope(n + 1).await);
        let late = scope.read_only().max_staleness(Duration::from_secs(3600));
        until(&late, true).await;
        until(&neighbour.read_only(), true).await;
        let database = if n == 4 { 1 } else { 0 };
        let admin = &pair.world.databases[database].admin;
        fence::close(admin, pair.world.tenants[n], Epoch::FIRST, Closed::Suspended)
            .await
            .unwrap();
        pair.standby.until_it_shows(&pair.primary).await;
        // By its fence alone: the library was told nothing.
        let error = late.query("select name from contact", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantSuspended, "{error}");
        assert_eq!(names(&neighbour.read_only()).await, [format!("contact of {}", n + 1)]);
        fence::open(admin, pair.world.tenants[n], Epoch::FIRST).await.unwrap();
        pair.standby.until_it_shows(&pair.primary).await;
        assert_eq!(names(&late).await, [format!("contact of {n}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_dropped_at_a_replica_leaves_nothing_there() {
    let pair = Pair::with(PoolConfig {
        connections_max: 2,
        ..PoolConfig::default()
    })
    .await;
    for n in [0, 2, 4] {
        let scope = pair.scope(n).await;
        until(&scope.read_only(), true).await;
        let mut ends = 0;
        for polls in 1..500 {
            let reads = scope.read_only().max_staleness(Duration::from_secs(3600));
            let work = async {
                // Prepared anew each time, read in one go and row by row.
                let sql = format!("select name, {polls} from contact where id = $1");
                reads.query(&sql, &[&1]).await.unwrap();
                let mut rows = reads
                    .query_stream("select name from contact, generate_series(1, 300)", &[])
                    .await
                    .unwrap();
                while rows.next().await.unwrap().is_some() {
                    tokio::task::consume_budget().await;
                }
            };
            ends += usize::from(dropped_after(polls, work).await);
            let neighbour = pair.scope(n ^ 1).await;
            assert_eq!(names(&neighbour.read_only()).await, [format!("contact of {}", n ^ 1)]);
            if ends == 2 {
                break;
            }
        }
        assert_eq!(ends, 2, "it never came to its end");
    }
    // What was given up is stopped on the standby too.
    let client = pair.standby.connect("postgres").await;
    let sql = "select count(*) from pg_stat_activity where application_name = 'tenantry' and xact_start is not null";
    let since = Instant::now();
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(since.elapsed() < Duration::from_secs(20), "a transaction is left open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_listed_in_the_catalog_and_have_connections_of_their_own() {
    const KEY: [u8; 32] = [7; 32];
    let system = Authority::system("test");
    let mut primary = own_cluster(OwnClusterOptions::default()).await;
    let standby = primary.standby(None);
    let database = tenantry_testing::database().await;
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
        connections: Some(7),
        admin_url: primary.cluster().admin_url("postgres").into(),
    };
    let server = ops.add_server(&system, &request).await.unwrap();
    let mut request = TenantRequest::new("acme".parse().unwrap(), "Acme".parse().unwrap());
    request.isolation = Some(Isolation::Database);
    let tenant = ops.create_tenant(&system, &request, None).await.unwrap().id;

    let list = async |addresses: Vec<String>| {
        let change = ServerChange {
            replicas: Some(addresses),
            ..ServerChange::default()
        };
        ops.change_server(&system, "one", &change).await.unwrap();
    };
    let tenantry = Tenantry::connect(Config::new(database.url(), MasterKey::from_bytes(KEY)))
        .await
        .unwrap();
    let reads = tenantry.system_context(tenant, "test").await.unwrap().read_only();
    assert!(!at_replica(&reads).await);
    // What runs hears of it, and of its end.
    list(vec![format!(
        "{}:{}",
        standby.cluster().host(),
        standby.cluster().port()
    )])
    .await;
    until(&reads, true).await;
    let client = ops.catalog().client().await.unwrap();
    let listed = replica::list(&client, server.id).await.unwrap();
    let (replica, share) = (
        listed[0].id,
        connection_share::list(&client, listed[0].id).await.unwrap(),
    );
    assert_eq!(
        share.iter().map(|(_, held)| *held).collect::<Vec<_>>(),
        [7],
        "as many as its server has"
    );
    let status = tenantry.server_status();
    assert!(
        status
            .iter()
            .any(|(id, status)| *id == replica && status.share == 7 && status.open > 0),
        "{status:?}"
    );
    assert_eq!(tenantry.replica_status().len(), 1);
    list(Vec::new()).await;
    until(&reads, false).await;
    assert!(tenantry.replica_status().is_empty());
    assert!(connection_share::list(&client, replica).await.unwrap().is_empty());
    tenantry.close().await;
}
