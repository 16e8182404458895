//! `tenantry operation`: how far durable work is, and what is in its way.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{OperationId, TenantId};
use tenantry_ops::{Operation, OperationState, Ops, Unfinished};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::tenant_id,
    output::{Answer, List as Items, Output, fields, table, time},
};

/// What to do with operations.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List operations, the newest first
    List(List),
    /// Show how far an operation is, and what is in its way
    Show(Named),
}

/// Which operations to list.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this tenant, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    /// Only those in this state: pending, running, undoing, done, failed, cancelled
    #[arg(long, value_parser = parse_state)]
    state: Option<OperationState>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// An operation.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The operation's id
    operation: OperationId,
}

fn parse_state(text: &str) -> Result<OperationState, String> {
    text.parse().map_err(|_| {
        let words: Vec<_> = OperationState::ALL.iter().map(|state| state.as_str()).collect();
        format!("a state is one of {}", words.join(", "))
    })
}

/// An operation, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    id: OperationId,
    kind: String,
    tenant_id: Option<TenantId>,
    state: String,
    step: String,
    progress: Value,
    error: Option<Fault>,
    attempts: i32,
    run_after: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

/// Why it failed, or was not able to go on when it was tried last.
#[derive(Serialize)]
struct Fault {
    code: String,
    message: String,
}

impl From<Operation> for Shown {
    fn from(operation: Operation) -> Self {
        let code = operation.error_code.unwrap_or_default();
        Self {
            id: operation.id,
            kind: operation.kind.to_string(),
            tenant_id: operation.tenant,
            state: operation.state.to_string(),
            step: operation.step,
            progress: operation.progress,
            error: operation.error.map(|message| Fault { code, message }),
            attempts: operation.attempts,
            run_after: operation.run_after,
            created_at: operation.created_at,
            updated_at: operation.updated_at,
            finished_at: operation.finished_at,
        }
    }
}

impl Shown {
    fn error(&self) -> String {
        let fault = self.error.as_ref();
        fault.map_or_else(String::new, |fault| fault.message.clone())
    }

    /// When it is tried again; nothing where it has ended.
    fn next_try(&self) -> String {
        match self.finished_at {
            Some(_) => String::new(),
            None => time(self.run_after),
        }
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![
            ("id", self.id.to_string()),
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("step", self.step.clone()),
            ("progress", self.progress.to_string()),
            ("attempts", self.attempts.to_string()),
        ];
        if let Some(tenant) = self.tenant_id {
            shown.push(("tenant", tenant.to_string()));
        }
        if self.error.is_some() {
            shown.push(("error", self.error()));
        }
        shown.push(("created", time(self.created_at)));
        match self.finished_at {
            Some(at) => shown.push(("ended", time(at))),
            None => shown.push((
                "next try",
                format!("{}, by a `tenantry serve` that runs", time(self.run_after)),
            )),
        }
        fields(shown)
    }
}

impl Answer for Items<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|operation| {
            [
                operation.id.to_string(),
                operation.kind.clone(),
                operation.state.clone(),
                operation.step.clone(),
                time(operation.created_at),
                operation.next_try(),
                operation.error(),
            ]
        });
        table(
            ["operation", "kind", "state", "step", "created", "next try", "error"],
            rows,
        )
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::List(list) => run_list(&ops, &list, output).await,
        Command::Show(named) => {
            let operation = ops.get_operation(&authority(), named.operation).await?;
            Ok(output.answer(&Shown::from(operation))?)
        }
    }
}

async fn run_list(ops: &Ops, list: &List, output: Output) -> Result<(), Failure> {
    let tenant = match &list.tenant {
        Some(tenant) => Some(tenant_id(ops, tenant).await?),
        None => None,
    };
    let found = ops
        .list_operations(&authority(), tenant, list.state, list.limit.into())
        .await?;
    let items = found.into_iter().map(Shown::from).collect();
    Ok(output.answer(&Items { items })?)
}

/// What keeps the tenant's newest operation from going on, if something does: its database could not be told yet what the catalog says.
pub(super) async fn trouble(ops: &Ops, tenant: TenantId) -> Result<Option<Unfinished>, Failure> {
    let newest = ops.list_operations(&authority(), Some(tenant), None, 1).await?;
    Ok(newest
        .first()
        .and_then(Unfinished::of)
        .filter(|unfinished| unfinished.error.is_some()))
}
