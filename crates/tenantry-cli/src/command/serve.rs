//! `tenantry serve`: the server in production.

mod watch;

use std::time::Duration;

use clap::Args;
use tenantry::{Catalog, PoolConfig, ResolverConfig, Tenantry};
use tenantry_ops::Ops;
use tenantry_server::{Server, Services};

use crate::{
    application, beside,
    config::Config,
    connect,
    failure::Failure,
    output::{Done, Output},
    shutdown, upgrade,
};

/// Everything else is configuration.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Serve although the audit finds that tenants can reach each other's rows
    #[arg(long)]
    accept_critical_findings: bool,
}

/// Runs until it is asked to end; requests that have begun may end before.
pub(super) async fn run(arguments: Arguments, config: Config, output: Output) -> Result<(), Failure> {
    let mut stop = shutdown::Signals::listen()?;
    let ops = connect::ops(&config).await?;
    let catalog = ops.catalog().clone();
    let waiting = upgrade::bring_up_to_date(&ops).await?;
    let later = upgrade::Later::start(ops.clone(), &waiting);
    watch::refuse_critical_findings(&ops, &config, arguments.accept_critical_findings).await?;
    let watch = watch::Watch::start(ops.clone(), config.clone());
    let running = start(&config, ops, catalog).await?;
    output.answer(&Done {
        text: format!("http://{}", running.server.address()),
        json: serde_json::json!({ "http": format!("http://{}", running.server.address()) }),
    })?;
    stop.received().await;
    drop((watch, later));
    tracing::info!("stopping: requests that have begun may end; a second signal cuts them off");
    running.stop(stop.received()).await
}

/// A server with what works beside it.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) tenantry: Tenantry,
    catalog: Catalog,
    drain_timeout: Duration,
}

impl Running {
    /// Lets requests end, then stops; `hurry` ends the waiting. Operations that are under way are journalled: the next runner
    /// goes on with them.
    ///
    /// # Errors
    ///
    /// When something held on until the time was over.
    pub(crate) async fn stop(self, hurry: impl Future<Output = ()>) -> Result<(), Failure> {
        let drained = self.server.stop_by(hurry).await;
        // So that the others have its share of the connections now, and not when its lease has ended.
        self.tenantry.close().await;
        // Last: those before still write there.
        self.catalog.close();
        if drained.is_clean() {
            return Ok(());
        }
        Err(Failure::CutOff(format!(
            "stopped, but {} requests and {} connections held on until {} s (drain_timeout_s) were over or a second signal came, \
             and were cut off; the log says which",
            drained.requests_cut,
            drained.connections_cut,
            self.drain_timeout.as_secs()
        )))
    }
}

/// Starts the server, which also runs operations.
///
/// # Errors
///
/// Usage, when the configuration can't be used; a failure when the address can't be listened on.
pub(crate) async fn start(config: &Config, ops: Ops, catalog: Catalog) -> Result<Running, Failure> {
    ops.ensure_signing_keys().await?;
    let networks = config.networks()?;
    let mut resolver = ResolverConfig::new(config.issuer.clone(), config.audience.clone());
    resolver.domains = config.domains.clone();
    resolver.trusted_proxies = networks.clone();
    resolver.outside_issuers = config.outside_issuers.clone();
    let pool = PoolConfig {
        server_connections_max: config.server_connections.get(),
        tenant_connections_max: config.tenant_connections.get(),
        slow_statement: config.slow_statement.unwrap_or(Duration::MAX),
        ..PoolConfig::default()
    };
    let mut tenantry = Tenantry::on_catalog_from(catalog.clone(), resolver, pool, config.minimum_version)?
        .with_cache(beside::cache(config)?);
    if let Some(files) = beside::files(config)? {
        tenantry = tenantry.with_files(files);
    }
    let services = Services {
        ops,
        tenantry: tenantry.clone(),
    };
    let http = tenantry_server::Config {
        listen: config.listen,
        drain_delay: config.drain_delay,
        shutdown_grace: config.drain_timeout,
        trusted_proxies: networks,
        ..tenantry_server::Config::default()
    };
    let server = tenantry_server::start(http, services, application::routes(config)).await?;
    Ok(Running {
        server,
        tenantry,
        catalog,
        drain_timeout: config.drain_timeout,
    })
}
