//! Takes a tenant to another home. What holds in each step stands at [`MoveStep`].
//!
//! Never are two homes open: the old one's fence closes before the copy, or its last changes, and is opened again only under the tenant's row in the catalog,
//! while the placement there is still the old one; the new one's is opened only after the placement has become the new one. The one
//! moment in between is the commit of [`switch`], and who does not know how that ended asks the catalog.

mod carry;
mod close;
mod homes;
mod online;
mod prepare;
mod remove;
mod switch;

use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tenantry_catalog::{Transaction, operation::OperationState, placement, server, tenant_database};
use tenantry_core::{Isolation, TenantState};
use tenantry_engine::transfer::TransferError;

use self::homes::{Hands, Home};
use super::{Failure, Journal, site::Site};
use crate::{
    MoveStep, Ops,
    moves::{self, MoveInput},
};

pub(super) use crate::moves::NAMES as STEPS;

/// A move that is being worked on.
pub(super) struct Moving<'a> {
    ops: &'a Ops,
    journal: &'a Journal,
    input: MoveInput,
    /// Where the tenant lived, and where it goes.
    source: Home<'a>,
    target: Home<'a>,
    /// As the catalog says; it does not change while the operation is there.
    suspended: bool,
    /// The step at which an earlier attempt was.
    recorded: Option<MoveStep>,
    /// What the operation's progress says.
    progress: Mutex<Map<String, Value>>,
}

/// Which of the two homes is the tenant's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// The old one.
    Source,
    /// The new one.
    Target,
}

pub(super) async fn forward(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let input = input(journal)?;
    let standing = {
        let client = ops.catalog().client().await?;
        standing(&client, &input).await?
    };
    let mut switched = None;
    if standing == Standing::Source {
        let mut moving = Moving::new(ops, journal).await?;
        match moving.towards_switch().await {
            Ok(closed) => switched = Some((closed, moving.progress.into_inner())),
            Err(failure) => return Err(moving.reopened_after(failure).await),
        }
    }
    let mut moving = Moving::new(ops, journal).await?;
    let closed = switched.map(|(closed, progress)| {
        moving.progress = Mutex::new(progress);
        closed
    });
    moving.open().await?;
    if let Some(closed) = closed {
        let held = closed.elapsed().as_millis() as u64;
        moving.tell(json!({ "held_ms": held })).await?;
    }
    moving.remove_source().await
}

/// Whether what was made may be removed: the tenant still lives in the old home, and no switch is under way.
pub(super) async fn may_be_undone(ops: &Ops, journal: &Journal) -> bool {
    // Who can't be asked is not known to have said so.
    matches!(standing_held(ops, journal).await, Ok(Standing::Source))
}

/// Where the tenant lives, once no switch is under way.
async fn standing_held(ops: &Ops, journal: &Journal) -> Result<Standing, Failure> {
    let input = input(journal)?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    standing(&transaction, &input).await
}

/// Opens the old home and removes what was made of the new one.
pub(super) async fn undo(ops: &Ops, journal: &Journal) -> Result<(), Failure> {
    let moving = Moving::new(ops, journal).await?;
    if moving.reopen().await? == Standing::Target {
        return Err(Failure::retry(
            "moved",
            "the tenant lives in its new home: that is not removed",
        ));
    }
    moving.remove_target().await?;
    let mut client = ops.catalog().client().await?;
    let transaction = client.transaction().await?;
    journal.hold(&transaction).await?;
    moving.forget_target(&transaction).await?;
    journal.finish(&transaction, OperationState::Failed).await?;
    Ok(transaction.commit().await?)
}

fn input(journal: &Journal) -> Result<MoveInput, Failure> {
    serde_json::from_value(journal.operation.input.clone())
        .map_err(|error| Failure::retry("unknown", format!("this program does not know such a move: {error}")))
}

/// Reads where the tenant lives. What is neither of the two is left to people.
async fn standing(db: &impl tenantry_catalog::Db, input: &MoveInput) -> Result<Standing, Failure> {
    let epoch = placement::epoch_of(db, input.from.tenant).await?;
    if epoch == Some(input.from.epoch) {
        Ok(Standing::Source)
    } else if epoch == Some(input.to.epoch) {
        Ok(Standing::Target)
    } else {
        Err(Failure::retry(
            "placement_changed",
            "the tenant lives in neither of the move's homes",
        ))
    }
}

impl<'a> Moving<'a> {
    async fn new(ops: &'a Ops, journal: &'a Journal) -> Result<Self, Failure> {
        let input = input(journal)?;
        let client = ops.catalog().client().await?;
        let located = placement::locate(ops.catalog(), &client, input.from.tenant).await?;
        drop(client);
        let located = located.ok_or_else(|| Failure::retry("no_placement", "the tenant has no placement"))?;
        let source = Home::new(ops, journal, &input.from).await?;
        let target = Home::new(ops, journal, &input.to).await?;
        Ok(Self {
            ops,
            journal,
            suspended: located.state == TenantState::Suspended,
            recorded: MoveStep::of(&journal.operation.step),
            progress: Mutex::new(journal.operation.progress.as_object().cloned().unwrap_or_default()),
            input,
            source,
            target,
        })
    }

    /// Records that a step begins, unless an earlier attempt was further: then the tries of that one are counted on.
    async fn begin(&self, step: MoveStep) -> Result<(), Failure> {
        self.journal.arrive(step.as_str()).await?;
        match self.recorded {
            Some(recorded) if recorded > step => self.journal.check().await,
            _ => self.journal.note(step.as_str()).await,
        }
    }

    async fn end(&self, step: MoveStep) -> Result<(), Failure> {
        self.journal.end(step.as_str()).await
    }

    /// The operation's progress with more to it.
    fn with_news(&self, news: &Value) -> Value {
        let mut progress = self.progress.lock().clone();
        progress.extend(news.as_object().cloned().unwrap_or_default());
        Value::Object(progress)
    }

    /// Adds to the operation's progress.
    async fn tell(&self, news: Value) -> Result<(), Failure> {
        let all = self.with_news(&news);
        self.journal.note_progress(&all).await?;
        *self.progress.lock() = all.as_object().cloned().unwrap_or_default();
        Ok(())
    }

    /// A text of the operation's progress.
    fn told(&self, key: &str) -> Option<String> {
        self.progress.lock().get(key)?.as_str().map(str::to_owned)
    }

    /// Tells when the old home was closed.
    async fn towards_switch(&mut self) -> Result<Instant, Failure> {
        if self.recorded.is_none_or(|recorded| recorded <= MoveStep::Preflight) {
            self.begin(MoveStep::Preflight).await?;
            self.preflight().await?;
            self.end(MoveStep::Preflight).await?;
        }
        self.begin(MoveStep::Prepare).await?;
        self.prepare().await?;
        self.end(MoveStep::Prepare).await?;
        let hands = Hands::take(self).await?;
        self.begin(MoveStep::Follow).await?;
        let mut applier = self.follow(&hands).await?;
        self.end(MoveStep::Follow).await?;
        self.begin(MoveStep::CatchUp).await?;
        if let Some(applier) = &mut applier {
            self.catch_up(&hands, applier).await?;
        }
        self.end(MoveStep::CatchUp).await?;
        self.begin(MoveStep::Close).await?;
        let closed = Instant::now();
        self.close_source(&hands).await?;
        self.end(MoveStep::Close).await?;
        self.begin(MoveStep::Copy).await?;
        self.copy(&hands, applier.as_mut()).await?;
        self.end(MoveStep::Copy).await?;
        self.begin(MoveStep::Verify).await?;
        self.verify(&hands).await?;
        self.end(MoveStep::Verify).await?;
        self.journal.arrive(MoveStep::Switch.as_str()).await?;
        self.switch(&hands).await?;
        self.end(MoveStep::Switch).await?;
        Ok(closed)
    }

    async fn preflight(&self) -> Result<(), Failure> {
        let located = self.source.located().await?;
        let obstacles = self.ops.obstacles_of_move(&located, &self.input.to).await?;
        if obstacles.is_empty() {
            return Ok(());
        }
        let all: Vec<_> = obstacles
            .iter()
            .map(|one| format!("{} ({})", one.what, one.mend))
            .collect();
        Err(Failure::permanent("obstacles", all.join("; ")))
    }

    /// Opens the old home after a failure, so that the tenant is served until the next attempt. Where that fails too, the next
    /// attempt or the undoing does it.
    async fn reopened_after(&self, failure: Failure) -> Failure {
        const TRIES: u32 = 3;
        if matches!(failure, Failure::LeaseLost | Failure::Parked) {
            return failure;
        }
        for _ in 0..TRIES {
            match self.reopen().await {
                Ok(Standing::Source) => return failure,
                // What failed was only the answer.
                Ok(Standing::Target) => return Failure::retry("switched", "the tenant has moved: going on from there"),
                Err(Failure::LeaseLost) => return Failure::LeaseLost,
                Err(error) => {
                    tracing::error!(
                        operation.id = %self.journal.operation.id, tenant.id = %self.input.from.tenant, ?error,
                        "a tenant's old home could not be opened again after its move failed: trying again"
                    );
                }
            }
        }
        failure
    }

    /// Forgets what the catalog holds of a home that came to nothing.
    async fn forget_target(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let to = &self.input.to;
        match to.isolation {
            Isolation::Shared => {}
            Isolation::Schema => {
                tenantry_catalog::app_migration::forget(transaction, to.database, &to.schema).await?;
            }
            Isolation::Database => tenant_database::remove(transaction, to.database).await?,
        }
        if to.server != self.input.from.server {
            server::give_place_back(transaction, to.server).await?;
        }
        Ok(())
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Sql(error) => error.into(),
            TransferError::Copy { ref table, ref source } => {
                let what = format!("copy the rows of {table}");
                Failure::database(&what, source)
            }
            TransferError::Stalled { .. } => Self::retry("server_unreachable", error.to_string()),
            TransferError::Differs(_) => Self::permanent("copy_differs", error.to_string()),
            TransferError::Orphans { .. } => Self::permanent("reference_rows", error.to_string()),
            // Someone has migrated one of the two since; the next attempt looks again.
            other => Self::retry("structure_differs", other.to_string()),
        }
    }
}
