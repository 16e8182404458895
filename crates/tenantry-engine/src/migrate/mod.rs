//! Migrations of the application: files, what is refused in them, and how they reach a placement.

mod apply;
mod body;
mod data;
mod files;
mod header;
mod lay_out;
mod ledger;
mod lint;
mod locks;
mod progress;
mod refusal;
mod refuse;
mod replay;
mod run;
mod statement;
mod status;
mod target;
mod tenants;
mod turn;

pub use apply::{Applied, ApplyError, apply, apply_where_tenants_come, apply_with_own};
pub use data::{note_loaded, seed};
pub use files::{File, Files, FilesError};
pub use header::{Header, HistoryOf, Mode, Reference};
pub use ledger::{AppliedVersion, TimedVersion, forget, overlay_name, read_all, read_timed};
pub use lint::{LintFinding, lint};
pub use refusal::Refusal;
pub use replay::{Replayed, fill, ledger_text, prepare_replay, replay, settle};
pub use status::{Status, status};
pub use target::{ByAdministrator, Patience, Target, TenantContext};
pub use tenants::{ListError, ListTenants, Listing, arrive};
pub use turn::hold_still;

pub(crate) use apply::install;
pub(crate) use lay_out::{is_alone, lay_out};
pub(crate) use ledger::read as read_ledger;
pub(crate) use locks::ask_vacuum_to_leave;
pub(crate) use refusal::list as list_refusals;
pub(crate) use run::{Building, act_as, begin, roll_back, statement};
pub(crate) use statement::{Statement, read as read_statements};
pub(crate) use turn::{take_turn, turn_key, turn_key_of};
