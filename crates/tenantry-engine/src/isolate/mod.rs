//! Isolation of tables through a plain twin: each migration runs as written in an empty single-tenant schema, and its effect there becomes
//! steps for tables that many tenants share.

mod change;
mod column;
mod constraint;
mod derive;
mod derived;
mod difference;
mod foreign_key;
mod function;
mod grant;
mod helper;
mod history;
mod index;
mod kind;
mod name;
mod partition;
mod policy;
mod quote;
mod scratch;
mod sequence;
mod snapshot;
mod table;
mod trigger;
mod view;

pub(crate) use quote::{ident, idents, literal};
pub use scratch::TWIN;

pub use derive::{DeriveError, derive, derive_overlay};
pub use derived::{Act, Derived, FilledColumn, Finished, Grantee, IsolatedTable, Note, Step, Version, in_order};

/// Changes when the same migrations would derive other steps.
pub const ENGINE_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+isolation.3");
