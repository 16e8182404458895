//! Takes a tenant to another home. What holds in each step stands at [`MoveStep`].
//!
//! Never are two homes open: the old one's fence closes before the last changes are brought, and is opened again only under the tenant's row in the catalog,
//! while the placement there is still the old one; the new one's is opened only after the placement has become the new one. The one
//! moment in between is the commit of [`switch`], and who does not know how that ended asks the catalog.

mod carry;
mod certified;
mod close;
mod compare;
mod held;
mod homes;
mod online;
mod prepare;
mod remove;
mod soak;
mod steered;
mod switch;

use chrono::Utc;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tenantry_catalog::{
    Transaction,
    operation::{self, OperationState, Wish},
    placement, server, tenant_database,
};
use tenantry_core::{Epoch, Isolation, TenantState};
use tenantry_engine::transfer::{
    self, HistoryAhead, JobsAhead, Recheck, RowsAhead, SequencesAhead, TransferError,
    stream::{Applier, Direction, Touched},
};

use self::{
    held::Held,
    homes::{Hands, Home},
    soak::Soaked,
};
use super::{Failure, Journal, site::Site, steered::stop_is_wanted};
use crate::{
    MoveStep, Ops,
    moves::{self, MoveInput},
};

pub(super) use crate::moves::NAMES as STEPS;

/// A move that is being worked on, in one of its two directions.
pub(super) struct Moving<'a> {
    ops: &'a Ops,
    journal: &'a Journal,
    /// From where to where, in this direction.
    input: MoveInput,
    direction: Direction,
    /// Where the tenant lived, and where it goes.
    source: Home<'a>,
    target: Home<'a>,
    /// As the catalog says; it does not change while the operation is there.
    suspended: bool,
    /// The step at which an earlier attempt was.
    recorded: Option<MoveStep>,
    /// What the operation's progress says; of the way back, what stands below `back`.
    progress: Mutex<Map<String, Value>>,
    /// On the way back, what the rest of it says.
    outer: Map<String, Value>,
    /// What the tenant waits for, once its home is closed.
    held: Mutex<Held>,
}

/// What was done while the tenant worked, so that it need not wait for it.
struct Ahead {
    history: Option<HistoryAhead>,
    jobs: JobsAhead,
    /// Where the rows that are written since are known.
    sequences: Option<SequencesAhead>,
    /// Where there are rows to be compared again.
    recheck: Option<Recheck>,
    /// Where the tenant's changes are not followed.
    rows: Option<RowsAhead>,
}

/// A tenant that lives in another home since a moment ago and waits to be let in there, with the connections that are there.
struct Crossed<'a> {
    moving: Moving<'a>,
    hands: Hands,
}

/// Where an operation's progress keeps what concerns the way back.
const BACK: &str = "back";

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
    let epoch = {
        let client = ops.catalog().client().await?;
        placement::epoch_of(&client, input.from.tenant).await?
    };
    if MoveStep::of(&journal.operation.step).is_some_and(MoveStep::holds_the_tenant) {
        journal.hurry();
    }
    if epoch == Some(input.reversed().to.epoch) {
        return settle_back(ops, journal, None).boxed().await;
    }
    let crossed = match standing_at(epoch, &input)? {
        Standing::Source => Some(cross(ops, journal, Direction::There).boxed().await?),
        Standing::Target => None,
    };
    settle(ops, journal, crossed).boxed().await
}

/// From one home to the other, up to the switch.
async fn cross<'a>(ops: &'a Ops, journal: &'a Journal, direction: Direction) -> Result<Crossed<'a>, Failure> {
    let mut moving = Moving::new(ops, journal, direction).await?;
    moving.let_in_after_another().boxed().await?;
    let crossed = tokio::select! {
        biased;
        // The work is left where it stands, as if the process had died.
        wish = stop_is_wanted(ops, journal), if direction == Direction::There => Err(wish),
        // Each by itself on the heap: together they are more than a thread's stack takes in a debug build.
        crossed = moving.towards_switch().boxed() => Ok(crossed),
    };
    match crossed {
        Ok(Ok(hands)) => Ok(Crossed { moving, hands }),
        Ok(Err(failure)) => Err(moving.reopened_after(failure).await),
        Err(wish) => Err(moving.stop(wish).await),
    }
}

/// What comes after the switch.
async fn settle<'a>(ops: &'a Ops, journal: &'a Journal, crossed: Option<Crossed<'a>>) -> Result<(), Failure> {
    let moving = match crossed {
        Some(crossed) => crossed.arrive().boxed().await?,
        None => {
            let moving = Moving::new(ops, journal, Direction::There).await?;
            if moving.recorded.is_none_or(|recorded| recorded < MoveStep::Soak) {
                moving.open().await?;
                moving.certify(None).boxed().await?;
            }
            moving
        }
    };
    match moving.soak().boxed().await? {
        Soaked::Over => moving.remove_source().boxed().await,
        Soaked::Back => match cross(ops, journal, Direction::Back).boxed().await {
            Ok(crossed) => settle_back(ops, journal, Some(crossed)).boxed().await,
            Err(failure) => Err(moving.stays(failure).await),
        },
    }
}

/// What comes after the switch back.
async fn settle_back<'a>(ops: &'a Ops, journal: &'a Journal, crossed: Option<Crossed<'a>>) -> Result<(), Failure> {
    let moving = match crossed {
        Some(crossed) => crossed.arrive().boxed().await?,
        None => {
            let moving = Moving::new(ops, journal, Direction::Back).await?;
            moving.open().await?;
            moving.certify(None).boxed().await?;
            moving
        }
    };
    moving.remove_source().boxed().await
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
    let moving = Moving::new(ops, journal, Direction::There).await?;
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
    let state = match operation::wish_of(&transaction, journal.operation.id).await? {
        Some(Wish::Abort) => OperationState::Cancelled,
        _ => OperationState::Failed,
    };
    journal.finish(&transaction, state).await?;
    Ok(transaction.commit().await?)
}

fn input(journal: &Journal) -> Result<MoveInput, Failure> {
    serde_json::from_value(journal.operation.input.clone())
        .map_err(|error| Failure::retry("unknown", format!("this program does not know such a move: {error}")))
}

/// Reads where the tenant lives. What is neither of the two is left to people.
async fn standing(db: &impl tenantry_catalog::Db, input: &MoveInput) -> Result<Standing, Failure> {
    standing_at(placement::epoch_of(db, input.from.tenant).await?, input)
}

fn standing_at(epoch: Option<Epoch>, input: &MoveInput) -> Result<Standing, Failure> {
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

/// The rows that were written since both sides were compared; `None` where they were too many to be kept.
fn written_since(applier: &Applier) -> Option<&Touched> {
    applier.touched().filter(|touched| touched.keys().is_some())
}

impl<'a> Crossed<'a> {
    /// Lets the tenant in at once: to connect anew and to ask the catalog first for what is known is time that it waits.
    async fn arrive(self) -> Result<Moving<'a>, Failure> {
        let Self { moving, hands } = self;
        moving.open_by(hands.target()).await?;
        // Whatever comes next takes its turn on a connection of its own.
        drop(hands);
        let held = moving.held.lock().clone();
        moving.certify(Some(held)).boxed().await?;
        Ok(moving)
    }
}

impl<'a> Moving<'a> {
    async fn new(ops: &'a Ops, journal: &'a Journal, direction: Direction) -> Result<Self, Failure> {
        let input = match direction {
            Direction::There => input(journal)?,
            Direction::Back => input(journal)?.reversed(),
        };
        let client = ops.catalog().client().await?;
        let located = placement::locate(ops.catalog(), &client, input.from.tenant).await?;
        drop(client);
        let located = located.ok_or_else(|| Failure::retry("no_placement", "the tenant has no placement"))?;
        let source = Home::new(ops, journal, &input.from).await?;
        let target = Home::new(ops, journal, &input.to).await?;
        // As it is now: this direction may not be the first in which this process works.
        let client = ops.catalog().client().await?;
        let now = operation::find(&client, journal.operation.id).await?;
        drop(client);
        let now = now.unwrap_or_else(|| journal.operation.clone());
        let progress = match direction {
            Direction::There => now.progress.as_object(),
            Direction::Back => now.progress.get(BACK).and_then(Value::as_object),
        };
        Ok(Self {
            ops,
            journal,
            suspended: located.state == TenantState::Suspended,
            recorded: MoveStep::of(&now.step),
            progress: Mutex::new(progress.cloned().unwrap_or_default()),
            outer: now.progress.as_object().cloned().unwrap_or_default(),
            held: Mutex::new(Held::begin()),
            direction,
            input,
            source,
            target,
        })
    }

    /// What a step is called in this direction.
    fn named(&self, step: MoveStep) -> MoveStep {
        match self.direction {
            Direction::There => step,
            Direction::Back => step.back(),
        }
    }

    /// Records that a step begins, unless an earlier attempt was further: then the tries of that one are counted on.
    async fn begin(&self, step: MoveStep) -> Result<(), Failure> {
        let step = self.named(step);
        self.journal.arrive(step.as_str()).await?;
        match self.recorded {
            Some(recorded) if recorded > step => self.journal.check().await,
            _ => self.journal.note(step.as_str()).await,
        }
    }

    async fn end(&self, step: MoveStep) -> Result<(), Failure> {
        self.journal.end(self.named(step).as_str()).await
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
        self.journal.note_progress(&self.whole(&all)).await?;
        *self.progress.lock() = all.as_object().cloned().unwrap_or_default();
        Ok(())
    }

    /// The whole operation's progress, of which this is one direction's.
    fn whole(&self, progress: &Value) -> Value {
        match self.direction {
            Direction::There => progress.clone(),
            Direction::Back => {
                let mut whole = self.outer.clone();
                whole.insert(BACK.to_owned(), progress.clone());
                Value::Object(whole)
            }
        }
    }

    /// A text of the operation's progress.
    fn told(&self, key: &str) -> Option<String> {
        self.progress.lock().get(key)?.as_str().map(str::to_owned)
    }

    /// Gives the connections with which the tenant was taken over.
    async fn towards_switch(&mut self) -> Result<Hands, Failure> {
        if self.direction == Direction::There && self.recorded.is_none_or(|recorded| recorded <= MoveStep::Preflight) {
            self.begin(MoveStep::Preflight).await?;
            self.preflight().await?;
            self.end(MoveStep::Preflight).await?;
        }
        self.begin(MoveStep::Prepare).await?;
        match self.direction {
            Direction::There => self.prepare().boxed().await?,
            Direction::Back => self.prepare_back().boxed().await?,
        }
        self.end(MoveStep::Prepare).await?;
        let hands = Hands::take(self).await?;
        let mut rows = None;
        let mut applier = match self.direction {
            Direction::There => {
                self.begin(MoveStep::Follow).await?;
                let applier = self.follow(&hands).boxed().await?;
                if applier.is_none() {
                    rows = Some(self.bring_rows(&hands).boxed().await?);
                }
                self.end(MoveStep::Follow).await?;
                applier
            }
            // It has been followed all the time.
            Direction::Back => Some(self.start_applier(&hands).await?),
        };
        self.begin(MoveStep::CatchUp).await?;
        if let Some(applier) = &mut applier {
            self.catch_up(&hands, applier).await?;
        }
        self.end(MoveStep::CatchUp).await?;
        if self.direction == Direction::There {
            self.begin(MoveStep::WayBack).await?;
            let make = self.make_way_back(&hands).boxed();
            match &mut applier {
                Some(applier) => self.while_following(&hands, applier, make).boxed().await?,
                None => make.await?,
            }
            self.end(MoveStep::WayBack).await?;
        }
        self.begin(MoveStep::Compare).await?;
        let mut jobs = JobsAhead::default();
        let history = match self.input.within_a_database() {
            true => None,
            // Also where the rows have to wait: few rows can have a long history and many jobs.
            false => {
                self.bring_jobs(&hands, applier.as_mut(), &mut jobs).boxed().await?;
                self.bring_history(&hands, applier.as_mut()).boxed().await?
            }
        };
        let (mut sequences, mut recheck) = (None, None);
        if let Some(applier) = &mut applier {
            self.compare_online(&hands, applier).boxed().await?;
            self.renew_statistics(&hands, applier).boxed().await?;
            sequences = self.look_at_sequences(&hands, applier).boxed().await?;
            recheck = Some(self.prepare_recheck(&hands).boxed().await?);
        }
        if !self.input.within_a_database() {
            // What became of them while both sides were compared.
            self.bring_jobs(&hands, applier.as_mut(), &mut jobs).boxed().await?;
        }
        self.carry_ledger(&hands).boxed().await?;
        if let Some(rows) = &rows {
            self.level_ahead(&hands, rows).boxed().await?;
        }
        let ahead = Ahead {
            history,
            jobs,
            sequences,
            recheck,
            rows,
        };
        self.end(MoveStep::Compare).await?;
        self.tell(json!({ "closed_at": Utc::now() })).await?;
        *self.held.lock() = Held::begin();
        let has_little_to_do = applier.as_ref().is_some_and(|applier| applier.touched().is_some());
        let over = self.cut_over(&hands, applier.as_mut(), &ahead).boxed();
        match has_little_to_do {
            false => over.await?,
            true => {
                let patience = self.ops.fleet().move_cut_over;
                // What is dropped may have switched: the tenant's row in the catalog tells.
                tokio::time::timeout(patience, over).await.map_err(|_| {
                    let waited = patience.as_secs();
                    Failure::retry(
                        "cut_over_slow",
                        format!("the tenant would have waited for more than {waited} s and was let in again"),
                    )
                })??;
            }
        }
        Ok(hands)
    }

    /// Opens the home that an earlier try may have left closed: what comes before the next cut-over can take as long as there are rows.
    async fn let_in_after_another(&self) -> Result<(), Failure> {
        if !self.recorded.is_some_and(MoveStep::holds_the_tenant) {
            return Ok(());
        }
        match self.reopen().await? {
            Standing::Source => Ok(()),
            Standing::Target => Err(Failure::retry("switched", "the tenant has moved: going on from there")),
        }
    }

    /// What the tenant waits for.
    async fn cut_over(&self, hands: &Hands, mut applier: Option<&mut Applier>, ahead: &Ahead) -> Result<(), Failure> {
        self.journal.hurry();
        self.begin(MoveStep::Close).await?;
        self.close_source(hands).await?;
        self.end(MoveStep::Close).await?;
        self.held_for("close");
        self.begin(MoveStep::Copy).await?;
        self.copy(hands, applier.as_deref_mut(), ahead).boxed().await?;
        self.end(MoveStep::Copy).await?;
        self.begin(MoveStep::Verify).await?;
        let touched = applier.as_deref().and_then(written_since);
        let are_levelled = applier.is_none();
        self.verify(hands, touched.zip(ahead.recheck.as_ref()), are_levelled)
            .boxed()
            .await?;
        self.end(MoveStep::Verify).await?;
        self.held_for("compare");
        // The commits behind the fence were not waited for, each by itself.
        transfer::make_lasting(hands.target()).await?;
        self.held_for("disk");
        self.journal.arrive(self.named(MoveStep::Switch).as_str()).await?;
        self.switch(hands).await?;
        self.end(MoveStep::Switch).await?;
        self.held_for("switch");
        Ok(())
    }

    /// What the tenant has waited for since the part before.
    fn held_for(&self, part: &'static str) {
        self.held.lock().was_for(part);
    }

    async fn preflight(&self) -> Result<(), Failure> {
        let located = self.source.located().await?;
        if let Ok(size) = self.ops.measure_tenant(self.input.from.tenant).await {
            self.tell(json!({ "rows_about": size.rows })).await?;
        }
        let obstacles = self.ops.obstacles_of_move(&located, &self.input).await?;
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
