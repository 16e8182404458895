//! The whole benchmark in one run, as it is meant to be measured: optimised.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{cargo, finish};

/// Passed on to `tenantry bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `fleet` to compare with django-tenants, which comes from PyPI; and options of `tenantry bench`, for example
    /// `--write docs/benchmarks.md` or `--only point-1,http`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the command line for release and lets it measure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut bench = cargo(&[
        "run",
        "--release",
        "--package",
        "tenantry-cli",
        "--features",
        "bench-sqlx",
    ]);
    bench.args(["--", "bench"]);
    match options.rest.split_first() {
        Some((first, rest)) if first == "fleet" => {
            let python = match python() {
                Ok(python) => python,
                Err(reason) => {
                    eprintln!("SKIPPED: nothing was compared with django-tenants: {reason:#}");
                    return Ok(());
                }
            };
            bench.args(["--only", "peers", "--marks", "peers", "--python"]);
            bench.arg(python).args(rest);
        }
        _ => {
            bench.args(&options.rest);
        }
    }
    finish(&mut bench, "the benchmark did not succeed")
}

/// What the peer needs, with its versions.
const REQUIREMENTS: &str = "crates/tenantry-cli/src/bench/peers/requirements.txt";

/// A Python with the peer, in a virtual environment that is made once for these versions.
fn python() -> Result<PathBuf> {
    let requirements = Path::new(REQUIREMENTS);
    let wanted = std::fs::read_to_string(requirements).with_context(|| format!("can't read {REQUIREMENTS}"))?;
    let folder = std::env::current_dir()?.join("target/peers");
    let python = folder.join("bin/python");
    let made = folder.join("requirements.txt");
    if std::fs::read_to_string(&made).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
    ensure!(
        venv.context("there is no python3")?.success(),
        "python3 makes no virtual environment"
    );
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    let installed = pip.arg(requirements).status()?;
    ensure!(
        installed.success(),
        "PyPI can't be reached, or lacks a version of {REQUIREMENTS}"
    );
    std::fs::write(&made, wanted)?;
    Ok(python)
}
