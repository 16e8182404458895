//! PostgreSQL's own client: how fast the same rows go without anything of ours.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tenantry_postgres::Binaries;

use super::site::Place;

/// A psql that is there.
pub(super) struct Psql(Binaries);

impl Psql {
    /// `None` where these binaries have none, which is said aloud.
    pub(super) fn find(binaries: &Binaries) -> Option<Self> {
        if binaries.program("psql").is_some() {
            return Some(Self(binaries.clone()));
        }
        eprintln!(
            "\n*** NOT COMPARED: there is no psql in {}: install PostgreSQL's client programs ***\n",
            binaries.bin_dir().display()
        );
        None
    }

    fn command(&self, place: &Place, statement: &str) -> Command {
        let mut psql = self.0.command("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--set",
            "ON_ERROR_STOP=1",
            "--command",
            statement,
        ])
        .arg(place.url())
        .stdin(Stdio::null());
        psql
    }

    /// `copy … to stdout` of the one into `copy … from stdin` of the other.
    pub(super) async fn pipe(&self, from: (&Place, &str), to: (&Place, &str)) -> Result<Duration> {
        let (mut read, mut write) = (self.command(from.0, from.1), self.command(to.0, to.1));
        let piped = move || {
            let begun = Instant::now();
            let mut read = read.stdout(Stdio::piped()).spawn().context("psql does not run")?;
            let rows = read.stdout.take().context("psql has no stdout")?;
            let written = write.stdin(rows).stdout(Stdio::null()).status();
            let read = read.wait()?;
            ensure!(written?.success() && read.success(), "psql failed");
            Ok(begun.elapsed())
        };
        tokio::task::spawn_blocking(piped).await?
    }

    /// `copy … to stdout` into a file.
    pub(super) async fn write(&self, from: &Place, statement: &str, file: &Path) -> Result<Duration> {
        let mut psql = self.command(from, statement);
        psql.stdout(File::create(file)?);
        let written = move || {
            let begun = Instant::now();
            ensure!(psql.status().context("psql does not run")?.success(), "psql failed");
            Ok(begun.elapsed())
        };
        tokio::task::spawn_blocking(written).await?
    }
}
