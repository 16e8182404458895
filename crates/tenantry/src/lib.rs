//! Multi-tenancy on PostgreSQL: resolve who asks, and query as if there were one customer.
//!
//! A [`Scope`] is the only thing with query methods, and it is made only from a [`Verified`] context: an unscoped query
//! does not compile.

pub mod axum;
mod bulk;
pub mod cache;
mod catalog_shares;
mod catalog_source;
mod connect;
#[cfg(feature = "diesel")]
pub mod diesel;
mod error;
mod error_from;
pub mod events;
#[cfg(feature = "files")]
pub mod files;
pub mod history;
mod index_name;
pub mod jobs;
mod limiter;
mod meter;
mod process;
mod raw;
mod read_only;
mod resolve;
mod row;
mod scope;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod stream;
mod tenantry;
mod transaction;
mod usage;
mod verified;
mod whole;

pub use connect::{Config, ConnectError};
pub use error::{DbError, Error, ErrorKind};
pub use index_name::index_name;
pub use limiter::Limiter;
pub use meter::{RecentUse, Use};
pub use postgres_types::{FromSql, ToSql};
pub use raw::{Raw, RawRows};
pub use read_only::{Bookmark, BookmarkError, ReadOnly};
pub use resolve::{
    AccountIdentity, ApiKeyIdentity, Credentials, HeaderField, Identity, Measured, Network, NetworkError,
    OutsideIssuer, PublicTenant, ResolveError, Resolver, ResolverConfig, TenantRule,
};
pub use row::{ColumnIndex, FromRow, Row};
pub use scope::{Params, Scope};
pub use stream::{CopyOut, RowStream};
pub use tenantry::{SystemAudit, Tenantry};
pub use tenantry_catalog::{Catalog, MasterKey, MasterKeyError};
pub use tenantry_core::{AccountId, Actor, Context, Decision, Excess, Pace, PlanLimits, Rate, Role, TenantId};
pub use tenantry_pool::{
    Destination, Entrance, Grant, Home, Incarnation, LocateError, PlacementSource, PoolConfig, PoolCounts, PoolStatus,
    Replica, ReplicaStatus, Served, ServerStatus,
};
pub use transaction::Transaction;
pub use verified::Verified;
