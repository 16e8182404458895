//! {{name}}: written as if there were one customer, for any number of them.

mod notes;

use std::net::SocketAddr;

use anyhow::Context;
use tenantry::{Config, Tenantry, axum::TenantLayer};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).init();
    // Where the catalog is stands in the environment: `. .tenantry/dev.env` while `tenantry dev` runs.
    let tenantry = Tenantry::connect(Config::from_env()?)
        .await
        .context("can't reach the catalog")?;
    // The layer resolves who asks and in which tenant; each handler then gets its scope.
    let application = notes::router().layer(TenantLayer::new(tenantry));
    let listener = TcpListener::bind(("127.0.0.1", 3000))
        .await
        .context("can't listen on port 3000")?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(
        listener,
        application.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(stopped())
    .await?;
    Ok(())
}

async fn stopped() {
    // Without a handler for ctrl-C the process would end at once, which is all that is left to do.
    let _ = tokio::signal::ctrl_c().await;
}
