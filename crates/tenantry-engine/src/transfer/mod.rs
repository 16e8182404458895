//! A tenant's rows from one home to another.

mod tables;

pub use tables::{Column, Identity, Table, tables};
