//! Values that are worth keeping for a while, each of one tenant.
//!
//! A cache is reached through a [`Scope`](crate::Scope) and in no other way: [`Scope::cache`](crate::Scope::cache) names the
//! tenant. Values are kept in this process and, with the feature `redis` and an address, in Redis for all processes. What
//! is in neither is computed; Redis that is away or slow makes things slower, never wrong.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tenantry::{Error, Scope};
//!
//! async fn count(scope: &Scope) -> Result<Arc<i64>, Error> {
//!     scope
//!         .cache()
//!         .get_or_compute("contacts:count", async || {
//!             scope.query_one("select count(*) from contact", &[]).await?.get(0)
//!         })
//!         .await
//! }
//!
//! async fn add(scope: &Scope, name: &str) -> Result<(), Error> {
//!     scope.execute("insert into contact (id, name) values (2, $1)", &[&name]).await?;
//!     let _ = scope.cache().delete("contacts:count").await;
//!     Ok(())
//! }
//! ```
//!
//! What depends on who asks, and not only on the tenant, needs the account in its key:
//! `CacheKey::of(&["menu", &account.to_string()])`.

mod config;
mod entry;
#[cfg(feature = "redis")]
mod envelope;
mod error;
mod flight;
mod key;
mod local;
#[cfg(feature = "redis")]
mod redis;
mod remote;
mod scoped;
mod shared;
mod shelf;
mod status;
mod told;

pub use config::CacheConfig;
#[cfg(feature = "redis")]
pub use config::RedisConfig;
pub use error::CacheError;
pub use key::CacheKey;
pub use scoped::{Reach, ScopedCache};
pub use shared::Cache;
pub use status::{CacheStatus, RedisState};
pub(crate) use told::Caches;
