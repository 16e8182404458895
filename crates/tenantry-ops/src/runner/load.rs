//! A new tenant gets its rows from an archive or from another tenant, before anybody is let in.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::json;
use tenantry_catalog::placement::{self, Located};
use tenantry_core::Isolation;
use tenantry_engine::archive::{self, Mask, Masks, Migrated, Place, Snapshot, TableHead};
use tokio_postgres::Client;

use super::{Failure, administer, site::Site};
use crate::{
    Ops,
    archive::{Birth, Source, open_archive},
};

/// How often it is told how far a load is.
const TELL: Duration = Duration::from_secs(1);

/// Loads the rows, in one transaction that begins anew where it did not end, and brings them to the newest version.
pub(super) async fn load(site: &Site<'_>, located: &Located, birth: Option<&Birth>) -> Result<(), Failure> {
    let Some(birth) = birth else { return Ok(()) };
    let client = site.connect().await?;
    site.take_turn_for(&client, "load").await?;
    if !is_further(site, located, birth, &client).await? {
        let told = Arc::new(Mutex::new(None));
        let loading = fill(site, located, birth, &client, &told);
        tell_meanwhile(site, &told, loading).await?;
    }
    if birth.version.is_some() {
        site.migrate_loaded(&client, located).await?;
    }
    Ok(())
}

/// Whether the rows are there, and some of the migrations that follow as well.
async fn is_further(site: &Site<'_>, located: &Located, birth: &Birth, client: &Client) -> Result<bool, Failure> {
    let Some(version) = birth.version else { return Ok(false) };
    let applied = site.applied(client, &located.placement.schema).await?;
    Ok(applied.iter().any(|applied| applied.version > version))
}

type Told = Mutex<Option<serde_json::Value>>;

async fn tell_meanwhile(
    site: &Site<'_>,
    told: &Told,
    loading: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut loading = std::pin::pin!(loading);
    loop {
        tokio::select! {
            outcome = &mut loading => return outcome,
            // Nothing is lost by dropping a sleep.
            () = tokio::time::sleep(TELL) => {}
        }
        let progress = told.lock().take();
        if let Some(progress) = progress {
            site.journal.note_progress(&progress).await?;
        }
    }
}

async fn fill(site: &Site<'_>, located: &Located, birth: &Birth, client: &Client, told: &Told) -> Result<(), Failure> {
    let place = place(located);
    let mut rows_in_all = 0;
    let mut progress = |number: usize, table: &str, rows: u64| {
        rows_in_all += rows;
        *told.lock() = Some(json!({ "tables": number + 1, "table": table, "rows": rows_in_all }));
    };
    match &birth.source {
        Source::Archive { path, digest, signers } => {
            let archive = open_archive(path, signers).await?;
            if archive.digest() != digest {
                let message = format!("{} is another archive than the one that was asked for", path.display());
                return Err(Failure::permanent("archive_changed", message));
            }
            require_versions(site, located, client, &archive.manifest().migrations).await?;
            let loading = archive::load(client, site.installation(), &place, &archive, &mut progress);
            Ok(loading.await?)
        }
        Source::Backup { backup } => {
            let archive = site.ops.open_backup(*backup).await?;
            require_versions(site, located, client, &archive.manifest().migrations).await?;
            let loading = archive::load(client, site.installation(), &place, &archive, &mut progress);
            Ok(loading.await?)
        }
        Source::Tenant { tenant, masks } => {
            let from = reach(site.ops, *tenant).await?;
            let snapshot = Snapshot::begin(&from.client, site.installation(), &from.place).await?;
            require_versions(site, located, client, &snapshot.migrations).await?;
            let mask = mask(masks, snapshot.tables())?;
            let copying = archive::copy(&snapshot, client, site.installation(), &place, &mask, &mut progress);
            Ok(copying.await?)
        }
    }
}

fn mask<'a>(masks: &Masks, heads: impl IntoIterator<Item = &'a TableHead>) -> Result<Mask, Failure> {
    Mask::new(masks, heads).map_err(|error| Failure::permanent("mask_refused", error.to_string()))
}

/// A tenant's home, connected to as its administrator.
pub(crate) struct Reached {
    pub(crate) client: Client,
    pub(crate) place: Place,
}

/// Goes where a tenant lives.
pub(crate) async fn reach(ops: &Ops, tenant: tenantry_core::TenantId) -> Result<Reached, Failure> {
    let catalog = ops.catalog().client().await?;
    let located = placement::locate(ops.catalog(), &catalog, tenant).await?;
    drop(catalog);
    let located = located.filter(|located| located.ready);
    let located = located.ok_or_else(|| Failure::permanent("no_placement", "the tenant lives nowhere"))?;
    let (admin, _) = administer(ops, located.database.server).await?;
    Ok(Reached {
        client: admin.connect(&located.database.name).await?,
        place: place(&located),
    })
}

fn place(located: &Located) -> Place {
    Place {
        tenant: located.placement.tenant,
        schema: located.placement.schema.clone(),
        epoch: located.placement.epoch,
        isolation: located.placement.isolation,
    }
}

/// Shared tables have the version that they have: rows of another one do not fit there, whatever their columns are.
async fn require_versions(
    site: &Site<'_>,
    located: &Located,
    client: &Client,
    wanted: &[Migrated],
) -> Result<(), Failure> {
    if located.placement.isolation != Isolation::Shared {
        return Ok(());
    }
    let applied = site.applied(client, &located.placement.schema).await?;
    let same = applied.len() == wanted.len()
        && applied
            .iter()
            .zip(wanted)
            .all(|(there, wanted)| (there.version, &there.checksum) == (wanted.version, &wanted.checksum));
    if same {
        return Ok(());
    }
    Err(Failure::permanent(
        "version_unfit",
        "the shared tables have other migrations than these rows: run `tenantry migrate apply`, or choose the isolation `schema`",
    ))
}
