//! What a placement has and lacks.

use tokio_postgres::Client;

use super::{
    apply::{self, ApplyError},
    ledger::{self, AppliedVersion},
    target::Target,
};
use crate::isolate::Derived;

/// The state of one placement.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it has, lowest first.
    pub applied: Vec<AppliedVersion>,
    /// Names of the files that it lacks, in the order in which they will run.
    pub pending: Vec<String>,
}

/// Reads a placement's ledger against the derived migrations.
///
/// # Errors
///
/// As [`apply`](super::apply()) before it changes anything: an edited, unknown or out-of-order file.
pub async fn status(client: &Client, target: &Target, derived: &Derived) -> Result<Status, ApplyError> {
    let pending = apply::pending(client, target, derived).await?;
    Ok(Status {
        applied: ledger::read(client, target.schema.as_str())
            .await?
            .into_values()
            .collect(),
        pending: pending.into_iter().map(|version| version.name.clone()).collect(),
    })
}
