//! Migrations of the application: files, what is refused in them, and how they reach a placement.

mod apply;
mod body;
mod data;
mod files;
mod header;
mod lay_out;
mod ledger;
mod lint;
mod refusal;
mod refuse;
mod replay;
mod run;
mod statement;
mod status;
mod target;

pub use apply::{Applied, ApplyError, apply, apply_with_own, hold_still};
pub use data::seed;
pub use files::{File, Files, FilesError};
pub use header::{Header, HistoryOf, Mode, Reference};
pub use ledger::{AppliedVersion, forget, overlay_name, read_all};
pub use lint::{LintFinding, lint};
pub use refusal::Refusal;
pub use replay::{Replayed, fill, ledger_text, prepare_replay, replay};
pub use status::{Status, status};
pub use target::{ByAdministrator, Patience, Target, TenantContext};

pub(crate) use apply::{install, take_turn, turn_key};
pub(crate) use lay_out::{is_alone, lay_out};
pub(crate) use ledger::read as read_ledger;
pub(crate) use refusal::list as list_refusals;
pub(crate) use run::{Building, act_as, begin, roll_back, statement};
pub(crate) use statement::{Statement, read as read_statements};
