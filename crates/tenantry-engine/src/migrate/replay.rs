//! What is pending in one placement, in one message: the way of a fleet that is as the catalog believes.
//!
//! The message takes the placement's turn and brings each version with its ledger row, every version in a transaction of its own.
//! The row is written where the ledger is the expected one and is an error elsewhere, which undoes the version: so that this costs no
//! statement of its own. Where anything is not as expected nothing has happened, and [`apply`](super::apply()) finds out what
//! there is to do.

use tokio_postgres::{Client, Error, error::SqlState, types::Type};

use super::{
    Mode,
    apply::ApplyError,
    run::{self, Building},
    target::{Patience, Target},
    turn::turn_key,
};
use crate::isolate::{Act, Derived, Version};
use tenantry_sql::Literal;

/// The sentence by which a placement says that its ledger is another one than expected.
const OTHER_LEDGER: &str = "tenantry: the ledger is not as expected";

/// How long a version of the message took.
const TOOK_MS: &str =
    "(extract(epoch from clock_timestamp() - current_setting('tenantry.begun')::timestamptz) * 1000)::bigint";

/// The prepared statement that checks the ledger and writes its row.
const NOTE: &str = "tenantry_note";
/// The search path it runs under.
const PATH: &str = "set local search_path = pg_catalog, pg_temp";

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Replayed {
    /// Everything that was pending is applied.
    Applied,
    /// What took effect holds, and what did not left nothing behind: [`apply`](super::apply()) goes on, and says what is wrong.
    NotThisWay,
}

/// Prepares a connection for [`replay()`]: the statement that checks and writes the ledger is planned once, and not for each of
/// thousands of schemas.
///
/// # Errors
///
/// When the connection fails, or the database has no ledger.
///
/// # Cancel safety
///
/// A future that is dropped may have prepared it; prepare another connection.
pub async fn prepare_replay(client: &Client) -> Result<(), ApplyError> {
    // Planned under the path that it is executed under: another one would have it planned again.
    let text = format!(
        "begin; {PATH}; prepare {NOTE} (text, int8, text, text, text, text) as \
         insert into tenantry_private.migration (schema, version, name, checksum, engine_version, duration_ms) \
         values ($1, $2, $3, $4, $5, {TOOK_MS} + {IS_EXPECTED}); commit",
        IS_EXPECTED = is_expected("$6", "$1")
    );
    Ok(client.batch_execute(&text).await?)
}

/// Applies the versions behind the first `had` in one round trip.
///
/// `client` is an administrator's connection that nobody else uses meanwhile, after [`prepare_replay`]. The commits don't wait for
/// the disk: a server that crashes may have lost the last of them, whole, until [`settle`] has said that it has not.
///
/// # Errors
///
/// When the connection fails: it is of no more use then.
///
/// # Cancel safety
///
/// Dropping the future leaves the open version to be rolled back with the connection; close it and apply again.
pub async fn replay(
    client: &Client,
    target: &Target,
    derived: &Derived,
    had: usize,
    patience: &Patience,
) -> Result<Replayed, ApplyError> {
    let Some((before, pending)) = derived.versions.split_at_checked(had) else {
        return Ok(Replayed::NotThisWay);
    };
    if had == 0 || !pending.iter().all(fits_a_message) {
        return Ok(Replayed::NotThisWay);
    }
    send(client, target, &message(target, before, pending, patience)).await
}

/// Waits until the disk has what [`replay()`] committed on the connection's server before this, for any placement; `schema` is one of
/// those. `false` where that has not this version, as after a crash in between.
///
/// # Errors
///
/// When the connection fails.
///
/// # Cancel safety
///
/// Nothing is known then; ask again.
pub async fn settle(client: &Client, schema: &str, version: i64) -> Result<bool, ApplyError> {
    // A commit that waits comes after all those that did not, and one waits only where its transaction has written something.
    let text = "update tenantry_private.migration set duration_ms = duration_ms where schema = $1 and version = $2";
    let rows = client
        .execute_typed(text, &[(&schema, Type::TEXT), (&version, Type::INT8)])
        .await?;
    Ok(rows > 0)
}

/// Applies everything to a placement that was made a moment ago, in one round trip.
///
/// `client` is an administrator's connection that nobody else uses meanwhile.
///
/// # Errors
///
/// When the connection fails: it is of no more use then.
///
/// # Cancel safety
///
/// As [`replay()`].
pub async fn fill(
    client: &Client,
    target: &Target,
    derived: &Derived,
    patience: &Patience,
) -> Result<Replayed, ApplyError> {
    let versions: Vec<&Version> = derived.versions.iter().collect();
    let Some((_, before_last)) = versions.split_last() else {
        return Ok(Replayed::Applied);
    };
    // The turn is that of one transaction.
    let finished = derived.finished.as_ref();
    let is_whole = finished.is_some() || !before_last.iter().any(|version| version.ends_transaction);
    if !is_whole
        || versions
            .iter()
            .any(|version| version.is_overlay() || !version.extensions.is_empty())
    {
        return Ok(Replayed::NotThisWay);
    }
    let first = format!(
        "select pg_advisory_xact_lock({});\nselect {};\n",
        turn_key(target),
        is_expected("''", &literal(target.schema.as_str()))
    );
    let text = run::fresh_text(target, &versions, finished, patience, &first);
    send(client, target, &text).await
}

async fn send(client: &Client, target: &Target, text: &str) -> Result<Replayed, ApplyError> {
    match client.batch_execute(text).await {
        Ok(()) => Ok(Replayed::Applied),
        Err(error) if error.as_db_error().is_some() => {
            run::roll_back(client).await?;
            tracing::debug!(
                schema = target.schema.as_str(),
                reason = why(&error),
                "not in one message"
            );
            Ok(Replayed::NotThisWay)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the version is nothing but statements of one transaction.
fn fits_a_message(version: &Version) -> bool {
    version.mode == Mode::Schema
        && version.transaction
        && version.extensions.is_empty()
        && !version
            .steps
            .iter()
            .any(|step| matches!(step.act, Act::Concurrent { .. }))
}

fn message(target: &Target, before: &[Version], pending: &[Version], patience: &Patience) -> String {
    let mut ledger: Vec<&Version> = before.iter().collect();
    let mut text = String::new();
    for version in pending {
        text.push_str(&run::begin_version(target, version, patience));
        text.push_str("set local synchronous_commit = off;\n");
        // The clock is read when the turn has come.
        text.push_str(&format!(
            "select pg_advisory_xact_lock({}), set_config('tenantry.begun', clock_timestamp()::text, true);\n",
            turn_key(target)
        ));
        text.push_str(&run::act_as(&target.owner));
        for step in &version.steps {
            text.push_str(&run::statement(target, step, Building::Plainly));
            text.push_str(";\n");
        }
        text.push_str(&format!(
            "set local role none; {PATH}; execute {NOTE} ({}, {}, {}, {}, {}, {}); commit;\n",
            literal(target.schema.as_str()),
            version.version,
            literal(&version.name),
            literal(&version.checksum),
            literal(crate::isolate::ENGINE_VERSION),
            literal(&as_text(ledger.iter().copied())),
        ));
        ledger.push(version);
    }
    text
}

/// The ledger of a placement that has all these versions, as a text to compare: number and checksum, in order.
pub fn ledger_text(derived: &Derived) -> String {
    as_text(&derived.versions)
}

fn as_text<'a>(versions: impl IntoIterator<Item = &'a Version>) -> String {
    let rows: Vec<String> = versions
        .into_iter()
        .map(|version| format!("{} {}", version.version, version.checksum))
        .collect();
    rows.join(",")
}

/// 0 where the ledger of the schema is this text (see [`ledger_text`]) and no version is half applied, and an error elsewhere; both are
/// expressions. A version that the ledger has is whole, whatever else is noted of it: a program of before version 9 of the tenant database
/// leaves the note of a newer one, whose migration of data it has ended.
///
/// The cast of the sentence is the error, as in the seal: it is not evaluated before the comparison is.
fn is_expected(ledger: &str, schema: &str) -> String {
    format!(
        "(select (case when l.held = {ledger} then '0' else {} || left(l.held, 0) end)::int \
           from (select coalesce(string_agg(version || ' ' || checksum, ',' order by version), '') \
                          || (select coalesce(min(' and some of ' || s.version), '') \
                                from tenantry_private.migration_step s \
                               where s.schema = {schema} \
                                 and not exists (select from tenantry_private.migration d \
                                                  where d.schema = s.schema and d.version = s.version)) as held \
                   from tenantry_private.migration where schema = {schema}) l)",
        literal(OTHER_LEDGER),
    )
}

fn literal(text: &str) -> String {
    Literal::new(text).map_or_else(|_| "''".to_owned(), |literal| literal.to_string())
}

fn why(error: &Error) -> &'static str {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => "a lock was taken",
        _ if error
            .as_db_error()
            .is_some_and(|error| error.message().contains(OTHER_LEDGER)) =>
        {
            "the ledger differs"
        }
        _ => "a step failed",
    }
}
