//! `tenantry migrate`: every tenant to the application's newest migration.

mod options;

use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_engine::isolate::{Act, Derived, Grantee, Version};
use tenantry_ops::{MigrationError, MigrationReport, Ops, Reconciled, Rollout, SiteStatus};

use self::options::RolloutOptions;
use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, List, Output, table},
    progress::Progress,
};

/// What to do with migrations.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show what each migration becomes when it is isolated, and where it is missing
    Plan(Plan),
    /// Apply what is missing, each schema in its own transaction, wave after wave
    Apply(RolloutOptions),
    /// Try again where the last attempt failed
    Retry(RolloutOptions),
    /// Show which version each schema has
    Status(Status),
}

/// What to believe.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Ask every tenant database and correct the catalog's copy first: after a restore, or work by hand
    #[arg(long)]
    reconcile: bool,
}

/// What to show of the plan.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Also show the SQL that runs in each placement
    #[arg(long)]
    sql: bool,
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

impl Answer for List<Site> {
    fn text(&self) -> String {
        table(
            ["tenant", "server", "version", "lacks", "error"],
            self.items.iter().map(Site::row),
        )
    }
}

#[derive(Serialize)]
struct Report {
    target: i64,
    applied: Vec<Site>,
    current: usize,
    failed: Vec<Site>,
    /// Not tried, since too many had failed.
    left: usize,
}

impl From<MigrationReport> for Report {
    fn from(report: MigrationReport) -> Self {
        Self {
            target: report.target,
            applied: report.applied.into_iter().map(Site::from).collect(),
            current: report.current,
            failed: report.failed.into_iter().map(Site::from).collect(),
            left: report.left,
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
            text = format!("{text}; {} were not tried, since too many had failed", self.left);
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

/// What the migrations become, and who lacks which.
#[derive(Serialize)]
struct Planned {
    migrations: Vec<PlannedVersion>,
    sites: Vec<Site>,
}

#[derive(Serialize)]
struct PlannedVersion {
    version: i64,
    name: String,
    notes: Vec<PlannedNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<PlannedStep>,
}

#[derive(Serialize)]
struct PlannedNote {
    line: u32,
    object: String,
    text: String,
}

#[derive(Serialize)]
struct PlannedStep {
    line: u32,
    sql: String,
}

impl Planned {
    fn new(derived: &Derived, sites: Vec<SiteStatus>, sql: bool) -> Self {
        Self {
            migrations: derived
                .versions
                .iter()
                .map(|version| PlannedVersion::new(version, sql))
                .collect(),
            sites: sites.into_iter().map(Site::from).collect(),
        }
    }
}

impl PlannedVersion {
    fn new(version: &Version, sql: bool) -> Self {
        let notes = version.notes.iter().map(|note| PlannedNote {
            line: note.line,
            object: note.object.clone(),
            text: note.text.clone(),
        });
        let steps = version.steps.iter().map(|step| PlannedStep {
            line: step.line,
            sql: text_of(&step.act),
        });
        Self {
            version: version.version,
            name: version.name.clone(),
            notes: notes.collect(),
            steps: if sql { steps.collect() } else { Vec::new() },
        }
    }
}

fn text_of(act: &Act) -> String {
    match act {
        Act::Sql(sql) => sql.clone(),
        Act::Concurrent { sql, .. } => format!("{sql} -- concurrently where there are rows"),
        Act::Grant { privileges, on, to } => {
            let to = match to {
                Grantee::Application => "the application's role",
                Grantee::Mover => "the mover's role",
            };
            format!("grant {privileges} on {on} to {to}")
        }
    }
}

impl Answer for Planned {
    fn text(&self) -> String {
        let mut text = String::new();
        for migration in &self.migrations {
            text.push_str(&format!("{}\n", migration.name));
            for note in &migration.notes {
                text.push_str(&format!("  line {}: {}: {}\n", note.line, note.object, note.text));
            }
            for step in &migration.steps {
                text.push_str(&format!(
                    "  -- line {}\n  {};\n",
                    step.line,
                    step.sql.replace('\n', "\n  ")
                ));
            }
        }
        let behind: Vec<&Site> = self.sites.iter().filter(|site| !site.pending.is_empty()).collect();
        match behind.as_slice() {
            [] => text.push_str(&format!("\nAll {} schemas have every one of them.", self.sites.len())),
            behind => {
                let rows = behind.iter().map(|site| site.row());
                text.push_str(&format!(
                    "\n{} of {} schemas lack some:\n{}",
                    behind.len(),
                    self.sites.len(),
                    table(["tenant", "server", "version", "lacks", "error"], rows)
                ));
            }
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
        Command::Plan(plan) => run_plan(&ops, plan.sql, output, &progress).await,
        Command::Apply(options) => run_apply(&ops, &options.rollout()?, output, &progress).await,
        Command::Retry(options) => {
            let mut rollout = options.rollout()?;
            rollout.only_failed = true;
            run_apply(&ops, &rollout, output, &progress).await
        }
        Command::Status(status) => run_status(&ops, status.reconcile, output, &progress).await,
    }
}

async fn run_status(ops: &Ops, reconcile: bool, output: Output, progress: &Progress) -> Result<(), Failure> {
    let mut silent = Vec::new();
    if reconcile {
        progress.step("asking every tenant database");
        let answers = ops.reconcile_migrations(&authority()).await?;
        for answer in answers.iter().filter(|answer| answer.corrected > 0) {
            let (database, corrected) = (&answer.database, answer.corrected);
            progress.note(format!(
                "{database}: the catalog was wrong about {corrected} migrations"
            ));
        }
        silent = answers.into_iter().filter(|answer| answer.error.is_some()).collect();
    }
    let sites = ops.migration_status(&authority()).await;
    progress.end();
    output.answer(&List {
        items: sites?.into_iter().map(Site::from).collect(),
    })?;
    match silent.first() {
        None => Ok(()),
        Some(first) => Err(Failure::failed(unanswered(first, silent.len()))),
    }
}

fn unanswered(first: &Reconciled, count: usize) -> String {
    let reason = first.error.as_deref().unwrap_or_default();
    format!(
        "{count} tenant databases did not answer, `{}` among them: {reason}",
        first.database
    )
}

async fn run_plan(ops: &Ops, sql: bool, output: Output, progress: &Progress) -> Result<(), Failure> {
    let derived = ops.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
    let sites = ops.migration_status(&authority()).await?;
    progress.end();
    Ok(output.answer(&Planned::new(&derived, sites, sql))?)
}

async fn run_apply(ops: &Ops, rollout: &Rollout, output: Output, progress: &Progress) -> Result<(), Failure> {
    let show = |at: tenantry_ops::RolloutProgress| {
        progress.step(format!(
            "migrating {}: {} of {} done, {} failed",
            at.wave, at.done, at.total, at.failed
        ));
    };
    let report = ops.roll_out(&authority(), rollout, &show).await;
    progress.end();
    let report = match report {
        Err(MigrationError::Rollout(error)) => return Err(Failure::usage(error.to_string())),
        report => Report::from(report?),
    };
    output.answer(&report)?;
    match report.failed.len() {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} of {} schemas stayed behind: mend what the report names and run `tenantry migrate retry`, \
             then `tenantry migrate apply`",
            report.all()
        ))),
    }
}
