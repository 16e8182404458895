//! Adopting an existing single-tenant database: its schema as the application's first migration, its rows as a tenant's.
//!
//! The source is only read, in one repeatable-read transaction, so that schema and rows belong together.

mod copy;
mod error;
mod missing;
mod schema;
mod source;
mod verify;

pub use copy::{Copied, CopiedTable, Progress, Target, copy};
pub use error::AdoptError;
pub use missing::missing;
pub use schema::{Adopted, LeftOut};
pub use source::Source;
