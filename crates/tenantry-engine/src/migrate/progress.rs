//! How far a version is that does not run in one transaction, and of which text and which steps that is true.

use tenantry_core::seal::sha256;
use tokio_postgres::Client;

use super::{
    ledger,
    run::{Failure, text},
    target::Target,
};
use crate::isolate::{Act, Version};

/// How many of its steps are done.
///
/// A file that was edited since then is refused, and so is one of which another program makes other steps: its first steps would be taken
/// for done that were never run.
pub(super) async fn done(client: &Client, target: &Target, version: &Version) -> Result<i32, Failure> {
    let schema = ledger::name(target.schema.as_str(), version.is_overlay());
    let row = client
        .query_opt(
            "select done, checksum from tenantry_private.migration_step where schema = $1 and version = $2",
            &[&schema, &version.version],
        )
        .await?;
    let Some(row) = row else {
        return Ok(0);
    };
    // Before version 9 of the tenant database it was not noted of which text, and for a while not of which steps.
    let noted: Option<&str> = row.get(1);
    let mut noted = noted.unwrap_or_default().split_whitespace();
    let (file, schema) = (version.name.clone(), target.schema.as_str().to_owned());
    if noted.next().is_some_and(|checksum| checksum != version.checksum) {
        return Err(Failure::EditedHalfway { file, schema });
    }
    if noted.next().is_some_and(|steps| steps != steps_of(version)) {
        return Err(Failure::OtherSteps { file, schema });
    }
    Ok(row.get(0))
}

/// What its steps are known by: the same text becomes others when isolation does something in another way.
fn steps_of(version: &Version) -> String {
    let acts: Vec<&Act> = version.steps.iter().map(|step| &step.act).collect();
    let acts = serde_json::to_vec(&acts).expect("they are texts, which the catalog keeps as JSON too");
    hex::encode(sha256(&acts))
}

/// Notes, as SQL, that so many steps are done.
pub(super) fn note(target: &Target, version: &Version, done: i32) -> String {
    format!(
        "{} on conflict (schema, version) do update set done = excluded.done, checksum = excluded.checksum",
        insert(target, version, done)
    )
}

/// Notes, as SQL, that tenants have it: which of them stands elsewhere, one row for each.
pub(super) fn note_begun(target: &Target, version: &Version) -> String {
    format!(
        "{} on conflict (schema, version) do nothing",
        insert(target, version, 1)
    )
}

fn insert(target: &Target, version: &Version, done: i32) -> String {
    format!(
        "insert into tenantry_private.migration_step (schema, version, done, checksum) values ({}, {}, {done}, {})",
        text(&ledger::name(target.schema.as_str(), version.is_overlay())),
        version.version,
        text(&format!("{} {}", version.checksum, steps_of(version)))
    )
}

/// Forgets it, as SQL, together with the ledger's row, which says everything from then on.
pub(super) fn forget(target: &Target, version: &Version) -> String {
    format!(
        "delete from tenantry_private.migration_step where schema = {} and version = {}",
        text(&ledger::name(target.schema.as_str(), version.is_overlay())),
        version.version
    )
}
