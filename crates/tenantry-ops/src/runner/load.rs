//! A new tenant gets its rows from an archive or from another tenant, before anybody is let in.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tenantry_catalog::placement::{self, Located};
use tenantry_core::Isolation;
use tenantry_engine::{
    archive::{self, IdOffsets, IdWish, Mask, Masks, Migrated, NewIds, Place, Snapshot, TableHead},
    migrate,
};
use tokio_postgres::Client;

use super::{
    Failure, administer,
    site::{Site, target},
};
use crate::{
    Ops,
    archive::{Birth, RowIds, Source, open_archive},
};

/// How often it is told how far a load is.
const TELL: Duration = Duration::from_secs(1);

/// Loads the rows, in one transaction that begins anew where it did not end, and brings them to the newest version.
pub(super) async fn load(site: &Site<'_>, located: &Located, birth: Option<&Birth>) -> Result<(), Failure> {
    let Some(birth) = birth else { return Ok(()) };
    let client = site.connect().await?;
    site.take_turn_for(&client, "load").await?;
    stay_as_they_are(site, located, &client).await?;
    if !is_further(site, located, birth, &client).await? {
        let told = Arc::new(Mutex::new(Telling::default()));
        let loading = fill(site, located, birth, &client, &told);
        tell_meanwhile(site, &told, loading).await?;
    }
    if birth.version.is_some() {
        site.migrate_loaded(&client, located).await?;
    }
    Ok(())
}

/// Shared tables are not migrated while the rows of another tenant's archive come, which are of the version that they have; and what
/// those rows have had is written down, so that the tenant gets what is recorded afterwards, and nothing twice.
async fn stay_as_they_are(site: &Site<'_>, located: &Located, client: &Client) -> Result<(), Failure> {
    if located.placement.isolation != Isolation::Shared {
        return Ok(());
    }
    let target = target(site.installation(), &site.database, &located.placement.schema)?;
    migrate::hold_still(client, &[&target], site.ops.fleet().patience.turn_timeout).await?;
    Ok(migrate::note_loaded(client, &target, located.placement.tenant).await?)
}

/// Whether the rows are there, and some of the migrations that follow as well.
async fn is_further(site: &Site<'_>, located: &Located, birth: &Birth, client: &Client) -> Result<bool, Failure> {
    let Some(version) = birth.version else { return Ok(false) };
    let applied = site.applied(client, &located.placement.schema).await?;
    Ok(applied.iter().any(|applied| applied.version > version))
}

pub(super) type Told = Mutex<Telling>;

/// What is to be told of a load.
#[derive(Default)]
pub(super) struct Telling {
    /// How far it is, where that is news.
    pub(super) news: Option<Value>,
    /// What becomes of the rows' ids, where they get new ones: to be remembered until the end, since another runner goes on from there.
    ids: Option<Value>,
}

impl Telling {
    fn take(&mut self) -> Option<Value> {
        let mut news = self.news.take()?;
        if let Some(ids) = &self.ids {
            news["ids"] = ids.clone();
        }
        Some(news)
    }
}

/// Does it, and notes meanwhile in the operation's progress what is told.
pub(super) async fn tell_meanwhile(
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
        told.lock().news = Some(json!({ "tables": number + 1, "table": table, "rows": rows_in_all }));
    };
    match &birth.source {
        Source::Archive { path, digest, signers } => {
            let archive = open_archive(path, signers).await?;
            if archive.digest() != digest {
                let message = format!("{} is another archive than the one that was asked for", path.display());
                return Err(Failure::permanent("archive_changed", message));
            }
            require_versions(site, located, client, &archive.manifest().migrations).await?;
            let renewal = Renewal::of(site, birth);
            let ids = match &renewal {
                None => None,
                Some(renewal) => {
                    Some(NewIds::of_archive(client, site.installation(), &place, &archive, renewal.wish()).await?)
                }
            };
            note_ids(site, ids.as_ref(), told).await?;
            let loading = archive::load(
                client,
                site.installation(),
                &place,
                &archive,
                ids.as_ref(),
                &mut progress,
            );
            Ok(loading.await?)
        }
        Source::Backup { backup } => {
            let archive = site.ops.open_backup(*backup).await?;
            require_versions(site, located, client, &archive.manifest().migrations).await?;
            let loading = archive::load(client, site.installation(), &place, &archive, None, &mut progress);
            Ok(loading.await?)
        }
        Source::Tenant { tenant, masks } => {
            let from = reach(site.ops, *tenant).await?;
            let snapshot = Snapshot::begin(&from.client, site.installation(), &from.place).await?;
            require_versions(site, located, client, &snapshot.migrations).await?;
            let mask = mask(masks, snapshot.tables())?;
            let renewal = Renewal::of(site, birth);
            let ids = match &renewal {
                None => None,
                Some(renewal) => {
                    Some(NewIds::of_snapshot(client, site.installation(), &place, &snapshot, renewal.wish()).await?)
                }
            };
            note_ids(site, ids.as_ref(), told).await?;
            let (installation, ids) = (site.installation(), ids.as_ref());
            let copying = archive::copy(&snapshot, client, installation, &place, &mask, ids, &mut progress);
            Ok(copying.await?)
        }
    }
}

/// What new ids are made by.
struct Renewal<'a> {
    secret: [u8; 32],
    also: &'a [String],
    known: IdOffsets,
}

impl<'a> Renewal<'a> {
    /// Of this operation, the same whoever runs it; `None` where the rows keep their ids.
    fn of(site: &Site<'_>, birth: &'a Birth) -> Option<Self> {
        let RowIds::New { also } = &birth.ids else { return None };
        let operation = &site.journal.operation;
        let known = serde_json::from_value(operation.progress["ids"]["offsets"].clone());
        Some(Self {
            secret: site.ops.catalog().derive_key(&format!("new ids {}", operation.id)),
            also,
            // Where nothing was noted nothing was loaded.
            known: known.unwrap_or_default(),
        })
    }

    fn wish(&self) -> IdWish<'_> {
        IdWish {
            secret: self.secret,
            also: self.also,
            known: &self.known,
        }
    }
}

/// Notes what becomes of the rows' ids, before any is loaded with a new one.
async fn note_ids(site: &Site<'_>, ids: Option<&NewIds>, told: &Told) -> Result<(), Failure> {
    let Some(ids) = ids else { return Ok(()) };
    let plan = ids.plan();
    let noted = json!({
        "renewed": plan.renewed, "kept": plan.kept, "not_followed": plan.not_followed, "offsets": ids.offsets()
    });
    told.lock().ids = Some(noted.clone());
    site.journal.note_progress(&json!({ "ids": noted })).await
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

/// Where a tenant's rows are.
pub(super) fn place(located: &Located) -> Place {
    Place {
        tenant: located.placement.tenant,
        schema: located.placement.schema.clone(),
        epoch: located.placement.epoch,
        isolation: located.placement.isolation,
    }
}

/// The tables have the migrations that the rows have. Shared ones have what they have; those of a home of its own were made by what was known
/// when the rows were asked for, and a roll-out or a deployment may have come since: what that does to rows would be left out, or be done
/// twice, whatever the columns are.
async fn require_versions(
    site: &Site<'_>,
    located: &Located,
    client: &Client,
    wanted: &[Migrated],
) -> Result<(), Failure> {
    let applied = site.applied(client, &located.placement.schema).await?;
    let same = applied.len() == wanted.len()
        && applied
            .iter()
            .zip(wanted)
            .all(|(there, wanted)| (there.version, &there.checksum) == (wanted.version, &wanted.checksum));
    if same {
        return Ok(());
    }
    let message = match located.placement.isolation {
        Isolation::Shared => {
            "the shared tables have other migrations than these rows: run `tenantry migrate apply`, or choose the isolation `schema`"
        }
        Isolation::Schema | Isolation::Database => {
            "the new tables have other migrations than these rows, since a roll-out or a deployment came in between: ask for it again"
        }
    };
    Err(Failure::permanent("version_unfit", message))
}
