//! On top of which of the fleet's migrations single tenants' own files were written.

use crate::{CatalogError, Db};

/// A file of one tenant's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnFile<'a> {
    /// Its number.
    pub version: i64,
    /// SHA-256 of its text, in hex.
    pub checksum: &'a str,
}

/// The fleet's version of each file, in the order of `files`: the one noted when it was first seen, or `newest`, which is
/// noted now.
///
/// # Errors
/// When the catalog fails.
pub async fn settle(db: &impl Db, slug: &str, files: &[OwnFile<'_>], newest: i64) -> Result<Vec<i64>, CatalogError> {
    let versions: Vec<i64> = files.iter().map(|file| file.version).collect();
    let checksums: Vec<&str> = files.iter().map(|file| file.checksum).collect();
    db.execute(
        "insert into overlay_base (slug, version, checksum, fleet_version)
         select $1, f.version, f.checksum, $4 from unnest($2::bigint[], $3::text[]) as f (version, checksum)
         on conflict do nothing",
        &[&slug, &versions, &checksums, &newest],
    )
    .await?;
    let rows = db
        .query(
            "select b.fleet_version
             from unnest($2::bigint[], $3::text[]) with ordinality as f (version, checksum, place)
             join overlay_base as b on b.slug = $1 and b.version = f.version and b.checksum = f.checksum
             order by f.place",
            &[&slug, &versions, &checksums],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
