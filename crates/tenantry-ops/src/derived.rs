//! What the application's migrations become in every placement: worked out once, in a scratch database, and kept.

use std::sync::Arc;

use tenantry_catalog::{
    app_derived,
    server::{self, ServerState},
};
use tenantry_core::seal::sha256;
use tenantry_engine::{
    admin::ServerAdmin,
    bootstrap, home,
    isolate::{self, Derived},
    migrate::Files,
};

use crate::{
    MigrationError, Ops,
    runner::{Failure, administer},
};

impl Ops {
    /// What the configured migrations become; `None` where there are none.
    ///
    /// The first process that asks works it out on a server; the others find it in the catalog.
    ///
    /// # Errors
    /// See [`MigrationError`].
    pub async fn derive_migrations(&self) -> Result<Option<Arc<Derived>>, MigrationError> {
        let Some(files) = &self.fleet().migrations else {
            return Ok(None);
        };
        let derived = self
            .derived_cell()
            .get_or_try_init(|| self.find_or_derive(files))
            .await?;
        Ok(Some(Arc::clone(derived)))
    }

    /// The same for the steps of operations.
    pub(crate) async fn derived(&self) -> Result<Option<Arc<Derived>>, Failure> {
        self.derive_migrations().await.map_err(|error| match error {
            MigrationError::Catalog(error) => error.into(),
            MigrationError::Server(message) => Failure::retry("server_unreachable", message),
            MigrationError::NoServer => Failure::retry("no_server", "there is no server to try migrations on"),
            other => Failure::permanent("migration_refused", other.to_string()),
        })
    }

    async fn find_or_derive(&self, files: &Files) -> Result<Arc<Derived>, MigrationError> {
        let key = key(files);
        let client = self.catalog().client().await?;
        let kept = app_derived::find(&client, &key).await?;
        drop(client);
        // What an older format kept is worked out again.
        if let Some(derived) = kept.and_then(|text| serde_json::from_str(&text).ok()) {
            return Ok(Arc::new(derived));
        }
        let derived = self.derive_somewhere(files).await?;
        let text = serde_json::to_string(&derived).map_err(|error| MigrationError::Server(error.to_string()))?;
        let client = self.catalog().client().await?;
        app_derived::keep(&client, &key, &text).await?;
        Ok(Arc::new(derived))
    }

    /// Tries servers one after the other; any of them serves, and one may be away.
    async fn derive_somewhere(&self, files: &Files) -> Result<Derived, MigrationError> {
        let client = self.catalog().client().await?;
        let mut servers = server::list(&client).await?;
        drop(client);
        servers.sort_by_key(|server| (server.state != ServerState::Active, server.server_version));
        let mut failed = MigrationError::NoServer;
        for server in servers {
            let (admin, administration) = match administer(self, server.id).await {
                Ok(reached) => reached,
                Err(failure) => {
                    failed = MigrationError::Server(failure.message());
                    continue;
                }
            };
            let installation = self.catalog().installation();
            let made = bootstrap::server(&admin, installation, Some(&administration.mover_password)).await;
            let derived = match made {
                Ok(_) => self.derive_on(&admin, files).await,
                Err(error) => Err(MigrationError::Server(error.to_string())),
            };
            match derived {
                Err(error @ MigrationError::Server(_)) => failed = error,
                other => return other,
            }
        }
        Err(failed)
    }

    async fn derive_on(&self, admin: &ServerAdmin, files: &Files) -> Result<Derived, MigrationError> {
        let installation = self.catalog().installation();
        let failed = |error: &dyn std::fmt::Display| MigrationError::Server(error.to_string());
        home::drop_old_scratch(admin, installation)
            .await
            .map_err(|error| failed(&error))?;
        let name = home::scratch_name(installation);
        home::create_database(admin, installation, &name)
            .await
            .map_err(|error| failed(&error))?;
        let derived = async {
            let client = admin.connect(&name).await.map_err(|error| failed(&error))?;
            let owner = tenantry_engine::Roles::of(installation).owner;
            isolate::derive(&client, owner.as_str(), files)
                .await
                .map_err(|error| match error {
                    isolate::DeriveError::Scratch(cause) => failed(&cause),
                    refused => MigrationError::Refused(refused.to_string()),
                })
        };
        let derived = derived.await;
        // Where this fails the next derivation drops it.
        if let Err(error) = home::drop_scratch(admin, installation, &name).await {
            tracing::warn!(database = name, %error, "a scratch database stays for now");
        }
        derived
    }
}

fn key(files: &Files) -> [u8; 32] {
    let mut text = isolate::ENGINE_VERSION.to_owned();
    for file in files.as_slice() {
        text.push('\n');
        text.push_str(&file.name);
        text.push(' ');
        text.push_str(&file.checksum);
    }
    sha256(text.as_bytes())
}
