//! What came of it all.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use serde::Serialize;
use tenantry_core::Tier;

use super::{declared, mutate::Offered, program::Program, run::Outcome};

/// One program on one ground.
#[derive(Serialize)]
pub(super) struct Result {
    ground: String,
    program: String,
    stands_for: String,
    needs: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
    judgement: Judgement,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What it means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Judgement {
    /// On the open database: it succeeded.
    Bites,
    /// On the open database: it did not, so it proves nothing.
    DoesNotBite,
    /// On ours: it reached nothing.
    Held,
    /// On ours: it reached something through a declared channel.
    Declared,
    /// On ours: it reached something.
    Breach,
    /// It could not be run.
    Failed,
}

impl Result {
    pub(super) fn new(ground: &str, program: &Program, outcome: anyhow::Result<Outcome>) -> Self {
        let judgement = match (&outcome, ground == "open") {
            (Err(_), _) => Judgement::Failed,
            (Ok(outcome), true) if outcome.succeeded() => Judgement::Bites,
            (Ok(_), true) => Judgement::DoesNotBite,
            (Ok(outcome), false) if !outcome.succeeded() => Judgement::Held,
            (Ok(_), false) if program.declared.is_some() => Judgement::Declared,
            (Ok(_), false) => Judgement::Breach,
        };
        let (outcome, error) = match outcome {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Self {
            ground: ground.to_owned(),
            program: program.name.clone(),
            stands_for: program.stands_for.clone(),
            needs: program.needs.clone(),
            declared: program.declared.clone(),
            judgement,
            outcome,
            error,
        }
    }

    fn is_bad(&self) -> bool {
        matches!(
            self.judgement,
            Judgement::DoesNotBite | Judgement::Breach | Judgement::Failed
        )
    }
}

/// Everything.
#[derive(Default, Serialize)]
pub(super) struct Report {
    results: BTreeMap<u32, Vec<Result>>,
    /// By version and program: why it was not run.
    skipped: BTreeMap<u32, BTreeMap<String, String>>,
    /// By version and program: the engine's reason for not taking what the application's developer wrote.
    refused: BTreeMap<u32, BTreeMap<String, String>>,
    tokens: Vec<Tokens>,
}

#[derive(Serialize)]
struct Tokens {
    version: u32,
    tier: Tier,
    #[serde(flatten)]
    offered: Offered,
}

impl Report {
    pub(super) fn add(&mut self, version: u32, result: Result) {
        self.results.entry(version).or_default().push(result);
    }

    pub(super) fn skip(&mut self, version: u32, program: String, reason: String) {
        self.skipped.entry(version).or_default().insert(program, reason);
    }

    pub(super) fn refuse(&mut self, version: u32, program: &str, sentence: &str) {
        let refused = self.refused.entry(version).or_default();
        refused.insert(program.to_owned(), sentence.to_owned());
    }

    pub(super) fn tokens(&mut self, version: u32, tier: Tier, offered: Offered) {
        self.tokens.push(Tokens { version, tier, offered });
    }

    pub(super) fn print(&self, json: bool, verbose: bool) {
        if json {
            match serde_json::to_string_pretty(self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("the report can't be written: {error}"),
            }
            return;
        }
        for (version, results) in &self.results {
            for result in results.iter().filter(|result| result.is_bad()) {
                self.tell(*version, result, verbose);
            }
        }
        self.print_table();
        self.print_declared();
    }

    fn tell(&self, version: u32, result: &Result, verbose: bool) {
        let words = result.outcome.as_ref().map(Outcome::words).unwrap_or_default();
        let error = result.error.as_deref().unwrap_or_default();
        println!(
            "PostgreSQL {version}, {}: {:?}: {} ({}) {words}{error}",
            result.ground, result.judgement, result.program, result.stands_for
        );
        if let Some(outcome) = result.outcome.as_ref().filter(|_| verbose) {
            println!("{}", outcome.log.join("\n"));
        }
    }

    fn print_table(&self) {
        println!(
            "\n{:<10} {:<26} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "PostgreSQL", "ground", "programs", "bite", "held", "declared", "breaches"
        );
        for (version, results) in &self.results {
            let grounds: BTreeSet<&str> = results.iter().map(|result| result.ground.as_str()).collect();
            for ground in grounds {
                let of = |judgement: Judgement| {
                    let here = results.iter().filter(|result| result.ground == ground);
                    here.filter(|result| result.judgement == judgement).count()
                };
                let all = results.iter().filter(|result| result.ground == ground).count();
                println!(
                    "{version:<10} {ground:<26} {all:>8} {:>8} {:>8} {:>8} {:>8}",
                    of(Judgement::Bites),
                    of(Judgement::Held),
                    of(Judgement::Declared),
                    of(Judgement::Breach) + of(Judgement::Failed),
                );
            }
        }
        for Tokens { version, tier, offered } in &self.tokens {
            println!(
                "{version:<10} {:<26} {} mutated tokens offered, {} accepted; {} whole ones, {} accepted",
                format!("tokens {tier}"),
                offered.mutated,
                offered.accepted,
                offered.whole,
                offered.whole_accepted
            );
        }
        for (version, skipped) in &self.skipped {
            for (program, reason) in skipped {
                println!("{version:<10} not run: {program}: {reason}");
            }
        }
        for (version, refused) in &self.refused {
            let names: Vec<&str> = refused.keys().map(String::as_str).collect();
            println!("{version:<10} refused by the engine already: {}", names.join(", "));
        }
    }

    fn print_declared(&self) {
        let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (version, results) in &self.results {
            for result in results.iter().filter(|result| result.judgement == Judgement::Declared) {
                if let Some(channel) = &result.declared {
                    let place = format!("{} ({version})", result.ground);
                    seen.entry(channel.as_str()).or_default().insert(place);
                }
            }
        }
        for (name, places) in seen {
            if let Some(channel) = declared::channel(name) {
                let places: Vec<String> = places.into_iter().collect();
                println!(
                    "declared: {name}: {} ({}; closed by: {}). Seen on {}",
                    channel.what,
                    channel.why,
                    channel.closed_by,
                    places.join(", ")
                );
            }
        }
    }

    /// Whether all is as it must be.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let bad = self.results.values().flatten().filter(|result| result.is_bad()).count();
        let tokens = self
            .tokens
            .iter()
            .filter(|tokens| tokens.offered.accepted > 0 || tokens.offered.whole_accepted < tokens.offered.whole)
            .count();
        if bad + tokens > 0 {
            bail!("{bad} programs and {tokens} offers of tokens went wrong");
        }
        Ok(())
    }
}
