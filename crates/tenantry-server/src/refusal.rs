//! What the use cases' refusals mean to an HTTP client: the only place that knows both.

use std::time::Duration;

use tenantry::axum::{Code, Problem};
use tenantry_ops::{ApiKeyError, CatalogError, LoginError, MemberError};

/// When to come again after a failure that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const NO_RIGHT: &str = "Your credential does not allow this.";

pub(crate) fn of_catalog(error: &CatalogError) -> Problem {
    if error.is_unavailable() {
        tracing::warn!(error = %chain(error), "the catalog does not answer");
        return Problem::new(Code::Unavailable, "The catalog does not answer; try again.").retry_after(RETRY_AFTER);
    }
    internal(error)
}

pub(crate) fn of_member(error: MemberError) -> Problem {
    match error {
        MemberError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        MemberError::NotFound => Problem::not_found(),
        MemberError::AlreadyMember => Problem::field(Code::AlreadyMember, "email", "this person is a member already"),
        MemberError::LastOwner => Problem::new(
            Code::LastOwner,
            "A tenant keeps at least one owner; make another member an owner first.",
        ),
        MemberError::Busy => busy(),
        MemberError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_api_key(error: ApiKeyError) -> Problem {
    match error {
        ApiKeyError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        ApiKeyError::NotFound => Problem::not_found(),
        ApiKeyError::Name => Problem::field(Code::InvalidField, "name", error.to_string()),
        ApiKeyError::ExpiresAt => Problem::field(Code::InvalidField, "expires_at", "a time in the future"),
        ApiKeyError::NameTaken => Problem::field(Code::AlreadyExists, "name", "another API key has this name"),
        ApiKeyError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_login(error: LoginError) -> Problem {
    match error {
        LoginError::BadCredentials => Problem::new(Code::BadCredentials, "E-mail or password is wrong."),
        LoginError::Ended => Problem::new(Code::BadToken, "This log-in has ended; log in again."),
        LoginError::NotAMember => Problem::new(Code::Forbidden, "You are no member of this tenant."),
        LoginError::NotInvited => Problem::new(Code::NotFound, "There is no invitation to this tenant for you."),
        LoginError::TenantSuspended => Problem::new(Code::TenantSuspended, "The tenant is suspended."),
        LoginError::TenantNotReady => {
            Problem::new(Code::TenantMigrating, "The tenant is being prepared; try again.").retry_after(RETRY_AFTER)
        }
        LoginError::RateLimited { retry_after } => {
            Problem::new(Code::RateLimited, "Too many attempts; wait and try again.").retry_after(retry_after)
        }
        LoginError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

fn busy() -> Problem {
    Problem::new(Code::Unavailable, "Too many requests that set passwords; try again.").retry_after(RETRY_AFTER)
}

/// A fault of ours: the log has it with its causes, the client does not.
pub(crate) fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = %chain(error), "a request failed");
    Problem::new(Code::Internal, "The request could not be served.")
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
