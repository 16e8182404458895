//! Where a tenant lives, with what it takes to get in.

use std::sync::Arc;

use async_trait::async_trait;
use tenantry_core::{Excess, Placement, PlanLimits, ServerId, TenantDatabaseId, TenantId, Tier, seal};
use tenantry_wire::Endpoint;

/// A tenant's placement with what it takes to reach and to bind a connection there.
#[derive(Clone, Debug)]
pub struct Home {
    /// Where the tenant lives.
    pub placement: Placement,
    /// The tenant database, as its application role.
    pub endpoint: Arc<Endpoint>,
    /// Signs the tokens of this database.
    pub key: seal::Key,
    /// How this database proves a context.
    pub tier: Tier,
    /// The very database the key was made for.
    pub incarnation: Option<Incarnation>,
    /// The endpoint is a pooler's that lends a server's connection for a transaction: no session is anybody's.
    pub pooled: bool,
}

/// One very database: a restored or cloned one differs, and must not accept the keys of its original.
///
/// Compared when a connection is opened; `None` in a [`Home`] only while a database is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Incarnation {
    /// The cluster's system identifier, as `pg_control_system()` gives it.
    pub system_identifier: i64,
    /// The database's oid.
    pub database_oid: u32,
}

/// What it takes to get into a tenant database, whoever lives there: for calls that are nobody's.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// Where the database stands.
    pub server: ServerId,
    /// The tenant database, as its application role.
    pub endpoint: Arc<Endpoint>,
    /// Signs the tokens of this database.
    pub key: seal::Key,
    /// The very database the key was made for.
    pub incarnation: Option<Incarnation>,
    /// The endpoint is a pooler's that lends a server's connection for a transaction: no session is anybody's.
    pub pooled: bool,
}

impl From<Home> for Entrance {
    fn from(home: Home) -> Self {
        Self {
            server: home.placement.server,
            endpoint: home.endpoint,
            key: home.key,
            incarnation: home.incarnation,
            pooled: home.pooled,
        }
    }
}

/// A tenant database to which a tenant is on its way.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Which.
    pub database: TenantDatabaseId,
    /// What it takes to get in, though the tenant does not before it lives there.
    pub entrance: Entrance,
}

/// A standby of the server where a tenant lives: the same databases, roles and passwords, at another address.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Counts its connections, as a server of its own.
    pub id: ServerId,
    /// The tenant database there, as its application role.
    pub endpoint: Arc<Endpoint>,
}

/// Where a tenant lives, and how it is served there.
#[derive(Clone, Debug)]
pub struct Served {
    /// Where.
    pub home: Home,
    /// The newest of the application's migrations that its tables have, where the source knows it.
    pub schema_version: Option<i64>,
    /// What its plan gives at most.
    pub limits: PlanLimits,
    /// What it has more of than that.
    pub excess: Vec<Excess>,
    /// Where its rows can be read too, a little later.
    pub replicas: Vec<Replica>,
}

impl From<Home> for Served {
    fn from(home: Home) -> Self {
        Self {
            home,
            schema_version: None,
            limits: PlanLimits::default(),
            excess: Vec::new(),
            replicas: Vec::new(),
        }
    }
}

/// Tells where tenants live; asked when the pool's cache has no answer.
#[async_trait]
pub trait PlacementSource: Send + Sync + 'static {
    /// Where the tenant lives now.
    ///
    /// # Errors
    ///
    /// Why there is no home to go to.
    async fn locate(&self, tenant: TenantId) -> Result<Home, LocateError>;

    /// The same with what else the source knows of how the tenant is served.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    async fn locate_served(&self, tenant: TenantId) -> Result<Served, LocateError> {
        Ok(self.locate(tenant).await?.into())
    }

    /// The tenant databases where somebody is served: where a worker looks for jobs. A source that does not know answers with none,
    /// and its jobs are not worked on.
    ///
    /// # Errors
    ///
    /// When the source does not answer.
    async fn served_databases(&self) -> Result<Vec<TenantDatabaseId>, LocateError> {
        Ok(Vec::new())
    }

    /// What it takes to get into a tenant database, also while nobody is served there: a worker gives back the jobs of a tenant that was
    /// suspended.
    ///
    /// # Errors
    ///
    /// [`LocateError::NotFound`] where there is no such database any more, which is what a source answers that names none; else why nobody
    /// gets in.
    async fn entrance(&self, _database: TenantDatabaseId) -> Result<Entrance, LocateError> {
        Err(LocateError::NotFound)
    }

    /// The other tenant database to which the tenant moves at the moment, asked when its calls begin to wait for that: a connection is opened
    /// there in advance. A source that does not know answers with none, and calls that have waited open their own.
    ///
    /// # Errors
    ///
    /// When the source does not answer, or the database is not made yet. Nobody is told.
    async fn destination(&self, _tenant: TenantId) -> Result<Option<Destination>, LocateError> {
        Ok(None)
    }
}

/// Why a tenant has no home to go to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// There is no such tenant, or it is deleted.
    #[error("there is no such tenant")]
    NotFound,
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    Suspended,
    /// The tenant is being provisioned.
    #[error("the tenant is not ready yet")]
    NotReady,
    /// The tenant's tables are older than what is required: they are being migrated.
    #[error("the tenant's tables have version {version}, and {required} is required: migrate them")]
    Behind {
        /// The newest migration they have; 0 for none.
        version: i64,
        /// The one they need.
        required: i64,
    },
    /// The source could not be asked.
    #[error("the tenant's placement cannot be looked up: {0}")]
    Unavailable(String),
}
