//! Programs that try to reach another tenant's rows.

/// What to attack.
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Runs the programs.
pub(crate) async fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("no attack program is written yet")
}
