//! Administrator's connections to tenant databases that were used a moment ago, or will be in a moment. Whoever makes the next
//! tenant there need not wait for a log-in, nor until PostgreSQL has read its own catalogs: together that takes as long as the
//! tables of a small application.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Deref,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tenantry_core::ServerId;
use tenantry_engine::{
    admin::{AdminError, ServerAdmin},
    log,
};
use tokio::{sync::OnceCell, task::JoinHandle};
use tokio_postgres::{Client, Config};

use crate::{Ops, runner::administer};

/// How long a connection waits for the next use.
const KEPT: Duration = Duration::from_secs(20);
/// In how many databases: each is a connection beside those of the application.
const DATABASES_MAX: usize = 8;
/// A backend keeps what it knows of each table it has met, 17 to 35 kB.
const USES_MAX: u32 = 50;
/// Cleaning takes one round trip.
const PATIENCE: Duration = Duration::from_secs(2);

/// The connections of this process, one to a database.
#[derive(Default)]
pub(crate) struct AtHand(Arc<Mutex<Slots>>);

type Key = (ServerId, String);
type Slots = HashMap<Key, Slot>;

enum Slot {
    Here(Box<Connected>),
    /// Logs in. Nothing where that fails: who needs it asks again, and hears why.
    Coming(JoinHandle<Option<Connected>>),
}

/// A connection, with what tells whether it may serve again.
pub(crate) struct Connected {
    client: Client,
    config: Config,
    key: Key,
    uses: u32,
    /// Asked for once, by whoever needs it.
    log: OnceCell<Option<String>>,
}

impl Deref for Connected {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connected {
    async fn new(admin: &ServerAdmin, key: Key) -> Result<Self, AdminError> {
        Ok(Self {
            client: admin.connect(&key.1).await?,
            config: admin.config().clone(),
            key,
            uses: 0,
            log: OnceCell::new(),
        })
    }

    /// The log that its commits stand in, by its name; nothing where the server does not tell.
    pub(crate) async fn log(&self) -> Option<&str> {
        let asked = self
            .log
            .get_or_init(|| async { log::name(&self.client).await.ok().flatten() });
        asked.await.as_deref()
    }
}

impl AtHand {
    /// Begins to log in, for who will soon ask for the connection.
    pub(crate) fn fetch(&self, ops: &Ops, server: ServerId, database: &str) {
        let key = (server, database.to_owned());
        let mut slots = self.0.lock();
        if slots.len() >= DATABASES_MAX {
            return;
        }
        let Entry::Vacant(free) = slots.entry(key.clone()) else {
            return;
        };
        let (ops, idle) = (ops.clone(), Arc::downgrade(&self.0));
        let coming = key.clone();
        free.insert(Slot::Coming(tokio::spawn(async move {
            let (admin, _) = administer(&ops, server).await.ok()?;
            Connected::new(&admin, coming).await.ok()
        })));
        tokio::spawn(forget_later(idle, key, 0));
    }

    /// The connection that is at hand, or a new one. One to another address or by another password is not used.
    ///
    /// # Errors
    ///
    /// Where a new one is needed and can't be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was half open.
    pub(crate) async fn connect(
        &self,
        admin: &ServerAdmin,
        server: ServerId,
        database: &str,
    ) -> Result<Connected, AdminError> {
        let key = (server, database.to_owned());
        let slot = self.0.lock().remove(&key);
        let found = match slot {
            Some(Slot::Here(connected)) => Some(*connected),
            // A task that panicked has told so.
            Some(Slot::Coming(task)) => task.await.ok().flatten(),
            None => None,
        };
        match found.filter(|found| found.config == *admin.config() && !found.client.is_closed()) {
            Some(found) => Ok(found),
            None => Connected::new(admin, key).await,
        }
    }

    /// Keeps a connection whose work is committed. Its locks and settings are gone before another gets it; where it can't be
    /// told that they are, it is closed.
    pub(crate) fn keep(&self, mut connected: Connected) {
        connected.uses += 1;
        if connected.uses >= USES_MAX {
            return;
        }
        let idle = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let cleaned = connected.client.batch_execute(
                "reset session authorization; reset role; reset all; select pg_catalog.pg_advisory_unlock_all()",
            );
            if !matches!(tokio::time::timeout(PATIENCE, cleaned).await, Ok(Ok(()))) {
                return;
            }
            let (key, uses) = (connected.key.clone(), connected.uses);
            {
                let Some(idle) = idle.upgrade() else { return };
                let mut slots = idle.lock();
                // The one that came first stays.
                if slots.len() >= DATABASES_MAX || slots.contains_key(&key) {
                    return;
                }
                slots.insert(key.clone(), Slot::Here(Box::new(connected)));
            }
            forget_later(idle, key, uses).await;
        });
    }
}

/// Closes it when its time is over and nobody has used it; one that was used meanwhile has a time of its own.
async fn forget_later(idle: Weak<Mutex<Slots>>, key: Key, uses: u32) {
    tokio::time::sleep(KEPT).await;
    let Some(idle) = idle.upgrade() else { return };
    let mut slots = idle.lock();
    let is_same = match slots.get(&key) {
        Some(Slot::Here(there)) => there.uses == uses,
        Some(Slot::Coming(_)) => uses == 0,
        None => false,
    };
    if is_same {
        slots.remove(&key);
    }
}
