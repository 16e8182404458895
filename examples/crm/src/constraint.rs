//! What the constraints of the migrations mean to a caller.

use tenantry::{
    DbError,
    axum::{Code, Problem},
};

/// The refusal for a write that the database refused.
pub(crate) fn refusal(error: tenantry::Error) -> Problem {
    match error.database().and_then(DbError::constraint) {
        Some("contacts_email_key") => {
            Problem::field(Code::AlreadyExists, "email", "another contact has this e-mail address")
        }
        Some("tasks_project_id_fkey") => {
            Problem::field(Code::InvalidReference, "project_id", "there is no project with this id")
        }
        _ => error.into(),
    }
}
