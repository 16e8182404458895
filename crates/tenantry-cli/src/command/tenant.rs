//! `tenantry tenant`: the customers.

mod copy;
mod diff;
mod erasure;
mod export;
mod ids;
mod import;
mod moves;
mod restore;

pub(super) use moves::now;
pub(super) use restore::now as restoring;

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal, Write},
};

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_core::{
    Email, Epoch, Excess, Isolation, Measure, PersonName, Plan, PlanLimits, Slug, TenantId, TenantName, TenantState,
};
use tenantry_ops::{FirstOwner, IdPlan, Ops, Tenant, TenantCursor, TenantFilter, TenantRef, TenantRequest};

use crate::{
    command::operation,
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::{Answer, List as Items, Output, fields, table, time},
    password,
    progress::Progress,
};

/// What to do with tenants.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a tenant, with its place, its tables and its first owner
    Create(Create),
    /// List tenants, the newest first
    List(List),
    /// Show a tenant
    Show(Named),
    /// Tell how large a tenant is, by its server's statistics
    Size(Named),
    /// Tell what a tenant uses by the day, and what its plan gives
    Usage(Named),
    /// Take a tenant to another isolation or another server
    Move(moves::Move),
    /// Refuse every access to a tenant; its rows stay
    Suspend(Named),
    /// Serve a suspended or deleted tenant again
    Resume(Named),
    /// Mark a tenant deleted; it can be resumed until it is purged
    Delete(Named),
    /// Remove a deleted tenant's rows for ever
    Purge(Purge),
    /// Show, make or check the signed certificate that nothing of a purged tenant is left
    #[command(visible_alias = "certificate")]
    Erasure(erasure::Erasure),
    /// Keep a tenant from being purged, whatever its retention time says
    Hold(Hold),
    /// End a legal hold; a tenant whose retention time is over is purged then
    Release(Named),
    /// Write all rows of a tenant, as of one moment, into one signed file
    Export(export::Export),
    /// Make a tenant of such a file
    Import(import::Import),
    /// Make a tenant with the rows of another one, personal data masked if wanted
    Clone(copy::Clone),
    /// Compare the rows of two tenants; exit code 1 where they differ
    Diff(diff::Diff),
    /// Bring back a tenant's rows as a backup has them, beside the tenant or in its place
    Restore(restore::Restore),
}

/// A tenant.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The tenant's slug or id
    tenant: String,
}

/// A legal hold.
#[derive(Args, Debug)]
pub(crate) struct Hold {
    #[command(flatten)]
    named: Named,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
}

/// The tenant to create.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Its label in addresses: 2 to 48 characters of a-z, 0-9 and single hyphens
    slug: Slug,
    /// What people call it [default: the slug]
    #[arg(long)]
    name: Option<TenantName>,
    /// How its rows are kept apart: shared, schema or database [default: what its plan says, else shared]
    #[arg(long)]
    isolation: Option<Isolation>,
    /// The server to place it on, by name or id
    #[arg(long)]
    server: Option<String>,
    /// The region to place it in
    #[arg(long)]
    region: Option<String>,
    /// Its plan
    #[arg(long)]
    plan: Option<Plan>,
    /// Its settings, a JSON object
    #[arg(long, value_parser = parse_settings)]
    settings: Option<serde_json::Value>,
    /// The e-mail of its first owner
    #[arg(long, value_name = "EMAIL")]
    admin: Option<Email>,
    /// The first owner's name
    #[arg(long, requires = "admin")]
    admin_name: Option<PersonName>,
    /// Read the first owner's password from the first line of stdin [default: make one and print it]
    #[arg(long, requires = "admin")]
    password_stdin: bool,
}

/// Which tenants to list.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those whose slug or name contains this
    #[arg(long)]
    q: Option<String>,
    /// Only those in this state: provisioning, active, suspended, deleted, purged
    #[arg(long)]
    state: Option<TenantState>,
    /// Only those with this isolation: shared, schema, database
    #[arg(long)]
    isolation: Option<Isolation>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// The tenant to purge.
#[derive(Args, Debug)]
pub(crate) struct Purge {
    /// The tenant's slug or id
    tenant: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

fn parse_settings(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        _ => Err("settings are a JSON object, for example '{\"locale\":\"de\"}'".to_owned()),
    }
}

/// A tenant, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Shown {
    id: TenantId,
    slug: Slug,
    name: TenantName,
    plan: Plan,
    state: TenantState,
    isolation: Option<Isolation>,
    placement: Option<Place>,
    settings: serde_json::Value,
    address: String,
    phone: String,
    website: String,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
    purge_after: Option<DateTime<Utc>>,
    legal_hold: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<Admin>,
    /// Of a tenant that was just made of others' rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_ids: Option<IdPlan>,
}

#[derive(Serialize)]
struct Place {
    isolation: Isolation,
    server: String,
    region: String,
    database: String,
    schema: String,
    epoch: Epoch,
}

/// The first owner of a tenant that was just made.
#[derive(Serialize)]
struct Admin {
    email: Email,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl From<Tenant> for Shown {
    fn from(tenant: Tenant) -> Self {
        let isolation = tenant.placement.as_ref().map(|placement| placement.isolation);
        let placement = tenant.placement.map(|placement| Place {
            isolation: placement.isolation,
            server: placement.server,
            region: placement.region,
            database: placement.database,
            schema: placement.schema,
            epoch: placement.epoch,
        });
        Self {
            id: tenant.id,
            slug: tenant.slug,
            name: tenant.name,
            plan: tenant.plan,
            state: tenant.state,
            isolation,
            placement,
            settings: tenant.settings,
            address: tenant.profile.address,
            phone: tenant.profile.phone,
            website: tenant.profile.website,
            version: tenant.version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
            deleted_at: tenant.deleted_at,
            purge_after: tenant.purge_after,
            legal_hold: tenant.legal_hold,
            admin: None,
            new_ids: None,
        }
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut shown = vec![
            ("id", self.id.to_string()),
            ("slug", self.slug.to_string()),
            ("name", self.name.to_string()),
            ("state", self.state.to_string()),
            ("plan", self.plan.to_string()),
        ];
        if let Some(isolation) = self.isolation {
            shown.push(("isolation", isolation.to_string()));
        }
        if let Some(place) = &self.placement {
            shown.push(("server", format!("{} ({})", place.server, place.region)));
            shown.push(("database", place.database.clone()));
            shown.push(("schema", place.schema.clone()));
        }
        shown.push(("settings", self.settings.to_string()));
        shown.push(("created", time(self.created_at)));
        if let Some(at) = self.purge_after {
            shown.push(("purged after", time(at)));
        }
        if let Some(reason) = &self.legal_hold {
            shown.push(("legal hold", reason.clone()));
        }
        if let Some(admin) = &self.admin {
            shown.push(("owner", admin.email.to_string()));
            if let Some(password) = &admin.password {
                shown.push((
                    "password",
                    format!("{password} (good if the e-mail had no account yet; shown this once)"),
                ));
            }
        }
        fields(shown)
    }
}

impl Answer for Items<Shown> {
    fn text(&self) -> String {
        let rows = self.items.iter().map(|tenant| {
            [
                tenant.slug.to_string(),
                tenant.name.to_string(),
                tenant.state.to_string(),
                tenant
                    .isolation
                    .map_or_else(String::new, |isolation| isolation.to_string()),
                tenant
                    .placement
                    .as_ref()
                    .map_or_else(String::new, |place| place.server.clone()),
                tenant.plan.to_string(),
                time(tenant.created_at),
            ]
        });
        table(
            ["slug", "name", "state", "isolation", "server", "plan", "created"],
            rows,
        )
    }
}

/// Runs the command.
pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let ops = connect::ops(config).await?;
    let by = authority();
    let changed = matches!(command, Command::Suspend(_) | Command::Delete(_));
    let mut new_ids = None;
    let tenant = match command {
        Command::Create(create) => return run_create(&ops, create, output).await,
        Command::List(list) => return run_list(&ops, list, output).await,
        Command::Purge(purge) => return run_purge(&ops, &purge, output).await,
        Command::Erasure(wish) => return erasure::run(&ops, wish, output).await,
        Command::Move(wish) => return moves::run(&ops, wish, output).await,
        Command::Size(named) => return run_size(&ops, &named, output).await,
        Command::Usage(named) => return run_usage(&ops, &named, output).await,
        Command::Export(export) => return export::run(&ops, &export, output).await,
        Command::Diff(diff) => return diff::run(&ops, &diff, output).await,
        Command::Restore(restore) => return restore::run(&ops, restore, output).await,
        Command::Import(import) => {
            let (imported, plan) = import::run(&ops, import, output).await?;
            new_ids = plan;
            imported
        }
        Command::Clone(clone) => {
            let (cloned, plan) = copy::run(&ops, clone, output).await?;
            new_ids = plan;
            cloned
        }
        Command::Show(named) => ops.get_tenant(&by, &named.tenant()).await?,
        Command::Hold(hold) => ops.hold_tenant(&by, &hold.named.tenant(), &hold.reason).await?,
        Command::Release(named) => ops.release_tenant(&by, &named.tenant()).await?,
        Command::Suspend(named) => ops.suspend_tenant(&by, &named.tenant()).await?,
        Command::Resume(named) => ops.resume_tenant(&by, &named.tenant()).await?,
        Command::Delete(named) => {
            ops.delete_tenant(&by, &named.tenant()).await?;
            ops.get_tenant(&by, &named.tenant()).await?
        }
    };
    let (id, slug, refused) = (tenant.id, tenant.slug.clone(), tenant.state);
    let mut shown = Shown::from(tenant);
    shown.new_ids = new_ids;
    output.answer(&shown)?;
    match refused {
        TenantState::Suspended | TenantState::Deleted if changed => fence_is_closed(&ops, id, &slug).await,
        _ => Ok(()),
    }
}

/// The catalog refuses the tenant already. Whether its database does too is another matter where that can't be reached.
async fn fence_is_closed(ops: &Ops, tenant: TenantId, slug: &Slug) -> Result<(), Failure> {
    match operation::trouble(ops, tenant).await? {
        None => Ok(()),
        Some(unfinished) => Err(Failure::failed(format!(
            "{slug} is refused everywhere by the catalog, but its own database could not be told: {unfinished}"
        ))),
    }
}

impl Named {
    fn tenant(&self) -> TenantRef {
        TenantRef::parse(&self.tenant)
    }
}

async fn run_create(ops: &Ops, create: Create, output: Output) -> Result<(), Failure> {
    let name = match create.name {
        Some(name) => name,
        None => create.slug.as_str().parse()?,
    };
    let mut request = TenantRequest::new(create.slug, name);
    request.isolation = create.isolation;
    request.server = create.server;
    request.region = create.region;
    request.plan = create.plan;
    request.settings = create.settings;
    let mut admin = None;
    if let Some(email) = create.admin {
        let made = password::obtain(create.password_stdin, &email)?;
        request.admin = Some(FirstOwner {
            email: email.clone(),
            name: create.admin_name,
            password: Some(made.password),
        });
        admin = Some(Admin {
            email,
            password: made.shown,
        });
    }
    if let Some(plan) = &request.plan
        && !ops.knows_plan(plan).await?
    {
        eprintln!(
            "note: nothing is said of the plan {plan}, so it limits nothing: say it with tenantry plan set {plan}, or is it misspelt?"
        );
    }
    let progress = Progress::start(output);
    progress.step(format!("creating {}", request.slug));
    let created = ops.create_tenant(&authority(), &request, None).await;
    progress.end();
    Ok(output.answer(&Shown {
        admin,
        ..Shown::from(created?)
    })?)
}

async fn run_list(ops: &Ops, list: List, output: Output) -> Result<(), Failure> {
    const PAGE: usize = 500;
    let limit = list.limit as usize;
    let mut filter = TenantFilter {
        q: list.q,
        state: list.state,
        isolation: list.isolation,
        ..TenantFilter::default()
    };
    let mut items: Vec<Shown> = Vec::new();
    loop {
        let wanted = PAGE.min(limit - items.len());
        let page = ops.list_tenants(&authority(), &filter, wanted as i64).await?;
        let got = page.len();
        filter.after = page.last().map(|last| TenantCursor {
            created_at: last.created_at,
            id: last.id,
        });
        items.extend(page.into_iter().map(Shown::from));
        if got < wanted || items.len() >= limit {
            break;
        }
    }
    Ok(output.answer(&Items { items })?)
}

/// How large a tenant is, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Size {
    isolation: Isolation,
    rows: i64,
    bytes: i64,
    files_bytes: Option<i64>,
    bytes_estimated: bool,
    complete: bool,
    tables: Vec<SizeOfTable>,
}

#[derive(Serialize)]
struct SizeOfTable {
    table: String,
    rows: Option<i64>,
    bytes: Option<i64>,
}

impl Answer for Size {
    fn text(&self) -> String {
        let about = if self.bytes_estimated { "about " } else { "" };
        let mut shown = vec![
            ("isolation", self.isolation.to_string()),
            ("rows", format!("about {}", self.rows)),
            ("bytes", format!("{about}{}", self.bytes)),
        ];
        if let Some(bytes) = self.files_bytes.filter(|bytes| *bytes > 0) {
            shown.push(("files", bytes.to_string()));
        }
        if !self.complete {
            shown.push(("not counted", "tables without statistics: run `analyze`".to_owned()));
        }
        let known = |figure: Option<i64>| figure.map_or_else(|| "?".to_owned(), |figure| figure.to_string());
        let rows = self
            .tables
            .iter()
            .map(|table| [table.table.clone(), known(table.rows), known(table.bytes)]);
        format!("{}\n\n{}", fields(shown), table(["table", "rows", "bytes"], rows))
    }
}

async fn run_size(ops: &Ops, named: &Named, output: Output) -> Result<(), Failure> {
    let tenant = ops.get_tenant(&authority(), &named.tenant()).await?;
    let size = ops.tenant_size(&authority(), tenant.id).await?;
    let tables = size.tables.into_iter().map(|table| SizeOfTable {
        table: table.table,
        rows: table.rows,
        bytes: table.bytes,
    });
    Ok(output.answer(&Size {
        isolation: size.isolation,
        rows: size.rows,
        bytes: size.bytes,
        files_bytes: size.files_bytes,
        bytes_estimated: size.bytes_estimated,
        complete: size.complete,
        tables: tables.collect(),
    })?)
}

/// What a tenant uses, with the names that the HTTP interface uses.
#[derive(Serialize)]
struct Used {
    plan: Plan,
    limits: PlanLimits,
    exceeded: Vec<Excess>,
    members: i64,
    measures: Vec<Measure>,
    days: Vec<UsedOnDay>,
}

#[derive(Serialize)]
struct UsedOnDay {
    day: NaiveDate,
    requests: i64,
    limited: i64,
    failed: i64,
    busy_ms: i64,
    bytes: Option<i64>,
    rows: Option<BTreeMap<String, u64>>,
}

impl Answer for Used {
    fn text(&self) -> String {
        let mut shown = vec![("plan", self.plan.to_string())];
        let PlanLimits {
            requests_per_s,
            burst,
            concurrent,
            statement_ms,
            ..
        } = &self.limits;
        // The others stand below, beside what the tenant has.
        let rates = [
            ("requests/s", requests_per_s),
            ("burst", burst),
            ("at a time", concurrent),
            ("statement ms", statement_ms),
        ];
        for (name, limit) in rates {
            if let Some(limit) = limit {
                shown.push((name, limit.to_string()));
            }
        }
        for excess in &self.exceeded {
            shown.push((
                "reached",
                format!("{}: {} of {}", excess.limit, excess.used, excess.quota),
            ));
        }
        let rows = self.days.iter().map(|day| {
            [
                day.day.to_string(),
                day.requests.to_string(),
                day.limited.to_string(),
                day.failed.to_string(),
                format!("{:.1}", day.busy_ms as f64 / 1000.0),
                day.bytes.map_or_else(String::new, |bytes| bytes.to_string()),
            ]
        });
        let days = table(["day", "requests", "limited", "failed", "busy s", "bytes"], rows);
        let said = |figure: Option<u64>, otherwise: &str| {
            figure.map_or_else(|| otherwise.to_owned(), |figure| figure.to_string())
        };
        let measures = self.measures.iter().map(|measure| {
            [
                measure.name.clone(),
                said(measure.used, "?"),
                said(measure.limit, "none"),
            ]
        });
        let measures = table(["has", "used", "limit"], measures);
        format!("{}\n\n{measures}\n\n{days}", fields(shown))
    }
}

async fn run_usage(ops: &Ops, named: &Named, output: Output) -> Result<(), Failure> {
    const DAYS: i64 = 30;
    let tenant = ops.get_tenant(&authority(), &named.tenant()).await?;
    let usage = ops.tenant_usage(&authority(), tenant.id, DAYS).await?;
    let days = usage.days.into_iter().map(|day| UsedOnDay {
        day: day.day,
        requests: day.requests,
        limited: day.limited,
        failed: day.failed,
        busy_ms: day.busy_ms,
        bytes: day.bytes,
        rows: day.rows,
    });
    Ok(output.answer(&Used {
        plan: usage.plan,
        limits: usage.limits.in_effect(),
        exceeded: usage.excess,
        members: usage.members,
        measures: usage.measures,
        days: days.collect(),
    })?)
}

async fn run_purge(ops: &Ops, purge: &Purge, output: Output) -> Result<(), Failure> {
    let tenant = ops.get_tenant(&authority(), &TenantRef::parse(&purge.tenant)).await?;
    let act = format!("This removes all rows of {} for ever.", tenant.slug);
    if !purge.yes && !confirmed(&act, &tenant.slug, output)? {
        return Err(Failure::usage(
            "nothing was purged: add --yes to remove the tenant's rows for ever",
        ));
    }
    let progress = Progress::start(output);
    progress.step(format!("purging {}", tenant.slug));
    let purged = ops.purge_tenant(&authority(), &tenant.id.into()).await;
    progress.end();
    purged?;
    let purged = ops.get_tenant(&authority(), &tenant.id.into()).await?;
    Ok(output.answer(&Shown::from(purged))?)
}

/// Whether somebody who was told what it does types the tenant's slug.
fn confirmed(act: &str, slug: &Slug, output: Output) -> Result<bool, Failure> {
    if !output.is_watched() || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{act} Type its slug to go on: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == slug.as_str())
}
