//! `tenantry bench`: what scoped access costs on this machine.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::dev::private::{self, PostgresOptions};
use crate::{
    bench::{self, Report, Wanted},
    failure::Failure,
    output::{Answer, Output, table},
    progress::Progress,
    shutdown,
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
    /// The marks between which it is written: `<!-- bench: begin -->` where they are called `bench`
    #[arg(long, value_name = "NAME", default_value = "bench")]
    marks: String,
    /// Fleets of a handful, to see that the large ones can be measured; the figures mean nothing
    #[arg(long, hide = true)]
    small: bool,
    /// A Python with django-tenants, for the lines that compare with it
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    #[command(flatten)]
    postgres: PostgresOptions,
}

/// Measures on a private PostgreSQL, which is gone afterwards.
pub(super) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let mut stop = shutdown::Signals::listen()?;
    let progress = Progress::start(output);
    let binaries = private::binaries(&arguments.postgres, output, &progress).await?;
    let wanted = Wanted {
        rounds: arguments.rounds,
        small: arguments.small,
        python: arguments.python,
        only: arguments.only,
    };
    let report = bench::run(binaries, &wanted, |step| progress.step(step), stop.received()).await?;
    progress.end();
    if let Some(file) = &arguments.write {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        std::fs::write(file, put_table(&text, &arguments.marks, &report.markdown())?)
            .with_context(|| format!("can't write {}", file.display()))?;
    }
    output.answer(&report)?;
    if report.all_reached() {
        return Ok(());
    }
    Err(Failure::failed("a target was missed: see the table"))
}

/// The document with the table between its marks.
fn put_table(document: &str, marks: &str, table: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- {marks}: begin -->\n");
    let end = format!("<!-- {marks}: end -->");
    let marked = document
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = marked.with_context(|| format!("the document has no `{}` and `{end}`", begin.trim_end()))?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
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
        let document = |inside| {
            format!(
                "before\n<!-- bench: begin -->\n{inside}<!-- bench: end -->\n<!-- peers: begin -->\nx\n<!-- peers: end -->\n"
            )
        };
        let put = put_table(&document("old\n"), "bench", "new\n").expect("marked");
        assert_eq!(put, document("new\n"));
        assert!(put_table("before\nafter", "bench", "new\n").is_err());
        assert!(put_table(&document(""), "others", "new\n").is_err());
    }
}
