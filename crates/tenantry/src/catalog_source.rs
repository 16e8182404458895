//! Where tenants live, as the catalog knows it.

use std::sync::Arc;

use async_trait::async_trait;
use tenantry_catalog::{
    Catalog, CatalogError, audit_log, operation,
    placement::{self, Located},
    replica::Replica as ListedReplica,
    server::Pooler,
    tenant_database::{self, DatabaseState, Secrets, TenantDatabase},
};
use tenantry_core::{TENANT_DATABASE_VERSION, TenantDatabaseId, TenantId, TenantState};
use tenantry_pool::{Destination, Entrance, Home, Incarnation, LocateError, PlacementSource, Replica, Served};
use tenantry_wire::{Address, Endpoint};

use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, SystemAudit};

/// Asks the catalog where tenants live, and writes down there what the application does by itself.
pub(crate) struct CatalogSource {
    catalog: Catalog,
    /// What this application needs, whatever the installation requires.
    schema_version_min: i64,
}

impl CatalogSource {
    pub(crate) fn new(catalog: Catalog, schema_version_min: i64) -> Self {
        Self {
            catalog,
            schema_version_min,
        }
    }

    async fn find(&self, tenant: TenantId) -> Result<Option<Located>, CatalogError> {
        let client = self.catalog.client().await?;
        placement::locate(&self.catalog, &client, tenant).await
    }
}

#[async_trait]
impl PlacementSource for CatalogSource {
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError> {
        Ok(self.locate_served(tenant).await?.home)
    }

    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        let mut found = self
            .find(tenant)
            .await
            .map_err(|error| LocateError::Unavailable(chain(&error)))?
            .ok_or(LocateError::NotFound)?;
        let (limits, excess) = (std::mem::take(&mut found.limits), std::mem::take(&mut found.excess));
        let version = found.schema_version;
        let required = self.schema_version_min.max(found.schema_version_min);
        let replicas = std::mem::take(&mut found.replicas);
        let home = home(found)?;
        let replicas = replicas_of(&home, replicas)?;
        if version < required {
            return Err(LocateError::Behind { version, required });
        }
        Ok(Served {
            home,
            schema_version: Some(version),
            limits,
            excess,
            replicas,
        })
    }

    async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, LocateError> {
        let asked = async {
            let client = self.catalog.client().await?;
            placement::served_databases(&client, self.schema_version_min).await
        };
        asked
            .await
            .map_err(|error: CatalogError| LocateError::Unavailable(chain(&error)))
    }

    async fn entrance(&self, database: TenantDatabaseId) -> Result<Entrance, LocateError> {
        let asked = async {
            let client = self.catalog.client().await?;
            tenant_database::locate(&self.catalog, &client, database).await
        };
        let found = asked
            .await
            .map_err(|error: CatalogError| LocateError::Unavailable(chain(&error)))?
            .ok_or(LocateError::NotFound)?;
        match found.database.state {
            DatabaseState::Ready => {}
            DatabaseState::Dropping => return Err(LocateError::NotFound),
            _ => return Err(LocateError::NotReady),
        }
        entrance_of(&found)
    }

    /// A database of the tenant's own is not ready before it lives there; until then nobody is let in by the fence.
    async fn destination(&self, tenant: TenantId) -> Result<Option<Destination>, LocateError> {
        let asked = async {
            let client = self.catalog.client().await?;
            let Some(database) = operation::destination(&client, tenant).await? else {
                return Ok(None);
            };
            tenant_database::locate(&self.catalog, &client, database).await
        };
        let found = asked
            .await
            .map_err(|error: CatalogError| LocateError::Unavailable(chain(&error)))?;
        let Some(found) = found.filter(|found| found.database.state != DatabaseState::Dropping) else {
            return Ok(None);
        };
        Ok(Some(Destination {
            database: found.database.id,
            entrance: entrance_of(&found)?,
        }))
    }
}

/// What it takes to get into a tenant database, whoever lives there.
fn entrance_of(found: &tenant_database::Located) -> Result<Entrance, LocateError> {
    entrance(
        &found.database,
        &found.secrets,
        &found.admin_url,
        found.app_address.as_deref(),
        found.pooler,
    )
}

/// The home of a tenant that may be served.
fn home(located: Located) -> Result<Home, LocateError> {
    match located.state {
        TenantState::Active => {}
        TenantState::Provisioning => return Err(LocateError::NotReady),
        TenantState::Suspended => return Err(LocateError::Suspended),
        TenantState::Deleted | TenantState::Purged => return Err(LocateError::NotFound),
    }
    let database = &located.database;
    if !located.ready || database.state != DatabaseState::Ready {
        return Err(LocateError::NotReady);
    }
    let entrance = entrance(
        database,
        &located.secrets,
        &located.admin_url,
        located.app_address.as_deref(),
        located.pooler,
    )?;
    Ok(Home {
        tier: database.tier.ok_or_else(|| incomplete("tier"))?,
        endpoint: entrance.endpoint,
        key: entrance.key,
        incarnation: entrance.incarnation,
        pooled: entrance.pooled,
        placement: located.placement,
    })
}

/// What it takes to get into a tenant database that is ready.
fn entrance(
    database: &TenantDatabase,
    secrets: &Secrets,
    admin_url: &SecretString,
    app_address: Option<&str>,
    pooler: Option<Pooler>,
) -> Result<Entrance, LocateError> {
    require_current(database)?;
    let mut endpoint =
        Endpoint::from_url(admin_url.expose_secret()).map_err(|error| LocateError::Unavailable(error.to_string()))?;
    endpoint.database = database.name.clone();
    endpoint.user = database.app_role.clone();
    endpoint.password = secrets.app_password.clone();
    if let Some(address) = app_address {
        endpoint.address =
            Address::from_host_port(address).map_err(|error| LocateError::Unavailable(error.to_string()))?;
    }
    let incarnation = match (database.system_identifier, database.database_oid) {
        (Some(system_identifier), Some(database_oid)) => Incarnation {
            system_identifier,
            database_oid,
        },
        _ => return Err(incomplete("identity")),
    };
    Ok(Entrance {
        server: database.server,
        endpoint: Arc::new(endpoint),
        key: secrets.keys.first().cloned().ok_or_else(|| incomplete("key"))?,
        incarnation: Some(incarnation),
        pooled: pooler.is_some(),
    })
}

fn incomplete(what: &str) -> LocateError {
    LocateError::Unavailable(format!("the catalog does not know the database's {what}"))
}

/// The home's database on each standby of its server: all but the address is the same there.
fn replicas_of(home: &Home, listed: Vec<ListedReplica>) -> Result<Vec<Replica>, LocateError> {
    let replica = |listed: ListedReplica| {
        let address = Address::from_host_port(&listed.address);
        let address = address.map_err(|error| LocateError::Unavailable(error.to_string()))?;
        Ok(Replica {
            id: listed.id,
            endpoint: Arc::new(Endpoint {
                address,
                ..Endpoint::clone(&home.endpoint)
            }),
        })
    };
    listed.into_iter().map(replica).collect()
}

/// What an older bootstrap made may lack what our statements call; a newer one still has it.
fn require_current(database: &TenantDatabase) -> Result<(), LocateError> {
    match database.bootstrap_version {
        Some(version) if version < TENANT_DATABASE_VERSION => Err(LocateError::Unavailable(format!(
            "the tenant database `{}` was made ready by an older Tenantry (version {version}, this one needs \
             {TENANT_DATABASE_VERSION}): start this version's `tenantry serve`, or run its `tenantry migrate apply`",
            database.name
        ))),
        _ => Ok(()),
    }
}

#[async_trait]
impl SystemAudit for CatalogSource {
    async fn system_context(&self, tenant: TenantId, reason: &str) -> Result<(), Error> {
        self.record(tenant, reason).await.map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "the access by the application itself can't be audited",
            )
            .with_source(error)
        })
    }
}

impl CatalogSource {
    async fn record(&self, tenant: TenantId, reason: &str) -> Result<(), CatalogError> {
        let mut client = self.catalog.client().await?;
        let transaction = client.transaction().await?;
        let entry = audit_log::Entry {
            actor: "system",
            action: "system.context",
            tenant: Some(tenant),
            target: reason,
            before: None,
            after: None,
            origin: "",
            request_id: "",
        };
        audit_log::append(&transaction, &entry).await?;
        Ok(transaction.commit().await?)
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
