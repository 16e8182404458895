//! Many schemas at a time: a few connections per server, each going through the schemas of one database after another.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tenantry_catalog::{
    CatalogError,
    app_migration::{self, SiteKey},
    fleet_state::{self, SiteState},
    placement,
};
use tenantry_core::{ServerId, TenantDatabaseId};
use tenantry_engine::{
    admin::ServerAdmin,
    isolate::Derived,
    migrate::{self, ByAdministrator, Replayed},
};
use tokio::{
    sync::{OnceCell, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_postgres::Client;

use super::{MigrationError, Rollout, overlay::Overlays, rollout::Wave, state};
use crate::{
    Ops,
    runner::{Failure, administer, target},
};

/// The catalog hears of so many schemas at once. Their own ledgers are the truth: a run that is killed in between finds
/// out there.
const NOTED_AT_ONCE: usize = 64;
/// And after so long at the latest, for those who watch.
const NOTED_EVERY: Duration = Duration::from_millis(500);
/// What a backend may remember of tables before it is replaced: each that it has touched takes about 17 kB for as long as
/// it lives.
const BACKEND_BYTES_MAX: usize = 64 * 1024 * 1024;
const BYTES_PER_TABLE: usize = 17 * 1024;

/// What became of one schema.
pub(super) struct Outcome {
    pub(super) state: SiteState,
    /// Why it stayed behind.
    pub(super) error: Option<String>,
}

/// A roll-out while it runs.
pub(super) struct Workers<'a> {
    ops: &'a Ops,
    derived: &'a Derived,
    overlays: &'a Overlays,
    rollout: &'a Rollout,
    permits: Semaphore,
    servers: Mutex<HashMap<ServerId, Arc<OnceCell<ServerAdmin>>>>,
    /// Called with each outcome; whether to go on.
    on_outcome: &'a (dyn Fn(Outcome) -> bool + Sync),
}

/// A schema that is done and that the catalog has not heard of.
type Done = (TenantDatabaseId, String);

/// A connection and what it has been used for.
struct Connected {
    database: TenantDatabaseId,
    client: Client,
    tables: usize,
}

impl<'a> Workers<'a> {
    pub(super) fn new(
        ops: &'a Ops,
        derived: &'a Derived,
        overlays: &'a Overlays,
        rollout: &'a Rollout,
        on_outcome: &'a (dyn Fn(Outcome) -> bool + Sync),
    ) -> Self {
        Self {
            ops,
            derived,
            overlays,
            rollout,
            permits: Semaphore::new(rollout.connections_max),
            servers: Mutex::default(),
            on_outcome,
        }
    }

    /// Migrates a wave. What fails at single schemas is told by their outcomes.
    pub(super) async fn run(&self, wave: Wave) -> Result<(), MigrationError> {
        let mut servers: BTreeMap<String, VecDeque<SiteState>> = BTreeMap::new();
        for state in wave.sites {
            servers.entry(state.site.server.clone()).or_default().push_back(state);
        }
        let queues: Vec<_> = servers.into_values().map(Mutex::new).collect();
        let (done, to_note) = mpsc::channel(2 * NOTED_AT_ONCE);
        let workers: Vec<_> = queues
            .iter()
            .flat_map(|queue| std::iter::repeat_n(queue, self.rollout.per_server.min(queue.lock().len())))
            .map(|queue| self.work(queue, done.clone()))
            .collect();
        // Only the workers hold it: the notes end with them.
        drop(done);
        let (ended, noted) = tokio::join!(futures_util::future::join_all(workers), self.note(to_note));
        noted?;
        ended
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(MigrationError::from)
    }

    async fn work(&self, queue: &Mutex<VecDeque<SiteState>>, done: mpsc::Sender<Done>) -> Result<(), CatalogError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Ok(());
        };
        let mut connected = None;
        while let Some(state) = pop(queue) {
            let error = match self.migrate(&state, &mut connected).await {
                Ok(()) => {
                    let site = (state.site.database.id, state.site.schema.clone());
                    if done.send(site).await.is_err() {
                        // The catalog could not be told, which is what the run ends with.
                        return Ok(());
                    }
                    None
                }
                Err(failure) => {
                    connected = None;
                    Some(self.note_failure(&state, failure).await?)
                }
            };
            if !(self.on_outcome)(Outcome { state, error }) {
                queue.lock().clear();
            }
        }
        Ok(())
    }

    /// The fleet's files, with the tenant's own among them where it has some that are pending.
    async fn migrate(&self, state: &SiteState, connected: &mut Option<Connected>) -> Result<(), Failure> {
        let Some(own) = self
            .overlays
            .of(state)
            .filter(|_| !self.overlays.pending(state).is_empty())
        else {
            return self.migrate_fleet(state, connected).await;
        };
        let site = &state.site;
        let target = target(self.ops.catalog().installation(), &site.database, &site.schema)?;
        let tenants: Vec<_> = site.tenant.into_iter().collect();
        let client = self.connection(state, connected).await?;
        let patience = &self.ops.fleet().patience;
        let (derived, as_administrator) = (self.derived, &ByAdministrator);
        migrate::apply_with_own(
            client,
            &target,
            derived,
            Some(own),
            &tenants,
            as_administrator,
            patience,
        )
        .await?;
        note_overlay(self.ops, site.database.id, &site.schema, own).await
    }

    /// In one message where the schema is as the catalog believes, else step by step.
    async fn migrate_fleet(&self, state: &SiteState, connected: &mut Option<Connected>) -> Result<(), Failure> {
        let site = &state.site;
        let target = target(self.ops.catalog().installation(), &site.database, &site.schema)?;
        let patience = &self.ops.fleet().patience;
        let client = self.connection(state, connected).await?;
        if let Some(had) = state::prefix(state, self.derived)
            && migrate::replay(client, &target, self.derived, had, patience).await? == Replayed::Applied
        {
            return Ok(());
        }
        let catalog = self.ops.catalog().client().await?;
        let tenants = placement::list_tenants(&catalog, site.database.id, &site.schema).await?;
        drop(catalog);
        let ids: Vec<_> = tenants.iter().map(|(tenant, _)| *tenant).collect();
        migrate::apply(client, &target, self.derived, &ids, &ByAdministrator, patience).await?;
        Ok(())
    }

    async fn connection<'c>(
        &self,
        state: &SiteState,
        connected: &'c mut Option<Connected>,
    ) -> Result<&'c Client, Failure> {
        let database = &state.site.database;
        let tables = self.derived.tables.len().max(1);
        let fits = connected.as_ref().is_some_and(|connected| {
            connected.database == database.id
                && !connected.client.is_closed()
                && connected.tables * BYTES_PER_TABLE < BACKEND_BYTES_MAX
        });
        if !fits {
            // The old one ends before the new one begins: the bound on connections holds.
            *connected = None;
            let admin = self.admin(database.server).await?;
            let client = admin.connect(&database.name).await?;
            migrate::prepare_replay(&client).await?;
            *connected = Some(Connected {
                database: database.id,
                client,
                tables: 0,
            });
        }
        let connected = connected
            .as_mut()
            .ok_or_else(|| Failure::permanent("no_connection", "a connection was made and is not there"))?;
        connected.tables += tables;
        Ok(&connected.client)
    }

    /// A server's administrator, asked of the catalog once.
    async fn admin(&self, server: ServerId) -> Result<ServerAdmin, Failure> {
        let cell = Arc::clone(self.servers.lock().entry(server).or_default());
        let admin = cell
            .get_or_try_init(|| async { Ok::<_, Failure>(administer(self.ops, server).await?.0) })
            .await?;
        Ok(admin.clone())
    }

    /// Tells the catalog of what is done, many at once and beside the work: no schema waits for it.
    async fn note(&self, mut done: mpsc::Receiver<Done>) -> Result<(), CatalogError> {
        let mut sites = Vec::with_capacity(NOTED_AT_ONCE);
        while done.recv_many(&mut sites, NOTED_AT_ONCE).await > 0 {
            let due = Instant::now() + NOTED_EVERY;
            while sites.len() < NOTED_AT_ONCE {
                let room = NOTED_AT_ONCE - sites.len();
                match timeout_at(due, done.recv_many(&mut sites, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            let client = self.ops.catalog().client().await?;
            fleet_state::record(&client, &sites, &state::rows(self.derived)).await?;
            fleet_state::announce(&client, &sites).await?;
            sites.clear();
        }
        Ok(())
    }

    async fn note_failure(&self, state: &SiteState, failure: Failure) -> Result<String, CatalogError> {
        let site = &state.site;
        let message = failure.message();
        tracing::error!(
            server = site.server,
            database = site.database.name,
            schema = site.schema,
            error = message,
            "a schema could not be migrated"
        );
        let client = self.ops.catalog().client().await?;
        let key = SiteKey {
            database: site.database.id,
            schema: &site.schema,
        };
        app_migration::record_failure(&client, key, state::newest(self.derived), &message).await?;
        Ok(message)
    }
}

/// Tells the catalog which of its own files a schema has.
pub(crate) async fn note_overlay(
    ops: &Ops,
    database: TenantDatabaseId,
    schema: &str,
    overlay: &Derived,
) -> Result<(), Failure> {
    let client = ops.catalog().client().await?;
    let site = (database, migrate::overlay_name(schema));
    Ok(fleet_state::record(&client, &[site], &state::rows(overlay)).await?)
}

fn pop(queue: &Mutex<VecDeque<SiteState>>) -> Option<SiteState> {
    queue.lock().pop_front()
}
