//! The scratch database: the plain twin, and beside it the shadow, where the derived steps have to prove themselves.

use tokio_postgres::{Client, Error, error::ErrorPosition};

use super::{
    derived::{Act, Step},
    quote::ident,
    snapshot::{QUERY, Snapshot},
};
use crate::{home::prepare_scratch, migrate::Statement};

/// The schema of the plain twin in a scratch database; after [`derive`](super::derive()) it has what all files make for a single
/// customer.
pub const TWIN: &str = "tenantry_twin";
const SHADOW: &str = "tenantry_shadow";

/// A connection to an empty database that is thrown away afterwards.
pub(super) struct Scratch<'a> {
    client: &'a Client,
    owner: String,
    /// Prepared: it runs after every statement, and planning it takes longer than running it.
    snapshot: tokio_postgres::Statement,
}

impl<'a> Scratch<'a> {
    /// Makes the two schemas.
    pub(super) async fn prepare(client: &'a Client, owner: &str) -> Result<Scratch<'a>, Error> {
        let owner = ident(owner);
        prepare_scratch(client).await?;
        client
            .batch_execute(&format!(
                "drop schema if exists {TWIN} cascade;
                 drop schema if exists {SHADOW} cascade;
                 create schema {TWIN} authorization {owner};
                 create schema {SHADOW} authorization {owner}"
            ))
            .await?;
        let snapshot = client.prepare(QUERY).await?;
        Ok(Self {
            client,
            owner,
            snapshot,
        })
    }

    /// Takes the owner's role and the twin's search path, with all settings as they were.
    pub(super) async fn enter_twin(&self) -> Result<(), Error> {
        self.client
            .batch_execute(&format!(
                "reset all; set client_min_messages = warning; set plan_cache_mode = force_generic_plan; set search_path = {TWIN}, tenantry_ext; set role {}",
                self.owner
            ))
            .await
    }

    /// Runs a statement as it was written.
    pub(super) async fn run(&self, statement: &Statement) -> Result<(), Error> {
        self.client.batch_execute(&statement.text).await
    }

    /// What stands in the twin.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let text: String = self.client.query_one(&self.snapshot, &[&TWIN]).await?.get(0);
        Ok(serde_json::from_str(&text)?)
    }

    /// Installs an extension as administrator.
    pub(super) async fn install(&self, extension: &str) -> Result<(), Error> {
        self.client
            .batch_execute(&format!(
                "reset role; create extension if not exists {} schema tenantry_ext cascade; set role {}",
                ident(extension),
                self.owner
            ))
            .await
    }

    /// Runs the steps of a version in the shadow, as a placement would.
    ///
    /// # Errors
    ///
    /// The line of the step that failed.
    pub(super) async fn prove(&self, steps: &[Step], transaction: bool) -> Result<(), (u32, Error)> {
        let head = format!("set search_path = {SHADOW}, tenantry_ext");
        let first = steps.first().map_or(1, |step| step.line);
        self.client.batch_execute(&head).await.map_err(|error| (first, error))?;
        if transaction {
            self.client
                .batch_execute("begin")
                .await
                .map_err(|error| (first, error))?;
        }
        let mut outcome = Ok(());
        for step in steps {
            let text = match &step.act {
                Act::Sql(text) | Act::Concurrent { sql: text, .. } => text.clone(),
                Act::Grant { privileges, on, .. } => format!("grant {privileges} on {on} to {}", self.owner),
            };
            if let Err(error) = self.client.batch_execute(&text).await {
                outcome = Err((step.line, error));
                break;
            }
        }
        if transaction {
            let end = if outcome.is_ok() { "commit" } else { "rollback" };
            self.client.batch_execute(end).await.map_err(|error| (first, error))?;
        }
        self.enter_twin().await.map_err(|error| (first, error))?;
        outcome
    }

    /// Whether PostgreSQL understands a data statement on the isolated tables.
    pub(super) async fn understand(&self, text: &str) -> Result<(), Error> {
        self.client
            .batch_execute(&format!("set search_path = {SHADOW}, tenantry_ext"))
            .await?;
        let understood = self.client.prepare(text).await.map(drop);
        self.enter_twin().await?;
        understood
    }
}

/// Why the twin could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error(transparent)]
    Database(#[from] Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The line in the file that PostgreSQL complains about.
pub(super) fn line_of(statement: &Statement, error: &Error) -> u32 {
    match error.as_db_error().and_then(|error| error.position()) {
        Some(ErrorPosition::Original(position)) => statement.line_at(*position),
        _ => statement.line,
    }
}
