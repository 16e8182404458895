//! SQL by PostgreSQL's own client: what it takes without anything of ours.

use std::{
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::world::World;

/// Whether there is a psql among PostgreSQL's programs; that there is none is said aloud.
pub(super) fn has_psql(world: &World) -> bool {
    let binaries = world.cluster.binaries();
    let has = binaries.program("psql").is_some();
    if !has {
        eprintln!(
            "\n*** NOT COMPARED WITH PSQL: there is none in {}: install PostgreSQL's client programs ***\n",
            binaries.bin_dir().display()
        );
    }
    has
}

/// Lets psql run this text as the superuser, over one connection; how long that took, its start included.
///
/// # Errors
///
/// When there is no psql, or a statement fails.
pub(super) fn by_psql(world: &World, database: &str, text: &str) -> Result<Duration> {
    let mut psql = world
        .cluster
        .binaries()
        .command("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"])
        .arg(world.cluster.admin_url(database))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("psql does not run; this line needs PostgreSQL's client programs")?;
    let begun = Instant::now();
    let mut stdin = psql.stdin.take().context("psql has no stdin")?;
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    ensure!(psql.wait()?.success(), "psql failed");
    Ok(begun.elapsed())
}
