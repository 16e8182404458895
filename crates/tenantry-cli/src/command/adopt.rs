//! `tenantry adopt`: an existing single-tenant database becomes the application, and its rows a tenant's.

mod asked;
mod folder;
mod refused;
mod report;

use std::sync::Arc;

use clap::Args;
use tenantry_core::{Isolation, Plan, Slug, TenantName};
use tenantry_engine::{
    adopt::{self, Copied, Source},
    isolate::Derived,
};
use tenantry_ops::{MigrationError, Ops, Tenant, TenantError, TenantRef, TenantRequest};
use tenantry_postgres::Binaries;

use self::{
    folder::{MigrationsFolder, Written},
    refused::Refused,
    report::Report,
};
use crate::{
    command::dev::{PrivateCatalog, private},
    config::Config,
    connect::{self, authority},
    failure::Failure,
    output::Output,
    progress::Progress,
    shutdown,
};

/// What to adopt, and as whom.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The existing database, postgres://user:password@host:port/database; it is only read
    url: String,
    /// The schema with the application's tables
    #[arg(long, default_value = "public")]
    schema: String,
    /// The label of the tenant that gets the rows [default: the database's name]
    #[arg(long)]
    slug: Option<Slug>,
    /// What people call the tenant [default: the slug]
    #[arg(long)]
    name: Option<TenantName>,
    /// How its rows are kept apart: shared, schema or database [default: what its plan says, else shared]
    #[arg(long)]
    isolation: Option<Isolation>,
    /// The server to place it on, by name
    #[arg(long)]
    server: Option<String>,
    /// Its plan
    #[arg(long)]
    plan: Option<Plan>,
    /// Write the migration and show what isolation does to each table, without copying any rows
    #[arg(long)]
    no_rows: bool,
    #[command(flatten)]
    postgres: private::PostgresOptions,
}

/// What was done.
struct Done {
    derived: Arc<Derived>,
    /// The tenant and its rows, unless none were wanted.
    taken: Option<(Tenant, Copied)>,
}

/// Runs the command: on the configured catalog, on that of a `dev` that runs here, or else on a private PostgreSQL in
/// `.tenantry`, which a later `tenantry dev` goes on with.
pub(super) async fn run(arguments: Arguments, config: Config, output: Output) -> Result<(), Failure> {
    let slug = match &arguments.slug {
        Some(slug) => slug.clone(),
        None => slug_of(&arguments.url)?,
    };
    let progress = Progress::start(output);
    progress.step("reading the existing database");
    let source = Source::connect(&arguments.url, &arguments.schema).await?;
    let adopted = source.schema().await?;
    let migrations = MigrationsFolder::of(&config);
    let written = migrations.write(&adopted.sql)?;
    let config = Config {
        migrations: Some(migrations.path().to_owned()),
        ..config
    };
    let binaries = if connect::names_a_catalog(&config)? {
        None
    } else {
        Some(private::binaries(&arguments.postgres, output, &progress).await?)
    };
    // After the question whether to install PostgreSQL, at which ctrl-C ends the process by itself.
    let mut stop = shutdown::Signals::listen()?;
    let done = match open(binaries, &config, &progress).await {
        Ok((ops, kept)) => {
            let done = tokio::select! {
                () = stop.received() => Err(Failure::failed("interrupted: no rows were copied, run it again")),
                done = adopt(&arguments, &slug, &ops, &source, &written, &progress) => done,
            };
            if let Some(private) = kept {
                progress.step("stopping PostgreSQL");
                private.stop().await?;
            }
            done
        }
        Err(failure) => Err(failure),
    };
    progress.end();
    match done {
        Ok(done) => Ok(output.answer(&Report::new(written, adopted.left_out, done))?),
        Err(failure) => match Refused::of(&failure, &written) {
            Some(refused) => {
                output.answer(&refused)?;
                Err(refused.failure())
            }
            None => Err(failure),
        },
    }
}

/// The use cases, on the configured catalog or on a private PostgreSQL of these programs.
async fn open(
    binaries: Option<Binaries>,
    config: &Config,
    progress: &Progress,
) -> Result<(Ops, Option<PrivateCatalog>), Failure> {
    let Some(binaries) = binaries else {
        return Ok((connect::ops(config).await?, None));
    };
    let private = PrivateCatalog::open(binaries, config, progress).await?;
    Ok((private.ops().clone(), Some(private)))
}

async fn adopt(
    arguments: &Arguments,
    slug: &Slug,
    ops: &Ops,
    source: &Source,
    written: &Written,
    progress: &Progress,
) -> Result<Done, Failure> {
    let found = match ops.get_tenant(&authority(), &TenantRef::from(slug)).await {
        Err(TenantError::NotFound) => None,
        found => Some(found?),
    };
    if let Some(found) = &found {
        asked::is_as_asked(arguments, found)?;
    }
    progress.step("working out what isolation does to each table");
    let derived = ops.derive_migrations().await?.ok_or(MigrationError::NoMigrations)?;
    let missing = adopt::missing(source, &derived).await?;
    if !missing.is_empty() {
        return Err(refused::another_schema(&missing, written));
    }
    if arguments.no_rows {
        return Ok(Done { derived, taken: None });
    }
    progress.step("bringing every schema to the newest migration");
    let migrated = ops.apply_migrations(&authority()).await?;
    if let Some(failed) = migrated.failed.first() {
        let error = failed.error.as_deref().unwrap_or("unknown");
        return Err(Failure::failed(format!(
            "schema {} of {} could not be migrated, so no rows were copied: {error}",
            failed.schema, failed.database
        )));
    }
    progress.step(format!("making the tenant {slug}"));
    let tenant = match found {
        Some(found) => found,
        None => {
            ops.create_tenant(&authority(), &request(arguments, slug)?, None)
                .await?
        }
    };
    let copied = ops
        .adopt_rows(&authority(), &tenant.id.into(), source, &mut |table, done, all| {
            progress.step(format!(
                "copied {} ({} rows), {done} of {all} tables",
                table.table, table.rows
            ));
        })
        .await?;
    Ok(Done {
        derived,
        taken: Some((tenant, copied)),
    })
}

fn request(arguments: &Arguments, slug: &Slug) -> Result<TenantRequest, Failure> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => slug.as_str().parse()?,
    };
    let mut request = TenantRequest::new(slug.clone(), name);
    request.isolation = arguments.isolation;
    request.server = arguments.server.clone();
    request.plan = arguments.plan.clone();
    Ok(request)
}

/// The database's name as a slug, where it can be one.
fn slug_of(url: &str) -> Result<Slug, Failure> {
    let named = url::Url::parse(url)
        .map_err(|_| Failure::usage("the database is named by a URL: postgres://user:password@host:port/database"))?;
    let name = named
        .path()
        .trim_matches('/')
        .to_lowercase()
        .replace(['_', '.', ' '], "-");
    name.parse()
        .map_err(|_| Failure::usage(format!("`{name}` can't be the tenant's slug: name one with --slug")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slug_comes_from_the_databases_name() {
        assert_eq!(
            slug_of("postgres://u:p@h:5/Acme_CRM").expect("is one").as_str(),
            "acme-crm"
        );
        for bad in ["acme", "postgres://h/", "postgres://h/postgres", "postgres://h/1st"] {
            assert!(slug_of(bad).is_err(), "{bad}");
        }
    }
}
