//! A fresh home from finished definitions: what all migrations together make of an empty schema, written once as one script.
//!
//! A long history makes tables to change and drop them again, and a new tenant need not live through it. The script is written
//! from the system catalogs of a home that was made by the migrations, run in an empty schema, and kept only where
//! everything that PostgreSQL knows of the two is the same, rows and sequences included. What can't be written so is no error: the
//! migrations themselves are there.

mod census;
pub(super) mod order;
mod write;

use tenantry_core::InstallationId;
use tokio_postgres::Client;

use super::{
    expected::{ScratchSite, lay_out},
    read::read,
};
use crate::{
    isolate::{Act, Derived, Finished, Step},
    migrate::{self, ApplyError, Building, Mode, Patience, Target},
};
use census::Census;
use write::Keys;

/// Where homes are made to be compared; both times the same, so that no name differs.
const SCHEMA: &str = "tenantry_finished";

/// What became of it.
#[derive(Debug, Clone)]
#[must_use]
pub enum Finish {
    /// A script makes the same home.
    Written(Finished),
    /// The migrations have to be replayed, and why.
    Replay(String),
}

/// Writes what the migrations make of an empty schema as one script, and tries it.
///
/// `client` is an administrator's connection to a scratch database; a schema of it is made and dropped.
///
/// # Errors
///
/// A step of the migrations that fails, and the database's.
///
/// # Cancel safety
///
/// Dropping the future leaves the scratch database half done; throw it away.
pub async fn finish(client: &Client, installation: &InstallationId, derived: &Derived) -> Result<Finish, ApplyError> {
    let target = ScratchSite::make(client, installation, SCHEMA).await?;
    lay_out(client, &target, &derived.versions).await?;
    let replayed = Census::take(client, &target).await?;
    let structure = read(client, &target, None).await.map_err(|error| error.source)?;
    if replayed.has_rows() {
        // Values that are made anew each time, a moment or a random number, are no part of a script.
        let again = ScratchSite::make(client, installation, SCHEMA).await?;
        lay_out(client, &again, &derived.versions).await?;
        if let Some(differs) = Census::take(client, &again).await?.differs_from(&replayed) {
            return Ok(Finish::Replay(format!("its rows differ from home to home: {differs}")));
        }
    }
    let mut scripts = Vec::new();
    for keys in [Keys::Inline, Keys::Last] {
        match write::write(client, &target, &structure, &replayed, keys).await? {
            Ok(acts) => scripts.push(acts.into_iter().map(step).collect::<Vec<_>>()),
            Err(reason) => return Ok(Finish::Replay(reason)),
        }
    }
    let mut failed = String::new();
    let mut made = None;
    for steps in scripts {
        let target = ScratchSite::make(client, installation, SCHEMA).await?;
        match try_out(client, &target, &steps).await? {
            None => {
                made = Some((target, steps));
                break;
            }
            Some(message) => failed = message,
        }
    }
    let Some((target, steps)) = made else {
        return Ok(Finish::Replay(format!("its script does not run: {failed}")));
    };
    let finished = Census::take(client, &target).await?;
    if let Some(differs) = finished.differs_from(&replayed) {
        return Ok(Finish::Replay(format!("its script makes another home: {differs}")));
    }
    let written = read(client, &target, None).await.map_err(|error| error.source)?;
    if written.fingerprint() != structure.fingerprint() {
        return Ok(Finish::Replay("its script makes another structure".to_owned()));
    }
    client.batch_execute(&format!("drop schema {SCHEMA} cascade")).await?;
    Ok(Finish::Written(Finished {
        server_major: replayed.server_major(),
        steps,
    }))
}

/// Whether a script can be shorter than the migrations.
#[must_use]
pub fn is_worth_finishing(derived: &Derived) -> bool {
    derived
        .versions
        .iter()
        .filter(|version| version.mode == Mode::Schema)
        .count()
        > 1
}

fn step(act: Act) -> Step {
    Step {
        line: 1,
        only_filled: false,
        act,
    }
}

/// Runs the script as provisioning does. What PostgreSQL says where it fails.
async fn try_out(client: &Client, target: &Target, steps: &[Step]) -> Result<Option<String>, ApplyError> {
    let mut text = migrate::begin(target, &Patience::default()) + &migrate::act_as(&target.owner);
    for step in steps {
        text.push_str(&migrate::statement(target, step, Building::Plainly));
        text.push_str(";\n");
    }
    text.push_str("commit");
    let Err(error) = client.batch_execute(&text).await else {
        return Ok(None);
    };
    migrate::roll_back(client).await?;
    match error.as_db_error() {
        Some(said) => Ok(Some(said.message().to_owned())),
        None => Err(error.into()),
    }
}
