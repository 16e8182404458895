//! A ledger: an application whose every write leaves a row, writers that remember what they were told, and a checker that compares
//! the two. Whatever moves or breaks meanwhile, what was acknowledged is there once, and nobody reads a past.

mod check;
mod held;
mod history;
mod schema;
mod writer;

pub(crate) use check::check;
pub(crate) use held::Held;
pub(crate) use history::{History, Seen, Session, Tally};
pub(crate) use schema::{ACCOUNTS, MIGRATION, OPEN, look, read_of};
pub(crate) use writer::{Writer, is_unexpected, refused_for_good};
