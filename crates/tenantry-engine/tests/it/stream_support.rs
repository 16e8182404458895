//! A tenant in shared tables, a schema of its own in another database for it, and writers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, TryStreamExt, pin_mut};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tenantry_core::{InstallationId, OperationId, TenantDatabaseId, TenantId, own_schema_name};
use tenantry_engine::{
    Roles,
    admin::ServerAdmin,
    bootstrap::{self, DatabaseRequest, Mover},
    home,
    isolate::Derived,
    migrate::{ByAdministrator, Patience, Target, apply},
    transfer::{
        End,
        stream::{
            Applier, Direction, Marker, Plan, Snapshot, StreamError, StreamName, begin_position, emit_marker,
            make_publication, make_slot, prepare_target,
        },
    },
};
use tenantry_sql::Identifier;
use tenantry_testing::{FaultProxy, TestCluster, TestDatabase, database_on};
use tenantry_wire::{Address, Endpoint, Tls};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{derived, files};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Keys of one column and of several, a unique that is swapped, large values, a cascade, and every type.
pub(crate) const TABLES: &str = "
    create type mood as enum ('fine', 'so so');
    create domain percent as int check (value between 0 and 100);
    create table account (id int primary key, place int not null, unique (place) deferrable initially immediate);
    create table note (
      id int primary key, account_id int not null references account on delete cascade, body text, n int not null default 0
    );
    create table everything (
      part text not null, id bigint generated always as identity, small smallint, num numeric, fixed numeric(12, 3), r real, d double precision,
      t text, v varchar(20), c char(5), b bytea, ts timestamp, tz timestamptz, da date, ti time, tiz timetz, iv interval, bo boolean,
      u uuid, j json, jb jsonb, ints int[], texts text[], moods mood[], mo mood, p percent, ip inet, cd cidr, ma macaddr,
      bi bit(4), vb bit varying, pt point, ra int4range, tsv tsvector,
      twice numeric generated always as (fixed * 2) stored,
      primary key (part, id)
    );";

pub(crate) struct World {
    pub(crate) installation: InstallationId,
    pub(crate) tenant: TenantId,
    pub(crate) other: TenantId,
    pub(crate) name: StreamName,
    pub(crate) source: Place,
    pub(crate) target: Place,
}

/// A tenant database, as its administrator and its mover see it.
pub(crate) struct Place {
    database: TestDatabase,
    pub(crate) admin: Client,
    server: ServerAdmin,
    mover: Mover,
    pub(crate) schema: String,
    target: Target,
}

impl Place {
    async fn new(cluster: &TestCluster, installation: &InstallationId, own: Option<TenantId>) -> Self {
        let database = database_on(cluster).await;
        let server = ServerAdmin::new(database.config()).unwrap();
        let mover = bootstrap::server(&server, installation, None).await.unwrap().mover;
        let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
        let request = DatabaseRequest {
            installation,
            database: id,
            name: database.name(),
            credentials: None,
            force_signed: false,
        };
        bootstrap::database(&server, &request).await.unwrap();
        if tenantry_testing::hardened() {
            let hardened = bootstrap::harden(&server, installation, database.name(), &[]).await;
            assert!(hardened.unwrap().is_whole());
        }
        let admin = database.connect().await;
        let schema = match own {
            Some(tenant) => {
                home::create_schema(&admin, installation, id, tenant).await.unwrap();
                own_schema_name(tenant)
            }
            None => "app".to_owned(),
        };
        let roles = Roles::of(installation);
        let target = Target {
            schema: Identifier::new(schema.as_str()).unwrap(),
            owner: roles.owner,
            application: Roles::app(installation, id),
            mover: roles.mover,
        };
        Self {
            database,
            admin,
            server,
            mover,
            schema,
            target,
        }
    }

    async fn migrate(&self, derived: &Derived) {
        let applied = apply(
            &self.admin,
            &self.target,
            derived,
            &[],
            &ByAdministrator,
            &Patience::default(),
        )
        .await;
        applied.unwrap();
    }

    pub(crate) fn end(&self) -> End<'_> {
        self.end_on(&self.admin)
    }

    /// The same on a connection that is dropped in the middle.
    pub(crate) fn end_on<'a>(&'a self, client: &'a Client) -> End<'a> {
        End {
            client,
            schema: &self.target.schema,
            mover: &self.target.mover,
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.admin.batch_execute(sql).await {
            panic!("{:?}\n{sql}", error.as_db_error());
        }
    }

    pub(crate) async fn value(&self, sql: &str) -> String {
        let row = self.admin.query_one(&format!("select ({sql})::text"), &[]).await;
        row.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
    }

    pub(crate) async fn connect(&self) -> Client {
        self.database.connect().await
    }

    /// The administrator's connection anew, after its server was away.
    pub(crate) async fn reconnect(&mut self) {
        self.admin = self.connect().await;
    }

    pub(crate) async fn as_mover(&self) -> Client {
        let server = self.server.with_login(&self.mover.role, &self.mover.password);
        server.connect(self.database.name()).await.unwrap()
    }

    /// The same through a proxy.
    pub(crate) async fn as_mover_through(&self, proxy: &FaultProxy) -> Option<Client> {
        let mut through = tokio_postgres::Config::new();
        through.host("127.0.0.1").port(proxy.port());
        let server = ServerAdmin::new(through).unwrap();
        let server = server.with_login(&self.mover.role, &self.mover.password);
        server.connect(self.database.name()).await.ok()
    }

    pub(crate) async fn proxy(&self) -> FaultProxy {
        let cluster = self.database.cluster();
        FaultProxy::start(cluster.host(), cluster.port()).await
    }

    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint_at(self.database.cluster().host(), self.database.cluster().port())
    }

    pub(crate) fn endpoint_at(&self, host: &str, port: u16) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            address: Address::Tcp {
                host: host.to_owned(),
                port,
            },
            database: self.database.name().to_owned(),
            user: self.mover.role.clone(),
            password: self.mover.password.clone(),
            tls: Tls::Off,
        })
    }
}

impl World {
    /// From shared tables to a schema of one's own.
    pub(crate) async fn new(from: &TestCluster, to: &TestCluster) -> Self {
        Self::with(from, to, TABLES).await
    }

    pub(crate) async fn with(from: &TestCluster, to: &TestCluster, tables: &str) -> Self {
        let installation: InstallationId = tenantry_testing::installation_id().parse().unwrap();
        let (tenant, other) = (TenantId::from_uuid(Uuid::now_v7()), TenantId::from_uuid(Uuid::now_v7()));
        let source = Place::new(from, &installation, None).await;
        let target = Place::new(to, &installation, Some(tenant)).await;
        let derived = derived(&files(&[("0001_test.sql", tables)])).await.unwrap();
        source.migrate(&derived).await;
        target.migrate(&derived).await;
        // On one server the second bootstrap gave the mover another password.
        let (mut source, target) = (source, target);
        if source.database.cluster().port() == target.database.cluster().port() {
            source.mover = target.mover.clone();
        }
        let operation = OperationId::from_uuid(Uuid::now_v7());
        Self {
            name: StreamName::new(&installation, operation, Direction::There),
            installation,
            tenant,
            other,
            source,
            target,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            name: self.name.clone(),
            tenant: self.tenant,
            source_schema: self.source.schema.clone(),
            target_schema: self.target.schema.clone(),
        }
    }

    /// Publication, slot, position, and the copy of what was there.
    pub(crate) async fn begin(&self) {
        make_publication(&self.source.admin, &self.name, &self.source.schema, self.tenant)
            .await
            .unwrap();
        self.begin_published().await;
    }

    pub(crate) async fn begin_published(&self) {
        let snapshot = make_slot(self.source.endpoint(), &self.source.admin, &self.name, PATIENCE)
            .await
            .unwrap();
        prepare_target(&self.target.admin, &self.installation).await.unwrap();
        let mover = self.target.as_mover().await;
        begin_position(&mover, &self.name, snapshot.position, true)
            .await
            .unwrap();
        self.copy(&snapshot, &mover).await;
    }

    async fn copy(&self, snapshot: &Snapshot, target: &Client) {
        let source = self.source.as_mover().await;
        snapshot.take(&source).await.unwrap();
        target
            .batch_execute("set session_replication_role = replica")
            .await
            .unwrap();
        for table in self.tables().await {
            let columns = self
                .source
                .value(&format!(
                    "select string_agg(quote_ident(attname), ', ') from pg_attribute
                      where attrelid = 'app.{table}'::regclass and attnum > 0 and not attisdropped and attgenerated = ''"
                ))
                .await;
            let read = format!(
                "copy (select {columns} from app.{table} where tenant_id = '{}') to stdout",
                self.tenant
            );
            let write = format!("copy {}.{table} ({columns}) from stdin", self.target.schema);
            let rows = source.copy_out(&read).await.unwrap();
            let sink = target.copy_in(&write).await.unwrap();
            pin_mut!(rows, sink);
            while let Some(chunk) = rows.try_next().await.unwrap() {
                sink.send(chunk).await.unwrap();
            }
            sink.finish().await.unwrap();
        }
    }

    pub(crate) async fn tables(&self) -> Vec<String> {
        let rows = self
            .source
            .admin
            .query("select relname::text from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r' order by 1", &[])
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn applier(&self) -> Applier {
        self.start().await.unwrap()
    }

    pub(crate) async fn start(&self) -> Result<Applier, StreamError> {
        Applier::start(self.source.endpoint(), self.target.as_mover().await, self.plan()).await
    }

    pub(crate) async fn marker(&self) -> Marker {
        emit_marker(&self.source.admin, &self.name).await.unwrap()
    }

    /// Every row of the tenant on both sides, as text, by a way of its own.
    pub(crate) async fn assert_same(&self) {
        let mut rows = 0;
        for table in self.tables().await {
            let all = |schema: &str| {
                format!(
                    "select coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '') from {schema}.{table} t where tenant_id = '{}'",
                    self.tenant
                )
            };
            let here = self.source.value(&all("app")).await;
            let there = self.target.value(&all(&self.target.schema)).await;
            assert!(here == there, "{table} differs:\n{here}\n{there}");
            rows += here.lines().count();
        }
        assert!(rows > 0, "nothing was compared");
        let foreign = format!(
            "select count(*) from {}.note where tenant_id <> '{}'",
            self.target.schema, self.tenant
        );
        assert_eq!(self.target.value(&foreign).await, "0");
    }
}

/// Writes as one tenant until it is told to stop; gives the number of transactions that were committed.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    work: JoinHandle<u64>,
}

impl Writer {
    pub(crate) async fn start(world: &World, tenant: TenantId, seed: u64) -> Self {
        let client = world.source.connect().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut committed = 0;
            while !stopped.load(Ordering::Relaxed) {
                committed += u64::from(transaction(&client, tenant, &mut random).await);
            }
            committed
        });
        Self { stop, work }
    }

    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap()
    }
}

/// One transaction; whether it was committed. Some break a rule and are undone, some undo themselves.
pub(crate) async fn transaction(client: &Client, tenant: TenantId, random: &mut StdRng) -> bool {
    transaction_in("app", client, tenant, random).await
}

/// The same in another schema.
pub(crate) async fn transaction_in(schema: &str, client: &Client, tenant: TenantId, random: &mut StdRng) -> bool {
    let mut sql = String::from("begin; ");
    for _ in 0..random.random_range(1..5) {
        sql += &change(tenant, random);
    }
    sql += match random.random_range(0..10) {
        0 => "rollback",
        _ => "commit",
    };
    let sql = sql.replace("app.", &format!("{schema}."));
    let done = client.batch_execute(&sql).await;
    if done.is_err() {
        client.batch_execute("rollback").await.unwrap();
    }
    done.is_ok() && sql.ends_with("commit")
}

fn change(tenant: TenantId, random: &mut StdRng) -> String {
    let (a, b, n) = (
        random.random_range(1..60),
        random.random_range(1..60),
        random.random_range(1..1000),
    );
    let of = format!("tenant_id = '{tenant}'");
    // Too random to be compressed, so that it is stored beside the row.
    let large = "(select string_agg(md5(random()::text), '') from generate_series(1, 200))";
    match random.random_range(0..12) {
        0 | 1 => format!(
            "insert into app.account (tenant_id, id, place) select '{tenant}', {a}, {n} where not exists (select from app.account where {of} and (id = {a} or place = {n}));"
        ),
        2 => format!(
            "update app.account set place = (select sum(place) from app.account where {of} and id in ({a}, {b})) - place
              where {of} and id in ({a}, {b}) and {a} <> {b} and 2 = (select count(*) from app.account where {of} and id in ({a}, {b}));"
        ),
        3 | 4 => format!(
            "insert into app.note (tenant_id, id, account_id, body, n)
             select '{tenant}', {n}, id, case when {a} % 3 = 0 then {large} when {a} % 3 = 1 then 'short' end, {b}
               from app.account where {of} and not exists (select from app.note where {of} and id = {n}) limit 1;"
        ),
        5 => format!("update app.note set n = n + 1 where {of} and id % 10 = {};", n % 10),
        6 => format!("update app.note set body = {large} where {of} and id % 20 = {};", n % 20),
        7 => format!(
            "update app.note set id = {n} + 1000, body = body where {of} and id = (select min(id) from app.note where {of}) and not exists (select from app.note where {of} and id = {n} + 1000);"
        ),
        8 => format!("delete from app.note where {of} and id % 15 = {};", n % 15),
        9 => format!("delete from app.account where {of} and id = {a};"),
        10 => insert_everything(tenant, n),
        _ => format!(
            "update app.everything set part = 'part {n}', num = num + 1, j = null, texts = texts || 'more'::text where {of} and id % 7 = {};
             delete from app.everything where {of} and id % 50 = {};",
            n % 7,
            n % 50
        ),
    }
}

/// A row with a value, and each time another one, of every type.
pub(crate) fn insert_everything(tenant: TenantId, n: i32) -> String {
    let odd = n % 2 == 1;
    let num = ["'NaN'", "'-Infinity'", "12345678901234567890.000100", "0"][n as usize % 4];
    let float = ["'NaN'", "'Infinity'", "1e-300", "0.1"][n as usize % 4];
    let real = ["'NaN'", "'-Infinity'", "1.17549435e-38", "-0.0"][n as usize % 4];
    let when = [
        "'infinity'",
        "'-infinity'",
        "'2024-02-29 23:59:59.999999'",
        "'0044-03-15 BC'",
    ][n as usize % 4];
    let text = ["''", "E'a\\t\\n\\\\ '' b'", "'äöü 漢字 🦀'", "null"][n as usize % 4];
    let array = ["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[2:3]={7,8}'"][n as usize % 4];
    format!(
        "insert into app.everything (tenant_id, part, small, num, fixed, r, d, t, v, c, b, ts, tz, da, ti, tiz, iv, bo, u, j, jb,
                                     ints, texts, moods, mo, p, ip, cd, ma, bi, vb, pt, ra, tsv)
         values ('{tenant}', 'p{n}', {n}, {num}, {n}.125, {real}, {float}, {text}, {text}, 'ab', decode(md5('{n}'), 'hex'), {when}, {when}, {when},
                 '24:00', '12:00:00.5+05:30', '-1 year 2 mons -3 days 04:05:06.789', {odd}, gen_random_uuid(), '{{\"a\":  [1, null]}}', '{{\"b\": {{\"c\": \"\\u00e4\"}}}}',
                 {array}, array['a,b', null, '\"', '{{}}'], '{{fine,\"so so\"}}', 'so so', {}, '10.0.0.0/8', '192.168.0.0/24', '08:00:2b:01:02:03',
                 b'1010', b'101', '(1.5,-2)', '[0,{n}]', to_tsvector('simple', 'word {n}'));",
        n % 101
    )
}
