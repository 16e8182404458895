//! Who asks, and in which tenant: from credentials to a checked context.
//!
//! The order of trust: a verified token's tenant; then the API key's tenant; the subdomain only names the tenant of
//! public pages and opens nothing; `X-Tenant-ID` only chooses among the memberships of a verified account whose token
//! names no tenant. What contradicts is refused, and a bad credential is never passed over in favour of a weaker one.

mod cache;
mod config;
mod credentials;
mod directory;
mod error;
mod fetch;
mod host;
mod identity;
mod network;
mod outside;
mod resolver;
mod token;

pub use config::{OutsideIssuer, ResolverConfig, TenantRule};
pub use credentials::{Credentials, HeaderField};
pub use error::ResolveError;
pub use identity::{AccountIdentity, ApiKeyIdentity, Identity, PublicTenant};
pub use network::{Network, NetworkError};
pub use resolver::{Measured, Resolver};
