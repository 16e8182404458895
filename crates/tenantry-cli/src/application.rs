//! The application that is served: its migrations, and its routes where they are built in.

use std::sync::Arc;

use tenantry_engine::migrate::Files;
use tenantry_server::Application;

use crate::{config::Config, failure::Failure};

/// The application's migrations: those of the configured folder, else the reference CRM's.
///
/// # Errors
///
/// Usage, when the folder holds something that is no migration.
pub(crate) fn migrations(config: &Config) -> Result<Arc<Files>, Failure> {
    let files = match &config.migrations {
        Some(folder) => Files::load(folder),
        None => Files::from_embedded(tenantry_crm::MIGRATIONS.iter().copied()),
    };
    files
        .map(Arc::new)
        .map_err(|error| Failure::usage(format!("{:#}", anyhow::Error::new(error))))
}

/// The application's routes below `/app`: the reference CRM's, unless the migrations are another application's, which
/// then runs by itself.
pub(crate) fn routes(config: &Config) -> Application {
    match config.migrations {
        Some(_) => Application::default(),
        None => Application {
            router: tenantry_crm::router(),
            openapi: tenantry_crm::openapi(),
        },
    }
}
