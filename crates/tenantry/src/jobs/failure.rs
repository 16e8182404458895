//! Why a handler gives up for now, or for good.

use std::{fmt, time::Duration};

use crate::{Error, ErrorKind};

/// Why a handler did not do its job, and whether it is worth trying again.
#[derive(Debug)]
pub struct Failure {
    message: String,
    pub(super) again: Again,
}

/// When the job is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// After a pause that doubles with each attempt.
    Usually,
    /// After this.
    After(Duration),
    /// Never.
    Never,
    /// After a pause, without counting the attempt: it was not the job's fault.
    Uncounted(Duration),
    /// The job is another worker's by now.
    Lost,
}

impl Failure {
    /// Worth trying again, after a pause that doubles with each attempt.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::new(message, Again::Usually)
    }

    /// Worth trying again after this.
    pub fn retry_after(after: Duration, message: impl fmt::Display) -> Self {
        Self::new(message, Again::After(after))
    }

    /// Never worth trying again: a dead letter.
    pub fn never(message: impl fmt::Display) -> Self {
        Self::new(message, Again::Never)
    }

    pub(super) fn new(message: impl fmt::Display, again: Again) -> Self {
        Self {
            message: message.to_string(),
            again,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// How long a job waits whose tenant can't be served at the moment.
const TENANT_PAUSE: Duration = Duration::from_secs(10);
/// The SQLSTATE of `tenantry.job_done` for a job that is another worker's.
const LOST: &str = "TN004";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let again = match error.kind() {
            ErrorKind::Database if error.database().is_some_and(|error| error.code() == LOST) => Again::Lost,
            ErrorKind::TenantSuspended
            | ErrorKind::TenantMoving
            | ErrorKind::TenantMigrating
            | ErrorKind::TenantNotReady
            | ErrorKind::TenantBusy
            | ErrorKind::PoolFull => Again::Uncounted(error.retry_after().unwrap_or(TENANT_PAUSE)),
            _ => Again::Usually,
        };
        Self::new(&error, again)
    }
}
