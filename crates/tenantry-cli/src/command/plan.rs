//! `tenantry plan`: what each plan gives at most.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_core::{Plan, PlanLimits};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, List as Items, Output, fields, table},
};

/// What to do with plans.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Set what a plan gives at most; what is not named is not limited any more
    Set(Box<Set>),
    /// List plans with limits
    List,
    /// Remove a plan's limits: its tenants have none
    Remove(Named),
}

/// A plan.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The plan
    plan: Plan,
}

/// A plan, and what it gives.
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// The plan
    plan: Plan,
    /// Requests a second in the long run, over all processes
    #[arg(long, value_name = "NUMBER")]
    requests_per_s: Option<NonZeroU32>,
    /// Requests at once after a pause [default: as many as in a second]
    #[arg(long, value_name = "NUMBER", requires = "requests_per_s")]
    burst: Option<NonZeroU32>,
    /// Statements and transactions at a time, over all processes
    #[arg(long, value_name = "NUMBER")]
    concurrent: Option<NonZeroU32>,
    /// How long a statement may run
    #[arg(long, value_name = "MILLISECONDS")]
    statement_ms: Option<NonZeroU32>,
    /// Members, those who are invited included
    #[arg(long, value_name = "NUMBER")]
    members: Option<NonZeroU32>,
    /// Jobs: waiting, running, for later and dead
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<NonZeroU32>,
    /// Bytes of tables, indexes and files
    #[arg(long, value_name = "BYTES")]
    storage_bytes: Option<NonZeroU64>,
    /// Rows of a table; may be named several times
    #[arg(long, value_name = "TABLE=NUMBER", value_parser = parse_rows)]
    rows: Vec<(String, u64)>,
}

fn parse_rows(text: &str) -> Result<(String, u64), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(table, number)| Some((table.trim().to_owned(), number.trim().parse().ok()?)));
    parsed
        .filter(|(table, _)| !table.is_empty() && table.len() <= 63)
        .ok_or_else(|| "write a table and a number, for example contacts=10000".to_owned())
}

impl From<Set> for (Plan, PlanLimits) {
    fn from(set: Set) -> Self {
        let limits = PlanLimits {
            requests_per_s: set.requests_per_s,
            burst: set.burst,
            concurrent: set.concurrent,
            statement_ms: set.statement_ms,
            members: set.members,
            jobs: set.jobs,
            storage_bytes: set.storage_bytes,
            rows: set.rows.into_iter().collect::<BTreeMap<_, _>>(),
        };
        (set.plan, limits)
    }
}

/// A plan with its limits.
#[derive(Serialize)]
struct Shown {
    plan: Plan,
    #[serde(flatten)]
    limits: PlanLimits,
}

impl Shown {
    /// As they hold, which is what the HTTP interface shows.
    fn new(plan: Plan, limits: PlanLimits) -> Self {
        let limits = limits.in_effect();
        Self { plan, limits }
    }

    /// Each limit, as people read it.
    fn limits(&self) -> Vec<(&'static str, String)> {
        let PlanLimits {
            requests_per_s,
            burst,
            concurrent,
            statement_ms,
            members,
            jobs,
            storage_bytes,
            rows,
        } = &self.limits;
        let number = |limit: &Option<NonZeroU32>| limit.map(|limit| limit.to_string());
        let rows: Vec<_> = rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
        [
            ("requests/s", number(requests_per_s)),
            ("burst", number(burst)),
            ("at a time", number(concurrent)),
            ("statement ms", number(statement_ms)),
            ("members", number(members)),
            ("jobs", number(jobs)),
            ("bytes", storage_bytes.map(|limit| limit.to_string())),
            ("rows", (!rows.is_empty()).then(|| rows.join(", "))),
        ]
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)))
        .collect()
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![("plan", self.plan.to_string())];
        shown.extend(self.limits());
        fields(shown)
    }
}

impl Answer for Items<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|shown| {
            let limits: Vec<_> = shown
                .limits()
                .iter()
                .map(|(name, limit)| format!("{name}: {limit}"))
                .collect();
            [shown.plan.to_string(), limits.join("; ")]
        });
        table(["plan", "gives at most"], rows)
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::Set(set) => {
            let (plan, limits) = (*set).into();
            ops.set_plan_limits(&authority(), &plan, &limits).await?;
            Ok(output.answer(&Shown::new(plan, limits))?)
        }
        Command::List => list(&ops, output).await,
        Command::Remove(named) => {
            ops.remove_plan_limits(&authority(), &named.plan).await?;
            list(&ops, output).await
        }
    }
}

async fn list(ops: &tenantry_ops::Ops, output: Output) -> Result<(), Failure> {
    let plans = ops.list_plan_limits(&authority()).await?;
    let items = plans
        .into_iter()
        .map(|(plan, limits)| Shown::new(plan, limits))
        .collect();
    Ok(output.answer(&Items { items })?)
}
