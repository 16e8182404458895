//! The application by itself, on a catalog that `tenantry serve` or `tenantry dev` looks after.
//!
//! Set `TENANTRY_CATALOG_URL` and `TENANTRY_MASTER_KEY`; ask with a token of the installation.

use std::{error::Error, net::SocketAddr};

use axum::Router;
use tenantry::{Config, Tenantry, axum::TenantLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tenantry = Tenantry::connect(Config::from_env()?).await?;
    let app = Router::new().nest("/app", tenantry_crm::router().layer(TenantLayer::new(tenantry)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}/app/contacts", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
