//! What is found is printed, made small, written to a file, and run again from there.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    gate::Grounds,
    http::Requests,
    run::Finding,
    schema::TABLES,
    shrink::{self, Shrinks},
    step::Program,
    ways::{Comparers, Compares, Found, Mode},
};

/// A program and where it is to be run.
#[derive(Serialize, Deserialize)]
pub(super) struct Case {
    #[serde(flatten)]
    pub(super) mode: Mode,
    pub(super) acts: Acts,
}

/// What is run: statements or requests.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Acts {
    Program(Program),
    Requests(Requests),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} at statement {} ({}): {}\n  in one world: {}\n  in the other: {}",
            self.kind, self.statements, self.shape, self.step, self.answers[0], self.answers[1]
        )
    }
}

/// Makes what was found small, prints it, and writes it to a file; the error says how to run it again.
pub(super) async fn found<C: Compares>(
    comparers: &mut [C],
    mode: Mode,
    seed: u64,
    found: Found<C::Program>,
    file: &Path,
) -> anyhow::Error
where
    Acts: From<C::Program>,
{
    println!("{mode}, seed {seed}, program {}: {}", found.number, found.finding);
    let comparer = &mut comparers[found.by];
    let (small, finding) = shrink::shrink(comparer, &found.program, found.finding).await;
    println!("the smallest program:\n{small}");
    let case = Case {
        mode,
        acts: small.into(),
    };
    let written = serde_json::to_string_pretty(&case).map(|text| std::fs::write(file, text));
    let kept = match written {
        Ok(Ok(())) => format!("replay it: cargo xtask prove --replay {}", file.display()),
        other => format!("it could not be written: {other:?}"),
    };
    anyhow::anyhow!("a tenant can tell the worlds apart: {finding}; {kept}")
}

/// Runs a program that an earlier run wrote.
pub(super) async fn replay(grounds: &Grounds, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let case: Case = serde_json::from_str(&text)?;
    let mut comparers = Comparers::new(grounds, case.mode, 1).await?;
    run_again(&mut comparers, &case.acts).await
}

/// Fails where the case still tells the worlds apart.
pub(super) async fn run_again(comparers: &mut Comparers, acts: &Acts) -> Result<()> {
    match (comparers, acts) {
        (Comparers::Wire(pairs), Acts::Program(program)) => again(&mut pairs[..1], program).await,
        (Comparers::Library(all), Acts::Program(program)) => again(all, program).await,
        (Comparers::Http(webs), Acts::Requests(requests)) => again(webs, requests).await,
        _ => bail!("the file's acts are not of its way"),
    }
}

async fn again<C: Compares>(comparers: &mut [C], program: &C::Program) -> Result<()> {
    println!("{program}");
    for comparer in comparers {
        if let Some(finding) = comparer.compare(program).await {
            bail!("{finding}");
        }
    }
    println!("0 differences in {} statements", program.statements());
    Ok(())
}

impl From<Program> for Acts {
    fn from(program: Program) -> Self {
        Self::Program(program)
    }
}

impl From<Requests> for Acts {
    fn from(requests: Requests) -> Self {
        Self::Requests(requests)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.travel)?;
        for row in &self.fill {
            writeln!(
                f,
                "  row of {:?} in both: {} ({})",
                row.owner, TABLES[row.table].0, row.values
            )?;
        }
        for (world, rows) in self.fill_b.iter().enumerate() {
            for row in rows {
                writeln!(
                    f,
                    "  row of {:?} in world {world}: {} ({})",
                    row.owner, TABLES[row.table].0, row.values
                )?;
            }
        }
        for round in &self.rounds {
            for world in 0..2 {
                for act in &round.operator[world] {
                    writeln!(f, "  operator in world {world}: {act}")?;
                }
                for step in &round.b[world] {
                    writeln!(f, "  b in world {world}: {}", step.text())?;
                }
            }
            let fenced = if round.fenced { " (fenced)" } else { "" };
            for step in &round.a {
                writeln!(f, "  a{fenced}: {}", step.text())?;
            }
        }
        Ok(())
    }
}
