//! The structure of a placement: what migrations have made of a schema, read from the system catalogs and comparable
//! whatever the schema is called, whichever roles the database has, and whoever the tenant is.

mod compare;
mod desired;
mod difference;
mod expected;
mod fact;
mod finish;
mod in_use;
mod order;
mod read;
mod rehearse;
mod repair;
mod statement;

pub use compare::compare;
pub use desired::{Stage, Written, write};
pub use difference::{Change, Difference, Remedy};
pub use expected::{ScratchSite, lay_out};
pub use fact::{Class, Fact, Key, Structure};
pub use finish::{Finish, finish, is_worth_finishing};
pub use order::Order;
pub use read::{Ledger, read, read_ledger};
pub use rehearse::{Lock, Rehearsed, rehearse};
pub use repair::{Repair, Repaired, repair};
