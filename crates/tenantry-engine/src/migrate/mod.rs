//! Migrations of the application: files, what is refused in them, and how they reach a placement.

mod files;
mod header;
mod refusal;
mod refuse;
mod statement;

pub use files::{File, Files, FilesError};
pub use header::{Header, Mode, Reference};
pub use refusal::Refusal;

pub(crate) use refusal::list as list_refusals;
pub(crate) use statement::{Statement, read as read_statements};
