//! Moves, exports and restores: what the tenant's users wait for, how fast rows go, and what it costs the neighbours.
//!
//! Two servers of its own, beside the one that holds the catalog, so that nothing that other lines have done is in the way.

mod archives;
mod beside;
mod calls;
mod copying;
mod mover;
mod pause;
mod psql;
mod site;
mod writes;

use anyhow::Result;

use self::site::Site;
use super::{report::Finding, run::Run};

/// How many there are of everything.
#[derive(Clone, Copy)]
struct Sizes {
    /// Rows of the tenant that is moved in general, and exported.
    rows: i64,
    /// Rows of the one that takes the fast path.
    few_rows: i64,
    /// From how many rows on a tenant is copied while it works.
    online_rows: i64,
    /// Rows of the one that is restored.
    restored_rows: i64,
    /// Rows of each neighbour.
    neighbour_rows: i64,
    /// Moves whose pause is measured.
    moves: u32,
    /// Writes and reads a second.
    rate: f64,
    rounds_max: u32,
}

impl Sizes {
    /// What is promised.
    const PROMISED: Self = Self {
        rows: 1_000_000,
        few_rows: 10_000,
        online_rows: 20_000,
        restored_rows: 100_000,
        neighbour_rows: 10_000,
        moves: 30,
        rate: 200.0,
        rounds_max: 3,
    };
    /// So that a test can go the same ways.
    const SMALL: Self = Self {
        rows: 3_000,
        few_rows: 100,
        online_rows: 1_000,
        restored_rows: 300,
        neighbour_rows: 50,
        moves: 2,
        rate: 50.0,
        rounds_max: 1,
    };
}

/// Every line about moves, exports and restores.
pub(super) async fn all(run: &Run, small: bool, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let mut sizes = if small { Sizes::SMALL } else { Sizes::PROMISED };
    // All of them at 25 rounds, which is what is measured by default.
    sizes.moves = sizes.moves.min((run.plan.rounds * 6).div_ceil(5));
    progress("moves: making two servers, and a tenant with its rows");
    let site = Site::start(&run.world, sizes).await?;
    let measured = measure(&site, run.plan.rounds.clamp(1, sizes.rounds_max), progress).await;
    site.end().await?;
    measured
}

async fn measure(site: &Site<'_>, rounds: u32, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    // Each of them leaves the large tenant where it was: in shared tables of the first server.
    let mut findings = copying::all(site, rounds, progress).await?;
    findings.push(pause::general(site, progress).await?);
    findings.push(pause::fast(site, progress).await?);
    findings.extend(beside::all(site, rounds, progress).await?);
    findings.extend(archives::export(site, rounds, progress).await?);
    findings.push(archives::restore(site, rounds, progress).await?);
    Ok(findings)
}
