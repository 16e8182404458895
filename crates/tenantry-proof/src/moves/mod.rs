//! Moves under faults: tenants that are written to go from home to home, something breaks at a step, and afterwards every write that
//! was acknowledged is there once, nobody has read a past, the neighbours are untouched, and nothing is left over.

mod along;
mod batch;
mod damage;
mod look;
mod matrix;
mod mover;
mod report;
mod site;
mod strike;
mod trip;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use parking_lot::Mutex;

pub(crate) use self::mover::{Options as MoverOptions, run as move_one};
use self::{
    batch::{Damage, Ended, Neighbours},
    matrix::{Batch, Fault, RUNS_PER_BATCH},
    report::Report,
    site::Site,
};
use crate::ledger::MIGRATION;

/// How much to break.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many runs; some share a fault, so it is rounded up.
    #[arg(long, default_value_t = 96)]
    runs: u64,
    /// The seed of all that is chosen.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the runs of this number: as it is printed where something was found.
    #[arg(long)]
    only: Option<u64>,
    /// Only these faults, by name.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// How many sites work side by side.
    #[arg(long, default_value_t = 1)]
    lanes: u64,
    /// Instead of faults: tenants with random tables and rows go round all homes while they are written to, so many of them.
    #[arg(long)]
    trips: Option<u64>,
    /// Instead of looking for what a move has broken: damages rows after one fault, and has to find each damage.
    #[arg(long)]
    damage: bool,
    /// Instead of faults: explores the model of the cut-over, and prints how large it is.
    #[arg(long)]
    model: bool,
}

/// After so many batches a lane begins with new servers: databases of earlier runs slow everything down.
const BATCHES_PER_SITE: u64 = 12;

/// Breaks them.
pub(crate) async fn run(options: &Options) -> Result<()> {
    if options.model {
        println!("{}", crate::model::explored()?);
        return Ok(());
    }
    if let Some(trips) = options.trips {
        return trip::run(options.seed, trips).await;
    }
    let faults = faults(&options.faults)?;
    if options.damage {
        return damaged(&Batch::of(options.seed, 0, &faults)).await;
    }
    let begun = Instant::now();
    let batches = match options.only {
        Some(number) => number..number + 1,
        None => 0..options.runs.div_ceil(RUNS_PER_BATCH),
    };
    let next = AtomicU64::new(batches.start);
    let report = Mutex::new(Report::default());
    let lanes = (0..options.lanes.max(1)).map(|_| lane(options.seed, &faults, &next, batches.end, &report));
    try_join_all(lanes).await?;
    let report = report.into_inner();
    println!("\n{report}\n\n{:.0} s.", begun.elapsed().as_secs_f64());
    match (report.findings, report.not_run) {
        (0, 0) => Ok(()),
        (0, some) => bail!("{some} runs could not be run"),
        (some, _) => bail!("{some} findings in {} runs", report.runs),
    }
}

/// Runs one batch, damages every tenant of it, and has to find that.
async fn damaged(batch: &Batch) -> Result<()> {
    let site = Arc::new(Site::start(MIGRATION).await?);
    let neighbours = Neighbours::start(&site).await?;
    let ended = batch::run(&site, &neighbours, batch, Damage::Yes).await?;
    for (position, ended) in ended.iter().enumerate() {
        let expected = damage::expected(position);
        let found = ended.findings.iter().find(|finding| finding.starts_with(expected));
        match found {
            Some(found) => println!("{}: {found}", ended.run),
            None => bail!("{}: {expected} was not found: {:?}", ended.run, ended.findings),
        }
    }
    println!("{} damages found", ended.len());
    Ok(())
}

fn faults(names: &[String]) -> Result<Vec<Fault>> {
    if names.is_empty() {
        return Ok(Fault::ALL.to_vec());
    }
    names
        .iter()
        .map(|name| {
            let all = Fault::ALL.map(Fault::name);
            Fault::of(name).with_context(|| format!("there is no fault `{name}`: {}", all.join(", ")))
        })
        .collect()
}

/// Takes one batch after the other.
async fn lane(seed: u64, faults: &[Fault], next: &AtomicU64, end: u64, report: &Mutex<Report>) -> Result<()> {
    let mut here: Option<(Arc<Site>, Neighbours)> = None;
    let mut done = 0;
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if number >= end {
            return Ok(());
        }
        if done % BATCHES_PER_SITE == 0 {
            // The old one first: its servers have memory.
            drop(here.take());
        }
        let (site, neighbours) = match &mut here {
            Some(here) => here,
            none => {
                let site = Arc::new(Site::start(MIGRATION).await?);
                let neighbours = Neighbours::start(&site).await?;
                none.insert((site, neighbours))
            }
        };
        let batch = Batch::of(seed, number, faults);
        let begun = Instant::now();
        let ended = match batch::run(site, neighbours, &batch, Damage::No).await {
            Ok(ended) => ended,
            Err(error) => {
                println!("{}: not run: {error:#}; {}", of(&batch), again(seed, &batch, faults));
                report.lock().not_run += RUNS_PER_BATCH;
                drop(here.take());
                done = 0;
                continue;
            }
        };
        let found: usize = ended.iter().map(|ended| ended.findings.len()).sum();
        let moved = ended.iter().filter(|ended| ended.moved).count();
        println!(
            "{}: {moved} of {} moved, {found} findings, {:.1} s",
            of(&batch),
            ended.len(),
            begun.elapsed().as_secs_f64()
        );
        for ended in &ended {
            tell(ended, || again(seed, &batch, faults));
            report.lock().add(ended);
        }
        if found > 0 {
            // What is wrong there would be found again with every later run.
            drop(here.take());
        }
        done += 1;
    }
}

fn of(batch: &Batch) -> String {
    format!("{:>4} {:<12} {}", batch.number, batch.fault.name(), batch.level.name())
}

/// How to have the same once more.
fn again(seed: u64, batch: &Batch, faults: &[Fault]) -> String {
    let named = match faults.len() == Fault::ALL.len() {
        true => String::new(),
        false => format!(
            " --faults {}",
            faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(",")
        ),
    };
    format!(
        "repeat it with: cargo xtask moves --seed {seed} --only {}{named}",
        batch.number
    )
}

fn tell(ended: &Ended, again: impl Fn() -> String) {
    if ended.findings.is_empty() {
        return;
    }
    println!("     {}", ended.run);
    for finding in ended.findings.iter().take(20) {
        println!("       {finding}");
    }
    println!("       {}", again());
}
