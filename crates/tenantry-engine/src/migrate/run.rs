//! One version on one placement.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    Mode,
    locks::with_locks,
    progress,
    target::{Patience, Target},
    tenants::ListError,
};
use crate::isolate::{Act, Finished, Grantee, Step, Version};
use tenantry_sql::{Identifier, Literal};

/// Why a version was not applied.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not get its locks in time, in so many attempts; trying again may help.
    Locked { file: String, attempts: u32 },
    /// A step failed.
    Step { file: String, line: u32, message: String },
    /// The file was changed after some of it had been applied to the schema.
    EditedHalfway { file: String, schema: String },
    /// Another program has applied some of it to the schema, in other steps.
    OtherSteps { file: String, schema: String },
    /// The tenants could not be listed.
    Tenants(ListError),
    /// Tenants of the schema were being made for too long.
    Arriving(String),
    /// The connection failed.
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// As whom a version runs.
struct Acting<'a> {
    role: &'a Identifier,
    /// What it needs before the steps, and how that is undone.
    before: String,
    after: String,
}

impl<'a> Acting<'a> {
    /// The owner, who is bound by row security. Data over all tenants needs a role that is not: the mover, where the administrator
    /// could make one; else the owner with its tables not forced, which nobody else can use meanwhile.
    async fn of(client: &Client, target: &'a Target, version: &Version) -> Result<Self, Error> {
        let mut acting = Self {
            role: &target.owner,
            before: String::new(),
            after: String::new(),
        };
        if version.mode != Mode::AllTenants {
            return Ok(acting);
        }
        let mover = client
            .query_opt(
                "select from pg_roles where rolname = $1 and rolbypassrls and pg_has_role(oid, 'member')",
                &[&target.mover.as_str()],
            )
            .await?;
        if mover.is_some() {
            acting.role = &target.mover;
            return Ok(acting);
        }
        let tables = client
            .query(
                "select format('alter table %I.%I ', n.nspname, c.relname)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = $1 and c.relforcerowsecurity",
                &[&target.schema.as_str()],
            )
            .await?;
        for row in tables {
            let alter: String = row.get(0);
            acting
                .before
                .push_str(&format!("{alter} no force row level security;\n"));
            acting.after.push_str(&format!("{alter} force row level security;\n"));
        }
        Ok(acting)
    }
}

/// All steps in one message; where that fails, once more step by step, to say which step it was.
pub(super) async fn in_transaction(
    client: &Client,
    target: &Target,
    version: &Version,
    patience: &Patience,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let acting = Acting::of(client, target, version).await?;
    let mut text = begin_as(target, acting.role, version, patience);
    text.push_str(&acting.before);
    for step in &version.steps {
        text.push_str(&statement(target, step, Building::Concurrently));
        text.push_str(";\n");
    }
    text.push_str(&acting.after);
    text.push_str("set local role none;");
    let ran = async {
        client.batch_execute(&text).await?;
        client.batch_execute(&end(target, version, begun)).await?;
        client.batch_execute("commit").await
    };
    match ran.await {
        Ok(()) => Ok(()),
        Err(error) => {
            roll_back(client).await?;
            let locked = locked(&error, version);
            match locked {
                Some(locked) => Err(locked),
                None => find_step(client, target, version, &acting, patience, begun).await,
            }
        }
    }
}

/// Whether everything could be done in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OneGo {
    Applied,
    /// A step failed, or can't run in a transaction: version by version tells which.
    NotThisWay,
}

/// How indexes are built that a migration makes concurrently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Building {
    Concurrently,
    /// Where no table holds a row, and so nobody waits.
    Plainly,
}

/// All versions of a placement without rows, in one message.
pub(super) async fn fresh(
    client: &Client,
    target: &Target,
    versions: &[&Version],
    finished: Option<&Finished>,
    patience: &Patience,
) -> Result<OneGo, Failure> {
    let text = fresh_text(target, versions, finished, patience, "");
    let Err(error) = client.batch_execute(&text).await else {
        return Ok(OneGo::Applied);
    };
    roll_back(client).await?;
    match versions.first().and_then(|version| locked(&error, version)) {
        Some(locked) => Err(locked),
        None if error.as_db_error().is_some() => Ok(OneGo::NotThisWay),
        None => Err(error.into()),
    }
}

/// What each version takes of such a message is not told.
const TOOK_MS: &str = "0";

/// What brings all versions to a placement without rows: finished, or one after the other. `first` runs as the administrator, in
/// the transaction of the first.
pub(super) fn fresh_text(
    target: &Target,
    versions: &[&Version],
    finished: Option<&Finished>,
    patience: &Patience,
    first: &str,
) -> String {
    if let Some(finished) = finished {
        return finished_text(target, versions, finished, patience, first);
    }
    let mut text = String::new();
    let mut open = false;
    for (number, version) in versions.iter().enumerate() {
        if !open {
            text.push_str(&begin(target, patience));
        }
        if number == 0 {
            text.push_str(first);
        }
        text.push_str(&act_as(&target.owner));
        // There are no tenants yet whose data could be changed; what new ones start with is seeded when they come.
        let steps = version
            .steps
            .iter()
            .filter(|step| version.mode == Mode::Schema && !step.only_filled);
        for step in steps {
            text.push_str(&statement(target, step, Building::Plainly));
            text.push_str(";\n");
        }
        text.push_str("set local role none;\n");
        text.push_str(&record_as(target, version, TOOK_MS));
        open = !version.ends_transaction;
        if !open {
            text.push_str("commit;\n");
        }
    }
    if open {
        text.push_str("commit");
    }
    text
}

fn finished_text(
    target: &Target,
    versions: &[&Version],
    finished: &Finished,
    patience: &Patience,
    first: &str,
) -> String {
    let mut text = begin(target, patience);
    text.push_str(first);
    // The cast of the sentence is the error, as in the seal: it is not evaluated before the comparison is.
    text.push_str(&format!(
        "select (case current_setting('server_version_num')::int / 10000 when {} then null \
                 else 'tenantry: finished for another version of PostgreSQL' || left(version(), 0) end)::int;\n",
        finished.server_major
    ));
    text.push_str(&act_as(&target.owner));
    for step in &finished.steps {
        text.push_str(&statement(target, step, Building::Plainly));
        text.push_str(";\n");
    }
    text.push_str("set local role none;\n");
    for version in versions {
        text.push_str(&record_as(target, version, TOOK_MS));
    }
    text.push_str("commit");
    text
}

/// The same, statement by statement.
async fn find_step(
    client: &Client,
    target: &Target,
    version: &Version,
    acting: &Acting<'_>,
    patience: &Patience,
    begun: Instant,
) -> Result<(), Failure> {
    let first = version.steps.first().map_or(1, |step| step.line);
    let head = format!("{}{}", begin_as(target, acting.role, version, patience), acting.before);
    if let Err(error) = client.batch_execute(&head).await {
        roll_back(client).await?;
        return Err(failure(version, first, error));
    }
    for step in &version.steps {
        if let Err(error) = client
            .batch_execute(&statement(target, step, Building::Concurrently))
            .await
        {
            roll_back(client).await?;
            return Err(failure(version, step.line, error));
        }
    }
    let end = format!(
        "{}set local role none; {}; commit",
        acting.after,
        end(target, version, begun)
    );
    if let Err(error) = client.batch_execute(&end).await {
        roll_back(client).await?;
        let line = version.steps.last().map_or(1, |step| step.line);
        return Err(failure(version, line, error));
    }
    Ok(())
}

/// Files that can't run in a transaction: each step is noted when it is done, and the next attempt goes on behind it.
pub(super) async fn step_by_step(
    client: &Client,
    target: &Target,
    version: &Version,
    patience: &Patience,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let acting = Acting::of(client, target, version).await?;
    let done = progress::done(client, target, version).await?;
    for (number, step) in (1_i32..).zip(&version.steps) {
        if number <= done {
            continue;
        }
        let note = progress::note(target, version, number);
        if stands_alone(step) {
            with_locks(client, target, patience, || {
                outside(client, target, version, step, patience)
            })
            .await?;
            client.batch_execute(&note).await?;
        } else {
            with_locks(client, target, patience, || {
                inside(client, target, version, step, &acting, &note, patience)
            })
            .await?;
        }
    }
    Ok(client.batch_execute(&end(target, version, begun)).await?)
}

/// Writes the ledger and forgets how far it was, in one message and so in one transaction.
pub(super) fn end(target: &Target, version: &Version, begun: Instant) -> String {
    record(target, version, begun) + &progress::forget(target, version)
}

/// Whether PostgreSQL refuses the step in a transaction.
pub(super) fn stands_alone(step: &Step) -> bool {
    let Act::Sql(text) = &step.act else {
        return matches!(step.act, Act::Concurrent { .. });
    };
    let mut words = text.split_whitespace().map(str::to_lowercase);
    let first = words.next().unwrap_or_default();
    matches!(first.as_str(), "vacuum" | "reindex" | "cluster") || words.any(|word| word == "concurrently")
}

/// Whether the application goes on while the step waits: what says `concurrently` waits for transactions to end with a lock that is
/// in nobody's way.
fn waits_aside(step: &Step) -> bool {
    match &step.act {
        Act::Concurrent { .. } => true,
        Act::Sql(text) => text
            .split_whitespace()
            .any(|word| word.eq_ignore_ascii_case("concurrently")),
        Act::Grant { .. } => false,
    }
}

/// One step and its note in a transaction, so that the next attempt neither repeats nor skips it.
async fn inside(
    client: &Client,
    target: &Target,
    version: &Version,
    step: &Step,
    acting: &Acting<'_>,
    note: &str,
    patience: &Patience,
) -> Result<(), Failure> {
    let all = format!(
        "{}{}{};\n{}set local role none; {note}; commit",
        begin_as(target, acting.role, version, patience),
        acting.before,
        statement(target, step, Building::Concurrently),
        acting.after
    );
    if let Err(error) = client.batch_execute(&all).await {
        roll_back(client).await?;
        return Err(failure(version, step.line, error));
    }
    Ok(())
}

/// One step outside a transaction, as the owner.
async fn outside(
    client: &Client,
    target: &Target,
    version: &Version,
    step: &Step,
    patience: &Patience,
) -> Result<(), Failure> {
    let bounds = Bounds::of(version, patience);
    // `lock_timeout` also ends the wait for the transactions that were open before.
    let wait = match waits_aside(step) {
        true => bounds.lock_timeout.max(patience.turn_timeout),
        false => bounds.lock_timeout,
    };
    let enter = format!(
        "set role {}; set search_path = {}, tenantry_ext; set lock_timeout = {}; set statement_timeout = {}",
        target.owner,
        target.schema,
        wait.as_millis(),
        bounds.statement_timeout.as_millis()
    );
    let leave = "reset role; reset search_path; reset lock_timeout; reset statement_timeout";
    client.batch_execute(&enter).await?;
    let mut outcome = Ok(());
    if let Act::Concurrent { index, .. } = &step.act {
        outcome = clear_invalid(client, target, index).await;
    }
    if outcome.is_ok() {
        outcome = client
            .batch_execute(&statement(target, step, Building::Concurrently))
            .await;
    }
    client.batch_execute(leave).await?;
    outcome.map_err(|error| failure(version, step.line, error))
}

/// `create index concurrently` that fails leaves an invalid index behind, which `if not exists` would take for the real one.
async fn clear_invalid(client: &Client, target: &Target, index: &str) -> Result<(), Error> {
    let row = client
        .query_opt(
            "select i.indexrelid::regclass::text
               from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = $1 and c.relname = $2 and not i.indisvalid",
            &[&target.schema.as_str(), &index],
        )
        .await?;
    if let Some(row) = row {
        let name: String = row.get(0);
        client.batch_execute(&format!("drop index concurrently {name}")).await?;
    }
    Ok(())
}

/// How long a version's statements wait for locks, and run.
struct Bounds {
    lock_timeout: Duration,
    /// Nothing is no bound.
    statement_timeout: Duration,
}

impl Bounds {
    /// What its file declares, and else what the installation says. What the administrator's role happens to have counts for nobody.
    fn of(version: &Version, patience: &Patience) -> Self {
        Self {
            lock_timeout: version.lock_timeout.unwrap_or(patience.lock_timeout),
            statement_timeout: version.statement_timeout.unwrap_or_default(),
        }
    }
}

/// Opens a transaction, still as the administrator.
pub(crate) fn begin(target: &Target, patience: &Patience) -> String {
    let bounds = Bounds {
        lock_timeout: patience.lock_timeout,
        statement_timeout: Duration::ZERO,
    };
    begin_within(target, &bounds)
}

/// The same for one version, within the bounds that its file declares.
pub(super) fn begin_version(target: &Target, version: &Version, patience: &Patience) -> String {
    begin_within(target, &Bounds::of(version, patience))
}

fn begin_within(target: &Target, bounds: &Bounds) -> String {
    format!(
        "begin; set local lock_timeout = {}; set local statement_timeout = {}; set local client_min_messages = warning; \
         set local check_function_bodies = off; set local search_path = {}, tenantry_ext;\n",
        bounds.lock_timeout.as_millis(),
        bounds.statement_timeout.as_millis(),
        target.schema,
    )
}

fn begin_as(target: &Target, role: &Identifier, version: &Version, patience: &Patience) -> String {
    begin_version(target, version, patience) + &act_as(role)
}

pub(crate) fn act_as(role: &Identifier) -> String {
    format!("set local role {role};\n")
}

/// A step's text for this placement.
pub(crate) fn statement(target: &Target, step: &Step, building: Building) -> String {
    match &step.act {
        Act::Sql(text) => text.clone(),
        Act::Concurrent { sql, .. } if building == Building::Concurrently => {
            sql.replacen("index ", "index concurrently if not exists ", 1)
        }
        Act::Concurrent { sql, .. } => sql.clone(),
        Act::Grant { privileges, on, to } => {
            let role = match to {
                Grantee::Application => &target.application,
                Grantee::Mover => &target.mover,
            };
            format!("grant {privileges} on {on} to {role}")
        }
    }
}

/// The ledger's row, written as the administrator.
fn record(target: &Target, version: &Version, begun: Instant) -> String {
    record_as(target, version, &begun.elapsed().as_millis().to_string())
}

/// The same where PostgreSQL says how many milliseconds it took.
pub(super) fn record_as(target: &Target, version: &Version, duration_ms: &str) -> String {
    format!(
        "insert into tenantry_private.migration (schema, version, name, checksum, engine_version, duration_ms) \
         values ({}, {}, {}, {}, {}, {});\n",
        text(&super::ledger::name(target.schema.as_str(), version.is_overlay())),
        version.version,
        text(&version.name),
        text(&version.checksum),
        text(crate::isolate::ENGINE_VERSION),
        duration_ms
    )
}

/// A text of ours: file names and checksums hold no zero byte, since file names can't.
pub(super) fn text(text: &str) -> String {
    Literal::new(text.replace('\0', "")).map_or_else(|_| "''".to_owned(), |literal| literal.to_string())
}

/// After an error inside a transaction; outside of one it is only a warning.
pub(crate) async fn roll_back(client: &Client) -> Result<(), Error> {
    client.batch_execute("rollback").await
}

pub(super) fn failure(version: &Version, line: u32, error: Error) -> Failure {
    if let Some(locked) = locked(&error, version) {
        return locked;
    }
    match error.as_db_error() {
        Some(database) => {
            let mut message = database.message().to_owned();
            for part in [database.detail(), database.hint()].into_iter().flatten() {
                message.push_str("; ");
                message.push_str(part);
            }
            Failure::Step {
                file: version.name.clone(),
                line,
                message,
            }
        }
        None => Failure::Database(error),
    }
}

fn locked(error: &Error, version: &Version) -> Option<Failure> {
    let again = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    again.contains(error.code()?).then(|| Failure::Locked {
        file: version.name.clone(),
        attempts: 1,
    })
}
