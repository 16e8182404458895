//! What the use cases' refusals mean to an HTTP client: the only place that knows both.

use std::time::Duration;

use tenantry::axum::{Code, LimitHit, Problem};
use tenantry_ops::{
    ApiKeyError, ArchiveError, BackupError, BalanceError, CatalogError, ErasureError, JobError, LoginError,
    MemberError, MigrationError, MoveError, OperationError, PasswordResetError, PlanLimitError, PortError,
    RolloutError, ServerError, SizeError, SteerError, TenantError,
};

/// When to come again after a failure that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same for an operation that goes on by itself.
const OPERATION_RETRY_AFTER: Duration = Duration::from_secs(5);

const NO_RIGHT: &str = "Your credential does not allow this.";

pub(crate) fn of_catalog(error: &CatalogError) -> Problem {
    if error.is_unavailable() {
        tracing::warn!(error = %chain(error), "the catalog does not answer");
        return Problem::new(Code::Unavailable, "The catalog does not answer; try again.").retry_after(RETRY_AFTER);
    }
    internal(error)
}

pub(crate) fn of_tenant(error: TenantError) -> Problem {
    let invalid = |field: &str, detail: String| Problem::field(Code::InvalidField, field, detail);
    match error {
        TenantError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        TenantError::NotFound => Problem::not_found(),
        TenantError::SlugTaken | TenantError::SlugLooksLike => {
            Problem::field(Code::TenantSlugTaken, "slug", error.to_string())
        }
        TenantError::UnknownServer => Problem::field(Code::InvalidReference, "server", error.to_string()),
        TenantError::UnknownRegion => Problem::field(Code::InvalidReference, "region", error.to_string()),
        TenantError::NoRoom => Problem::new(Code::Conflict, sentence(&error)),
        TenantError::Settings => invalid("settings", error.to_string()),
        TenantError::Profile { field, .. } => invalid(field, error.to_string()),
        TenantError::State { .. } | TenantError::OnHold { .. } => Problem::new(Code::Conflict, sentence(&error)),
        TenantError::HoldReason => Problem::field(Code::InvalidField, "reason", sentence(&error)),
        TenantError::Busy { .. } => Problem::new(Code::TenantMigrating, sentence(&error)).retry_after(RETRY_AFTER),
        TenantError::KeyMalformed => key_malformed(),
        TenantError::KeyReused => Problem::new(Code::IdempotencyKeyReused, sentence(&error)),
        // What is in its way may name servers: the operation itself tells operators.
        TenantError::StillRunning(unfinished) => Problem::new(
            Code::TenantMigrating,
            format!("Operation {} is still running; read it later.", unfinished.operation),
        )
        .retry_after(OPERATION_RETRY_AFTER),
        TenantError::Failed {
            operation,
            code,
            message,
        } => {
            tracing::error!(operation.id = %operation, code, message, "an operation failed");
            let detail =
                format!("Operation {operation} failed and what it had made is removed; read it for the reason.");
            Problem::new(Code::Unavailable, detail).retry_after(OPERATION_RETRY_AFTER)
        }
        TenantError::Owner(error) => of_member(error),
        TenantError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_move(error: MoveError) -> Problem {
    match error {
        MoveError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        MoveError::NotFound => Problem::not_found(),
        MoveError::UnknownServer => Problem::field(Code::InvalidReference, "server", error.to_string()),
        MoveError::SoakTooLong => Problem::field(Code::InvalidField, "soak_s", error.to_string()),
        MoveError::AlreadyThere | MoveError::State { .. } | MoveError::Obstacles(_) => {
            Problem::new(Code::Conflict, sentence(&error))
        }
        MoveError::Busy { .. } => Problem::new(Code::TenantMigrating, sentence(&error)).retry_after(RETRY_AFTER),
        MoveError::Server(reason) => {
            tracing::warn!(reason, "a tenant can't be moved");
            Problem::new(Code::Unavailable, "One of the two servers does not answer; try again.")
                .retry_after(OPERATION_RETRY_AFTER)
        }
        MoveError::KeyMalformed => key_malformed(),
        MoveError::KeyReused => Problem::new(Code::IdempotencyKeyReused, sentence(&error)),
        MoveError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_steer(error: SteerError) -> Problem {
    match error {
        SteerError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        SteerError::NotFound => Problem::not_found(),
        SteerError::NotSteered { .. }
        | SteerError::OfMovesOnly { .. }
        | SteerError::OnlyCalledOff { .. }
        | SteerError::Restored
        | SteerError::CalledOff
        | SteerError::Ended { .. }
        | SteerError::BeingUndone
        | SteerError::TooLate { .. }
        | SteerError::TooEarly
        | SteerError::NotKept
        | SteerError::NoWayBack { .. }
        | SteerError::ComingBack => Problem::new(Code::Conflict, sentence(&error)),
        SteerError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}
pub(crate) fn of_erasure(error: &ErasureError) -> Problem {
    match error {
        ErasureError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        ErasureError::NotFound | ErasureError::NoneYet => Problem::not_found(),
        ErasureError::State { .. } => Problem::new(Code::Conflict, sentence(error)),
        ErasureError::Catalog(error) => of_catalog(error),
        error => internal(error),
    }
}

pub(crate) fn of_backup(error: BackupError) -> Problem {
    match error {
        BackupError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        BackupError::NotFound | BackupError::None => Problem::not_found(),
        BackupError::NoneBefore { .. } => Problem::field(Code::InvalidField, "at", sentence(&error)),
        BackupError::Interval => Problem::field(Code::InvalidField, "interval_h", sentence(&error)),
        BackupError::NoStore
        | BackupError::KeyErased
        | BackupError::Busy
        | BackupError::OtherVersion
        | BackupError::InUse { .. } => Problem::new(Code::Conflict, sentence(&error)),
        // Where backups stand is nobody's business.
        BackupError::Store(error) => {
            tracing::error!(error = %chain(&error), "the store of backups can't be used");
            Problem::new(Code::Unavailable, "The store of backups can't be used; try again.").retry_after(RETRY_AFTER)
        }
        BackupError::Archive(error) => of_archive(&error),
        BackupError::Port(error) => of_port(error),
        BackupError::Tenant(error) => of_tenant(error),
        BackupError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_port(error: PortError) -> Problem {
    match error {
        PortError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        PortError::Tenant(error) => of_tenant(error),
        PortError::Archive(error) => of_archive(&error),
        PortError::Unfit(_) | PortError::IdTaken(_) | PortError::Field { .. } => {
            Problem::new(Code::Conflict, sentence(&error))
        }
        PortError::Home(reason) => {
            tracing::warn!(reason, "a tenant's home can't be used");
            Problem::new(Code::Unavailable, "The tenant's home can't be used; try again.").retry_after(RETRY_AFTER)
        }
        PortError::Migrations(error) => of_migration(error),
        PortError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

fn of_archive(error: &ArchiveError) -> Problem {
    match error {
        ArchiveError::Changing(_) | ArchiveError::Moved => {
            Problem::new(Code::Unavailable, sentence(error)).retry_after(RETRY_AFTER)
        }
        error => internal(error),
    }
}

/// `named` is the server that the path names.
pub(crate) fn of_drain(error: &BalanceError, named: &str) -> Problem {
    match error {
        BalanceError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        BalanceError::UnknownServer(name) if name == named => Problem::not_found(),
        BalanceError::UnknownServer(_) | BalanceError::OntoItself(_) => {
            Problem::field(Code::InvalidReference, "to", error.to_string())
        }
        BalanceError::OneServer => Problem::new(Code::Conflict, sentence(error)),
        BalanceError::Catalog(error) => of_catalog(error),
        error => internal(error),
    }
}

pub(crate) fn of_server(error: ServerError) -> Problem {
    match error {
        ServerError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        ServerError::NotFound => Problem::not_found(),
        ServerError::ReplicaAddress => Problem::field(Code::InvalidField, "replicas", error.to_string()),
        ServerError::Unfit { problems } => Problem::field(Code::InvalidReference, "replicas", problems.join("; ")),
        ServerError::PoolerAndReplicas => Problem::new(Code::Conflict, sentence(&error)),
        // The server's own address is nobody's business.
        ServerError::Unreachable(reason) | ServerError::Address(reason) => {
            tracing::warn!(reason, "a server can't be asked");
            Problem::new(Code::Unavailable, "The server does not answer; try again.").retry_after(RETRY_AFTER)
        }
        ServerError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_operation(error: OperationError) -> Problem {
    match error {
        OperationError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        OperationError::NotFound => Problem::not_found(),
        OperationError::NoCertificate => Problem::new(Code::Conflict, sentence(&error)),
        OperationError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_job(error: JobError) -> Problem {
    match error {
        JobError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        JobError::NotFound | JobError::NoSchedule => Problem::not_found(),
        // The address of a server is nobody's business.
        JobError::Server(reason) => {
            tracing::warn!(reason, "a tenant's jobs can't be asked for");
            Problem::new(Code::Unavailable, "The tenant's database does not answer; try again.")
                .retry_after(RETRY_AFTER)
        }
        JobError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_migration(error: MigrationError) -> Problem {
    match &error {
        MigrationError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        MigrationError::Field(field) => Problem::field(Code::InvalidField, field.field, field.reason.clone()),
        MigrationError::Rollout(refused) => match refused {
            RolloutError::NoSuchSite(_) => Problem::field(Code::InvalidReference, "tenants", refused.to_string()),
            RolloutError::NoSuchCanary(_) => Problem::field(Code::InvalidReference, "canaries", refused.to_string()),
            RolloutError::Waves(_) => Problem::field(Code::InvalidField, "waves", refused.to_string()),
            _ => Problem::new(Code::InvalidField, sentence(refused)),
        },
        MigrationError::NoSuchVersion(_) => Problem::field(Code::InvalidReference, "version", error.to_string()),
        MigrationError::Running(_) | MigrationError::Paused(_) => Problem::new(Code::Conflict, sentence(&error)),
        MigrationError::NoMigrations | MigrationError::NoServer | MigrationError::SharedOverlay(_) => {
            Problem::new(Code::Conflict, sentence(&error))
        }
        // An operator reads it: it names files of the application, not rows.
        MigrationError::Refused(reason) => {
            tracing::error!(reason, "the application's migrations are refused");
            Problem::new(
                Code::Conflict,
                "A migration is refused; the server's log and `tenantry migrate plan` say which.",
            )
        }
        MigrationError::Server(reason) => {
            tracing::warn!(reason, "migrations can't be tried");
            Problem::new(
                Code::Unavailable,
                "No server answers on which the migrations could be tried; try again.",
            )
            .retry_after(OPERATION_RETRY_AFTER)
        }
        MigrationError::Catalog(catalog) => of_catalog(catalog),
        _ => internal(&error),
    }
}

/// The use case's words as a sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
        .unwrap_or_default()
}

pub(crate) fn of_member(error: MemberError) -> Problem {
    match error {
        MemberError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        MemberError::NotFound => Problem::not_found(),
        MemberError::AlreadyMember => Problem::field(Code::AlreadyMember, "email", "this person is a member already"),
        MemberError::LastOwner => Problem::new(
            Code::LastOwner,
            "A tenant keeps at least one owner; make another member an owner first, who has accepted or logged in.",
        ),
        MemberError::PlanLimit { quota, used } => {
            Problem::new(Code::PlanLimitReached, sentence(&error)).limit(LimitHit {
                name: "members".to_owned(),
                quota: quota.into(),
                used: Some(used.into()),
                reset_s: None,
            })
        }
        MemberError::Busy => busy(),
        MemberError::KeyMalformed => key_malformed(),
        MemberError::KeyReused => Problem::new(Code::IdempotencyKeyReused, sentence(&error)),
        MemberError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_plan(error: PlanLimitError) -> Problem {
    match error {
        PlanLimitError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        PlanLimitError::NotFound => Problem::not_found(),
        PlanLimitError::BurstWithoutRate => Problem::field(Code::InvalidField, "burst", error.to_string()),
        PlanLimitError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_size(error: SizeError) -> Problem {
    match error {
        SizeError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        SizeError::NotFound => Problem::not_found(),
        SizeError::Server(reason) => {
            tracing::warn!(reason, "a tenant's server can't be asked for its size");
            Problem::new(Code::Unavailable, "The tenant's server can't be asked; try again.").retry_after(RETRY_AFTER)
        }
        SizeError::Catalog(error) => of_catalog(&error),
        error => internal(&error),
    }
}

pub(crate) fn of_api_key(error: ApiKeyError) -> Problem {
    match error {
        ApiKeyError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        ApiKeyError::NotFound => Problem::not_found(),
        ApiKeyError::Name => Problem::field(Code::InvalidField, "name", error.to_string()),
        ApiKeyError::ExpiresAt => Problem::field(
            Code::InvalidField,
            "expires_at",
            "a time in the future, in a year up to 9999",
        ),
        ApiKeyError::NameTaken => Problem::field(Code::AlreadyExists, "name", "another API key has this name"),
        ApiKeyError::KeyMalformed => key_malformed(),
        ApiKeyError::KeyReused => Problem::new(Code::IdempotencyKeyReused, sentence(&error)),
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

/// An operator may know which e-mails have accounts.
pub(crate) fn of_password_reset_offer(error: LoginError) -> Problem {
    match error {
        LoginError::Forbidden(_) => Problem::new(Code::Forbidden, NO_RIGHT),
        LoginError::NoAccount => Problem::new(Code::NotFound, "There is no active account with this e-mail."),
        error => of_login(error),
    }
}

pub(crate) fn of_password_reset(error: PasswordResetError) -> Problem {
    match error {
        PasswordResetError::BadToken => Problem::new(Code::BadToken, sentence(&error)),
        PasswordResetError::Password(error) => Problem::field(Code::InvalidField, "new_password", error.to_string()),
        PasswordResetError::Login(error) => of_login(error),
        error => internal(&error),
    }
}

fn key_malformed() -> Problem {
    Problem::new(
        Code::InvalidField,
        "The header Idempotency-Key has 1 to 255 characters.",
    )
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
