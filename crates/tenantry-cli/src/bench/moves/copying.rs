//! How fast a move copies and compares rows, while nobody writes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tenantry_catalog::placement;
use tenantry_ops::Operation;

use super::{
    super::{
        measure::Spread,
        report::{Finding, Target},
    },
    psql::Psql,
    site::{AT_HOME, AWAY, Place, Site},
};

/// A copy of the table with its keys and indexes, and nothing of ours.
const PLAIN: &str = "plain.contacts";
const COLUMNS: &str = "tenant_id, id, name, email, phone, company, notes, created_at, updated_at";

/// There and back, each time after psql has taken the same rows the same way.
pub(super) async fn all(site: &Site<'_>, rounds: u32, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let psql = Psql::find(site.world.cluster.binaries());
    for place in [&site.one, &site.two] {
        let plain = format!("create schema plain; create table {PLAIN} (like app.contacts including all)");
        place.admin().await?.batch(&plain).await?;
    }
    let (mut ours, mut theirs, mut compared) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for (to, from, target) in [(AWAY, &site.one, &site.two), (AT_HOME, &site.two, &site.one)] {
            progress(&format!(
                "moves: copying to {}, round {} of {rounds}",
                to.server,
                round + 1
            ));
            if let Some(psql) = &psql {
                site.settle().await?;
                theirs.push(by_psql(site, psql, from, target).await?);
            }
            site.settle().await?;
            let moved = site.mover.moves(site.large, to, |_| ()).await?;
            ours.push(rate(&moved, "copied_ms")?);
            compared.push(rate(&moved, "compared_ms")?);
        }
    }
    Ok(vec![copied(site, &ours, &theirs), verified(site, compared)])
}

fn copied(site: &Site<'_>, ours: &[f64], theirs: &[f64]) -> Finding {
    let what = format!(
        "copying the {} rows of a tenant that moves to a schema on another server and back",
        site.sizes.rows
    );
    let our_rate = Spread::of(ours.iter().copied());
    if theirs.is_empty() {
        return Finding::new("move-copy", what, "nothing: psql is missing", our_rate, Target::None)
            .unit("rows/s")
            .detail("NOT COMPARED: there is no psql among these PostgreSQL programs");
    }
    let their_rate = Spread::of(theirs.iter().copied()).median;
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
    Finding::new(
        "move-copy",
        what,
        "the limit: `copy … to stdout` piped into `copy … from stdin` by psql, into a table with the same keys and indexes",
        Spread::of(ratios),
        Target::AtLeast(0.6),
    )
    .detail(format!("{:.0} rows/s against {their_rate:.0} rows/s", our_rate.median))
}

fn verified(site: &Site<'_>, rates: Vec<f64>) -> Finding {
    let rates = Spread::of(rates);
    let rows = site.sizes.rows;
    Finding::new(
        "move-verify",
        format!("comparing {rows} rows with their copy while the tenant works, one process on each side"),
        "–",
        rates,
        Target::AtLeast(300_000.0),
    )
    .unit("rows/s")
    .detail(format!("{:.2} s for all of them", rows as f64 / rates.median))
}

/// Rows in a second, as the move tells it.
fn rate(moved: &Operation, key: &str) -> Result<f64> {
    let number = |key: &str| moved.progress[key].as_u64();
    let told = number("rows").zip(number(key));
    let (rows, ms) = told.with_context(|| format!("the move took another path: {}", moved.progress))?;
    Ok(rows as f64 / (ms.max(1) as f64 / 1e3))
}

async fn by_psql(site: &Site<'_>, psql: &Psql, from: &Place, to: &Place) -> Result<f64> {
    let client = site.ops.catalog().client().await?;
    let located = placement::locate(site.ops.catalog(), &client, site.large)
        .await?
        .context("the tenant has no place")?;
    ensure!(
        located.database.name == from.database,
        "the tenant is not where it should be"
    );
    let read = format!(
        "copy (select {COLUMNS} from {}.contacts where tenant_id = '{}') to stdout",
        located.placement.schema,
        site.large.as_uuid()
    );
    let write = format!("copy {PLAIN} ({COLUMNS}) from stdin");
    let took: Duration = psql.pipe((from, &read), (to, &write)).await?;
    let mut admin = to.admin().await?;
    let counted = admin.query(&format!("select count(*) from {PLAIN}"), &[]).await?;
    let rows: i64 = counted.rows.first().context("no row")?.get(0)?;
    ensure!(rows == site.sizes.rows, "psql copied {rows} rows");
    admin.batch(&format!("truncate {PLAIN}")).await?;
    Ok(rows as f64 / took.as_secs_f64())
}
