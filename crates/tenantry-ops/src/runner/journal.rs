//! A runner's hold on one operation: its lease, kept alive, and what it records.

use std::{sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use tenantry_catalog::{
    CatalogError, Transaction,
    operation::{self, Held, Lease, MoveBound, NewOperation, Operation, OperationState},
    operation_cleanup::{self, Object},
    placement::Located,
    server::Administration,
    tenant::{self, Tenant},
};
use tenantry_core::OperationId;
use tenantry_engine::archive::Unpacker;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{Failure, failure::Reason};
use crate::{Ops, failpoint, moves};

/// How long a runner may be silent while somebody waits for it: as long waits whoever it leaves behind when it dies, and then a second
/// until another process looks. Less, and a runner on a busy machine loses it.
const HURRY: Duration = Duration::from_secs(3);

/// A runner's hold on one operation.
pub(crate) struct Journal {
    pub(crate) operation: Operation,
    ops: Ops,
    lease: Lease,
    /// How long the lease is held for when it is extended.
    pace: watch::Sender<Duration>,
    /// What was recorded when the operation was made.
    recorded: Option<Object>,
    /// What was read before the operation was made, for the step that needs it.
    archive: Mutex<Option<Unpacker>>,
    /// Where its tenant shall live, as that was read when the operation was made.
    home: Mutex<Option<Placed>>,
    /// The tenant as this runner has activated it.
    activated: OnceLock<Tenant>,
    lost: watch::Receiver<bool>,
    _heart: Heart,
}

/// A hold that counts once the transaction in which it was taken is committed; then [`Journal::hold_on`].
#[must_use]
pub(crate) struct Taken {
    operation: Operation,
    lease: Lease,
    began: Instant,
    recorded: Option<Object>,
    home: Option<Placed>,
    archive: Option<Unpacker>,
}

/// Where a tenant lives or shall live, and what its server's administrator needs there.
pub(crate) type Placed = (Located, Administration);

impl Taken {
    /// The same with what is known of the tenant's home in the transaction that makes the operation.
    pub(crate) fn placed(self, home: Option<Placed>) -> Self {
        Self { home, ..self }
    }
}

/// Keeps the lease alive until it is dropped.
struct Heart(JoinHandle<()>);

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Journal {
    /// Takes an operation that is due: any, or the given one.
    pub(super) async fn claim(ops: &Ops, only: Option<OperationId>) -> Result<Option<Self>, CatalogError> {
        let began = Instant::now();
        let mut client = ops.catalog().client().await?;
        let (runner, lease) = (ops.runner().id, ops.fleet().lease);
        let claimed = match only {
            Some(_) => operation::claim(&client, only, runner, lease).await?,
            None => {
                let (may_wait, counted) = (moves::may_wait(), moves::work_for_the_source());
                let bound = MoveBound {
                    per_source: i64::try_from(ops.fleet().moves_per_source.max(1)).unwrap_or(i64::MAX),
                    may_wait: &may_wait,
                    counted: &counted,
                };
                operation::claim_due(&mut client, runner, lease, bound).await?
            }
        };
        Ok(claimed.map(|(operation, lease)| {
            let taken = Taken {
                operation,
                lease,
                began,
                recorded: None,
                home: None,
                archive: None,
            };
            Self::hold_on(ops, taken)
        }))
    }

    /// Makes an operation that this process has from the beginning, and records what it makes first: each by itself would be a commit
    /// to wait for. If this process ends before it begins, another runner takes over when the lease has run out.
    pub(crate) async fn take(
        ops: &Ops,
        transaction: &Transaction<'_>,
        new: &NewOperation<'_>,
        object: Object,
    ) -> Result<Option<Taken>, CatalogError> {
        let began = Instant::now();
        let (runner, lease) = (ops.runner().id, ops.fleet().lease);
        let made = operation::insert_taken(transaction, new, runner, lease, &object).await?;
        Ok(made.map(|(operation, lease)| Taken {
            operation,
            lease,
            began,
            recorded: Some(object),
            home: None,
            archive: None,
        }))
    }

    /// Takes an operation in the transaction that makes it, with an archive that was read before, so that it is not read again; whoever takes over
    /// reads it again.
    pub(crate) async fn take_with(
        ops: &Ops,
        transaction: &Transaction<'_>,
        id: OperationId,
        archive: Unpacker,
    ) -> Result<Option<Taken>, CatalogError> {
        let began = Instant::now();
        let claimed = operation::claim(transaction, Some(id), ops.runner().id, ops.fleet().lease).await?;
        Ok(claimed.map(|(operation, lease)| Taken {
            operation,
            lease,
            began,
            recorded: None,
            home: None,
            archive: Some(archive),
        }))
    }

    /// Goes on with what was taken, now that it is committed.
    pub(super) fn hold_on(ops: &Ops, taken: Taken) -> Self {
        let Taken { lease, began, .. } = taken;
        let (pace, followed) = watch::channel(ops.fleet().lease);
        let (sender, lost) = watch::channel(false);
        let heart = Heart(tokio::spawn(beat(ops.clone(), lease, followed, began, sender)));
        Self {
            operation: taken.operation,
            ops: ops.clone(),
            lease,
            pace,
            recorded: taken.recorded,
            archive: Mutex::new(taken.archive),
            home: Mutex::new(taken.home),
            activated: OnceLock::new(),
            lost,
            _heart: heart,
        }
    }

    /// Runs work unless the lease is lost before it ends; then the work is dropped where it stands.
    pub(super) async fn guard<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut lost = self.lost.clone();
        tokio::select! {
            outcome = work => outcome,
            // Dropping the work closes its connections, which rolls back what was not committed.
            _ = lost.wait_for(|lost| *lost) => Err(Failure::LeaseLost),
        }
    }

    /// From now on somebody waits for what is done: should this process die, another one takes over sooner. Counts from the next write
    /// on, or from the heart's, which is at once.
    pub(super) fn hurry(&self) {
        self.set_pace(self.ops.fleet().lease.min(HURRY));
    }

    /// Nobody waits any more.
    pub(super) fn relax(&self) {
        self.set_pace(self.ops.fleet().lease);
    }

    fn set_pace(&self, wanted: Duration) {
        self.pace.send_if_modified(|pace| {
            let is_news = *pace != wanted;
            *pace = wanted;
            is_news
        });
    }

    fn duration(&self) -> Duration {
        *self.pace.borrow()
    }

    /// Records that a step begins.
    pub(crate) async fn begin(&self, step: &str) -> Result<(), Failure> {
        self.arrive(step).await?;
        self.note(step).await
    }

    /// Passes the place before a step.
    pub(super) async fn arrive(&self, step: &str) -> Result<(), Failure> {
        failpoint::pass(&format!("{}.before_{step}", self.operation.kind)).await
    }

    /// Records that a step begins, which is a [`check`](Self::check) as well.
    pub(super) async fn note(&self, step: &str) -> Result<(), Failure> {
        let client = self.ops.catalog().client().await?;
        held(operation::begin_step(&client, self.lease, step, self.duration()).await?)
    }

    /// Passes the place after a step.
    pub(crate) async fn end(&self, step: &str) -> Result<(), Failure> {
        failpoint::pass(&format!("{}.after_{step}", self.operation.kind)).await
    }

    /// Checks that nobody has taken over. To be asked under the operation's lock on the server that is to be changed.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        let client = self.ops.catalog().client().await?;
        held(operation::extend(&client, self.lease, self.duration()).await?)
    }

    /// Checks the same within a transaction on the catalog, which then counts only if nobody has taken over.
    pub(crate) async fn hold(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        // The tenant's row first, as whoever asks for the next operation does: the other order would lock each other up.
        if let Some(tenant) = self.operation.tenant {
            tenant::hold(transaction, tenant).await?;
        }
        held(operation::hold(transaction, self.lease).await?)
    }

    /// The same for the transaction that is a step, which is recorded with it.
    pub(super) async fn hold_step(&self, transaction: &Transaction<'_>, step: &str) -> Result<(), Failure> {
        if let Some(tenant) = self.operation.tenant {
            tenant::hold(transaction, tenant).await?;
        }
        held(operation::hold_step(transaction, self.lease, step).await?)
    }

    /// The archive that was read before the operation was made; once, and to nobody who took it over.
    pub(super) fn take_archive(&self) -> Option<Unpacker> {
        self.archive.lock().take()
    }

    /// Records an object before it is made.
    pub(crate) async fn will_make(&self, object: &Object) -> Result<(), Failure> {
        if self.recorded.as_ref() != Some(object) {
            let client = self.ops.catalog().client().await?;
            held(operation_cleanup::record(&client, self.lease, object).await?)?;
        }
        failpoint::pass(&format!("{}.recorded_{}", self.operation.kind, object.kind)).await
    }

    /// What was read of the tenant's home with the operation, once: who comes to it again asks anew.
    pub(super) fn take_home(&self) -> Option<Placed> {
        self.home.lock().take()
    }

    /// Keeps the tenant as it was activated, for whoever waits: what was committed need not be asked for.
    pub(super) fn keep_activated(&self, tenant: Tenant) {
        // Only one activates it.
        let _ = self.activated.set(tenant);
    }

    /// The tenant that was activated.
    pub(super) fn into_activated(self) -> Option<Tenant> {
        self.activated.into_inner()
    }

    /// Ends the operation within a transaction on the catalog.
    pub(crate) async fn finish(&self, transaction: &Transaction<'_>, state: OperationState) -> Result<(), Failure> {
        held(operation::finish(transaction, self.lease, state, None).await?)
    }

    /// The same with the reason why it failed.
    pub(super) async fn finish_because(
        &self,
        transaction: &Transaction<'_>,
        state: OperationState,
        reason: Option<&Reason>,
    ) -> Result<(), Failure> {
        let error = reason.map(|reason| (reason.code, reason.message.as_str()));
        held(operation::finish(transaction, self.lease, state, error).await?)
    }

    /// Records how far it is within a step.
    pub(super) async fn note_progress(&self, progress: &serde_json::Value) -> Result<(), Failure> {
        let client = self.ops.catalog().client().await?;
        held(operation::note_progress(&client, self.lease, progress).await?)
    }

    /// The same within a transaction on the catalog.
    pub(super) async fn note_progress_in(
        &self,
        transaction: &Transaction<'_>,
        progress: &serde_json::Value,
    ) -> Result<(), Failure> {
        held(operation::note_progress(transaction, self.lease, progress).await?)
    }

    /// Lets the operation wait until somebody resumes it, within a transaction on the catalog.
    pub(super) async fn pause(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        held(operation::pause(transaction, self.lease).await?)
    }

    /// Frees the operation for a later try.
    pub(super) async fn put_off(&self, reason: &Reason, pause: Duration) -> Result<(), CatalogError> {
        let client = self.ops.catalog().client().await?;
        let _ = operation::retry_later(&client, self.lease, pause, reason.code, &reason.message).await?;
        Ok(())
    }

    /// From now on the operation only removes what it made.
    pub(super) async fn begin_undo(&mut self, reason: &Reason) -> Result<(), Failure> {
        let client = self.ops.catalog().client().await?;
        held(operation::begin_undo(&client, self.lease, reason.code, &reason.message).await?)?;
        self.operation.state = OperationState::Undoing;
        Ok(())
    }

    /// Lets the operation sleep, within a transaction on the catalog.
    pub(super) async fn park(
        &self,
        transaction: &Transaction<'_>,
        until: chrono::DateTime<chrono::Utc>,
    ) -> Result<(), Failure> {
        held(operation::park(transaction, self.lease, until).await?)
    }

    /// A number for advisory locks on the servers that this operation changes: the same for all work on one tenant, which excludes each other.
    pub(crate) fn lock_key(&self) -> i64 {
        match self.operation.tenant {
            Some(tenant) => key_of(*tenant.as_uuid()),
            None => key_of(*self.operation.id.as_uuid()),
        }
    }
}

fn key_of(subject: Uuid) -> i64 {
    (subject.as_u128() & u128::from(u64::MAX)) as u64 as i64
}

fn held(held: Held) -> Result<(), Failure> {
    match held {
        Held::Yes => Ok(()),
        Held::Lost => Err(Failure::LeaseLost),
    }
}

/// Extends the lease three times within its duration, and at once where that has changed; says so when it is lost: another runner has it,
/// or the catalog could not be reached for so long that another may have.
async fn beat(ops: Ops, lease: Lease, mut pace: watch::Receiver<Duration>, began: Instant, lost: watch::Sender<bool>) {
    let mut duration = *pace.borrow_and_update();
    let mut sure_until = began + duration;
    loop {
        // Dropping either arm loses nothing: the pace is read after it.
        tokio::select! {
            () = sleep(duration / 3) => {}
            changed = pace.changed() => if changed.is_err() { return },
        }
        duration = *pace.borrow_and_update();
        let asked = Instant::now();
        // Another write of this runner's may have made the lease as short as this.
        sure_until = sure_until.min(asked + duration);
        let room = sure_until.saturating_duration_since(asked);
        match timeout(room, extend(&ops, lease, duration)).await {
            Ok(Ok(Held::Yes)) => sure_until = asked + duration,
            Ok(Ok(Held::Lost)) => break,
            Ok(Err(error)) => {
                tracing::warn!(operation.id = %lease.operation, error = %super::failure::chain(&error), "a lease could not be extended");
                if Instant::now() >= sure_until {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    let _ = lost.send(true);
}

async fn extend(ops: &Ops, lease: Lease, duration: Duration) -> Result<Held, CatalogError> {
    let client = ops.catalog().client().await?;
    operation::extend(&client, lease, duration).await
}
