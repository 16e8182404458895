//! What a failed scoped call means to an HTTP client.

use std::time::Duration;

use super::{Code, Problem};
use crate::{DbError, Error, ErrorKind};

/// When to come again after a failure that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Shows the client what it can act on, and logs what only we can.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let wait = error.retry_after().unwrap_or(RETRY_AFTER);
        match error.kind() {
            ErrorKind::Database => match error.database() {
                Some(database) => from_database(database),
                None => internal(&error),
            },
            ErrorKind::ReadOnlyRole => Self::new(Code::Forbidden, "Your role in this tenant may read only."),
            ErrorKind::Refused
            | ErrorKind::Parameter
            | ErrorKind::Column
            | ErrorKind::RowCount
            | ErrorKind::ResultTooLarge
            | ErrorKind::Context => internal(&error),
            ErrorKind::Timeout | ErrorKind::PoolFull | ErrorKind::Unavailable => {
                tracing::warn!(%error, kind = ?error.kind(), "a tenant's database does not answer in time");
                Self::new(
                    Code::Unavailable,
                    "The tenant's database does not answer in time; try again.",
                )
                .retry_after(wait)
            }
            ErrorKind::TenantBusy => {
                tracing::info!(%error, "a tenant asks for more than its share");
                Self::new(
                    Code::RateLimited,
                    "This tenant has too many requests under way; slow down.",
                )
                .retry_after(wait)
            }
            ErrorKind::PlanLimit => match error.limit() {
                Some(excess) => Self::plan_limit(excess),
                None => internal(&error),
            },
            ErrorKind::TenantNotFound => Self::not_found(),
            ErrorKind::TenantSuspended => Self::new(Code::TenantSuspended, "The tenant is suspended."),
            ErrorKind::TenantNotReady => {
                Self::new(Code::TenantMigrating, "The tenant is being prepared; try again.").retry_after(wait)
            }
            ErrorKind::TenantMigrating => {
                tracing::warn!(%error, "a tenant is behind and is not served");
                Self::new(Code::TenantMigrating, "The tenant is being migrated; try again.").retry_after(wait)
            }
            ErrorKind::TenantMoving => {
                Self::new(Code::TenantMoving, "The tenant is moving; try again.").retry_after(wait)
            }
        }
    }
}

/// PostgreSQL's words are not shown: they name tables and can hold values.
fn from_database(error: &DbError) -> Problem {
    match error.code() {
        "23505" | "23P01" => Problem::new(Code::AlreadyExists, "Something with these values exists already."),
        "23503" => Problem::new(
            Code::InvalidReference,
            "The request names something that does not exist.",
        ),
        "42501" => Problem::new(Code::Forbidden, "Your role in this tenant does not allow this."),
        "23502" | "23514" => Problem::new(Code::InvalidField, "A value is missing or not allowed."),
        // Two requests met; PostgreSQL undid one of them.
        "40001" | "40P01" | "55P03" => {
            Problem::new(Code::Unavailable, "Another request was in the way; try again.").retry_after(RETRY_AFTER)
        }
        code if code.starts_with("53") || code.starts_with("57") || code.starts_with("08") => {
            tracing::warn!(%error, "a tenant's database refuses work");
            Problem::new(Code::Unavailable, "The tenant's database is busy; try again.").retry_after(RETRY_AFTER)
        }
        _ => internal(error),
    }
}

fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "a scoped call failed");
    Problem::new(Code::Internal, "The request could not be served.")
}
