//! `tenantry server drain` and `rebalance`: many moves at once.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal, Write},
    sync::Mutex,
};

use clap::Args;
use serde::Serialize;
use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_ops::{FleetPlan, MoveOutcome, Operation, Ops, PlannedMove};

use crate::{
    connect::authority,
    failure::Failure,
    output::{Answer, Done, Output, table},
    progress::Progress,
};

/// Which server, and where its tenants go.
#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// The server's name
    server: String,
    /// The servers that may take its tenants, by name [default: every other one of its region]
    #[arg(long, value_delimiter = ',', value_name = "SERVERS")]
    to: Vec<String>,
    #[command(flatten)]
    how: How,
    /// Let new tenants come onto the server again; those that were moved stay where they are
    #[arg(long, conflicts_with_all = ["to", "dry_run", "yes"])]
    undo: bool,
}

/// How to balance.
#[derive(Args, Debug)]
pub(crate) struct Rebalance {
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct How {
    /// Say who would go where, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How many tenants are moved off each server at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    concurrency: u8,
}

/// Who goes where, and how it ended; with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    dry_run: bool,
    moves: Vec<Moved>,
    stays: Vec<Stay>,
    servers: Vec<Weight>,
}

#[derive(Serialize)]
struct Moved {
    tenant: TenantId,
    slug: String,
    isolation: Isolation,
    from: String,
    to: String,
    bytes: i64,
    calls: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<OperationId>,
    /// `planned`, `moved` or `refused`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Stay {
    tenant: TenantId,
    slug: String,
    server: String,
    why: String,
}

#[derive(Serialize)]
struct Weight {
    server: String,
    region: String,
    tenants: i32,
    tenants_after: i32,
    bytes: i64,
    bytes_after: i64,
    calls: i64,
    calls_after: i64,
}

impl Shown {
    fn of(plan: FleetPlan, outcomes: Option<Vec<MoveOutcome>>) -> Self {
        let dry_run = outcomes.is_none();
        let mut outcomes: BTreeMap<TenantId, MoveOutcome> = outcomes
            .unwrap_or_default()
            .into_iter()
            .map(|outcome| (outcome.tenant, outcome))
            .collect();
        let moves = plan.moves.into_iter().map(|one| {
            let outcome = outcomes.remove(&one.tenant);
            Moved {
                state: match &outcome {
                    None => "planned",
                    Some(outcome) if outcome.refused.is_none() => "moved",
                    Some(_) => "refused",
                },
                operation: outcome.as_ref().and_then(|outcome| outcome.operation),
                why: outcome.and_then(|outcome| outcome.refused),
                tenant: one.tenant,
                slug: one.slug,
                isolation: one.isolation,
                from: one.from,
                to: one.to,
                bytes: one.bytes,
                calls: one.calls,
            }
        });
        Self {
            dry_run,
            moves: moves.collect(),
            stays: plan
                .stays
                .into_iter()
                .map(|stay| Stay {
                    tenant: stay.tenant,
                    slug: stay.slug,
                    server: stay.server,
                    why: stay.why,
                })
                .collect(),
            servers: plan
                .servers
                .into_iter()
                .map(|server| Weight {
                    server: server.server,
                    region: server.region,
                    tenants: server.tenants.0,
                    tenants_after: server.tenants.1,
                    bytes: server.bytes.0,
                    bytes_after: server.bytes.1,
                    calls: server.calls.0,
                    calls_after: server.calls.1,
                })
                .collect(),
        }
    }

    /// How many tenants are not where they should be.
    fn left(&self) -> usize {
        self.stays.len() + self.moves.iter().filter(|one| one.state == "refused").count()
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let moves = self.moves.iter().map(|one| {
            let state = match &one.why {
                Some(why) => format!("{}: {why}", one.state),
                None => one.state.to_owned(),
            };
            [
                one.slug.clone(),
                one.from.clone(),
                one.to.clone(),
                one.bytes.to_string(),
                one.calls.to_string(),
                state,
            ]
        });
        let stays = self.stays.iter().map(|one| {
            [
                one.slug.clone(),
                one.server.clone(),
                String::new(),
                String::new(),
                String::new(),
                one.why.clone(),
            ]
        });
        let changed = |before: i64, after: i64| match before == after {
            true => before.to_string(),
            false => format!("{before} → {after}"),
        };
        let servers = self.servers.iter().map(|one| {
            [
                one.server.clone(),
                one.region.clone(),
                changed(one.tenants.into(), one.tenants_after.into()),
                changed(one.bytes, one.bytes_after),
                changed(one.calls, one.calls_after),
            ]
        });
        format!(
            "{}\n\n{}",
            table(
                ["tenant", "from", "to", "bytes", "calls, 7 days", ""],
                moves.chain(stays)
            ),
            table(["server", "region", "tenants", "bytes", "calls, 7 days"], servers)
        )
    }
}

pub(super) async fn drain(ops: &Ops, drain: Drain, output: Output) -> Result<(), Failure> {
    if drain.undo {
        let server = ops.set_draining(&authority(), &drain.server, false).await?;
        return Ok(output.answer(&Done {
            text: format!("new tenants may come onto {}", server.name),
            json: serde_json::json!({ "server": server.name, "state": server.state }),
        })?);
    }
    let plan = plan(output, ops.plan_drain(&authority(), &drain.server, &drain.to)).await?;
    if !may_go_on(&plan, &drain.how, output)? {
        return answer(Shown::of(plan, None), output);
    }
    // Before the first one leaves: else another may come meanwhile.
    ops.set_draining(&authority(), &drain.server, true).await?;
    carry_out(ops, plan, &drain.how, output).await
}

pub(super) async fn rebalance(ops: &Ops, rebalance: &Rebalance, output: Output) -> Result<(), Failure> {
    let plan = plan(output, ops.plan_rebalance(&authority())).await?;
    if !may_go_on(&plan, &rebalance.how, output)? {
        return answer(Shown::of(plan, None), output);
    }
    carry_out(ops, plan, &rebalance.how, output).await
}

async fn plan<E: Into<Failure>>(
    output: Output,
    planning: impl Future<Output = Result<FleetPlan, E>>,
) -> Result<FleetPlan, Failure> {
    let progress = Progress::start(output);
    progress.step("measuring tenants and servers");
    let planned = planning.await;
    progress.end();
    planned.map_err(Into::into)
}

/// Shows the plan to who is asked; `false` for a dry run.
fn may_go_on(plan: &FleetPlan, how: &How, output: Output) -> Result<bool, Failure> {
    if how.dry_run {
        return Ok(false);
    }
    if how.yes {
        return Ok(true);
    }
    let nobody =
        Failure::usage("nothing was moved: add --yes to move the tenants, or --dry-run to see who would go where");
    if !output.is_watched() || !std::io::stdin().is_terminal() {
        return Err(nobody);
    }
    eprintln!("{}", Shown::of(plan.clone(), None).text());
    eprint!("Move {} tenants? Type yes to go on: ", plan.moves.len());
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() == "yes" {
        true => Ok(true),
        false => Err(nobody),
    }
}

async fn carry_out(ops: &Ops, plan: FleetPlan, how: &How, output: Output) -> Result<(), Failure> {
    let progress = Progress::start(output);
    let all = plan.moves.len();
    let steps: Mutex<BTreeMap<TenantId, (String, bool)>> = Mutex::default();
    let told = |planned: &PlannedMove, operation: &Operation| {
        let Ok(mut steps) = steps.lock() else { return };
        let step = format!("{} to {} ({})", planned.slug, planned.to, operation.step);
        steps.insert(planned.tenant, (step, operation.state.is_final()));
        let ended = steps.values().filter(|(_, ended)| *ended).count();
        let now: Vec<&str> = steps
            .values()
            .filter(|(_, ended)| !ended)
            .map(|(step, _)| step.as_str())
            .collect();
        progress.step(format!("{ended} of {all} moved; now {}", now.join(", ")));
    };
    let outcomes = ops.carry_out(&authority(), &plan, how.concurrency.into(), &told).await;
    progress.end();
    answer(Shown::of(plan, Some(outcomes?)), output)
}

fn answer(shown: Shown, output: Output) -> Result<(), Failure> {
    let left = shown.left();
    output.answer(&shown)?;
    match (left, shown.dry_run) {
        (0, _) => Ok(()),
        (left, true) => Err(Failure::failed(format!("{left} tenants would stay where they are"))),
        (left, false) => Err(Failure::failed(format!(
            "{left} tenants stay where they were, and are served: mend what is in the way, and run this again"
        ))),
    }
}
