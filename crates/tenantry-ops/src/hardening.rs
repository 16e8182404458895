//! How far tenant databases are hardened, and hardening those that exist.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tenantry_catalog::{
    server,
    tenant_database::{self, DatabaseKind, TenantDatabase},
};
use tenantry_core::{OperatorScope, Tier, protection};
use tenantry_engine::bootstrap::{self, Hardening};

use crate::{
    Authority, Ops, ServerError,
    audit::{self, Act},
    runner::{Failure, administer},
};

/// Databases asked at once.
const AT_ONCE: usize = 8;

/// Which tenant databases are hardened when they are made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum HardenedDatabases {
    /// Those of one tenant's own.
    #[default]
    Own,
    /// Shared ones too.
    All,
    /// None.
    None,
}

impl HardenedDatabases {
    /// Whether a database of this kind is hardened.
    pub fn covers(self, kind: DatabaseKind) -> bool {
        match self {
            Self::Own => kind == DatabaseKind::Own,
            Self::All => true,
            Self::None => false,
        }
    }
}

/// What is to be done to databases that exist.
#[derive(Clone, Copy, Debug)]
pub enum HardeningChange<'a> {
    /// Harden them, but for the groups named here.
    Harden {
        /// As `docs/hardening.md` names them.
        except: &'a [&'a str],
    },
    /// Give everything back to PUBLIC.
    Undo,
}

/// How far a tenant database is hardened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseHardening {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// Whom it is for.
    pub kind: DatabaseKind,
    /// How it proves contexts.
    pub tier: Option<Tier>,
    /// What was found, or why nothing could be.
    pub found: Result<Hardening, String>,
}

impl DatabaseHardening {
    /// What the database protects against, as it is shown to operators.
    pub fn protection(&self) -> &'static str {
        let hardened = self.found.as_ref().is_ok_and(Hardening::is_whole);
        match self.tier {
            Some(tier) => protection(tier, self.kind == DatabaseKind::Own, hardened),
            None => "unknown",
        }
    }
}

impl Ops {
    /// Asks every tenant database how far it is hardened.
    ///
    /// # Errors
    /// See [`ServerError`]. That a database can't be asked is no error but the answer.
    pub async fn check_hardening(&self, authority: &Authority) -> Result<Vec<DatabaseHardening>, ServerError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let servers: HashMap<_, _> = server::list(&client)
            .await?
            .into_iter()
            .map(|server| (server.id, server.name))
            .collect();
        let databases = tenant_database::list_ready(&client).await?;
        drop(client);
        let checks = stream::iter(databases).map(|database| {
            let server = servers.get(&database.server).cloned().unwrap_or_default();
            async move {
                let found = self.hardening_of(&database).await;
                answer(server, database, found)
            }
        });
        Ok(checks.buffered(AT_ONCE).collect().await)
    }

    /// Hardens the tenant databases of a server, or one of them, or gives back what hardening took.
    ///
    /// # Errors
    /// See [`ServerError`]. That a database can't be hardened is no error but the answer.
    pub async fn change_hardening(
        &self,
        authority: &Authority,
        server: &str,
        database: Option<&str>,
        change: HardeningChange<'_>,
    ) -> Result<Vec<DatabaseHardening>, ServerError> {
        authority.require_operator(OperatorScope::Servers)?;
        let client = self.catalog().client().await?;
        let known = server::find_by_name(&client, server)
            .await?
            .ok_or(ServerError::NotFound)?;
        let databases: Vec<TenantDatabase> = tenant_database::list_ready(&client)
            .await?
            .into_iter()
            .filter(|found| found.server == known.id && database.is_none_or(|name| name == found.name))
            .collect();
        drop(client);
        if databases.is_empty() && database.is_some() {
            return Err(ServerError::NoSuchDatabase);
        }
        let mut changed = Vec::new();
        for database in databases {
            let found = self.harden_one(&database, change).await;
            self.audit_hardening(authority, &database, change, found.is_ok())
                .await?;
            changed.push(answer(known.name.clone(), database, found));
        }
        Ok(changed)
    }

    async fn hardening_of(&self, database: &TenantDatabase) -> Result<Hardening, Failure> {
        let (admin, _) = administer(self, database.server).await?;
        let client = admin.connect(&database.name).await?;
        Ok(bootstrap::hardening(&client).await?)
    }

    async fn harden_one(&self, database: &TenantDatabase, change: HardeningChange<'_>) -> Result<Hardening, Failure> {
        let (admin, _) = administer(self, database.server).await?;
        let installation = self.catalog().installation();
        Ok(match change {
            HardeningChange::Harden { except } => {
                bootstrap::harden(&admin, installation, &database.name, except).await?
            }
            HardeningChange::Undo => bootstrap::unharden(&admin, installation, &database.name).await?,
        })
    }

    async fn audit_hardening(
        &self,
        authority: &Authority,
        database: &TenantDatabase,
        change: HardeningChange<'_>,
        done: bool,
    ) -> Result<(), ServerError> {
        let (action, after) = match change {
            HardeningChange::Harden { except } => ("server.harden", json!({ "done": done, "except": except })),
            HardeningChange::Undo => ("server.unharden", json!({ "done": done })),
        };
        let act = Act {
            action,
            tenant: None,
            target: database.name.clone(),
            before: None,
            after: Some(after),
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }
}

fn answer(server: String, database: TenantDatabase, found: Result<Hardening, Failure>) -> DatabaseHardening {
    DatabaseHardening {
        server,
        database: database.name,
        kind: database.kind,
        tier: database.tier,
        found: found.map_err(|failure| failure.message()),
    }
}
