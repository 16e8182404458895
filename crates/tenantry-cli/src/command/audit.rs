//! `tenantry audit`: what lets one tenant reach another's rows, in tenant databases and in any PostgreSQL.

mod accepted;
mod answer;
mod pages;
mod sarif;

use std::path::PathBuf;

use chrono::Utc;
use clap::{Args, ValueEnum};
use tenantry_engine::{
    admin::ServerAdmin,
    audit::{self, Severity, Subject, pooler},
};
use tenantry_ops::{AuditOptions, AuditedDatabase};

pub(crate) use self::accepted::acceptances;
use self::answer::{Answered, Audited};
use crate::{
    config::Config,
    connect::{self, authority},
    failure::Failure,
    lookup,
    output::Output,
    progress::Progress,
};

/// What to audit, and what to make of it.
///
/// Exit codes: 0 nothing at or above the threshold, 1 something is (or a database could not be asked), 2 the call is wrong.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Any database, postgres://user:password@host:port/database [default: every tenant database]
    #[arg(long, value_name = "URL", conflicts_with = "tenant")]
    database: Option<String>,
    /// Only the database of this tenant, by slug or id
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The column that says whose row it is; may be given more than once [default: tenant_id, org_id, organization_id, tenant]
    #[arg(long, value_name = "NAME", requires = "database")]
    tenant_column: Vec<String>,
    /// The role that the application logs in as; may be given more than once
    #[arg(long, value_name = "ROLE", requires = "database")]
    app_role: Vec<String>,
    /// A pattern, as of `like`, of schemas that belong to one tenant each
    #[arg(long, value_name = "PATTERN", requires = "database")]
    tenant_schemas: Option<String>,
    /// How a session is put into a tenant's context, with {tenant} for its id [default: found out from the policies]
    #[arg(long, value_name = "SQL", requires = "database")]
    enter: Option<String>,
    /// SQL from outside the application runs there, so what PostgreSQL gives everybody by default counts as well
    #[arg(long)]
    raw_sql: bool,
    /// Try each critical finding as the application role, in a transaction that is rolled back
    #[arg(long)]
    prove: bool,
    /// Look at rows as well: unknown tenants, references across tenants
    #[arg(long)]
    data: bool,
    /// The configuration of a PgBouncer in between
    #[arg(long, value_name = "FILE")]
    pooler: Option<PathBuf>,
    /// The threshold of exit code 1
    #[arg(long, value_name = "SEVERITY", default_value = "error")]
    fail_on: Severity,
    /// How the answer looks
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write the checks' pages to this folder and end
    #[arg(long, value_name = "FOLDER", hide = true)]
    write_pages: Option<PathBuf>,
}

/// How the answer looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One JSON document, as with --json.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// Runs the command.
pub(super) async fn run(arguments: Arguments, config: &Config, output: Output) -> Result<(), Failure> {
    if let Some(folder) = &arguments.write_pages {
        return pages::write(folder, output);
    }
    let mut acceptances = acceptances(config)?;
    let progress = Progress::start(output);
    let mut databases = match &arguments.database {
        Some(url) => vec![any_database(&arguments, url, &progress).await?],
        None => tenant_databases(&arguments, config, &progress).await?,
    };
    progress.end();
    if let Some(file) = &arguments.pooler {
        databases.push(of_pooler(file)?);
    }
    let today = Utc::now().date_naive();
    for database in &mut databases {
        if let Ok(report) = &mut database.report {
            acceptances.apply(report, today);
        }
    }
    let answered = Answered::new(databases, acceptances.leftovers(today));
    match arguments.format {
        Format::Sarif => output.text(&serde_json::to_string_pretty(&sarif::log(&answered))?)?,
        Format::Json => Output::new(true).answer(&answered)?,
        Format::Table => output.answer(&answered)?,
    }
    verdict(&answered, arguments.fail_on)
}

fn verdict(answered: &Answered, threshold: Severity) -> Result<(), Failure> {
    let reached = answered.unaccepted(threshold);
    let unasked = answered
        .databases
        .iter()
        .filter(|database| database.error.is_some())
        .count();
    match (reached, unasked) {
        (0, 0) => Ok(()),
        (0, unasked) => Err(Failure::failed(format!("{unasked} databases could not be asked"))),
        (1, _) => Err(Failure::failed(format!(
            "one finding at or above {threshold}: see its mend"
        ))),
        (many, _) => Err(Failure::failed(format!(
            "{many} findings at or above {threshold}: see their mends"
        ))),
    }
}

async fn any_database(arguments: &Arguments, url: &str, progress: &Progress) -> Result<AuditedDatabase, Failure> {
    let admin = ServerAdmin::from_url(url).map_err(|error| Failure::usage(error.to_string()))?;
    let Some(name) = admin.config().get_dbname().map(str::to_owned) else {
        return Err(Failure::usage(
            "the address names no database: postgres://user:password@host:port/database",
        ));
    };
    let mut client = admin.connect(&name).await?;
    let ours = audit::identity(&client).await?;
    let mut app_roles = arguments.app_role.clone();
    if let (true, Some(identity)) = (app_roles.is_empty(), &ours) {
        app_roles.push(identity.app_role.clone());
    }
    if app_roles.is_empty() {
        return Err(Failure::usage(
            "name the role that the application logs in as: --app-role ROLE",
        ));
    }
    let mut subject = Subject {
        app_roles,
        raw_sql: arguments.raw_sql,
        tenant_schemas: arguments.tenant_schemas.clone(),
        enter: arguments.enter.clone(),
        ..Subject::of("")
    };
    if !arguments.tenant_column.is_empty() {
        subject.tenant_columns = arguments.tenant_column.clone();
    }
    progress.step("reading the system catalogs");
    let mut report = match audit::audit(&mut client, &subject).await {
        Err(error @ audit::AuditError::NoSuchRole(_)) => return Err(Failure::usage(error.to_string())),
        report => report?,
    };
    if let Some(identity) = &ours {
        progress.step("comparing the mechanism with what bootstrap makes");
        subject
            .enter
            .get_or_insert_with(|| "select tenantry_private.act_for('{tenant}')".to_owned());
        audit::look_at_mechanism(&mut client, identity, &subject, &mut report).await?;
    }
    if arguments.data {
        progress.step("looking at rows");
        audit::look_at_data(&mut client, &subject, &mut report).await?;
    }
    if arguments.prove {
        progress.step("trying what was found");
        audit::prove(&mut client, &subject, &mut report).await?;
    }
    Ok(AuditedDatabase {
        server: host(&admin),
        database: name,
        report: Ok(report),
    })
}

fn host(admin: &ServerAdmin) -> String {
    use tokio_postgres::config::Host;
    match admin.config().get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    }
}

async fn tenant_databases(
    arguments: &Arguments,
    config: &Config,
    progress: &Progress,
) -> Result<Vec<AuditedDatabase>, Failure> {
    let ops = connect::ops(config).await?;
    let only = match &arguments.tenant {
        Some(named) => Some(lookup::tenant_id(&ops, named).await?),
        None => None,
    };
    let options = AuditOptions {
        prove: arguments.prove,
        data: arguments.data,
        raw_sql: arguments.raw_sql,
    };
    progress.step("auditing");
    let done = |name: &str| progress.step(format!("audited {name}"));
    Ok(ops.audit_databases(&authority(), only, options, &done).await?)
}

fn of_pooler(file: &std::path::Path) -> Result<AuditedDatabase, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    Ok(AuditedDatabase {
        server: "pooler".to_owned(),
        report: Ok(audit::Report {
            database: name.clone(),
            server_version: 0,
            tenant_tables: 0,
            findings: pooler::find(&name, &text),
        }),
        database: name,
    })
}

/// One database's report, as `serve` logs it.
pub(crate) fn audited(databases: Vec<AuditedDatabase>) -> Vec<Audited> {
    databases.into_iter().map(Audited::from).collect()
}
