//! Many tenant databases on one server, for tests of what they share.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tenantry_core::{Actor, Context, Role, ServerId, TenantDatabaseId, TenantId};
use tenantry_pool::{Caller, Home, LocateError, PlacementSource};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::{Fixture, id};

/// One tenant in each of several databases of one server, all entered by the same role.
pub(crate) struct Fleet {
    /// The first of them; its role enters the others too.
    pub(crate) first: Fixture,
    databases: Vec<String>,
    pub(crate) source: Arc<Source>,
}

/// Says where each tenant lives.
#[derive(Default)]
pub(crate) struct Source {
    homes: HashMap<TenantId, Home>,
}

#[async_trait]
impl PlacementSource for Source {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        self.homes.get(&tenant).cloned().ok_or(LocateError::NotFound)
    }
}

fn tenant(n: usize) -> TenantId {
    id(n as u128 + 1)
}

impl Fleet {
    /// So many databases, by copying the first.
    pub(crate) async fn new(count: usize) -> Self {
        let first = Fixture::new().await;
        let admin = first.database.connect().await;
        for n in 2..count {
            let sql = "insert into tenantry_private.fence values ($1)";
            admin.execute(sql, &[tenant(n).as_uuid()]).await.unwrap();
            let sql = "insert into app.contact values ($1, 1, 'Carl')";
            admin.execute(sql, &[tenant(n).as_uuid()]).await.unwrap();
        }
        drop(admin);
        let maintenance = first.database.cluster().connect("postgres").await;
        let mut databases = vec![first.database.name().to_owned()];
        for n in 1..count {
            let name = format!("{}_{n}", first.database.name());
            let sql = format!(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{0}'",
                databases[0]
            );
            maintenance.batch_execute(&sql).await.unwrap();
            let sql = format!("create database {name} template {}", databases[0]);
            maintenance.batch_execute(&sql).await.unwrap();
            databases.push(name);
        }
        let home = first.source.home.lock().clone();
        let homes = (0..count).map(|n| {
            let mut own = home.clone();
            own.placement.tenant = tenant(n);
            own.placement.server = ServerId::from_uuid(Uuid::from_u128(9));
            own.placement.database = TenantDatabaseId::from_uuid(Uuid::from_u128(100 + n as u128));
            let mut endpoint = (*home.endpoint).clone();
            endpoint.database = databases[n].clone();
            own.endpoint = Arc::new(endpoint);
            (tenant(n), own)
        });
        let source = Source { homes: homes.collect() };
        Self {
            source: Arc::new(source),
            databases,
            first,
        }
    }

    /// The only tenant that lives in this database.
    pub(crate) fn caller(n: usize) -> Caller {
        Caller::new(&Context {
            tenant: tenant(n),
            actor: Actor::System {
                reason: "test".to_owned(),
            },
            role: Role::Member,
        })
    }

    /// Watches how many connections the role has on the server.
    pub(crate) async fn watch(&self) -> Watch {
        let admin = self.first.database.cluster().connect("postgres").await;
        let role = self.first.database.name().to_owned();
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                let sql = "select pid from pg_stat_activity where usename = $1";
                let sql = admin.prepare(sql).await.unwrap();
                loop {
                    let rows = admin.query(&sql, &[&role]).await.unwrap();
                    seen.now.store(rows.len(), Ordering::SeqCst);
                    seen.most.fetch_max(rows.len(), Ordering::SeqCst);
                    seen.pids.lock().extend(rows.iter().map(|row| row.get::<_, i32>(0)));
                    seen.looks.fetch_add(1, Ordering::SeqCst);
                    if seen.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        Watch { seen, task }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let (config, names) = (
            self.first.database.cluster().admin_config("postgres"),
            self.databases.split_off(1),
        );
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                for name in names {
                    let _ = client
                        .batch_execute(&format!("drop database if exists {name} with (force)"))
                        .await;
                }
            });
        })
        .join();
    }
}

/// What was seen of the role's connections.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) looks: AtomicUsize,
    pub(crate) pids: parking_lot::Mutex<HashSet<i32>>,
    stop: AtomicBool,
}

/// A watch on the role's connections.
pub(crate) struct Watch {
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Watch {
    /// The most connections that were seen at a time, how many different ones, and in how many looks.
    pub(crate) async fn end(self) -> (usize, usize, usize) {
        self.seen.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        let different = self.seen.pids.lock().len();
        (
            self.seen.most.load(Ordering::SeqCst),
            different,
            self.seen.looks.load(Ordering::SeqCst),
        )
    }
}
