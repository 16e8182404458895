//! Two worlds that agree on one tenant: what it observes has to be equal.

/// How much to compare.
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Compares the worlds.
pub(crate) async fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("no statement is compared yet")
}
