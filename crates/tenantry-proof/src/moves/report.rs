//! What came of all runs, as the page in `docs/proofs` shows it.

use std::{collections::BTreeMap, fmt};

use tenantry_ops::MoveStep;

use super::{
    batch::Ended,
    matrix::{Course, Fault, step_of},
};
use crate::ledger::Tally;

/// Sums over all runs.
#[derive(Default)]
pub(super) struct Report {
    faults: BTreeMap<Fault, Sum>,
    steps: BTreeMap<&'static str, u64>,
    ways: BTreeMap<String, u64>,
    all: Tally,
    pub(super) runs: u64,
    pub(super) findings: u64,
    /// Of which nothing is known.
    pub(super) not_run: u64,
}

#[derive(Default)]
struct Sum {
    runs: u64,
    moved: u64,
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    reads: u64,
    findings: u64,
}

impl Report {
    pub(super) fn add(&mut self, ended: &Ended) {
        let sum = self.faults.entry(ended.fault).or_default();
        let findings = ended.findings.len() as u64;
        sum.runs += 1;
        sum.moved += u64::from(ended.moved);
        sum.acknowledged += ended.tally.acknowledged;
        sum.unknown += ended.tally.unknown;
        sum.refused += ended.tally.refused;
        sum.reads += ended.tally.reads;
        sum.findings += findings;
        *self.steps.entry(step_of(&ended.run.place)).or_default() += 1;
        let where_to = if ended.run.from.server == ended.run.to.server {
            "the same server"
        } else {
            "another server"
        };
        let back = match ended.run.course {
            Course::There => "",
            Course::Back => " and back",
        };
        let (from, to) = (ended.run.from.isolation, ended.run.to.isolation);
        let way = format!("{from} to {to}{back}, {where_to}");
        *self.ways.entry(way).or_default() += 1;
        self.all.add(&ended.tally);
        self.runs += 1;
        self.findings += findings;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| Fault | Runs | Moved | Acknowledged | Unknown | Refused | Reads | Findings |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for (fault, sum) in &self.faults {
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                fault.name(),
                sum.runs,
                sum.moved,
                sum.acknowledged,
                sum.unknown,
                sum.refused,
                sum.reads,
                sum.findings
            )?;
        }
        let steps = MoveStep::ALL.map(|step| {
            let runs = self.steps.get(step.as_str()).copied().unwrap_or_default();
            format!("{step} {runs}")
        });
        writeln!(f, "\nSteps: {}.", steps.join(", "))?;
        writeln!(f, "\nDirections: {}.", counted(&self.ways))?;
        writeln!(f, "\nAcknowledged at: {}.", counted(&self.all.levels))?;
        writeln!(f, "\nTold instead: {}.", counted(&self.all.kinds))?;
        write!(f, "\n{} runs, {} findings.", self.runs, self.findings)?;
        match self.not_run {
            0 => Ok(()),
            some => write!(f, " {some} could not be run."),
        }
    }
}

fn counted(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    each.join("; ")
}
