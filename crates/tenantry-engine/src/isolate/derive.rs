//! Runs migrations in the twin and collects what they become.

use std::collections::{BTreeMap, BTreeSet};

use squawk_syntax::SyntaxKind;
use tokio_postgres::Client;

use super::{
    ENGINE_VERSION,
    change::{Change, Only, Outcome},
    derived::{Act, Derived, FilledColumn, IsolatedTable, Note, Step, Version},
    difference,
    helper::Helpers,
    history,
    scratch::{Scratch, SnapshotError, TWIN, line_of},
    snapshot::{Oid, Snapshot},
};
use crate::migrate::{self, File, Files, Mode, Reference, Refusal, Statement};

/// Why migrations could not be isolated.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// They do something that is refused; each with its place, reason and mend.
    #[error("{}", migrate::list_refusals(.0))]
    Refused(Vec<Refusal>),
    /// PostgreSQL does not take a statement, neither isolated nor plain.
    #[error("{file}:{line}: {message}")]
    Statement {
        /// The file.
        file: String,
        /// The line in it.
        line: u32,
        /// PostgreSQL's words, with our hint where they need one.
        message: String,
    },
    /// The scratch database does not answer as it should.
    #[error("the scratch database failed")]
    Scratch(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<tokio_postgres::Error> for DeriveError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Scratch(Box::new(error))
    }
}

impl From<SnapshotError> for DeriveError {
    fn from(error: SnapshotError) -> Self {
        Self::Scratch(Box::new(error))
    }
}

/// Runs all migrations in an empty database and returns what they become in every placement.
///
/// `client` is an administrator's connection to a database that nobody else uses and that is thrown away afterwards; `owner` is a role
/// without superuser, as which the migrations run.
///
/// # Errors
///
/// Everything that is refused, with line, reason and mend; what PostgreSQL refuses, with its line.
///
/// # Cancel safety
///
/// Dropping the future leaves the scratch database half done; throw it away.
pub async fn derive(client: &Client, owner: &str, files: &Files) -> Result<Derived, DeriveError> {
    let derived = derive_as(client, owner, files).await;
    client.batch_execute("reset role; reset all").await?;
    derived
}

/// The same for files of one tenant's own among the fleet's, as [`Files::with_own`] puts them: only theirs are returned.
///
/// # Errors
///
/// As [`derive()`]; also a seed, since an overlay has one tenant, which is there.
///
/// # Cancel safety
///
/// As [`derive()`].
pub async fn derive_overlay(client: &Client, owner: &str, files: &Files) -> Result<Derived, DeriveError> {
    let mut own = files.as_slice().iter().filter(|file| file.on_top_of.is_some());
    let seed = own.find(|file| file.header.mode == Mode::Seed);
    if let Some(seed) = seed {
        return Err(DeriveError::Refused(vec![Refusal {
            file: seed.name.clone(),
            line: 1,
            reason: "a seed is for tenants to come, and this file is one tenant's own".into(),
            mend: "declare `-- tenantry: each tenant`".into(),
        }]));
    }
    let derived = derive_as(client, owner, files).await;
    client.batch_execute("reset role; reset all").await?;
    let mut derived = derived?;
    derived.versions.retain(Version::is_overlay);
    Ok(derived)
}

async fn derive_as(client: &Client, owner: &str, files: &Files) -> Result<Derived, DeriveError> {
    let (statements, refusals) = read(files);
    if !refusals.is_empty() {
        return Err(DeriveError::Refused(refusals));
    }
    if let Some(refusal) = unknown_seed(files).or_else(|| unplaced(files)) {
        return Err(DeriveError::Refused(vec![refusal]));
    }
    let scratch = Scratch::prepare(client, owner).await?;
    scratch.enter_twin().await?;
    let mut deriver = Deriver {
        now: scratch.snapshot().await?,
        scratch,
        reference: BTreeSet::new(),
        helpers: Helpers::default(),
        refusals: Vec::new(),
    };
    let mut versions = Vec::new();
    for (file, statements) in files.as_slice().iter().zip(statements) {
        versions.push(deriver.version(file, &statements).await?);
    }
    if !deriver.refusals.is_empty() {
        return Err(DeriveError::Refused(deriver.refusals));
    }
    let derived = Derived {
        engine_version: ENGINE_VERSION.to_owned(),
        tables: deriver.tables(),
        versions,
        finished: None,
    };
    deriver.try_seeds(&derived).await?;
    Ok(derived)
}

fn read(files: &Files) -> (Vec<Vec<Statement>>, Vec<Refusal>) {
    let mut refusals = Vec::new();
    let mut statements = Vec::new();
    for file in files.as_slice() {
        match migrate::read_statements(file) {
            Ok(read) => statements.push(read),
            Err(refused) => refusals.extend(refused),
        }
    }
    (statements, refusals)
}

/// A seed that replaces what is none.
fn unknown_seed(files: &Files) -> Option<Refusal> {
    let is_seed = |version: i64| {
        let mut seeds = files.as_slice().iter().filter(|file| file.header.mode == Mode::Seed);
        seeds.any(|file| file.version == version)
    };
    let file = files.as_slice().iter().find(|file| {
        file.header
            .instead_of
            .is_some_and(|version| !is_seed(version) || version >= file.version)
    })?;
    Some(Refusal {
        file: file.name.clone(),
        line: 1,
        reason: "no earlier file of that number is declared `-- tenantry: seed`".into(),
        mend: "write the number of the seed that this one replaces".into(),
    })
}

/// A file of the whole fleet that says behind what it comes: its number does.
fn unplaced(files: &Files) -> Option<Refusal> {
    let mut fleet = files.as_slice().iter().filter(|file| file.on_top_of.is_none());
    let file = fleet.find(|file| file.header.after.is_some())?;
    Some(Refusal {
        file: file.name.clone(),
        line: 1,
        reason: "`after` is for files of one tenant's own; the fleet's are applied in the order of their numbers"
            .into(),
        mend: "take the declaration away".into(),
    })
}

struct Deriver<'a> {
    scratch: Scratch<'a>,
    now: Snapshot,
    /// Tables with one content for all tenants.
    reference: BTreeSet<Oid>,
    helpers: Helpers,
    refusals: Vec<Refusal>,
}

/// What a version is made of so far.
#[derive(Default)]
struct Parts {
    steps: Vec<Step>,
    notes: Vec<Note>,
    extensions: BTreeSet<String>,
}

impl Deriver<'_> {
    async fn version(&mut self, file: &File, statements: &[Statement]) -> Result<Version, DeriveError> {
        let mut parts = Parts::default();
        self.scratch.enter_twin().await?;
        if file.header.mode == Mode::Schema {
            self.define(file, statements, &mut parts).await?;
        } else {
            self.fill(file, statements, &mut parts).await?;
        }
        Ok(Version {
            version: file.version,
            name: file.name.clone(),
            checksum: file.checksum.clone(),
            mode: file.header.mode,
            transaction: file.header.transaction,
            lock_timeout: file.header.lock_timeout,
            statement_timeout: file.header.statement_timeout,
            instead_of: file.header.instead_of,
            on_top_of: file.on_top_of,
            ends_transaction: parts.steps.iter().any(adds_label),
            extensions: parts.extensions.into_iter().collect(),
            steps: parts.steps,
            notes: parts.notes,
        })
    }

    /// A file of definitions.
    async fn define(&mut self, file: &File, statements: &[Statement], parts: &mut Parts) -> Result<(), DeriveError> {
        let old: BTreeSet<Oid> = self.now.tables.keys().copied().collect();
        for statement in statements {
            if let Some(extension) = &statement.extension {
                self.install(file, statement.line, extension, parts).await?;
            } else if !is_beside_the_tables(statement) {
                self.statement(file, statement, &old, parts).await?;
            }
        }
        for wish in &file.header.history {
            match history::trigger(wish, &self.now, &self.reference) {
                Ok(trigger) => self.statement(file, &trigger, &old, parts).await?,
                Err((reason, mend)) => self.refusals.push(Refusal {
                    file: file.name.clone(),
                    line: wish.line,
                    reason,
                    mend,
                }),
            }
        }
        self.examine_reference(file);
        let last = statements.last().map_or(1, |statement| statement.line);
        let mut out = Outcome::new(last);
        let reference = &self.reference;
        let beside = |table: Oid| !file.header.transaction && old.contains(&table);
        self.helpers
            .settle(&self.now, |table| !reference.contains(&table), beside, &mut out);
        self.take(file, last, out, parts).await?;
        if self.refusals.is_empty() {
            let proved = self.scratch.prove(&parts.steps, file.header.transaction).await;
            proved.map_err(|(line, error)| failed(file, line, &error))?;
        }
        Ok(())
    }

    async fn statement(
        &mut self,
        file: &File,
        statement: &Statement,
        old: &BTreeSet<Oid>,
        parts: &mut Parts,
    ) -> Result<(), DeriveError> {
        if !statement.written.is_empty() || is_query(statement) {
            self.reference_rows(file, statement, parts);
            return Ok(());
        }
        let ran = self.scratch.run(statement).await;
        ran.map_err(|error| failed(file, line_of(statement, &error), &error))?;
        let after = self.scratch.snapshot().await?;
        let made = after
            .tables
            .iter()
            .filter(|(oid, _)| !self.now.tables.contains_key(oid));
        for (oid, table) in made {
            let follows = table.parents.iter().any(|parent| self.reference.contains(parent));
            if follows || file.header.reference.covers(&table.name) {
                self.reference.insert(*oid);
            }
        }
        let change = Change {
            before: &self.now,
            after: &after,
            statement,
            reference: &self.reference,
            old,
            allowed: &file.header.allowed,
        };
        let out = difference::isolate(&change, TWIN);
        self.now = after;
        self.take(file, statement.line, out, parts).await
    }

    /// Rows of reference tables: the text runs as it is.
    fn reference_rows(&mut self, file: &File, statement: &Statement, parts: &mut Parts) {
        for name in &statement.written {
            let table = self.now.tables.iter().find(|(_, table)| table.name == *name);
            if table.is_some_and(|(oid, _)| self.reference.contains(oid)) {
                continue;
            }
            self.refusals.push(Refusal {
                file: file.name.clone(),
                line: statement.line,
                reason: format!("`{name}` is no reference table, and a file declared `reference` writes only those"),
                mend: "move the statement to a file that declares `-- tenantry: each tenant`, `all tenants` or `seed`"
                    .into(),
            });
        }
        parts.steps.push(Step {
            line: statement.line,
            only_filled: false,
            act: Act::Sql(statement.text.clone()),
        });
    }

    /// A misspelt name would leave to each tenant what was to be the same for all.
    fn examine_reference(&mut self, file: &File) {
        let Reference::Named(names) = &file.header.reference else {
            return;
        };
        for name in names {
            if self.now.tables.values().all(|table| table.name != *name) {
                self.refusals.push(Refusal {
                    file: file.name.clone(),
                    line: 1,
                    reason: format!("`{name}` is declared a reference table, and there is no table of this name"),
                    mend: "write the name as PostgreSQL keeps it: in lower case, unless it was made in quotes".into(),
                });
            }
        }
    }

    /// A file of tenants' data.
    async fn fill(&mut self, file: &File, statements: &[Statement], parts: &mut Parts) -> Result<(), DeriveError> {
        for statement in statements {
            self.examine_data(file, statement);
            let planned = !matches!(statement.kind, SyntaxKind::DO | SyntaxKind::CALL | SyntaxKind::SET);
            if planned && self.refusals.is_empty() {
                let understood = self.scratch.understand(&statement.text).await;
                understood.map_err(|error| failed(file, line_of(statement, &error), &error))?;
            }
            parts.steps.push(Step {
                line: statement.line,
                only_filled: false,
                act: Act::Sql(statement.text.clone()),
            });
        }
        Ok(())
    }

    /// A seed runs for tenants that come when all files have been applied, so it has to fit the tables as the last one leaves them.
    async fn try_seeds(&self, derived: &Derived) -> Result<(), DeriveError> {
        for seed in derived.seeds() {
            for step in &seed.steps {
                let Act::Sql(text) = &step.act else { continue };
                let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
                if matches!(first.as_str(), "do" | "call" | "set") {
                    continue;
                }
                if let Err(error) = self.scratch.understand(text).await {
                    let reason = error
                        .as_db_error()
                        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
                    return Err(DeriveError::Refused(vec![Refusal {
                        file: seed.name.clone(),
                        line: step.line,
                        reason: format!("this seed no longer fits the tables as later files leave them: {reason}"),
                        mend: format!(
                            "leave it, and write what new tenants get now into a new file declared `-- tenantry: seed instead of {}`",
                            seed.version
                        ),
                    }]));
                }
            }
        }
        Ok(())
    }

    fn examine_data(&mut self, file: &File, statement: &Statement) {
        let mut refuse = |reason: String, mend: &str| {
            self.refusals.push(Refusal {
                file: file.name.clone(),
                line: statement.line,
                reason,
                mend: mend.to_owned(),
            });
        };
        for name in &statement.written {
            let table = self.now.tables.iter().find(|(_, table)| table.name == *name);
            if table.is_some_and(|(oid, _)| self.reference.contains(oid)) {
                refuse(
                    format!("`{name}` is a reference table, the same for all tenants"),
                    "write it in a file declared `-- tenantry: reference`",
                );
            }
        }
        if file.header.mode == Mode::AllTenants {
            for name in &statement.inserts_without_tenant {
                refuse(
                    format!("the insert into `{name}` does not say whose row it makes"),
                    "name `tenant_id` among its columns, or declare `-- tenantry: each tenant`",
                );
            }
        }
    }

    async fn install(&mut self, file: &File, line: u32, extension: &str, parts: &mut Parts) -> Result<(), DeriveError> {
        if extension == "plpgsql" || !parts.extensions.insert(extension.to_owned()) {
            return Ok(());
        }
        let installed = self.scratch.install(extension).await;
        installed.map_err(|error| failed(file, line, &error))?;
        parts.notes.push(Note {
            line,
            object: extension.to_owned(),
            text: "extension: installed once per database in `tenantry_ext`".into(),
        });
        Ok(())
    }

    async fn take(&mut self, file: &File, line: u32, out: Outcome, parts: &mut Parts) -> Result<(), DeriveError> {
        for extension in out.extensions.clone() {
            self.install(file, line, &extension, parts).await?;
        }
        self.refusals
            .extend(out.refusals.into_iter().map(|(reason, mend)| Refusal {
                file: file.name.clone(),
                line,
                reason,
                mend,
            }));
        parts.notes.extend(out.notes);
        let steps = out.acts.into_iter().map(|(act, only)| Step {
            line,
            only_filled: only == Only::Filled,
            act,
        });
        match file.header.transaction {
            true => parts.steps.extend(steps),
            false => parts.steps.extend(together(steps.collect())),
        }
        Ok(())
    }

    fn tables(&self) -> Vec<IsolatedTable> {
        let keys = self.now.constraints.values().filter(|key| key.kind == 'f');
        let mut references: BTreeMap<Oid, BTreeSet<String>> = BTreeMap::new();
        for key in keys {
            if let Some(target) = self.now.tables.get(&key.target) {
                references.entry(key.table).or_default().insert(target.name.clone());
            }
        }
        let tables = self
            .now
            .tables
            .iter()
            .filter(|(_, table)| matches!(table.kind, 'r' | 'p'));
        tables
            .map(|(oid, table)| IsolatedTable {
                name: table.name.clone(),
                reference: self.reference.contains(oid),
                columns: table.columns.iter().map(|column| column.name.clone()).collect(),
                generated: table
                    .columns
                    .iter()
                    .filter(|column| !column.generated.is_empty())
                    .map(|column| column.name.clone())
                    .collect(),
                partition_of: table
                    .parents
                    .first()
                    .filter(|_| table.is_partition)
                    .and_then(|parent| self.now.tables.get(parent))
                    .map(|parent| parent.name.clone()),
                references: references.remove(oid).unwrap_or_default().into_iter().collect(),
                sequences: self.sequences_of(*oid),
            })
            .collect()
    }

    fn sequences_of(&self, table: Oid) -> Vec<FilledColumn> {
        self.now
            .sequences
            .values()
            .filter_map(|sequence| {
                let owner = sequence.owner.as_ref().filter(|owner| owner.table == table)?;
                let column = self.now.tables.get(&table)?.column(owner.column)?;
                Some(FilledColumn {
                    column: column.name.clone(),
                    sequence: sequence.name.clone(),
                })
            })
            .collect()
    }
}

/// The steps of one statement where each step has a transaction of its own: a table whose row security is not forced while its rows are
/// looked at has it forced again in the same one, or others would meet it so, and a process that is killed would leave it.
fn together(mut steps: Vec<Step>) -> Vec<Step> {
    let first = steps.iter().position(|step| step.only_filled);
    let last = steps.iter().rposition(|step| step.only_filled);
    let (Some(first), Some(last)) = (first, last) else {
        return steps;
    };
    let texts: Option<Vec<&str>> = steps[first..=last]
        .iter()
        .map(|step| match &step.act {
            Act::Sql(text) => Some(text.as_str()),
            Act::Concurrent { .. } | Act::Grant { .. } => None,
        })
        .collect();
    let Some(texts) = texts else { return steps };
    let one = Step {
        line: steps[first].line,
        only_filled: false,
        act: Act::Sql(texts.join(";\n")),
    };
    drop(steps.splice(first..=last, [one]));
    steps
}

/// A query for its effect, as `select setval(…)`; only files of reference rows may hold one.
fn is_query(statement: &Statement) -> bool {
    use SyntaxKind as K;
    matches!(
        statement.kind,
        K::SELECT | K::COMPOUND_SELECT | K::VALUES | K::TABLE | K::CALL
    )
}

fn adds_label(step: &Step) -> bool {
    let Act::Sql(text) = &step.act else { return false };
    let words: Vec<_> = text.split_whitespace().take(8).map(str::to_lowercase).collect();
    words.starts_with(&["alter".into(), "type".into()]) && words.windows(2).any(|pair| pair == ["add", "value"])
}

/// Statements whose effect is not in the schema: settings of a dump's head, extensions that stay.
fn is_beside_the_tables(statement: &Statement) -> bool {
    use SyntaxKind as K;
    matches!(statement.kind, K::DROP_EXTENSION | K::ALTER_EXTENSION | K::SHOW)
        || statement.kind == K::COMMENT_ON && statement.text.to_lowercase().contains(" extension ")
}

fn failed(file: &File, line: u32, error: &tokio_postgres::Error) -> DeriveError {
    let message = match error.as_db_error() {
        Some(database) => {
            let mut message = database.message().to_owned();
            for part in [database.detail(), database.hint()].into_iter().flatten() {
                message.push_str("; ");
                message.push_str(part);
            }
            if let Some(hint) = hint(database.code().code()) {
                message.push_str("; ");
                message.push_str(hint);
            }
            message
        }
        None => error.to_string(),
    };
    DeriveError::Statement {
        file: file.name.clone(),
        line,
        message,
    }
}

/// What PostgreSQL can't know.
fn hint(code: &str) -> Option<&'static str> {
    match code {
        "42803" => Some(
            "the primary key is led by `tenant_id` now: `group by` it names every column that is selected, or `tenant_id` too",
        ),
        "42P10" => {
            Some("uniques are led by `tenant_id` now: write `on conflict (tenant_id, …)` or name the constraint")
        }
        "3F000" => Some("write names without a schema"),
        "42501" => Some("migrations run without superuser, in the placement's schema only"),
        "55P04" => Some("add the value in a migration of its own, before the one that uses it"),
        "25001" => Some("declare `-- tenantry: no transaction`"),
        _ => None,
    }
}
