//! `tenantry tenant move`: another isolation, another server.

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{Isolation, OperationId};
use tenantry_ops::{MoveHome, MovePlan, MoveRequest, MoveStep, Operation, OperationState, Ops, TenantRef};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Output, fields, table},
    progress::Progress,
};

/// Which tenant, and where to.
#[derive(Args, Debug)]
pub(crate) struct Move {
    /// The tenant's slug or id
    tenant: String,
    /// How its rows are kept apart then: shared, schema or database
    #[arg(long)]
    to: Isolation,
    /// The server to take it to, by name [default: the one where it is]
    #[arg(long)]
    server: Option<String>,
    /// Say what it would take and what is in the way, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// End transactions that do not end in time, instead of trying again later
    #[arg(long)]
    force: bool,
}

/// What a move would take, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Plan {
    from: Home,
    to: Home,
    rows: i64,
    bytes: i64,
    complete: bool,
    obstacles: Vec<InTheWay>,
    held_because: Option<String>,
}

#[derive(Serialize)]
struct Home {
    isolation: Isolation,
    server: String,
    schema: String,
}

#[derive(Serialize)]
struct InTheWay {
    code: &'static str,
    what: String,
    mend: String,
}

impl From<MoveHome> for Home {
    fn from(home: MoveHome) -> Self {
        Self {
            isolation: home.isolation,
            server: home.server,
            schema: home.schema,
        }
    }
}

impl From<MovePlan> for Plan {
    fn from(plan: MovePlan) -> Self {
        let in_the_way = |one: tenantry_ops::Obstacle| InTheWay {
            code: one.code,
            what: one.what,
            mend: one.mend,
        };
        Self {
            from: plan.from.into(),
            to: plan.to.into(),
            rows: plan.rows,
            bytes: plan.bytes,
            complete: plan.complete,
            obstacles: plan.obstacles.into_iter().map(in_the_way).collect(),
            held_because: plan.held_because,
        }
    }
}

impl Home {
    fn text(&self) -> String {
        format!("{} on {}, schema {}", self.isolation, self.server, self.schema)
    }
}

impl Answer for Plan {
    fn text(&self) -> String {
        let least = if self.complete { "about " } else { "at least " };
        let meanwhile = match &self.held_because {
            None => "the tenant works while its rows are copied".to_owned(),
            Some(why) => format!("the tenant waits while its rows are copied: {why}"),
        };
        let shown = fields([
            ("from", self.from.text()),
            ("to", self.to.text()),
            ("rows", format!("{least}{}", self.rows)),
            ("bytes", format!("{least}{}", self.bytes)),
            ("meanwhile", meanwhile),
        ]);
        if self.obstacles.is_empty() {
            return format!("{shown}\n\nNothing is in the way.");
        }
        let rows = self.obstacles.iter().map(|one| [one.what.clone(), one.mend.clone()]);
        format!("{shown}\n\n{}", table(["in the way", "what to do"], rows))
    }
}

/// How a move ended, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Ended {
    id: OperationId,
    kind: String,
    state: String,
    step: String,
    progress: Value,
}

impl Answer for Ended {
    fn text(&self) -> String {
        let rows = self.progress["rows"].as_i64().unwrap_or_default();
        let tables = self.progress["tables"].as_i64().unwrap_or_default();
        format!(
            "Moved: {rows} rows of {tables} tables, compared on both sides (operation {}).",
            self.id
        )
    }
}

pub(super) async fn run(ops: &Ops, wish: Move, output: Output) -> Result<(), Failure> {
    let tenant = TenantRef::parse(&wish.tenant);
    let request = MoveRequest {
        to: wish.to,
        server: wish.server,
        force: wish.force,
    };
    if wish.dry_run {
        let plan = Plan::from(ops.plan_move(&authority(), &tenant, &request).await?);
        let in_the_way = plan.obstacles.len();
        output.answer(&plan)?;
        return match in_the_way {
            0 => Ok(()),
            some => Err(Failure::failed(format!("{some} things are in the way of the move"))),
        };
    }
    let progress = Progress::start(output);
    progress.step(format!("moving {}", wish.tenant));
    let begun = ops.move_tenant(&authority(), &tenant, &request, None).await?;
    let told = |operation: &Operation| progress.step(now(&wish.tenant, operation));
    let ended = ops.finish_move(&authority(), begun.id, &told).await;
    progress.end();
    let ended = ended?;
    if ended.state != OperationState::Done {
        let reason = ended.error.unwrap_or_else(|| ended.state.to_string());
        return Err(Failure::failed(format!(
            "{} was not moved and is served where it was: {reason}",
            wish.tenant
        )));
    }
    Ok(output.answer(&Ended {
        id: ended.id,
        kind: ended.kind.to_string(),
        state: ended.state.to_string(),
        step: ended.step,
        progress: ended.progress,
    })?)
}

/// What is being done, for who watches.
fn now(tenant: &str, operation: &Operation) -> String {
    let what = match MoveStep::of(&operation.step) {
        None => "begins".to_owned(),
        Some(MoveStep::Preflight) => "looking for what is in the way".to_owned(),
        Some(MoveStep::Prepare) => "making the new home".to_owned(),
        Some(MoveStep::Close) => "waiting for open transactions".to_owned(),
        Some(MoveStep::CatchUp) => "catching up with what the tenant writes".to_owned(),
        Some(MoveStep::Follow | MoveStep::Copy) => {
            let figure = |name: &str| operation.progress[name].as_i64().unwrap_or_default();
            let table = operation.progress["table"].as_str().unwrap_or_default();
            format!(
                "copying {table}: {} of {} tables, {} rows",
                figure("tables_done"),
                figure("tables"),
                figure("rows")
            )
        }
        Some(MoveStep::Verify) => "comparing both sides".to_owned(),
        Some(MoveStep::Switch) => "switching".to_owned(),
        Some(MoveStep::Open) => "opening the new home".to_owned(),
        Some(MoveStep::Remove) => "removing the old home".to_owned(),
    };
    let again = match &operation.error {
        Some(error) if operation.attempts > 1 => format!(" (again, since {error})"),
        _ => String::new(),
    };
    format!("moving {tenant}: {what}{again}")
}
