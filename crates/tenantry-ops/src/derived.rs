//! What the application's migrations become in every placement: worked out once, in a scratch database, and kept.

use std::{collections::VecDeque, sync::Arc};

use tenantry_catalog::{
    app_derived,
    server::{self, ServerState},
};
use tenantry_core::{ServerId, seal::sha256};
use tenantry_engine::{
    bootstrap,
    home::ScratchDatabase,
    isolate::{self, Derived},
    migrate::{File, Files},
    structure::{self, Finish},
};

use crate::{
    MigrationError, Ops,
    runner::{Failure, administer},
};

/// Why an operation failed whose migrations are refused.
pub(crate) const MIGRATION_REFUSED: &str = "migration_refused";

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
            other => Failure::permanent(MIGRATION_REFUSED, other.to_string()),
        })
    }

    async fn find_or_derive(&self, files: &Files) -> Result<Arc<Derived>, MigrationError> {
        self.keep_texts(files).await?;
        let key = key_of(files.as_slice());
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

    async fn derive_somewhere(&self, files: &Files) -> Result<Derived, MigrationError> {
        let mut servers = self.scratch_servers().await?;
        loop {
            let scratch = self.next_scratch(&mut servers).await?;
            let derived = self.derive_on(&scratch, files).await;
            scratch.remove().await;
            match derived {
                Err(MigrationError::Server(_)) if !servers.is_empty() => {}
                other => return other,
            }
        }
    }

    /// Where migrations can be tried: any server serves, and one may be away.
    pub(crate) async fn scratch_servers(&self) -> Result<VecDeque<ServerId>, MigrationError> {
        let client = self.catalog().client().await?;
        let mut servers = server::list(&client).await?;
        servers.sort_by_key(|server| (server.state != ServerState::Active, server.server_version));
        Ok(servers.into_iter().map(|server| server.id).collect())
    }

    /// A scratch database on the first of the servers that makes one; those before it are struck off.
    pub(crate) async fn next_scratch(
        &self,
        servers: &mut VecDeque<ServerId>,
    ) -> Result<ScratchDatabase, MigrationError> {
        let mut failed = MigrationError::NoServer;
        while let Some(server) = servers.pop_front() {
            match self.scratch_on(server).await {
                Ok(scratch) => return Ok(scratch),
                Err(failure) => failed = MigrationError::Server(failure.message()),
            }
        }
        Err(failed)
    }

    /// A scratch database on this server.
    pub(crate) async fn scratch_on(&self, server: ServerId) -> Result<ScratchDatabase, Failure> {
        let (admin, administration) = administer(self, server).await?;
        let installation = self.catalog().installation();
        bootstrap::server(&admin, installation, Some(&administration.mover_password)).await?;
        Ok(ScratchDatabase::make(&admin, installation).await?)
    }

    async fn derive_on(&self, scratch: &ScratchDatabase, files: &Files) -> Result<Derived, MigrationError> {
        let failed = |error: &dyn std::fmt::Display| MigrationError::Server(error.to_string());
        let client = scratch.connect().await.map_err(|error| failed(&error))?;
        let installation = self.catalog().installation();
        let owner = tenantry_engine::Roles::of(installation).owner;
        let mut derived = isolate::derive(&client, owner.as_str(), files)
            .await
            .map_err(|error| match error {
                isolate::DeriveError::Scratch(cause) => failed(&cause),
                refused => MigrationError::Refused(refused.to_string()),
            })?;
        if structure::is_worth_finishing(&derived) {
            match structure::finish(&client, installation, &derived).await {
                Ok(Finish::Written(finished)) => derived.finished = Some(finished),
                Ok(Finish::Replay(reason)) => {
                    tracing::info!(reason, "new homes are made by all migrations, one after the other");
                }
                // They have run before: this is for haste only.
                Err(error) => {
                    tracing::warn!(%error, "new homes are made by all migrations, one after the other");
                }
            }
        }
        Ok(derived)
    }
}

/// Under what it is kept: these files, by this engine, with their finished form.
pub(crate) fn key_of(files: &[File]) -> [u8; 32] {
    let mut text = format!("{} finished.1", isolate::ENGINE_VERSION);
    for file in files {
        text.push('\n');
        text.push_str(&file.name);
        text.push(' ');
        text.push_str(&file.checksum);
    }
    sha256(text.as_bytes())
}
