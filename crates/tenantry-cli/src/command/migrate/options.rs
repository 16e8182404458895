//! How a roll-out reaches the fleet, as options of the command line.

use std::time::Duration;

use clap::Args;
use tenantry_ops::{Label, NoBudget, Rollout};

use crate::failure::Failure;

/// Who goes first, how many at a time, and when to stop.
#[derive(Args, Debug)]
pub(crate) struct RolloutOptions {
    /// Only this tenant, which has a schema or a database of its own; may be repeated
    #[arg(long = "tenant", value_name = "SLUG")]
    tenants: Vec<String>,
    /// A tenant that goes before all others; may be repeated
    #[arg(long = "canary", value_name = "SLUG")]
    canaries: Vec<String>,
    /// Tenants with this plan, on this server, or with this label in their settings go next, as a wave; may be repeated
    #[arg(long = "wave-of", value_name = "NAME=VALUE")]
    labels: Vec<Label>,
    /// Up to how many percent of the tenants with a schema or database of their own each wave reaches, like 5,25
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    waves: Vec<u8>,
    /// How many seconds to wait between waves
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pause: u64,
    /// Stop when more fail: a number, or a share like 1%
    #[arg(long, value_name = "NUMBER|PERCENT%")]
    max_failures: Option<String>,
    /// Connections to one server
    #[arg(long, value_name = "NUMBER")]
    per_server: Option<usize>,
    /// Connections in all
    #[arg(long, value_name = "NUMBER")]
    connections: Option<usize>,
}

impl RolloutOptions {
    /// The roll-out that they mean.
    ///
    /// # Errors
    ///
    /// Usage, when the number of failures is neither a number nor a share.
    pub(super) fn rollout(&self) -> Result<Rollout, Failure> {
        let mut rollout = Rollout::default();
        rollout.only.clone_from(&self.tenants);
        rollout.canaries.clone_from(&self.canaries);
        rollout.labels.clone_from(&self.labels);
        rollout.waves.clone_from(&self.waves);
        rollout.pause = Duration::from_secs(self.pause);
        rollout.per_server = self.per_server.unwrap_or(rollout.per_server);
        rollout.connections_max = self.connections.unwrap_or(rollout.connections_max);
        if let Some(text) = &self.max_failures {
            rollout.budget = text
                .parse()
                .map_err(|error: NoBudget| Failure::usage(format!("--max-failures takes {error}: not `{text}`")))?;
        }
        Ok(rollout)
    }
}
