//! `tenantry operation`: how far durable work is, and what is in its way.

mod certificate;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{OperationId, TenantId};
use tenantry_ops::{Operation, OperationKind, OperationState, Ops, Steer, Unfinished};

use super::{migrate, tenant};
use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::tenant_id,
    output::{Answer, Output, fields, more, table, time},
    progress::Progress,
};

/// What to do with operations.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List operations, the newest first
    List(List),
    /// Show how far an operation is, and what is in its way
    Show(Named),
    /// Show or check the signed certificate of a move: what was compared on both sides
    Certificate(certificate::Certificate),
    /// Pause a move, whose tenant is served where it was, or a roll-out of migrations, until it is resumed
    Pause(Named),
    /// Let a paused move or roll-out go on, and wait for it
    Resume(Named),
    /// Call a move off, which removes what it made, a roll-out of migrations, whose schemas keep what they have, or a restore in a tenant's
    /// place, whose rows are not replaced then
    Abort(Named),
    /// Take a tenant whose move soaks back to its old home
    Rollback(Named),
    /// End the soak of a move: the old home is removed
    Finish(Named),
}

/// Which operations to list.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this tenant, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    /// Only those in this state: pending, running, undoing, paused, done, failed, cancelled
    #[arg(long, value_parser = parse_state)]
    state: Option<OperationState>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only those after this one in the list: the `next_cursor` of a list that was cut
    #[arg(long, value_name = "CURSOR")]
    after: Option<OperationId>,
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
    wish: Option<String>,
    /// Whether the signature below a move's certificate is this installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_holds: Option<bool>,
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
            wish: operation.wish.map(|wish| wish.to_string()),
            certificate_holds: None,
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

impl Shown {
    /// The progress without what is shown by itself.
    fn figures(&self) -> String {
        let mut progress = self.progress.clone();
        if let (Some(progress), true) = (progress.as_object_mut(), self.certificate_holds.is_some()) {
            progress.remove("certificate");
            progress.remove("verified");
        }
        progress.to_string()
    }

    /// What a move has shown.
    fn certificate(&self) -> Vec<(&'static str, String)> {
        let Some(holds) = self.certificate_holds else {
            return Vec::new();
        };
        let mut shown = certificate::lines(&self.progress["certificate"]["certificate"]);
        shown.push((
            "certificate",
            match holds {
                true => format!("signed; `tenantry operation certificate {}` gives it", self.id),
                false => "its signature is not this installation's, or it was changed".to_owned(),
            },
        ));
        shown
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![
            ("id", self.id.to_string()),
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("step", self.step.clone()),
            ("progress", self.figures()),
            ("attempts", self.attempts.to_string()),
        ];
        if let Some(tenant) = self.tenant_id {
            shown.push(("tenant", tenant.to_string()));
        }
        if self.error.is_some() {
            shown.push(("error", self.error()));
        }
        if let Some(wish) = &self.wish {
            shown.push(("wish", wish.clone()));
        }
        shown.extend(self.certificate());
        shown.push(("created", time(self.created_at)));
        match self.finished_at {
            Some(at) => shown.push(("ended", time(at))),
            None if self.state == "paused" => shown.push(("next try", "when it is resumed".to_owned())),
            None => shown.push((
                "next try",
                format!("{}, by a `tenantry serve` that runs", time(self.run_after)),
            )),
        }
        fields(shown)
    }
}

#[derive(Serialize)]
struct Listed {
    items: Vec<Shown>,
    /// Null where these are all.
    next_cursor: Option<String>,
}

impl Answer for Listed {
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
        let listed = table(
            ["operation", "kind", "state", "step", "created", "next try", "error"],
            rows,
        );
        format!("{listed}{}", more(self.next_cursor.as_deref()))
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::List(list) => run_list(&ops, &list, output).await,
        Command::Show(named) => {
            let operation = ops.get_operation(&authority(), named.operation).await?;
            Ok(output.answer(&shown(&ops, operation))?)
        }
        Command::Certificate(wish) => certificate::run(&ops, wish, output).await,
        Command::Pause(named) => steer(&ops, &named, Steer::Pause, output).await,
        Command::Resume(named) => steer(&ops, &named, Steer::Resume, output).await,
        Command::Abort(named) => steer(&ops, &named, Steer::Abort, output).await,
        Command::Rollback(named) => steer(&ops, &named, Steer::Rollback, output).await,
        Command::Finish(named) => steer(&ops, &named, Steer::Finish, output).await,
    }
}

/// With what its certificate is worth.
fn shown(ops: &Ops, operation: Operation) -> Shown {
    let mut shown = Shown::from(operation);
    let certificate = &shown.progress["certificate"];
    shown.certificate_holds = (!certificate.is_null()).then(|| ops.verify_move(&certificate.to_string()).is_ok());
    shown
}

/// Says what is wanted, and works on it here unless another process does.
async fn steer(ops: &Ops, named: &Named, steer: Steer, output: Output) -> Result<(), Failure> {
    let id = named.operation;
    let progress = Progress::start(output);
    progress.step(format!("{steer} {id}"));
    let steered = ops.steer_operation(&authority(), id, steer).await;
    let ended = match steered {
        Ok(_) => {
            let told = |operation: &Operation| {
                progress.step(match operation.kind {
                    OperationKind::Migrate => migrate::now(operation),
                    OperationKind::Restore => tenant::restoring(operation),
                    _ => tenant::now("the tenant", operation),
                });
            };
            ops.finish_steered(&authority(), id, &told).await
        }
        Err(error) => Err(error),
    };
    progress.end();
    let ended = ended?;
    let as_wanted = match steer {
        Steer::Pause => ended.state == OperationState::Paused,
        Steer::Resume => ended.state == OperationState::Done || !ended.state.is_final(),
        Steer::Abort | Steer::Rollback => ended.state == OperationState::Cancelled,
        Steer::Finish => ended.state == OperationState::Done,
    };
    let state = ended.state;
    let reason = ended.error.clone();
    output.answer(&shown(ops, ended))?;
    match as_wanted {
        true => Ok(()),
        false => Err(Failure::failed(
            reason.unwrap_or_else(|| format!("the operation is {state}")),
        )),
    }
}

async fn run_list(ops: &Ops, list: &List, output: Output) -> Result<(), Failure> {
    let tenant = match &list.tenant {
        Some(tenant) => Some(tenant_id(ops, tenant).await?),
        None => None,
    };
    // One more than is shown, to see whether there are more.
    let mut found = ops
        .list_operations_after(&authority(), tenant, list.state, list.after, i64::from(list.limit) + 1)
        .await?;
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let follows = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| follows);
    let next_cursor = last.map(|operation| operation.id.to_string());
    let items = found.into_iter().map(Shown::from).collect();
    Ok(output.answer(&Listed { items, next_cursor })?)
}

/// What keeps the tenant's newest operation from going on, if something does: its database could not be told yet what the catalog says.
pub(super) async fn trouble(ops: &Ops, tenant: TenantId) -> Result<Option<Unfinished>, Failure> {
    let newest = ops.list_operations(&authority(), Some(tenant), None, 1).await?;
    Ok(newest
        .first()
        .and_then(Unfinished::of)
        .filter(|unfinished| unfinished.error.is_some()))
}
