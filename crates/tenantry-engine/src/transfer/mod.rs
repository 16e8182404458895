//! A tenant's rows from one home to another: what there is, the copy, and the proof that both sides hold the same.
//!
//! All of it is done as the mover, past row security and without the application's triggers, whose effects the rows show
//! already. Nothing here closes or opens a fence: whoever calls has done so, or copies what goes on changing.

mod beside;
mod collations;
mod copy;
mod end;
mod error;
mod history;
mod jobs;
mod key;
mod lasting;
mod lingering;
mod preflight;
mod recheck;
mod rows;
mod rows_ahead;
mod sequences;
mod statistics;
pub mod stream;
mod tables;
mod verify;

pub use beside::{carry_ledger, forget_ledger};
pub use collations::{Collations, collations};
pub use copy::{Copied, Progress, Rest, Tell, copy, copy_rest};
pub use end::{End, may_transfer};
pub use error::TransferError;
pub use history::{HistoryAhead, carry_history};
pub use jobs::{JobsAhead, JobsLeft, carry_jobs};
pub use lasting::make_lasting;
pub use lingering::{Lingering, before_a_fence, before_a_slot};
pub use preflight::{Obstacle, Sides, obstacles};
pub use recheck::{Recheck, Rechecked};
pub use rows::has_rows;
pub use rows_ahead::{Levelled, RowsAhead};
pub use sequences::{SequencesAhead, Shared, carry_sequences};
pub use statistics::renew_statistics;
pub use tables::{Column, Identity, Table, tables};
pub use verify::{Digest, TableDifference, Verified, foreign_rows, verify};
