//! Tells the workers of this process that a job was enqueued or a schedule set, so that they need not wait for their next look.
//!
//! Each of them is told everything: who comes first need not be the one that has the job's handler.

use std::{collections::HashMap, sync::Arc};

use tenantry_core::TenantDatabaseId;
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct JobWakes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    enqueued: watch::Sender<Enqueued>,
    scheduled: watch::Sender<()>,
}

/// What was enqueued so far.
#[derive(Default)]
struct Enqueued {
    /// How often something was.
    times: u64,
    /// Where, and which of these times was the last one there; bounded by how many databases there are.
    databases: HashMap<TenantDatabaseId, u64>,
}

/// What one worker is told.
pub(super) struct Told {
    enqueued: watch::Receiver<Enqueued>,
    /// Up to which time it knows.
    up_to: u64,
}

impl JobWakes {
    pub(crate) fn wake(&self, database: TenantDatabaseId) {
        self.0.enqueued.send_modify(|enqueued| {
            enqueued.times += 1;
            enqueued.databases.insert(database, enqueued.times);
        });
    }

    pub(crate) fn wake_clock(&self) {
        self.0.scheduled.send_replace(());
    }

    /// What is enqueued from here on.
    pub(super) fn listen(&self) -> Told {
        let mut enqueued = self.0.enqueued.subscribe();
        let up_to = enqueued.borrow_and_update().times;
        Told { enqueued, up_to }
    }

    /// Changes when a schedule is set.
    pub(super) fn schedules(&self) -> watch::Receiver<()> {
        self.0.scheduled.subscribe()
    }
}

impl Told {
    /// Where something was enqueued since the last time; waits until something is. What comes while nobody waits is not lost.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is told the same again.
    pub(super) async fn enqueued(&mut self) -> Vec<TenantDatabaseId> {
        if self.enqueued.changed().await.is_err() {
            // Nobody is left who could enqueue anything.
            std::future::pending::<()>().await;
        }
        self.news()
    }

    /// The same of what is known by now.
    pub(super) fn take(&mut self) -> Vec<TenantDatabaseId> {
        match self.enqueued.has_changed() {
            Ok(true) => self.news(),
            _ => Vec::new(),
        }
    }

    fn news(&mut self) -> Vec<TenantDatabaseId> {
        let enqueued = self.enqueued.borrow_and_update();
        let since = std::mem::replace(&mut self.up_to, enqueued.times);
        let new = enqueued.databases.iter().filter(|(_, time)| **time > since);
        new.map(|(database, _)| *database).collect()
    }
}
