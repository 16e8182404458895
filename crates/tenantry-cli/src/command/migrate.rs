//! `tenantry migrate`: every tenant to the application's newest migration.

mod diff;
mod durations;
mod options;
mod plan;
mod reconciled;
mod verify;

use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_ops::{
    MigrationError, MigrationReport, Operation, Ops, RequiredVersion, Rollout, RolloutProgress, SiteStatus,
};
use tokio::sync::Notify;

use self::{
    durations::{Silent, TimedMigration},
    options::RolloutOptions,
    reconciled::Reconciliation,
};
use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, Done, Output, table},
    progress::Progress,
    shutdown::Signals,
    upgrade,
};

/// What to do with migrations.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show what each migration becomes when it is isolated, and where it is missing
    Plan(plan::Plan),
    /// Apply what is missing, each schema in its own transaction, wave after wave
    Apply(RolloutOptions),
    /// Try again where the last attempt failed
    Retry(RolloutOptions),
    /// Show which version each schema has
    Status(Status),
    /// Serve only tenants whose tables have this migration; the others are answered `tenant-migrating` until they have it
    Require(Require),
    /// Write the next migration from a desired schema
    Diff(diff::Options),
    /// Compare every schema with what its migrations make, show what differs as SQL, and repair what is safe
    Verify(verify::Options),
}

/// What tenants have to have.
#[derive(Args, Debug)]
pub(crate) struct Require {
    /// The number of a migration; 0 serves everybody
    migration: i64,
}

/// What to ask beside the catalog.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Ask every tenant database and correct the catalog's copy first: after a restore, or work by hand
    #[arg(long)]
    reconcile: bool,
    /// Ask every tenant database how long each migration took there
    #[arg(long)]
    durations: bool,
}

/// A schema with the application's tables.
#[derive(Serialize)]
struct Site {
    /// The tenant it belongs to; none where its tables are shared.
    tenant: Option<String>,
    server: String,
    database: String,
    schema: String,
    version: i64,
    pending: Vec<String>,
    error: Option<String>,
    /// Which migrations it has, and how long each took, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<Vec<TimedMigration>>,
}

impl From<SiteStatus> for Site {
    fn from(site: SiteStatus) -> Self {
        Self {
            tenant: site.slug,
            server: site.server,
            database: site.database,
            schema: site.schema,
            version: site.version,
            pending: site.pending,
            error: site.error,
            migrations: None,
        }
    }
}

impl Site {
    fn tenant(&self) -> String {
        self.tenant.clone().unwrap_or_else(|| "(shared tables)".to_owned())
    }

    fn row(&self) -> [String; 5] {
        let lacks = if self.pending.is_empty() {
            "nothing".to_owned()
        } else {
            self.pending.join(", ")
        };
        let error = self.error.clone().unwrap_or_default();
        [
            self.tenant(),
            self.server.clone(),
            self.version.to_string(),
            lacks,
            error,
        ]
    }
}

/// How far every schema is.
#[derive(Serialize)]
struct FleetStatus {
    items: Vec<Site>,
    /// What the catalog was wrong about, where that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconciled: Option<Reconciliation>,
}

impl Answer for FleetStatus {
    fn text(&self) -> String {
        let mut text = table(
            ["tenant", "server", "version", "lacks", "error"],
            self.items.iter().map(Site::row),
        );
        if self.items.iter().any(|site| site.migrations.is_some()) {
            text.push_str(&format!("\n\n{}", durations::text(&self.items)));
        }
        if let Some(corrected) = self.reconciled.as_ref().and_then(Reconciliation::text) {
            text.push_str(&format!("\n\n{corrected}"));
        }
        text
    }
}

#[derive(Serialize)]
struct Report {
    target: i64,
    applied: Vec<Site>,
    current: usize,
    failed: Vec<Site>,
    /// Not tried, since too many had failed or it was stopped.
    left: usize,
    /// Whether a signal stopped it.
    stopped: bool,
}

impl From<MigrationReport> for Report {
    fn from(report: MigrationReport) -> Self {
        Self {
            target: report.target,
            applied: report.applied.into_iter().map(Site::from).collect(),
            current: report.current,
            failed: report.failed.into_iter().map(Site::from).collect(),
            left: report.left,
            stopped: false,
        }
    }
}

impl Report {
    fn all(&self) -> usize {
        self.applied.len() + self.current + self.failed.len() + self.left
    }
}

impl Answer for Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} of {} schemas brought to version {}, {} had it already",
            self.applied.len(),
            self.all(),
            self.target,
            self.current
        );
        if self.left > 0 {
            let reason = match self.stopped {
                true => "it was stopped",
                false => "too many had failed",
            };
            text = format!("{text}; {} were not tried, since {reason}", self.left);
        }
        if !self.failed.is_empty() {
            let failed = table(
                ["tenant", "server", "version", "lacks", "error"],
                self.failed.iter().map(Site::row),
            );
            text = format!("{text}; failed:\n{failed}");
        }
        text
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    let progress = Progress::start(output);
    progress.step("working out what the migrations become");
    match command {
        Command::Plan(options) => plan::run(&ops, &options, output, &progress).await,
        Command::Apply(options) => run_apply(&ops, &options.rollout()?, output, &progress).await,
        Command::Retry(options) => {
            let mut rollout = options.rollout()?;
            rollout.only_failed = true;
            run_apply(&ops, &rollout, output, &progress).await
        }
        Command::Require(require) => run_require(&ops, require.migration, output, &progress).await,
        Command::Diff(options) => diff::run(&ops, config, &options, output, &progress).await,
        Command::Verify(options) => verify::run(&ops, options, output, &progress).await,
        Command::Status(status) => run_status(&ops, &status, output, &progress).await,
    }
}

async fn run_status(ops: &Ops, status: &Status, output: Output, progress: &Progress) -> Result<(), Failure> {
    let mut reconciled = None;
    if status.reconcile {
        progress.step("asking every tenant database");
        reconciled = Some(Reconciliation::new(ops.reconcile_migrations(&authority()).await?));
    }
    let mut silent = reconciled.as_ref().map_or_else(Vec::new, Reconciliation::silent);
    let sites = ops.migration_status(&authority()).await;
    let mut items: Vec<Site> = sites?.into_iter().map(Site::from).collect();
    if status.durations {
        progress.step("asking every tenant database how long it took");
        let ledgers = ops.migration_durations(&authority()).await?;
        let told = durations::tell(&mut items, ledgers);
        if silent.is_empty() {
            silent = told;
        }
    }
    progress.end();
    output.answer(&FleetStatus { items, reconciled })?;
    match silent.first() {
        None => Ok(()),
        Some(first) => Err(Failure::failed(unanswered(first, silent.len()))),
    }
}

fn unanswered(first: &Silent, count: usize) -> String {
    let Silent { database, reason } = first;
    format!("{count} tenant databases did not answer, `{database}` among them: {reason}")
}

async fn run_require(ops: &Ops, version: i64, output: Output, progress: &Progress) -> Result<(), Failure> {
    let required = ops.require_schema_version(&authority(), version).await;
    progress.end();
    let required = match required {
        Err(error @ MigrationError::NoSuchVersion(_)) => return Err(Failure::usage(error.to_string())),
        required => required?,
    };
    let RequiredVersion { schemas, behind, .. } = required;
    Ok(output.answer(&Done {
        text: match version {
            0 => "every tenant is served, whatever its version".to_owned(),
            _ => format!("only tenants with migration {version} are served; {behind} of {schemas} schemas lack it"),
        },
        json: serde_json::json!({ "schema_version_min": version, "behind": behind, "schemas": schemas }),
    })?)
}

/// How far a roll-out that is an operation is, for who watches.
pub(super) fn now(operation: &Operation) -> String {
    let progress = &operation.progress;
    let figure = |name: &str| progress[name].as_u64().unwrap_or_default();
    let what = match (progress["wave"].as_str(), progress["next_wave_at"].as_str()) {
        (Some(wave), Some(at)) => format!("waiting until {at} with {wave}"),
        (Some(wave), None) => format!("migrating {wave}"),
        (None, _) => "migrating".to_owned(),
    };
    let (done, total, failed) = (figure("done"), figure("total"), figure("failed"));
    format!("{what}: {done} of {total} done, {failed} failed")
}

/// The same of one that this process makes.
fn shown(at: &RolloutProgress) -> String {
    let what = match at.next_wave_at {
        Some(time) => format!("waiting until {} UTC with {}", time.format("%H:%M:%S"), at.wave),
        None => format!("migrating {}", at.wave),
    };
    format!("{what}: {} of {} done, {} failed", at.done, at.total, at.failed)
}

async fn run_apply(ops: &Ops, rollout: &Rollout, output: Output, progress: &Progress) -> Result<(), Failure> {
    progress.step("bringing tenant databases up to date");
    let outdated = upgrade::left_behind(ops).await?;
    let report = roll_out(ops, rollout, progress).await;
    progress.end();
    let report = report?;
    output.answer(&report)?;
    if !outdated.is_empty() {
        return Err(Failure::failed(format!(
            "{}: mend that and run `tenantry migrate apply` again",
            upgrade::told(&outdated)
        )));
    }
    if report.stopped && report.left > 0 {
        return Err(Failure::failed(format!(
            "stopped with {} of {} schemas left and {} that failed: `tenantry migrate apply` goes on",
            report.left,
            report.all(),
            report.failed.len()
        )));
    }
    match report.failed.len() {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} of {} schemas stayed behind: mend what the report names and run `tenantry migrate retry`, \
             then `tenantry migrate apply`",
            report.all()
        ))),
    }
}

/// Rolls out until a signal comes, which lets the schemas end that are at work. A second one ends it where it stands, as `kill -9` does:
/// the next run goes on after either.
async fn roll_out(ops: &Ops, rollout: &Rollout, progress: &Progress) -> Result<Report, Failure> {
    let mut signals = Signals::listen_without_terminal()?;
    let (authority, stop) = (authority(), Notify::new());
    let show = |at: RolloutProgress| progress.step(shown(&at));
    let work = ops.roll_out_until(&authority, rollout, stop.notified(), &show);
    tokio::pin!(work);
    let mut stopped = false;
    let report = loop {
        tokio::select! {
            report = &mut work => break report,
            // Nothing is lost when it is dropped: a signal is kept for the next look.
            () = signals.received() => {}
        }
        if stopped {
            return Err(Failure::failed(
                "ended in the middle, and what was not committed is rolled back: `tenantry migrate apply` goes on",
            ));
        }
        stopped = true;
        stop.notify_one();
        progress.note("stopping when the schemas at work are done; once more ends it at once");
    };
    match report {
        Err(MigrationError::Rollout(error)) => Err(Failure::usage(error.to_string())),
        report => Ok(Report {
            stopped,
            ..Report::from(report?)
        }),
    }
}
