//! What this process is to the others among which plans are divided.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;
use uuid::Uuid;

/// This process, as its leases in the catalog name it.
///
/// Those that serve requests divide what plans give among themselves, and so do those that only work on jobs: a tenant's requests get
/// no less because workers are added.
pub(crate) struct Process {
    id: Uuid,
    serves: AtomicBool,
    /// How many divide what plans give, as far as this one knows: those that do the same as it does, with itself.
    among: AtomicU32,
    marked: Notify,
}

impl Process {
    /// Made anew with each start: leases of an earlier one are not ours to go on with.
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            serves: AtomicBool::new(false),
            among: AtomicU32::new(1),
            marked: Notify::new(),
        }
    }

    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Whether it serves requests.
    pub(crate) fn serves(&self) -> bool {
        self.serves.load(Ordering::Acquire)
    }

    /// It serves requests from now on; whether that is news.
    pub(crate) fn mark_serving(&self) -> bool {
        let is_news = !self.serves.swap(true, Ordering::AcqRel);
        if is_news {
            self.marked.notify_one();
        }
        is_news
    }

    /// Waits until it is marked.
    ///
    /// # Cancel safety
    ///
    /// A mark that was made is not lost.
    pub(crate) async fn until_marked(&self) {
        self.marked.notified().await;
    }

    pub(crate) fn among(&self) -> u32 {
        self.among.load(Ordering::Relaxed)
    }

    pub(crate) fn divide_among(&self, processes: u32) {
        self.among.store(processes, Ordering::Relaxed);
    }
}
