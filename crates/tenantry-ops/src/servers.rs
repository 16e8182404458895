//! The fleet's servers: add, list, check.

use secrecy::SecretString;
use tenantry_catalog::{CatalogError, server::Server};
use tenantry_core::{OperationId, Tier};

use crate::Forbidden;

/// A server that shall be registered.
#[derive(Clone, Debug)]
pub struct ServerRequest {
    /// Its name: 1 to 40 characters of `a-z`, `0-9` and `-`, beginning with a letter.
    pub name: String,
    /// Where it stands; `default` if left out.
    pub region: Option<String>,
    /// How many tenants it takes at most.
    pub capacity: Option<i32>,
    /// The administrator's address: may create roles and databases.
    pub admin_url: SecretString,
}

/// What was found on a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerCheck {
    /// Its name.
    pub name: String,
    /// `server_version_num`.
    pub server_version: i32,
    /// How its tenant databases can prove contexts.
    pub tier: Tier,
    /// What stands in the way of using it, in sentences; empty when all is well.
    pub problems: Vec<String>,
}

/// Why a server was not registered or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such server.
    #[error("there is no server of this name")]
    NotFound,
    /// The name has no usable form.
    #[error("a server's name has 1 to 40 characters of a-z, 0-9 and -, beginning with a letter")]
    Name,
    /// The region has no usable form.
    #[error("a region has 1 to 40 characters of a-z, 0-9 and -")]
    Region,
    /// The capacity is negative.
    #[error("a capacity is not negative")]
    Capacity,
    /// The address is no PostgreSQL address.
    #[error("the administrator's address is not understood: {0}")]
    Address(String),
    /// Another server has the name.
    #[error("another server has this name")]
    NameTaken,
    /// The same cluster is registered under another name.
    #[error("this cluster is registered already, under another name")]
    AlreadyRegistered,
    /// It can't be reached.
    #[error("the server can't be reached: {0}")]
    Unreachable(String),
    /// It can't be used.
    #[error("the server can't be used: {}", problems.join("; "))]
    Unfit {
        /// Why, in sentences.
        problems: Vec<String>,
    },
    /// Making its shared tenant database takes longer than the caller waits.
    #[error("operation {operation} is still making the server's tenant database: ask for it later")]
    StillRunning {
        /// Which.
        operation: OperationId,
    },
    /// Its shared tenant database could not be made.
    #[error("the server's tenant database could not be made: {message}")]
    Failed {
        /// Why.
        message: String,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

#[expect(unused, reason = "the use cases come with the engine's connections")]
type Listed = Server;
