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
mod rng;
mod run;
mod schema;
mod shrink;
mod site;
mod step;
#[cfg(test)]
mod tests;
mod wire;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use tenantry_core::Isolation;
use tenantry_testing::{cluster, second_cluster};

use self::{
    gate::{Share, Sites},
    lane::Faults,
    library::Library,
    run::{Finding, Pair},
    site::Ground,
    step::Program,
};

/// How much to compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many statements to compare, over all isolations and drivers.
    #[arg(long, default_value_t = 50_000)]
    statements: u64,
    /// The seed of every program.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this isolation: shared, schema or database.
    #[arg(long)]
    isolation: Option<Isolation>,
    /// On the second server (PostgreSQL 18) instead of the first.
    #[arg(long)]
    second: bool,
    /// Only this program of the seed, by the raw connection.
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
    let cluster = if options.second {
        second_cluster().await
    } else {
        cluster().await
    };
    let ground = Ground::new(cluster).await?;
    let sites = Sites::new(&ground).await?;
    if options.channels {
        return print_channels(&sites).await;
    }
    if options.mutations {
        return print_mutations(&sites, options).await;
    }
    if let Some(path) = &options.replay {
        return replay(&sites, path).await;
    }
    let mut shapes = BTreeMap::new();
    let isolations: Vec<Isolation> = match options.isolation {
        Some(isolation) => vec![isolation],
        None => Isolation::ALL.to_vec(),
    };
    let share = options.statements / isolations.len() as u64;
    for isolation in isolations {
        // A tenth through the library, the rest by raw connections.
        compare_raw(&sites, isolation, options, share - share / 10, &mut shapes).await?;
        compare_library(&sites, isolation, options.seed, share / 10).await?;
        compare_http(isolation, options.seed, (share / 100).clamp(20, 2_000)).await?;
    }
    println!("shapes: {}", count(&shapes));
    Ok(())
}

fn count(shapes: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = grammar::shape_names()
        .into_iter()
        .map(|name| format!("{name} {}", shapes.get(name).copied().unwrap_or(0)))
        .collect();
    all.join(", ")
}

async fn compare_raw(
    sites: &Sites,
    isolation: Isolation,
    options: &Options,
    statements: u64,
    shapes: &mut BTreeMap<String, u64>,
) -> Result<()> {
    let worlds = sites.of(isolation).pair().await?;
    let mut pair = Pair::new(&worlds, Faults::default());
    let begun = Instant::now();
    let (mut compared, mut number, mut failed) = (0, options.only.unwrap_or(0), 0);
    while compared < statements {
        let program = grammar::program(options.seed, number, isolation);
        if let Some(finding) = pair.compare(&program).await {
            if options.keep_going {
                println!("{isolation}, program {number}: {}", describe(&finding));
                failed += 1;
                number += 1;
                compared += finding.statements as u64;
                continue;
            }
            return Err(report(&mut pair, isolation, &program, finding, options, number).await);
        }
        for step in program.rounds.iter().flat_map(|round| &round.a) {
            *shapes.entry(step.shape.clone()).or_default() += 1;
        }
        compared += program.statements() as u64;
        number += 1;
        if options.only.is_some() {
            break;
        }
    }
    if failed > 0 {
        bail!("{failed} of {number} programs found something");
    }
    tell(&format!("{isolation}, raw"), compared, number, begun);
    Ok(())
}

fn tell(what: &str, compared: u64, programs: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let rate = compared as f64 / seconds;
    println!(
        "{what:<18} {compared:>9} statements compared in {programs:>7} programs, 0 differences, {seconds:>7.1} s, {rate:>6.0}/s"
    );
}

async fn compare_library(sites: &Sites, isolation: Isolation, seed: u64, statements: u64) -> Result<()> {
    let worlds = sites.of(isolation).pair().await?;
    let mut pair = Pair::new(&worlds, Faults::default());
    let begun = Instant::now();
    let (mut compared, mut number) = (0, 0);
    // One backend for both tenants, then several.
    for connections in [1, 4] {
        let [first, second] = &worlds;
        let mut libraries = [
            Library::new(first.clone(), 0, connections).await?,
            Library::new(second.clone(), 1, connections).await?,
        ];
        let until = compared + statements / 2;
        while compared < until {
            let program = grammar::program(seed ^ 0x11b, number, isolation);
            pair.fill(&program).await?;
            if let Some(finding) = library::compare(&mut libraries, &program).await {
                bail!(
                    "{isolation}, library, seed {seed}, program {number}, {connections} connections: {}",
                    describe(&finding)
                );
            }
            compared += program.statements() as u64;
            number += 1;
        }
    }
    tell(&format!("{isolation}, library"), compared, number, begun);
    Ok(())
}

async fn compare_http(isolation: Isolation, seed: u64, requests: u64) -> Result<()> {
    let mut webs = [http::Web::start(isolation).await?, http::Web::start(isolation).await?];
    let begun = Instant::now();
    if let Some(finding) = http::compare(&mut webs, seed, requests).await? {
        bail!("{isolation}, HTTP, seed {seed}: {}", describe(&finding));
    }
    tell(&format!("{isolation}, HTTP"), requests, 1, begun);
    Ok(())
}

async fn report(
    pair: &mut Pair,
    isolation: Isolation,
    program: &Program,
    finding: Finding,
    options: &Options,
    number: u64,
) -> anyhow::Error {
    println!(
        "{isolation}, seed {}, program {number}: {}",
        options.seed,
        describe(&finding)
    );
    let (small, small_finding) = shrink::shrink(pair, program, finding).await;
    let written =
        serde_json::to_string_pretty(&(isolation.to_string(), &small)).map(|text| std::fs::write(&options.write, text));
    print_program(&small);
    let kept = match written {
        Ok(Ok(())) => format!("replay it: cargo xtask prove --replay {}", options.write.display()),
        other => format!("it could not be written: {other:?}"),
    };
    anyhow::anyhow!(
        "a tenant can tell the worlds apart: {}; {kept}",
        describe(&small_finding)
    )
}

fn describe(finding: &Finding) -> String {
    format!(
        "{:?} at statement {} ({}): {}\n  in one world: {}\n  in the other: {}",
        finding.kind, finding.statements, finding.shape, finding.step, finding.answers[0], finding.answers[1]
    )
}

fn print_program(program: &Program) {
    println!("the smallest program: {:?}", program.travel);
    for row in &program.fill {
        println!(
            "  row of {:?} in both: {} ({})",
            row.owner,
            schema::TABLES[row.table].0,
            row.values
        );
    }
    for (world, rows) in program.fill_b.iter().enumerate() {
        for row in rows {
            println!(
                "  row of {:?} in world {world}: {} ({})",
                row.owner,
                schema::TABLES[row.table].0,
                row.values
            );
        }
    }
    for round in &program.rounds {
        for world in 0..2 {
            for act in &round.operator[world] {
                println!("  operator in world {world}: {act}");
            }
            for step in &round.b[world] {
                println!("  b in world {world}: {}", step.text());
            }
        }
        let fenced = if round.fenced { " (fenced)" } else { "" };
        for step in &round.a {
            println!("  a{fenced}: {}", step.text());
        }
    }
}

async fn replay(sites: &Sites, path: &PathBuf) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let (isolation, program): (String, Program) = serde_json::from_str(&text)?;
    let isolation: Isolation = isolation.parse().map_err(|_| anyhow::anyhow!("no such isolation"))?;
    let worlds = sites.of(isolation).pair().await?;
    print_program(&program);
    match Pair::new(&worlds, Faults::default()).compare(&program).await {
        Some(finding) => bail!("{}", describe(&finding)),
        None => {
            println!("0 differences in {} statements", program.statements());
            Ok(())
        }
    }
}

async fn print_mutations(sites: &Sites, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let share = Share { of: options.every };
    let outcomes = gate::mutations(sites, options.seed, share).await?;
    println!("{}", gate::summary(&outcomes, begun));
    let held = gate::held(sites, options.seed, 2_000).await?;
    for outcome in &held {
        let verdict = match &outcome.found {
            Some((_, finding)) => describe(finding),
            None => "held by another layer".to_owned(),
        };
        println!("{:<52} {verdict}", outcome.id);
    }
    if outcomes.iter().any(|outcome| outcome.found.is_none()) || held.iter().any(|outcome| outcome.found.is_some()) {
        bail!("the gate is not passed");
    }
    Ok(())
}

async fn print_channels(sites: &Sites) -> Result<()> {
    channels::print();
    println!();
    let probed = gate::channels(sites).await?;
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
            println!("{}", describe(finding));
        }
    }
    if probed.iter().any(|probe| !probe.as_declared()) {
        bail!("a channel is not as declared");
    }
    Ok(())
}
