//! The audit of tenant databases: asked for, when a server starts, and from time to time.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    CatalogError,
    placement::{self, Site},
    tenant_database::{self, DatabaseState, TenantDatabase},
};
use tenantry_core::{OperatorScope, TenantDatabaseId, TenantId};
use tenantry_engine::audit::{self, Finding, Identity, Placed, Report, Subject};

use crate::{
    Authority, Ops, SafetyError,
    runner::{Failure, UNREACHABLE, administer},
    upgrade,
};

/// Databases audited at once: each takes two connections and some dozens of statements.
const AT_ONCE: usize = 4;

/// What is looked at beyond the catalogs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditOptions {
    /// Try each critical finding in a transaction that is rolled back.
    pub prove: bool,
    /// Look at rows.
    pub data: bool,
    /// SQL from outside the application runs there.
    pub raw_sql: bool,
}

/// A tenant database and what the audit found, or why it could not be asked.
#[derive(Clone, Debug)]
pub struct AuditedDatabase {
    /// The server's name.
    pub server: String,
    /// The database's name.
    pub database: String,
    /// What was found.
    pub report: Result<Report, NotAudited>,
}

/// Why a database was not audited.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAudited {
    /// Its server does not answer or lets no administrator in. Nobody is served from there either.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, and the audit failed all the same: what the application role may do there is not known.
    #[error("{0}")]
    Failed(String),
}

impl From<Failure> for NotAudited {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(reason) if reason.code == UNREACHABLE => Self::Unreachable(reason.message),
            other => Self::Failed(other.message()),
        }
    }
}

/// A database with those that the catalog places there.
struct Home {
    server: String,
    database: TenantDatabase,
    sites: Vec<Site>,
}

impl Ops {
    /// Audits every tenant database, or that of one tenant; `done` is called with each name.
    ///
    /// # Errors
    /// See [`SafetyError`]. That a database can't be asked is no error but an answer.
    pub async fn audit_databases(
        &self,
        authority: &Authority,
        only: Option<TenantId>,
        options: AuditOptions,
        done: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<AuditedDatabase>, SafetyError> {
        authority.require_operator(OperatorScope::Read)?;
        let homes = self.homes(only).await?;
        let audits = homes.into_iter().map(|home| async move {
            let report = self.audit_database(&home, options).await;
            done(&home.database.name);
            AuditedDatabase {
                server: home.server,
                database: home.database.name,
                report: report.map_err(NotAudited::from),
            }
        });
        Ok(stream::iter(audits).buffered(AT_ONCE).collect().await)
    }

    /// Bootstraps the tenant databases of these names on their servers once more: that brings back what an application role may have
    /// changed of itself, its password and stored settings, which keep it out or are refused at the start. Tells what failed.
    ///
    /// # Errors
    /// See [`SafetyError`].
    ///
    /// # Cancel safety
    /// Each is one transaction; dropped, some are done.
    pub async fn mend_databases(
        &self,
        authority: &Authority,
        wanted: &[(String, String)],
    ) -> Result<Vec<String>, SafetyError> {
        authority.require_operator(OperatorScope::Servers)?;
        let mut failed = Vec::new();
        for home in self.homes(None).await? {
            let name = (home.server.clone(), home.database.name.clone());
            if !wanted.contains(&name) {
                continue;
            }
            if let Err(failure) = upgrade::bring_up_to_date(self, authority, &home.database).await {
                failed.push(format!("{} on {}: {}", name.1, name.0, failure.message()));
            }
        }
        Ok(failed)
    }

    async fn homes(&self, only: Option<TenantId>) -> Result<Vec<Home>, CatalogError> {
        let client = self.catalog().client().await?;
        let wanted = match only {
            Some(tenant) => Some(
                placement::locate(self.catalog(), &client, tenant)
                    .await?
                    .map(|home| home.database.id),
            ),
            None => None,
        };
        let mut homes: BTreeMap<TenantDatabaseId, Home> = BTreeMap::new();
        for site in placement::list_sites(&client).await? {
            let id = site.database.id;
            if site.database.state != DatabaseState::Ready || wanted.is_some_and(|wanted| wanted != Some(id)) {
                continue;
            }
            let home = homes.entry(id).or_insert_with(|| Home {
                server: site.server.clone(),
                database: site.database.clone(),
                sites: Vec::new(),
            });
            home.sites.push(site);
        }
        Ok(homes.into_values().collect())
    }

    async fn audit_database(&self, home: &Home, options: AuditOptions) -> Result<Report, Failure> {
        let Home { database, .. } = home;
        let (admin, _) = administer(self, database.server).await?;
        let mut client = match admin.connect(&database.name).await {
            Err(error) if error.is_no_such_database() => return Ok(gone(database)),
            connected => connected?,
        };
        let subject = Subject {
            tenant_columns: vec![tenantry_sql::TENANT_COLUMN.to_owned()],
            raw_sql: options.raw_sql,
            enter: Some("select tenantry_private.act_for('{tenant}')".to_owned()),
            ..Subject::of(database.app_role.as_str())
        };
        let identity = Identity {
            installation: self.catalog().installation().clone(),
            app_role: database.app_role.clone(),
        };
        let mut report = audit::audit(&mut client, &subject).await?;
        audit::look_at_mechanism(&mut client, &identity, &subject, &mut report).await?;
        let placed = self.placed(home).await?;
        report.findings.extend(audit::placements(&client, &placed).await?);
        self.try_as_application(home, &identity, placed.first(), &mut report)
            .await?;
        if options.data {
            audit::look_at_data(&mut client, &subject, &mut report).await?;
        }
        if options.prove {
            audit::prove(&mut client, &subject, &mut report).await?;
        }
        report.sort();
        Ok(report)
    }

    /// By its own password: an administrator who is no superuser may not act as that role.
    async fn try_as_application(
        &self,
        home: &Home,
        identity: &Identity,
        placed: Option<&Placed>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let catalog = self.catalog().client().await?;
        let secrets = tenant_database::secrets(self.catalog(), &catalog, home.database.id).await?;
        drop(catalog);
        let (admin, _) = administer(self, home.database.server).await?;
        let application = admin.with_login(&home.database.app_role, &secrets.app_password);
        // The administrator has just come in, so it is this role that is kept out: its password was changed, or a setting of its own.
        let mut client = application.connect(&home.database.name).await.map_err(|error| {
            Failure::permanent("role_refused", format!("the application role can't log in: {error}"))
        })?;
        let tenant = placed.map(|placed| *placed.tenant.as_uuid());
        audit::look_as_application(&mut client, identity, tenant, report).await?;
        Ok(())
    }

    async fn placed(&self, home: &Home) -> Result<Vec<Placed>, CatalogError> {
        let client = self.catalog().client().await?;
        let mut placed = Vec::new();
        for site in &home.sites {
            for (tenant, epoch) in placement::list_tenants(&client, home.database.id, &site.schema).await? {
                placed.push(Placed {
                    tenant,
                    epoch,
                    schema: site.schema.clone(),
                });
            }
        }
        placed.sort_by_key(|placed| placed.tenant);
        placed.dedup();
        Ok(placed)
    }
}

fn gone(database: &TenantDatabase) -> Report {
    Report {
        database: database.name.clone(),
        server_version: 0,
        tenant_tables: 0,
        findings: vec![Finding::new(
            "MT102",
            database.name.as_str(),
            "the catalog places tenants in this database, which is not there",
            "restore it from a backup",
        )],
    }
}
