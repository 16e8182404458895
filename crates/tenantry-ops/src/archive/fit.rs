//! Whether rows of these migrations can become a tenant of this fleet.

use tenantry_core::{Isolation, Slug};
use tenantry_engine::{archive::Migrated, isolate::Version};

use super::PortError;
use crate::Ops;

/// Why rows do not fit a fleet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The fleet lacks a migration that the rows have.
    #[error(
        "its tables have the migration `{0}`, which is not among this application's: deploy the version of the application that has it"
    )]
    Unknown(String),
    /// The migration has another text here.
    #[error(
        "the migration `{0}` has another text here than where the rows come from: it is another application's, or was edited"
    )]
    Edited(String),
    /// One in between is missing there.
    #[error("its tables lack the migration `{0}` and have later ones: it comes from a fleet with other migrations")]
    Gap(String),
    /// Shared tables have one version for all.
    #[error(
        "its tables lack `{0}`, and shared tables have one version for all tenants: import it with --isolation schema (or database), where it is migrated forward"
    )]
    TooOldForShared(String),
    /// Files of the tenant's own.
    #[error(
        "the tenant had migrations of its own, and `{slug}` does not have the same here: add them as overlay of `{slug}`, or choose the slug that has them"
    )]
    OwnMigrations {
        /// The slug.
        slug: String,
    },
}

/// The version up to which tables have to be made for these rows; `None` where that is the newest.
pub(crate) async fn fit(
    ops: &Ops,
    migrations: &[Migrated],
    own: &[Migrated],
    slug: &Slug,
    isolation: Isolation,
) -> Result<Option<i64>, PortError> {
    let derived = ops.derive_migrations().await?;
    let versions: &[Version] = derived.as_ref().map_or(&[], |derived| &derived.versions);
    let version = until(versions, migrations)?;
    let older = version.is_some();
    if let (Some(missing), Isolation::Shared) = (&version, isolation) {
        return Err(Unfit::TooOldForShared(missing.1.clone()).into());
    }
    let known = ops.overlay(slug.as_str(), None).await?;
    let known: &[Version] = known.as_ref().map_or(&[], |derived| &derived.versions);
    let same = known.len() == own.len() && known.iter().zip(own).all(|(known, had)| is(known, had));
    if !same || (older && !own.is_empty()) {
        return Err(Unfit::OwnMigrations { slug: slug.to_string() }.into());
    }
    Ok(version.map(|(version, _)| version))
}

fn is(known: &Version, had: &Migrated) -> bool {
    (known.version, &known.checksum) == (had.version, &had.checksum)
}

/// The newest that the rows have, and the first that they lack.
fn until(versions: &[Version], migrations: &[Migrated]) -> Result<Option<(i64, String)>, Unfit> {
    for had in migrations {
        let known = versions.iter().find(|known| known.version == had.version);
        let known = known.ok_or_else(|| Unfit::Unknown(had.name.clone()))?;
        if !is(known, had) {
            return Err(Unfit::Edited(had.name.clone()));
        }
    }
    let newest = migrations.last().map_or(0, |had| had.version);
    let lacks = |known: &&Version| !migrations.iter().any(|had| had.version == known.version);
    let Some(first) = versions.iter().find(lacks) else {
        return Ok(None);
    };
    if first.version < newest {
        return Err(Unfit::Gap(first.name.clone()));
    }
    Ok(Some((newest, first.name.clone())))
}
