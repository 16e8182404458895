//! `tenantry bench`: what scoped access costs on this machine.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::dev::private::{self, PostgresOptions};
use crate::{
    bench::{self, Report},
    failure::Failure,
    output::{Answer, Output, table},
    progress::Progress,
};

/// What to measure, and how often.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Measure only these lines (comma-separated)
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(bench::NAMES))]
    only: Vec<String>,
    /// Rounds of each comparison; a round is two slices of 90 ms
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Write the table into this document, between its marks; nothing is written otherwise
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    postgres: PostgresOptions,
}

/// Measures on a private PostgreSQL, which is gone afterwards.
pub(super) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    let binaries = private::binaries(&arguments.postgres, output).await?;
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let report = bench::run(binaries, arguments.rounds, wanted, |step| progress.step(step)).await?;
    progress.end();
    if let Some(file) = &arguments.write {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        std::fs::write(file, put_table(&text, &report.markdown())?)
            .with_context(|| format!("can't write {}", file.display()))?;
    }
    output.answer(&report)?;
    if report.all_reached() {
        return Ok(());
    }
    Err(Failure::failed("a target was missed: see the table"))
}

const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";

/// The document with the table between its marks.
fn put_table(document: &str, table: &str) -> anyhow::Result<String> {
    let marked = document
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = marked.with_context(|| format!("the document has no `{}` and `{END}`", BEGIN.trim_end()))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

impl Answer for Report {
    fn text(&self) -> String {
        let lines = table(["what", "against", "target", "median", "min – max", ""], self.rows());
        let details = self.findings.iter().filter(|finding| !finding.detail.is_empty());
        let details: String = details
            .map(|finding| format!("{:13} {}\n", finding.name, finding.detail))
            .collect();
        format!("{lines}\n\n{details}\n{}", self.machine_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_its_marks_and_nowhere_else() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter");
        let put = put_table(&document, "new\n").unwrap();
        assert_eq!(put, format!("before\n{BEGIN}new\n{END}\nafter"));
        assert_eq!(put_table(&put, "new\n").unwrap(), put);
        assert!(put_table("no marks", "new").is_err());
    }
}
