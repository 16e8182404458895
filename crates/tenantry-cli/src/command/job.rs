//! `tenantry job`: what waits, runs or is dead, of a tenant or of all.

mod schedule;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tenantry_core::{AccountId, JobId, JobState, TenantDatabaseId, TenantId};
use tenantry_ops::{FleetPlace, JobError, JobFilter, Ops, OverFleet, ShownJob};

use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup::tenant_id,
    output::{Answer, Done, Output, more, table, time},
};

/// What to do with jobs.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List jobs: dead ones, unless another state is asked for
    List(List),
    /// Let dead jobs begin anew, with all their attempts
    Retry(Chosen),
    /// Take out dead jobs; one that is named also where it waits
    Remove(Remove),
    /// List what makes a tenant's jobs by the clock: when the next ones are due, or why there are none
    Schedules(schedule::Schedules),
    /// End one of a tenant's own schedules; jobs that it has made stay
    Unschedule(schedule::Unschedule),
}

/// Whose jobs, and which.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    whose: Whose,
    /// waiting, running, dead or later; may be repeated
    #[arg(long, default_values_t = [JobState::Dead])]
    state: Vec<JobState>,
    /// Only jobs of this kind
    #[arg(long)]
    kind: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    limit: i32,
    /// Only those after this place in the list: the `next_cursor` of a list that was cut
    #[arg(long, value_name = "CURSOR", value_parser = parse_place)]
    after: Option<Place>,
}

/// A place in a list, as the HTTP interface writes it.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Of a tenant's jobs.
    OfTenant(TenantId, JobId),
    /// Of every tenant's.
    OfAll(FleetPlace),
}

fn parse_place(text: &str) -> Result<Place, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let job =
        |tenant: &str, job: &str| -> Option<(TenantId, JobId)> { Some((tenant.parse().ok()?, job.parse().ok()?)) };
    let database = |text: &str| text.parse::<TenantDatabaseId>().ok();
    let place = match parts[..] {
        [alone] => database(alone).map(|database| Place::OfAll(FleetPlace { database, job: None })),
        [tenant, id] => job(tenant, id).map(|(tenant, id)| Place::OfTenant(tenant, id)),
        [at, tenant, id] => database(at).zip(job(tenant, id)).map(|(database, job)| {
            Place::OfAll(FleetPlace {
                database,
                job: Some(job),
            })
        }),
        _ => None,
    };
    place.ok_or_else(|| "write the `next_cursor` of a list".to_owned())
}

/// As the HTTP interface has it.
fn cursor(place: FleetPlace) -> String {
    match place.job {
        Some((tenant, job)) => format!("{}.{tenant}.{job}", place.database),
        None => place.database.to_string(),
    }
}

/// Whose jobs.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// The tenant's slug or id
    tenant: Option<String>,
    /// Every tenant's
    #[arg(long)]
    all_tenants: bool,
}

/// Whose jobs, and which.
#[derive(Args, Debug)]
pub(crate) struct Chosen {
    #[command(flatten)]
    whose: Whose,
    /// This job of the tenant
    #[arg(long, value_name = "ID", conflicts_with = "all_tenants")]
    job: Option<JobId>,
    /// Only jobs of this kind
    #[arg(long, conflicts_with = "job")]
    kind: Option<String>,
}

/// Which jobs to take out.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    #[command(flatten)]
    chosen: Chosen,
    /// Take out all that are dead, for good
    #[arg(long)]
    yes: bool,
}

/// A job, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    tenant_id: TenantId,
    id: JobId,
    kind: String,
    account_id: Option<AccountId>,
    state: JobState,
    scheduled: bool,
    priority: i16,
    run_at: DateTime<Utc>,
    attempt: i16,
    attempts_max: i16,
    unique_key: Option<String>,
    error: Option<String>,
    enqueued_at: DateTime<Utc>,
    failed_at: Option<DateTime<Utc>>,
}

impl From<ShownJob> for Shown {
    fn from(ShownJob { job, .. }: ShownJob) -> Self {
        Self {
            tenant_id: job.tenant,
            id: job.id,
            kind: job.kind,
            account_id: job.account,
            state: job.state,
            scheduled: job.scheduled,
            priority: job.priority,
            run_at: job.run_at,
            attempt: job.attempt,
            attempts_max: job.attempts_max,
            unique_key: job.unique_key,
            error: job.error,
            enqueued_at: job.enqueued_at,
            failed_at: job.failed_at,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    items: Vec<Shown>,
    /// Null where these are all.
    next_cursor: Option<String>,
    unreachable: Vec<String>,
}

impl Answer for Listed {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|job| {
            [
                job.tenant_id.to_string(),
                job.id.to_string(),
                job.kind.clone(),
                job.state.to_string(),
                format!("{}/{}", job.attempt, job.attempts_max),
                time(job.failed_at.unwrap_or(job.run_at)),
                job.error.clone().unwrap_or_default(),
            ]
        });
        let listed = table(
            ["tenant", "job", "kind", "state", "attempt", "failed or due", "error"],
            rows,
        );
        format!(
            "{listed}{}{}",
            more(self.next_cursor.as_deref()),
            told(&self.unreachable)
        )
    }
}

/// The databases that did not answer.
fn told(unreachable: &[String]) -> String {
    let lines = unreachable.iter().map(|reason| format!("\nnot asked: {reason}"));
    lines.collect()
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    match command {
        Command::List(list) => run_list(&ops, &list, output).await,
        Command::Retry(chosen) => {
            let changed = match whose(&ops, &chosen.whose).await? {
                Some(tenant) => only(
                    ops.retry_jobs(&authority(), tenant, chosen.job, chosen.kind.as_deref())
                        .await?,
                ),
                None => {
                    let retry = async |after| ops.retry_all_jobs(&authority(), chosen.kind.as_deref(), after).await;
                    everywhere(retry).await?
                }
            };
            answer(&changed, "begin anew", "retried", output)
        }
        Command::Remove(Remove { chosen, yes }) => {
            if chosen.job.is_none() && !yes {
                let text = "this takes out every dead job that is chosen, for good: add --yes, or --job for one";
                return Err(Failure::usage(text));
            }
            let changed = match whose(&ops, &chosen.whose).await? {
                Some(tenant) => only(
                    ops.remove_jobs(&authority(), tenant, chosen.job, chosen.kind.as_deref())
                        .await?,
                ),
                None => {
                    let remove = async |after| ops.remove_all_jobs(&authority(), chosen.kind.as_deref(), after).await;
                    everywhere(remove).await?
                }
            };
            answer(&changed, "are gone", "removed", output)
        }
        Command::Schedules(wish) => schedule::list(&ops, &wish, output).await,
        Command::Unschedule(wish) => schedule::remove(&ops, &wish, output).await,
    }
}

async fn run_list(ops: &Ops, list: &List, output: Output) -> Result<(), Failure> {
    let listed = match (whose(ops, &list.whose).await?, list.after) {
        (Some(_), Some(Place::OfAll(_))) | (None, Some(Place::OfTenant(..))) => {
            return Err(Failure::usage(
                "--after takes the `next_cursor` of the same list: of one tenant's jobs, or of all",
            ));
        }
        (Some(tenant), Some(Place::OfTenant(at, job))) => list_of_one(ops, list, tenant, Some((at, job))).await?,
        (Some(tenant), None) => list_of_one(ops, list, tenant, None).await?,
        (None, Some(Place::OfAll(place))) => list_of_all(ops, list, Some(place)).await?,
        (None, None) => list_of_all(ops, list, None).await?,
    };
    output.answer(&listed)?;
    whole(&listed.unreachable)
}

async fn list_of_one(
    ops: &Ops,
    list: &List,
    tenant: TenantId,
    after: Option<(TenantId, JobId)>,
) -> Result<Listed, Failure> {
    let filter = JobFilter {
        states: &list.state,
        kind: list.kind.as_deref(),
        after,
    };
    // One more than is shown, to see whether there are more.
    let mut found = ops.list_jobs(&authority(), tenant, &filter, list.limit + 1).await?;
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let follows = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| follows);
    let next_cursor = last.map(|shown| format!("{}.{}", shown.job.tenant, shown.job.id));
    Ok(Listed {
        items: found.into_iter().map(Shown::from).collect(),
        next_cursor,
        unreachable: Vec::new(),
    })
}

/// Asks on until there are as many as are wanted: nobody waits here for an answer in time, as a request does.
async fn list_of_all(ops: &Ops, list: &List, mut after: Option<FleetPlace>) -> Result<Listed, Failure> {
    let filter = JobFilter {
        states: &list.state,
        kind: list.kind.as_deref(),
        after: None,
    };
    let mut listed = Listed {
        items: Vec::new(),
        next_cursor: None,
        unreachable: Vec::new(),
    };
    let mut room = list.limit;
    loop {
        let page = ops.list_all_jobs(&authority(), &filter, after, room).await?;
        room -= i32::try_from(page.found.len()).unwrap_or(room);
        listed.items.extend(page.found.into_iter().map(Shown::from));
        listed.unreachable.extend(page.unreachable);
        after = page.next;
        if after.is_none() || room <= 0 {
            listed.next_cursor = after.map(cursor);
            return Ok(listed);
        }
    }
}

/// Goes on until every database was asked.
async fn everywhere(
    change: impl AsyncFn(Option<FleetPlace>) -> Result<OverFleet<u64>, JobError>,
) -> Result<OverFleet<u64>, Failure> {
    let mut all = only(0);
    let mut after = None;
    loop {
        let changed = change(after).await?;
        all.found += changed.found;
        all.unreachable.extend(changed.unreachable);
        after = changed.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn answer(changed: &OverFleet<u64>, became: &str, name: &str, output: Output) -> Result<(), Failure> {
    let jobs = changed.found;
    let mut json = json!({ "unreachable": changed.unreachable });
    json[name] = json!(jobs);
    let text = format!("{jobs} jobs {became}{}", told(&changed.unreachable));
    output.answer(&Done { text, json })?;
    whole(&changed.unreachable)
}

/// What was not asked of everybody has not succeeded.
fn whole(unreachable: &[String]) -> Result<(), Failure> {
    match unreachable.len() {
        0 => Ok(()),
        count => Err(Failure::failed(format!(
            "{count} databases did not answer: their jobs are not among these"
        ))),
    }
}

fn only<T>(found: T) -> OverFleet<T> {
    OverFleet {
        found,
        unreachable: Vec::new(),
        next: None,
    }
}

async fn whose(ops: &Ops, whose: &Whose) -> Result<Option<TenantId>, Failure> {
    match &whose.tenant {
        Some(tenant) => Ok(Some(tenant_id(ops, tenant).await?)),
        None => Ok(None),
    }
}
