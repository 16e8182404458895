//! `tenantry migrate plan`: what each migration becomes, who lacks it, and what it does to a copy of what is there.

use clap::Args;
use serde::Serialize;
use tenantry_engine::{
    isolate::{Act, Derived, Grantee, Note, Version},
    migrate::LintFinding as Finding,
    structure::Rehearsed,
};
use tenantry_ops::{MigrationError, Ops, Rehearsal, SiteStatus};

use super::Site;
use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, table},
    progress::Progress,
};

/// What to show of the plan.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Also show the SQL that runs in each placement
    #[arg(long)]
    sql: bool,
    /// Also let squawk's linter look for what stops an application that runs: exit code 1 where it finds something
    #[arg(long)]
    lint: bool,
}

/// What the migrations become, and who lacks which.
#[derive(Serialize)]
struct Planned {
    migrations: Vec<PlannedVersion>,
    sites: Vec<Site>,
    /// What the pending ones did on a copy without rows, from each version that the fleet has.
    rehearsals: Vec<PlannedRehearsal>,
    /// What the linter says of the pending files.
    #[serde(skip_serializing_if = "Option::is_none")]
    lint: Option<Vec<LintFinding>>,
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
    fn new(derived: &Derived, sites: Vec<SiteStatus>, rehearsals: Vec<Rehearsal>, sql: bool) -> Self {
        Self {
            rehearsals: rehearsals.into_iter().map(PlannedRehearsal::from).collect(),
            lint: None,
            migrations: derived
                .versions
                .iter()
                .map(|version| PlannedVersion::new(version, sql))
                .collect(),
            sites: sites.into_iter().map(Site::from).collect(),
        }
    }
}

impl From<&Note> for PlannedNote {
    fn from(note: &Note) -> Self {
        Self {
            line: note.line,
            object: note.object.clone(),
            text: note.text.clone(),
        }
    }
}

impl PlannedVersion {
    fn new(version: &Version, sql: bool) -> Self {
        let notes = version.notes.iter().map(PlannedNote::from);
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
        for rehearsal in &self.rehearsals {
            text.push_str(&rehearsal.text());
        }
        if let Some(findings) = &self.lint {
            text.push_str("\n\nThe linter says:");
            if findings.is_empty() {
                text.push_str(" nothing.");
            }
            for finding in findings {
                text.push_str(&finding.text());
            }
        }
        text
    }
}

/// What is pending from one version on.
#[derive(Serialize)]
struct PlannedRehearsal {
    server: String,
    /// Whose copy it was, where the tenant has files of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    from: i64,
    schemas: usize,
    files: Vec<PlannedFile>,
    error: Option<String>,
}

/// What one file did.
#[derive(Serialize)]
struct PlannedFile {
    name: String,
    /// It holds rows, and was not run.
    data: bool,
    notes: Vec<PlannedNote>,
    locks: Vec<PlannedLock>,
    rewrites: Vec<String>,
    scans: Vec<String>,
}

#[derive(Serialize)]
struct PlannedLock {
    table: String,
    mode: String,
    blocks: Option<&'static str>,
}

impl From<Rehearsal> for PlannedRehearsal {
    fn from(rehearsal: Rehearsal) -> Self {
        Self {
            server: rehearsal.server,
            tenant: rehearsal.tenant,
            from: rehearsal.from,
            schemas: rehearsal.sites,
            files: rehearsal.files.into_iter().map(PlannedFile::from).collect(),
            error: rehearsal.error,
        }
    }
}

impl From<Rehearsed> for PlannedFile {
    fn from(file: Rehearsed) -> Self {
        let locks = file.locks.into_iter().map(|lock| PlannedLock {
            table: lock.table,
            mode: lock.mode,
            blocks: lock.blocks,
        });
        Self {
            name: file.name,
            data: file.data,
            notes: file.notes.iter().map(PlannedNote::from).collect(),
            locks: locks.collect(),
            rewrites: file.rewrites,
            scans: file.scans,
        }
    }
}

impl PlannedRehearsal {
    fn text(&self) -> String {
        let mut text = match &self.tenant {
            Some(tenant) => format!("\n\nOn a copy of {tenant}, version {}, on {}:", self.from, self.server),
            None => format!(
                "\n\nOn a copy of version {}, which {} schemas on {} have:",
                self.from, self.schemas, self.server
            ),
        };
        for file in &self.files {
            text.push_str(&file.text());
            // What the fleet's become stands above.
            for note in file.notes.iter().filter(|_| file.is_a_tenants_own()) {
                text.push_str(&format!("\n    line {}: {}: {}", note.line, note.object, note.text));
            }
        }
        if let Some(error) = &self.error {
            text.push_str(&format!("\n  it fails: {error}"));
        }
        text
    }
}

impl PlannedFile {
    /// The fleet's files stand in no folder.
    fn is_a_tenants_own(&self) -> bool {
        self.name.contains('/')
    }

    fn text(&self) -> String {
        let mut text = format!("\n  {}", self.name);
        if self.data {
            text.push_str("\n    was not run: it holds rows, and how long it takes depends on them");
        }
        for lock in &self.locks {
            let waits = lock
                .blocks
                .map_or("nobody waits".to_owned(), |blocks| format!("{blocks} wait"));
            text.push_str(&format!("\n    locks {}: {} ({waits})", lock.table, lock.mode));
        }
        for table in &self.rewrites {
            text.push_str(&format!("\n    writes {table} anew"));
        }
        for table in &self.scans {
            text.push_str(&format!("\n    reads every row of {table}"));
        }
        if !self.data && self.locks.is_empty() {
            text.push_str("\n    locks nothing that stood before");
        }
        text
    }
}

/// What the linter says of one place.
#[derive(Serialize)]
struct LintFinding {
    file: String,
    line: u32,
    rule: String,
    message: String,
    help: Option<String>,
}

impl LintFinding {
    fn text(&self) -> String {
        let help = self.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        format!(
            "\n  {}:{}: {}{help} ({})",
            self.file, self.line, self.message, self.rule
        )
    }
}

impl From<Finding> for LintFinding {
    fn from(finding: Finding) -> Self {
        Self {
            file: finding.file,
            line: finding.line,
            rule: finding.rule,
            message: finding.message,
            help: finding.help,
        }
    }
}

pub(super) async fn run(ops: &Ops, options: &Plan, output: Output, progress: &Progress) -> Result<(), Failure> {
    let derived = ops.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
    let sites = ops.migration_status(&authority()).await?;
    let lint = options.lint.then(|| ops.lint_pending(&sites));
    progress.step("running what is pending on a copy");
    let done = |done, total| progress.step(format!("running what is pending on copies: {done} of {total}"));
    let rehearsals = ops.rehearse_migrations(&authority(), &done).await?;
    progress.end();
    let failed = rehearsals.iter().find_map(|rehearsal| rehearsal.error.clone());
    let mut planned = Planned::new(&derived, sites, rehearsals, options.sql);
    let found = lint.as_ref().map_or(0, Vec::len);
    planned.lint = lint.map(|findings| findings.into_iter().map(LintFinding::from).collect());
    output.answer(&planned)?;
    match failed {
        Some(error) => Err(Failure::failed(format!("a pending migration fails on a copy: {error}"))),
        None if found > 0 => Err(Failure::failed(format!(
            "the linter found {found} places: mend them, or write `-- squawk-ignore <rule>` above"
        ))),
        None => Ok(()),
    }
}
