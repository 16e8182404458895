//! How long the tenant's writes wait while it moves, seen from the application and by the moves' own certificates.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tenantry::TenantId;
use tenantry_core::Isolation;
use tenantry_ops::Operation;

use super::{
    super::{
        measure::Spread,
        report::{Finding, Target},
        world::CROWD,
    },
    calls::{Answer, Call, percentile_ms},
    mover::Home,
    site::{AT_HOME, AWAY, Site},
    writes::Writes,
};

/// Writes begin so long before the move, and end so long after it.
const AROUND: Duration = Duration::from_millis(500);
/// A write that takes longer counts as held.
const HELD: Duration = Duration::from_millis(50);

/// What one move was for the application.
struct Pause {
    longest: Duration,
    certified: Duration,
    /// What the tenant waited for, by the move's progress: milliseconds of each part.
    held_for: Vec<(String, u64)>,
    whole: Duration,
    writes: usize,
    held: usize,
    begun_again: usize,
    failed: Vec<String>,
}

/// From shared tables to a schema of its own on another server, and back, again and again.
pub(super) async fn general(site: &Site<'_>, progress: &dyn Fn(&str)) -> Result<Finding> {
    let homes = [AWAY, AT_HOME];
    let found = pauses(site, site.large, "general", &homes, "while the tenant worked", progress).await?;
    let p99 = percentile_ms(found.iter().map(|pause| pause.longest), 0.99)?;
    Ok(finding(
        "move-pause",
        format!(
            "longest wait of a write while its tenant of {} rows moves between shared tables and a schema on another server, {}: p99 of {} moves",
            site.sizes.rows,
            rate(site),
            found.len()
        ),
        p99,
        500.0,
        &found,
    ))
}

/// Within a database and from server to server, all of it behind the closed fence.
pub(super) async fn fast(site: &Site<'_>, progress: &dyn Fn(&str)) -> Result<Finding> {
    let tenant = site.tenant("few-rows", site.sizes.few_rows).await?;
    let at = |isolation, server| Home { isolation, server };
    let homes = [
        at(Isolation::Schema, AT_HOME.server),
        at(Isolation::Shared, AWAY.server),
        at(Isolation::Schema, AWAY.server),
        at(Isolation::Shared, AT_HOME.server),
    ];
    let found = pauses(site, tenant, "fast", &homes, "behind the closed fence", progress).await?;
    let longest = percentile_ms(found.iter().map(|pause| pause.longest), 1.0)?;
    Ok(finding(
        "move-pause-fast",
        format!(
            "the same with {} rows, which are copied behind the closed fence, within a database and between servers in turn: the longest of {} moves",
            site.sizes.few_rows,
            found.len()
        ),
        longest,
        300.0,
        &found,
    ))
}

fn rate(site: &Site<'_>) -> String {
    format!("{:.0} writes/s", site.sizes.rate)
}

fn finding(name: &'static str, what: String, figure_ms: f64, target_ms: f64, found: &[Pause]) -> Finding {
    let ms = |time: fn(&Pause) -> Duration| Spread::of(found.iter().map(|pause| time(pause).as_secs_f64() * 1e3));
    let (longest, certified) = (ms(|pause| pause.longest), ms(|pause| pause.certified));
    let sum = |count: fn(&Pause) -> usize| found.iter().map(count).sum::<usize>();
    let failed: Vec<&String> = found.iter().flat_map(|pause| &pause.failed).collect();
    let mut detail = format!(
        "median {:.0} ms ({:.0} to {:.0}); by the certificates {:.0} ms ({:.0} to {:.0}); a move takes {:.1} s; of {} writes, all of which are there, \
         {} took more than {} ms, {} transactions that had begun were begun again, {} were refused",
        longest.median,
        longest.min,
        longest.max,
        certified.median,
        certified.min,
        certified.max,
        ms(|pause| pause.whole).median / 1e3,
        sum(|pause| pause.writes),
        sum(|pause| pause.held),
        HELD.as_millis(),
        sum(|pause| pause.begun_again),
        failed.len(),
    );
    if let Some(pause) = found.iter().max_by_key(|pause| pause.certified) {
        let parts: Vec<_> = pause.held_for.iter().map(|(part, ms)| format!("{part} {ms}")).collect();
        detail += &format!("; ms of the longest by its certificate: {}", parts.join(", "));
    }
    if let Some(why) = failed.first() {
        detail += &format!(": {why}");
    }
    let mut finding = Finding::new(name, what, "–", Spread::of([figure_ms]), Target::AtMost(target_ms))
        .unit("ms")
        .detail(detail);
    // A call that is refused has waited for nothing.
    finding.reached &= failed.is_empty();
    finding
}

async fn pauses(
    site: &Site<'_>,
    tenant: TenantId,
    way: &str,
    homes: &[Home],
    compared: &str,
    progress: &dyn Fn(&str),
) -> Result<Vec<Pause>> {
    let application = site.world.handle(CROWD)?;
    let mut found = Vec::new();
    for (number, home) in (0..site.sizes.moves).zip(homes.iter().cycle()) {
        progress(&format!("moves: {way}, {} of {}", number + 1, site.sizes.moves));
        site.settle().await?;
        let writes = Writes::of(&application, tenant, format!("{way}-{number}")).await?;
        let (pause, operation) = one(site, tenant, *home, &writes).await?;
        let certificate = &operation.progress["certificate"]["certificate"];
        ensure!(
            certificate["compared"] == compared,
            "the move took another path: {}",
            operation.progress
        );
        found.push(pause);
        writes.remove().await?;
    }
    Ok(found)
}

async fn one(site: &Site<'_>, tenant: TenantId, to: Home, writes: &Writes) -> Result<(Pause, Operation)> {
    let calls = writes.start(site.sizes.rate);
    tokio::time::sleep(AROUND).await;
    let begun = Instant::now();
    let moved = site.mover.moves(tenant, to, |_| ()).await;
    let ended = Instant::now();
    tokio::time::sleep(AROUND).await;
    let calls = calls.stop().await?;
    let operation = moved?;
    writes.check(&calls).await?;
    let held_ms = operation.progress["certificate"]["certificate"]["held_ms"].as_u64();
    let held_ms = held_ms.context("the move does not say how long its tenant waited")?;
    let parts = operation.progress["held_for_ms"].as_object();
    let held_for = parts.into_iter().flatten();
    let held_for = held_for
        .map(|(part, ms)| (part.clone(), ms.as_u64().unwrap_or_default()))
        .collect();
    let held = Duration::from_millis(held_ms);
    Ok((Pause::of(&calls, begun, ended, held, held_for), operation))
}

impl Pause {
    fn of(calls: &[Call], begun: Instant, ended: Instant, certified: Duration, held_for: Vec<(String, u64)>) -> Self {
        let during: Vec<_> = calls.iter().filter(|call| call.is_within(begun, ended)).collect();
        let begun_again = |call: &&Call| matches!(call.answer, Answer::Served { begun_again } if begun_again > 0);
        let failed = |call: &Call| match &call.answer {
            Answer::Failed(why) => Some(why.clone()),
            Answer::Served { .. } => None,
        };
        Self {
            longest: during.iter().map(|call| call.took).max().unwrap_or_default(),
            certified,
            held_for,
            whole: ended - begun,
            writes: calls.len(),
            held: during.iter().filter(|call| call.took > HELD).count(),
            begun_again: calls.iter().filter(begun_again).count(),
            failed: calls.iter().filter_map(failed).collect(),
        }
    }
}
