//! Places of a tenant's own: a schema, a database. Dropped only if this installation made them.

mod batches;
mod database;
mod history;
mod job_backlog;
mod jobs;
mod rows;
mod schedules;
mod schema;
mod scratch;
mod spare;
mod whole;

pub use database::{create_database, drop_database};
pub(crate) use history::has_history;
pub use history::{count_history, delete_history};
pub use job_backlog::{JobBacklog, job_backlog};
pub use jobs::{JobChoice, JobCount, StoredJob, count_jobs, delete_jobs, list_jobs, remove_jobs, retry_jobs};
pub use rows::delete_rows;
pub(crate) use rows::{Acting, acting};
pub use schedules::{StoredSchedule, list_schedules, remove_schedule};
pub(crate) use schema::mark as schema_mark;
pub use schema::{create_schema, create_schema_and_open, drop_schema};
pub(crate) use scratch::prepare_scratch;
pub use scratch::{ScratchDatabase, drop_old_scratch, drop_scratch, scratch_name, wait_for_creation};
pub use spare::{SPARE_PREFIX, Spare, create_spare, drop_spare, hand_out_spare, list_spares, may_make_spares};
pub use whole::{missing_schemas, unfit_tables};

use crate::{admin::AdminError, sql_error::SqlError};

/// What became of a request to make or drop something; both can be asked for again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was so already.
    AlreadySo,
}

/// Why a place could not be made or dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Something of this name exists that this installation did not make for this tenant.
    #[error(
        "the {kind} `{name}` was not made by this installation for this purpose: it is left alone; rename it or choose another server"
    )]
    NotOurs {
        /// `schema` or `database`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The server can't be reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The name can't be one.
    #[error(transparent)]
    Name(#[from] tenantry_sql::IdentifierError),
}
