//! Two worlds that agree on one tenant: what it observes has to be equal.
//!
//! A tenant A runs the same random program in two databases that are copies of one another but for what another tenant B
//! holds and does. Whatever A is told (rows, tags, every field of errors and notices, notifications, parameters) has to
//! be the same to the byte after a published normaliser ([`observe`]) and outside of the declared [`channels`]. A tenant
//! C that does nothing has to keep its rows, and A has to see all of its own.

mod channels;
mod gate;
mod grammar;
mod http;
mod lane;
mod library;
mod mutations;
mod observe;
mod report;
mod run;
mod schema;
mod shrink;
mod site;
mod step;
#[cfg(test)]
mod tests;
mod ways;
mod wire;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use tenantry_core::{Isolation, Tier};

use self::{
    gate::{Grounds, Outcome, Share},
    report::Acts,
    ways::{Comparers, Compares, Extent, Mode, Tally, Way, program_of, search, seed_of},
};

/// How much to compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many statements to compare, over all isolations, tiers and ways.
    #[arg(long, default_value_t = 50_000)]
    statements: u64,
    /// The seed of every program.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this isolation: shared, schema or database.
    #[arg(long)]
    isolation: Option<Isolation>,
    /// Only this tier: sealed or signed.
    #[arg(long)]
    tier: Option<Tier>,
    /// Only this way.
    #[arg(long)]
    way: Option<Way>,
    /// On the second server (PostgreSQL 18) instead of the first.
    #[arg(long)]
    second: bool,
    /// How many pairs of worlds work side by side, where the way is the wire.
    #[arg(long, default_value_t = 4)]
    pairs: usize,
    /// Only this program of the seed; names isolation and way too, if they are not the default.
    #[arg(long)]
    only: Option<u64>,
    /// Runs a program that an earlier run wrote.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Where a program that tells the worlds apart is written, made small.
    #[arg(long, default_value = "target/prove-finding.json")]
    write: PathBuf,
    /// Prints what is found and goes on with the next program, instead of making it small.
    #[arg(long)]
    keep_going: bool,
    /// Seeds every defect and has to find each; prints the table.
    #[arg(long)]
    mutations: bool,
    /// With `--mutations`: only every so manyth defect.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Prints the declared channels and probes each of them where it is open and where it is closed.
    #[arg(long)]
    channels: bool,
}

/// Compares the worlds.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let grounds = Grounds::default();
    if options.channels {
        return print_channels(&grounds).await;
    }
    if options.mutations {
        return print_mutations(&grounds, options).await;
    }
    if let Some(path) = &options.replay {
        return report::replay(&grounds, path).await;
    }
    let mut shapes = BTreeMap::new();
    for (mode, statements) in shares(options) {
        compare(&grounds, mode, options, statements, &mut shapes).await?;
    }
    println!("shapes: {}", count(&shapes));
    Ok(())
}

/// The modes that are asked for, each with as many statements as it gets.
fn shares(options: &Options) -> Vec<(Mode, u64)> {
    let isolations = options.isolation.map_or(Isolation::ALL.to_vec(), |only| vec![only]);
    let tiers = match (options.tier, options.only) {
        (Some(only), _) => vec![only],
        (None, Some(_)) => vec![Tier::Sealed],
        (None, None) => vec![Tier::Sealed, Tier::Signed],
    };
    let ways = match (options.way, options.only) {
        (Some(only), _) => vec![only],
        (None, Some(_)) => vec![Way::Wire],
        (None, None) => Way::ALL.to_vec(),
    };
    let mut modes = Vec::new();
    for isolation in isolations {
        for tier in &tiers {
            for way in &ways {
                let mode = Mode {
                    isolation,
                    tier: *tier,
                    way: *way,
                    second: options.second,
                };
                let named = ways.len() == 1 && tiers.len() == 1;
                modes.push((mode, if named { 1 } else { way.share(*tier) }));
            }
        }
    }
    let total: u64 = modes.iter().map(|(_, share)| share).sum();
    let of = |share: u64| options.statements * share / total.max(1);
    modes.retain(|(_, share)| *share > 0);
    modes
        .into_iter()
        .map(|(mode, share)| (mode, of(share).max(20)))
        .collect()
}

fn count(shapes: &BTreeMap<String, u64>) -> String {
    let missing = grammar::shape_names()
        .into_iter()
        .filter(|name| !shapes.contains_key(*name));
    let all = shapes.iter().map(|(name, count)| format!("{name} {count}"));
    all.chain(missing.map(|name| format!("{name} 0")))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn compare(
    grounds: &Grounds,
    mode: Mode,
    options: &Options,
    statements: u64,
    shapes: &mut BTreeMap<String, u64>,
) -> Result<()> {
    let extent = Extent {
        statements,
        only: options.only,
        keep_going: options.keep_going,
    };
    let program = |number| program_of(options.seed, number, mode);
    let mut comparers = Comparers::new(grounds, mode, options.pairs).await?;
    let begun = Instant::now();
    match &mut comparers {
        Comparers::Wire(pairs) => {
            let tally = search(pairs, extent, program).await;
            conclude(pairs, tally, mode, options, begun, shapes).await
        }
        Comparers::Library(libraries) => {
            let tally = search(libraries, extent, program).await;
            conclude(libraries, tally, mode, options, begun, shapes).await
        }
        Comparers::Http(webs) => {
            let requests = |number| http::requests(seed_of(options.seed, mode.way), number);
            let tally = search(webs, extent, requests).await;
            conclude(webs, tally, mode, options, begun, shapes).await
        }
    }
}

/// Prints what a search came to, or fails by what it found.
async fn conclude<C: Compares>(
    comparers: &mut [C],
    tally: Tally<C::Program>,
    mode: Mode,
    options: &Options,
    begun: Instant,
    shapes: &mut BTreeMap<String, u64>,
) -> Result<()>
where
    Acts: From<C::Program>,
{
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(found) = tally.found {
        return Err(report::found(comparers, mode, options.seed, found, &options.write).await);
    }
    if tally.failed > 0 {
        bail!(
            "{mode}: {} of {} programs found something",
            tally.failed,
            tally.programs
        );
    }
    for (shape, count) in tally.shapes {
        *shapes.entry(shape).or_default() += count;
    }
    println!(
        "{:<26} {:>9} statements compared in {:>7} programs, 0 differences, {seconds:>7.1} s, {:>6.0}/s",
        mode.to_string(),
        tally.compared,
        tally.programs,
        tally.compared as f64 / seconds
    );
    Ok(())
}

async fn print_mutations(grounds: &Grounds, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let share = Share { of: options.every };
    let outcomes = gate::mutations(grounds, options.seed, share).await?;
    println!("{}", gate::summary(&outcomes, begun));
    println!();
    let further = gate::further(grounds, options.seed).await?;
    let not_found = |outcomes: &[Outcome]| outcomes.iter().any(|outcome| outcome.found.is_none());
    let held = gate::held(grounds, options.seed, 2_000).await?;
    for outcome in &held {
        let verdict = match &outcome.found {
            Some((_, finding)) => finding.to_string(),
            None => "held by another layer".to_owned(),
        };
        println!("{:<52} {verdict}", outcome.id);
    }
    if not_found(&outcomes) || not_found(&further) || held.iter().any(|outcome| outcome.found.is_some()) {
        bail!("the gate is not passed");
    }
    Ok(())
}

async fn print_channels(grounds: &Grounds) -> Result<()> {
    channels::print();
    println!();
    let probed = gate::channels(grounds).await?;
    for probe in &probed {
        let declared = if probe.closed { "closed" } else { "open" };
        let found = if probe.finding.is_some() {
            "found"
        } else {
            "nothing found"
        };
        let verdict = if probe.as_declared() { "" } else { "  NOT AS DECLARED" };
        println!(
            "{:<22} {:<18} declared {declared:<7} {found}{verdict}",
            probe.id, probe.mode
        );
        if let (false, Some(finding)) = (probe.as_declared(), &probe.finding) {
            println!("{finding}");
        }
    }
    if probed.iter().any(|probe| !probe.as_declared()) {
        bail!("a channel is not as declared");
    }
    Ok(())
}
