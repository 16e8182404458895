//! Tells the workers of this process that a job was enqueued or a schedule set, so that they need not wait for their next look.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tenantry_core::TenantDatabaseId;
use tokio::sync::Notify;

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct JobWakes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Where; bounded by how many databases there are.
    databases: Mutex<HashSet<TenantDatabaseId>>,
    enqueued: Notify,
    scheduled: Notify,
}

impl JobWakes {
    pub(crate) fn wake(&self, database: TenantDatabaseId) {
        self.0.databases.lock().insert(database);
        // A permit stays for a worker that is busy.
        self.0.enqueued.notify_one();
    }

    pub(crate) fn wake_clock(&self) {
        self.0.scheduled.notify_one();
    }

    /// Ready when something was enqueued since the last time.
    pub(super) async fn enqueued(&self) {
        self.0.enqueued.notified().await;
    }

    /// Ready when a schedule was set since the last time.
    pub(super) async fn scheduled(&self) {
        self.0.scheduled.notified().await;
    }

    pub(super) fn take(&self) -> Vec<TenantDatabaseId> {
        self.0.databases.lock().drain().collect()
    }
}
