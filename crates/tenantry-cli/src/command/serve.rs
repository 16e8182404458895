//! `tenantry serve`: the server in production.

mod watch;

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
    tracing::info!("stopping: requests that have begun may end");
    running.stop().await;
    Ok(())
}

/// A server with what works beside it.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) tenantry: Tenantry,
    operations: Operations,
}

/// The runner of operations; it ends when this value is dropped, also where a start fails half-way.
struct Operations(tokio::task::JoinHandle<()>);

impl Drop for Operations {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    /// Lets requests end, then stops. Operations that are under way are journalled: the next runner goes on with them.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
        drop(self.operations);
        // So that the others have its share of the connections now, and not when its lease has ended.
        self.tenantry.close().await;
    }
}

/// Starts the server and the runner of operations.
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
        ..PoolConfig::default()
    };
    let mut tenantry =
        Tenantry::on_catalog_from(catalog, resolver, pool, config.minimum_version)?.with_cache(beside::cache(config)?);
    if let Some(files) = beside::files(config)? {
        tenantry = tenantry.with_files(files);
    }
    let services = Services {
        ops: ops.clone(),
        tenantry: tenantry.clone(),
    };
    let http = tenantry_server::Config {
        listen: config.listen,
        shutdown_grace: config.drain_timeout,
        trusted_proxies: networks,
        ..tenantry_server::Config::default()
    };
    let server = tenantry_server::start(http, services, application::routes(config)).await?;
    let operations = Operations(tokio::spawn(async move { ops.run_operations().await }));
    Ok(Running {
        server,
        tenantry,
        operations,
    })
}
