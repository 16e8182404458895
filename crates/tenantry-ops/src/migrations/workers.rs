//! Many schemas at a time: a few connections per server, each going through the schemas of one database after another.

use std::{
    collections::{BTreeMap, HashMap},
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
    migrate::{self, Applied, ByAdministrator, ListTenants, Listing, Replayed},
};
use tokio::{
    sync::{OnceCell, Semaphore, mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_postgres::Client;

use super::{MigrationError, Rollout, overlay::Overlays, queue::Queue, rollout::Wave, run::Run, state};
use crate::{
    Ops,
    runner::{EDITED, Failure, administer, target},
};

/// The catalog hears of so many schemas at once. Their own ledgers are the truth: a run that is killed in between finds
/// out there.
const NOTED_AT_ONCE: usize = 64;
/// And after so long at the latest, for those who watch.
const NOTED_EVERY: Duration = Duration::from_millis(500);
/// After so many schemas a connection makes sure that the disk has them: until then their commits don't wait for it, and nobody is
/// told that they are done.
const SETTLED_AT_ONCE: usize = 32;
/// And after so long at the latest.
const SETTLED_EVERY: Duration = Duration::from_millis(250);
/// What a backend may remember of tables before it is replaced: each that it has touched takes 17 to 35 kB, with its indexes and
/// policies, for as long as it lives (docs/scale.md).
const BACKEND_BYTES_MAX: usize = 64 * 1024 * 1024;
const BYTES_PER_TABLE: usize = 35 * 1024;

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
    /// Whether to begin no other schema.
    stop: &'a watch::Receiver<bool>,
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

impl Connected {
    /// Whether it may take this many tables more, of that database.
    fn fits(&self, database: TenantDatabaseId, tables: usize) -> bool {
        let remembered = (self.tables + tables) * BYTES_PER_TABLE;
        self.database == database && !self.client.is_closed() && remembered < BACKEND_BYTES_MAX
    }
}

/// How a schema's migrations were committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Committed {
    /// The disk has them.
    Durably,
    /// A server that crashes now may have lost them.
    Lightly,
}

/// What one worker has committed lightly.
struct Unsettled {
    states: Vec<SiteState>,
    due: Instant,
}

impl<'a> Workers<'a> {
    pub(super) fn new(
        ops: &'a Ops,
        run: &'a Run<'_>,
        overlays: &'a Overlays,
        on_outcome: &'a (dyn Fn(Outcome) -> bool + Sync),
    ) -> Self {
        Self {
            ops,
            derived: run.derived,
            overlays,
            rollout: run.rollout,
            stop: &run.stop,
            permits: Semaphore::new(run.rollout.connections_max),
            servers: Mutex::default(),
            on_outcome,
        }
    }

    /// Migrates a wave. What fails at single schemas is told by their outcomes.
    pub(super) async fn run(&self, wave: Wave) -> Result<(), MigrationError> {
        let mut servers: BTreeMap<String, Vec<SiteState>> = BTreeMap::new();
        for state in wave.sites {
            servers.entry(state.site.server.clone()).or_default().push(state);
        }
        let queues: Vec<_> = servers.into_values().map(Queue::new).collect();
        let (done, to_note) = mpsc::channel(2 * NOTED_AT_ONCE);
        let workers: Vec<_> = queues
            .iter()
            .flat_map(|queue| std::iter::repeat_n(queue, self.rollout.per_server.min(queue.len())))
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

    async fn work(&self, queue: &Queue, done: mpsc::Sender<Done>) -> Result<(), CatalogError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Ok(());
        };
        let mut connected: Option<Connected> = None;
        let mut unsettled = Unsettled {
            states: Vec::new(),
            due: Instant::now(),
        };
        loop {
            let next = self.next(queue);
            let may_wait = next.as_ref().is_some_and(|state| {
                let stays = connected
                    .as_ref()
                    .is_some_and(|connected| connected.fits(state.site.database.id, self.tables()));
                stays && unsettled.states.len() < SETTLED_AT_ONCE && Instant::now() < unsettled.due
            });
            if !may_wait && !unsettled.states.is_empty() {
                // What was lost begins again, behind the others.
                let lost = self.settle(&mut connected, &mut unsettled.states, queue, &done).await;
                queue.push(lost);
            }
            let Some(state) = next.or_else(|| self.next(queue)) else {
                return Ok(());
            };
            match self.migrate(&state, &mut connected, queue).await {
                Ok(Committed::Lightly) => {
                    if unsettled.states.is_empty() {
                        unsettled.due = Instant::now() + SETTLED_EVERY;
                    }
                    unsettled.states.push(state);
                }
                Ok(Committed::Durably) => self.is_done(state, queue, &done).await,
                Err(failure) => {
                    // It may be in a transaction.
                    connected = None;
                    let lost = self.settle(&mut connected, &mut unsettled.states, queue, &done).await;
                    queue.push(lost);
                    let error = Some(self.note_failure(&state, failure).await?);
                    self.tell(Outcome { state, error }, queue);
                }
            }
        }
    }

    /// What to begin next; nothing once the roll-out is to stop.
    fn next(&self, queue: &Queue) -> Option<SiteState> {
        if *self.stop.borrow() {
            queue.clear();
        }
        queue.pop()
    }

    /// Makes sure that the disk has what was committed lightly, and says so; gives back what nobody can be sure of.
    async fn settle(
        &self,
        connected: &mut Option<Connected>,
        states: &mut Vec<SiteState>,
        queue: &Queue,
        done: &mpsc::Sender<Done>,
    ) -> Vec<SiteState> {
        let mut states = std::mem::take(states);
        let Some(last) = states.last() else {
            return states;
        };
        let settled = match self.connection(last, connected, queue).await {
            Ok(client) => migrate::settle(client, &last.site.schema, state::newest(self.derived)).await,
            Err(_) => return states,
        };
        if matches!(settled, Ok(true)) {
            for state in states.drain(..) {
                self.is_done(state, queue, done).await;
            }
        } else {
            *connected = None;
        }
        states
    }

    /// The catalog will hear of it. Where that can't be told, the run ends with why.
    async fn is_done(&self, state: SiteState, queue: &Queue, done: &mpsc::Sender<Done>) {
        let site = (state.site.database.id, state.site.schema.clone());
        if done.send(site).await.is_err() {
            return queue.clear();
        }
        self.tell(Outcome { state, error: None }, queue);
    }

    fn tell(&self, outcome: Outcome, queue: &Queue) {
        if !(self.on_outcome)(outcome) {
            queue.clear();
        }
    }

    /// The fleet's files, with the tenant's own among them where it has some that are pending.
    async fn migrate(
        &self,
        state: &SiteState,
        connected: &mut Option<Connected>,
        queue: &Queue,
    ) -> Result<Committed, Failure> {
        if let Some(reason) = self.overlays.refused(state) {
            return Err(Failure::permanent("migration_refused", reason));
        }
        let Some(own) = self.overlays.of(state).filter(|_| !self.overlays.has_all(state)) else {
            return self.migrate_fleet(state, connected, queue).await;
        };
        let site = &state.site;
        let target = target(self.ops.catalog().installation(), &site.database, &site.schema)?;
        let tenants: Vec<_> = site.tenant.into_iter().collect();
        let client = self.connection(state, connected, queue).await?;
        let patience = &self.ops.fleet().patience;
        let (derived, as_administrator) = (self.derived, &ByAdministrator);
        let applied = migrate::apply_with_own(
            client,
            &target,
            derived,
            Some(own),
            &tenants,
            as_administrator,
            patience,
        )
        .await?;
        self.settle_what_was_there(client, &applied, &site.schema).await?;
        note_overlay(self.ops, site.database.id, &site.schema, own).await?;
        Ok(Committed::Durably)
    }

    /// In one message where the schema is as the catalog believes, else step by step.
    async fn migrate_fleet(
        &self,
        state: &SiteState,
        connected: &mut Option<Connected>,
        queue: &Queue,
    ) -> Result<Committed, Failure> {
        let site = &state.site;
        let target = target(self.ops.catalog().installation(), &site.database, &site.schema)?;
        let patience = &self.ops.fleet().patience;
        let client = self.connection(state, connected, queue).await?;
        if let Some(had) = state::prefix(state, self.derived)
            && migrate::replay(client, &target, self.derived, had, patience).await? == Replayed::Applied
        {
            return Ok(Committed::Lightly);
        }
        let dwellers = Dwellers {
            ops: self.ops,
            database: site.database.id,
            schema: &site.schema,
        };
        let derived = self.derived;
        let applied =
            migrate::apply_where_tenants_come(client, &target, derived, &dwellers, &ByAdministrator, patience).await?;
        self.settle_what_was_there(client, &applied, &site.schema).await?;
        Ok(Committed::Durably)
    }

    /// Where nothing was lacking another process has just committed it, maybe lightly: the catalog would be told of what a crash of the
    /// server takes back.
    async fn settle_what_was_there(&self, client: &Client, applied: &Applied, schema: &str) -> Result<(), Failure> {
        let newest = state::newest(self.derived);
        if !applied.versions.is_empty() || newest == 0 || migrate::settle(client, schema, newest).await? {
            return Ok(());
        }
        Err(Failure::retry(
            "migration_busy",
            "what another process had migrated was lost, since the server crashed: migrate it again",
        ))
    }

    async fn connection<'c>(
        &self,
        state: &SiteState,
        connected: &'c mut Option<Connected>,
        queue: &Queue,
    ) -> Result<&'c Client, Failure> {
        let database = &state.site.database;
        let fits = connected
            .as_ref()
            .is_some_and(|connected| connected.fits(database.id, self.tables()));
        if !fits {
            // The old one ends before the new one begins: the bound on connections holds.
            *connected = None;
            let admin = self.admin(database.server).await?;
            queue.answers.require()?;
            let client = queue.answers.heard(admin.connect(&database.name).await)?;
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
        connected.tables += self.tables();
        Ok(&connected.client)
    }

    /// How many tables of a schema a backend touches.
    fn tables(&self) -> usize {
        self.derived.tables.len().max(1)
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
        let is_edited = failure.has_code(EDITED);
        let mut message = failure.message();
        if is_edited && let Some(difference) = self.ops.edited_difference(site).await? {
            message.push('\n');
            message.push_str(&difference);
        }
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

/// Who lives in a schema, as the catalog knows it when it is asked: tenants are made, moved and purged while a roll-out runs.
struct Dwellers<'a> {
    ops: &'a Ops,
    database: TenantDatabaseId,
    schema: &'a str,
}

impl ListTenants for Dwellers<'_> {
    fn list(&self) -> Listing<'_> {
        Box::pin(async move {
            let client = self.ops.catalog().client().await?;
            let tenants = placement::list_tenants(&client, self.database, self.schema).await?;
            Ok(tenants.into_iter().map(|(tenant, _)| tenant).collect())
        })
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
