//! The application's migrations over the whole fleet: each schema in transactions of its own, one failure stopping
//! nobody else unless a budget is set.

mod answers;
mod diff;
mod durations;
mod edited;
mod lint;
mod minimum;
mod operation;
mod overlay;
mod queue;
mod reconcile;
mod rehearse;
mod rollout;
mod run;
mod state;
mod steer;
mod verify;
mod workers;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::json;
use tenantry_catalog::{
    CatalogError,
    app_migration::{self, Failed},
    fleet_state::{self, SiteState},
};
use tenantry_core::{OperationId, OperatorScope, TenantDatabaseId, TenantId};
use tenantry_engine::isolate::Derived;
use tokio::sync::watch;

use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
};
use overlay::Overlays;
use rollout::{Wave, is_wanted, waves};
use run::Run;
use workers::{Outcome, Workers};

pub use diff::{DiffedFile, DiffedMigration};
pub use durations::{DatabaseLedgers, TimedVersion};
pub use minimum::RequiredVersion;
pub use operation::{RolloutFieldError, RolloutRequest, VerifyRequest};
pub(crate) use operation::{drift_of, outcome_of, plan_of, progress_of};
pub use reconcile::Reconciled;
pub use rehearse::Rehearsal;
pub use rollout::{FailureBudget, Label, NoBudget, NoLabel, Rollout, RolloutError};
pub(crate) use run::{Before, Ended, Kept, Went};
pub(crate) use state::rows as ledger_rows;
pub use verify::{DriftState, SiteDifference, VerifiedSite, Verify};
pub(crate) use workers::note_overlay;

/// So that the example of the page is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/migrations.md")]
struct Page;

/// How often a roll-out looks for schemas that were made while it ran, of an older version, by a process that has not its files yet.
const LOOKS_MAX: usize = 10;

/// A schema with the application's tables, and how far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteStatus {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The tenant it belongs to, unless its tables are shared.
    pub tenant: Option<TenantId>,
    /// That tenant's slug.
    pub slug: Option<String>,
    /// The newest version it has; 0 for none.
    pub version: i64,
    /// The names of the migrations it lacks.
    pub pending: Vec<String>,
    /// Why it could not be migrated or asked, a straggler; or why it can't be: a file was edited that it has.
    pub error: Option<String>,
}

/// What a run over the fleet did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MigrationReport {
    /// The newest version there is; 0 for none.
    pub target: i64,
    /// Which schemas were brought to it.
    pub applied: Vec<SiteStatus>,
    /// How many had it already.
    pub current: usize,
    /// Which stayed behind, with the reason.
    pub failed: Vec<SiteStatus>,
    /// How many were not tried, since too many had failed or since it was to stop.
    pub left: usize,
}

/// How far a roll-out is, for who watches.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RolloutProgress {
    /// The newest version there is, which schemas are brought to.
    pub version: i64,
    /// What is being migrated, or comes next: `canaries`, `10 %`, `shared tables`.
    pub wave: String,
    /// How many schemas are done, failed ones among them.
    pub done: usize,
    /// How many are to be migrated in all.
    pub total: usize,
    /// How many failed.
    pub failed: usize,
    /// When the wave begins, while the roll-out pauses before it.
    pub next_wave_at: Option<DateTime<Utc>>,
}

/// Why a run over the fleet did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No application's migrations are configured.
    #[error("no migrations are configured: name the folder that holds them")]
    NoMigrations,
    /// A migration is refused, with the file, the line, the reason and the mend.
    #[error("{0}")]
    Refused(String),
    /// There is no server to try them on.
    #[error("there is no server yet: add one")]
    NoServer,
    /// The server that they are tried on can't be used.
    #[error("the migrations can't be tried: {0}")]
    Server(String),
    /// The roll-out can't be as it is wanted.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A field of a request says what can't be.
    #[error(transparent)]
    Field(#[from] RolloutFieldError),
    /// A tenant in shared tables has files of its own.
    #[error(
        "the tenant `{0}` lives in shared tables, which can't be customised for one: give it the isolation `schema` or `database`, or take `tenants/{0}` away"
    )]
    SharedOverlay(String),
    /// Another roll-out has not ended.
    #[error("a roll-out is running already, as operation {0}: wait for it")]
    Running(OperationId),
    /// Another roll-out waits to be resumed.
    #[error(
        "a roll-out is paused, as operation {0}: let it go on with `tenantry operation resume {0}`, or call it off with `tenantry operation abort {0}`"
    )]
    Paused(OperationId),
    /// No migration has this number.
    #[error("no migration has the number {0}")]
    NoSuchVersion(i64),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for MigrationError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Brings every schema of the fleet to the newest version; [`roll_out`](Self::roll_out) says how.
    ///
    /// # Errors
    /// As [`roll_out`](Self::roll_out).
    pub async fn apply_migrations(&self, authority: &Authority) -> Result<MigrationReport, MigrationError> {
        self.roll_out(authority, &Rollout::default(), &|_| {}).await
    }

    /// Brings schemas of the fleet to the newest version, wave after wave. A schema that fails stays as it was and is
    /// listed; the others go on until the budget of failures is spent. Where nothing is pending, no tenant database is
    /// asked. Running it again goes on where something was left, also after a run that was killed. What was made of an older version
    /// while it ran is migrated at its end, where it is not one for single tenants or for stragglers.
    ///
    /// # Errors
    /// See [`MigrationError`]; what failed at single schemas stands in the report.
    ///
    /// # Cancel safety
    /// Schemas that were done stay done.
    pub async fn roll_out(
        &self,
        authority: &Authority,
        rollout: &Rollout,
        progress: &(dyn Fn(RolloutProgress) + Sync),
    ) -> Result<MigrationReport, MigrationError> {
        let never = std::future::pending();
        self.roll_out_until(authority, rollout, never, progress).await
    }

    /// The same until it is told to `stop`: then the schemas that are at work end, no other one begins, and the report tells how many are
    /// left. Running it again goes on with them.
    ///
    /// # Errors
    /// As [`roll_out`](Self::roll_out).
    ///
    /// # Cancel safety
    /// As [`roll_out`](Self::roll_out).
    pub async fn roll_out_until(
        &self,
        authority: &Authority,
        rollout: &Rollout,
        stop: impl Future<Output = ()> + Send,
        progress: &(dyn Fn(RolloutProgress) + Sync),
    ) -> Result<MigrationReport, MigrationError> {
        let went = self.run_rollout(authority, rollout, None, stop, progress).await?;
        Ok(went.report)
    }

    /// One run of a roll-out, until it is told to `stop`: then the schemas that are at work end, and no other one begins. What the runs
    /// `before` it have failed at counts, and is not tried again: one that is interrupted does what one does that is not.
    ///
    /// # Errors
    /// As [`roll_out`](Self::roll_out).
    pub(crate) async fn run_rollout(
        &self,
        authority: &Authority,
        rollout: &Rollout,
        before: Option<Before>,
        stop: impl Future<Output = ()> + Send,
        progress: &(dyn Fn(RolloutProgress) + Sync),
    ) -> Result<Went, MigrationError> {
        let (wanted, heard) = watch::channel(false);
        let work = self.run_until(authority, rollout, before, heard, progress);
        tokio::pin!(work, stop);
        tokio::select! {
            went = &mut work => return went,
            // The work goes on where it was.
            () = stop => {}
        }
        wanted.send_replace(true);
        work.await
    }

    async fn run_until(
        &self,
        authority: &Authority,
        rollout: &Rollout,
        before: Option<Before>,
        stop: watch::Receiver<bool>,
        progress: &(dyn Fn(RolloutProgress) + Sync),
    ) -> Result<Went, MigrationError> {
        authority.require_operator(OperatorScope::Migrations)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let target = state::newest(&derived);
        let all = self.fleet_state(&derived).await?;
        let overlays = self.overlays(&all).await?;
        self.forget_failures(&all, &derived, &overlays).await?;
        let tried = self.tried_in_vain(before, target).await?;
        let is_behind = |state: &SiteState| !is_current(state, &derived, &overlays);
        let has_failed =
            |state: &SiteState| is_behind(state) && is_wanted(state, rollout) && tried.contains(&key_of_site(state));
        let current = all.iter().filter(|state| !is_behind(state)).count();
        let failed = all.iter().filter(|state| has_failed(state));
        let failed: Vec<_> = failed
            .map(|state| status_of(state.clone(), &derived, &overlays))
            .collect();
        let mut known: HashSet<_> = all.iter().map(key_of_site).collect();
        let waves = waves(all, |state| is_behind(state) && !has_failed(state), rollout)?;
        let failed_before = failed.len();
        let found = failed_before + waves.iter().map(|wave| wave.sites.len()).sum::<usize>();
        let mut total = before.map_or(found, |before| before.kept.total(target, found));
        let applied_before = total - found;
        let run = Run {
            derived: &derived,
            rollout,
            progress,
            stop,
            applied_before,
            report: Mutex::new(MigrationReport {
                target,
                current: current.saturating_sub(applied_before),
                failed,
                ..MigrationReport::default()
            }),
            next_wave_at: Mutex::new(before.and_then(|before| before.next_wave_at())),
        };
        let takes_all = rollout.only.is_empty() && !rollout.only_failed;
        let mut ended = self.run_waves(&run, waves, &overlays, total).await?;
        for _ in 0..LOOKS_MAX {
            if ended != Ended::Through || !takes_all || total == 0 {
                break;
            }
            let mut late = self.fleet_state(&derived).await?;
            late.retain(|state| known.insert(key_of_site(state)));
            let overlays = self.overlays(&late).await?;
            late.retain(|state| !is_current(state, &derived, &overlays));
            if late.is_empty() {
                break;
            }
            total += late.len();
            let late = vec![Wave::of_late(late)];
            ended = self.run_waves(&run, late, &overlays, total).await?;
        }
        let mut report = run.report.into_inner();
        report.left = total - applied_before - report.done();
        if report.done() > failed_before {
            self.note_run(authority, &report).await?;
        }
        Ok(Went {
            ended,
            report,
            applied_before,
            total,
            next_wave_at: run.next_wave_at.into_inner(),
        })
    }

    /// Which schemas the runs before this one have tried in vain.
    async fn tried_in_vain(
        &self,
        before: Option<Before>,
        target: i64,
    ) -> Result<HashSet<(TenantDatabaseId, String)>, CatalogError> {
        let Some(before) = before else {
            return Ok(HashSet::new());
        };
        let client = self.catalog().client().await?;
        let failed = app_migration::list_failed_since(&client, before.since, target).await?;
        Ok(failed.into_iter().collect())
    }

    /// Wave after wave.
    async fn run_waves(
        &self,
        run: &Run<'_>,
        waves: Vec<Wave>,
        overlays: &Overlays,
        total: usize,
    ) -> Result<Ended, MigrationError> {
        for (number, wave) in waves.into_iter().enumerate() {
            if number > 0 {
                run.begin_pause();
            }
            if run.ended(total).is_none() {
                run.await_time(&wave.name, total).await;
            }
            // Also where that has come to be while it waited.
            if let Some(ended) = run.ended(total) {
                return Ok(ended);
            }
            run.begin(&wave.name, total);
            let name = wave.name.clone();
            let on_outcome = |outcome: Outcome| run.add(outcome, overlays, &name, total);
            Workers::new(self, run, overlays, &on_outcome).run(wave).await?;
        }
        Ok(run.ended(total).unwrap_or(Ended::Through))
    }

    /// Forgets why the last attempt failed at schemas that lack nothing: the file that failed was withdrawn, and nobody would try them
    /// again.
    async fn forget_failures(
        &self,
        all: &[SiteState],
        derived: &Derived,
        overlays: &Overlays,
    ) -> Result<(), CatalogError> {
        let settled = all.iter().filter(|state| is_current(state, derived, overlays));
        let failed: Vec<_> = settled
            .filter_map(|state| {
                Some(Failed {
                    database: state.site.database.id,
                    schema: &state.site.schema,
                    error: state.error.as_deref()?,
                })
            })
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let client = self.catalog().client().await?;
        app_migration::forget_failures(&client, &failed).await
    }

    /// How far every schema of the fleet is, by one query over the catalog.
    ///
    /// The catalog's copy of the ledgers is as old as their last change by Tenantry; a database that was restored, or
    /// changed by hand, is told by [`reconcile_migrations`](Self::reconcile_migrations).
    ///
    /// # Errors
    /// See [`MigrationError`].
    pub async fn migration_status(&self, authority: &Authority) -> Result<Vec<SiteStatus>, MigrationError> {
        authority.require_operator(OperatorScope::Read)?;
        let derived = self.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
        let all = self.fleet_state(&derived).await?;
        let overlays = self.overlays(&all).await?;
        let mut told = Vec::with_capacity(all.len());
        for state in all {
            let edited = overlays.edited(&state).map(|_| state.site.clone());
            let mut status = status_of(state, &derived, &overlays);
            // Of one tenant's own file: with one of the fleet's it would be a query for each schema.
            if let Some(site) = edited
                && let Some(error) = &mut status.error
                && let Some(difference) = self.edited_difference(&site).await?
            {
                error.push('\n');
                error.push_str(&difference);
            }
            told.push(status);
        }
        Ok(told)
    }

    async fn fleet_state(&self, derived: &Derived) -> Result<Vec<SiteState>, CatalogError> {
        let client = self.catalog().client().await?;
        fleet_state::list(&client, &state::expected(derived)).await
    }

    async fn note_run(&self, authority: &Authority, report: &MigrationReport) -> Result<(), MigrationError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let act = Act {
            action: "migration.apply",
            tenant: None,
            target: report.target.to_string(),
            before: None,
            after: Some(json!({ "applied": report.applied.len(), "failed": report.failed.len(), "left": report.left })),
        };
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }
}

impl MigrationReport {
    fn done(&self) -> usize {
        self.applied.len() + self.failed.len()
    }

    fn add(&mut self, outcome: Outcome, derived: &Derived, overlays: &Overlays) {
        match outcome.error {
            Some(error) => self.failed.push(SiteStatus {
                error: Some(error),
                ..status_of(outcome.state, derived, overlays)
            }),
            None => self.applied.push(SiteStatus {
                version: self.target,
                pending: Vec::new(),
                error: None,
                ..status_of(outcome.state, derived, overlays)
            }),
        }
    }
}

/// Whether the schema has all of the fleet's files and of its own, and no other ones.
fn is_current(state: &SiteState, derived: &Derived, overlays: &Overlays) -> bool {
    state::is_current(state, derived) && overlays.has_all(state)
}

fn key_of_site(state: &SiteState) -> (TenantDatabaseId, String) {
    (state.site.database.id, state.site.schema.clone())
}

fn status_of(state: SiteState, derived: &Derived, overlays: &Overlays) -> SiteStatus {
    let mut pending = state::pending(&state, derived);
    pending.extend(overlays.pending(&state));
    let oddity = state::oddity(&state, derived);
    let edited = overlays.edited(&state);
    let refused = overlays.refused(&state).map(str::to_owned);
    // What failed counts as long as something is lacking: a file that was withdrawn is nobody's failure.
    let failed = state.error.filter(|_| !pending.is_empty());
    SiteStatus {
        error: oddity.or(edited).or(refused).or(failed),
        pending,
        server: state.site.server,
        database: state.site.database.name,
        schema: state.site.schema,
        tenant: state.site.tenant,
        slug: state.site.slug,
        version: state.version,
    }
}
