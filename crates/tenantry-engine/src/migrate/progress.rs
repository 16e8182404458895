//! How far a version is that does not run in one transaction, and of which text that is true.

use tokio_postgres::Client;

use super::{
    ledger,
    run::{Failure, text},
    target::Target,
};
use crate::isolate::Version;

/// How many of its steps are done.
///
/// A file that was edited since then is refused: its first steps would be taken for done that were never run.
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
    // Before version 9 of the tenant database it was not noted of which text.
    let checksum: Option<String> = row.get(1);
    if checksum.is_some_and(|checksum| checksum != version.checksum) {
        return Err(Failure::EditedHalfway {
            file: version.name.clone(),
            schema: target.schema.as_str().to_owned(),
        });
    }
    Ok(row.get(0))
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
        text(&version.checksum)
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
