//! What a request that can't be resolved means to an HTTP client.

use std::time::Duration;

use super::{Code, Problem};
use crate::ResolveError;

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unauthenticated => {
                Self::new(Code::Unauthenticated, "Send a credential as `Authorization: Bearer`.")
            }
            ResolveError::BadToken => Self::new(
                Code::BadToken,
                "The credential is not valid or has ended; log in again or use another.",
            ),
            ResolveError::TenantUnresolved => Self::new(
                Code::TenantUnresolved,
                "The token names no tenant: switch to one, or name one of yours in X-Tenant-ID.",
            ),
            ResolveError::TenantMismatch => Self::new(
                Code::TenantMismatch,
                "Host or X-Tenant-ID name another tenant than the credential.",
            ),
            ResolveError::Forbidden => Self::new(Code::Forbidden, "The credential does not open this tenant."),
            ResolveError::TenantSuspended => Self::new(Code::TenantSuspended, "The tenant is suspended."),
            ResolveError::TenantNotReady => {
                Self::new(Code::TenantMigrating, "The tenant is being prepared; try again.")
                    .retry_after(Duration::from_secs(1))
            }
            ResolveError::Unavailable => {
                Self::new(Code::Unavailable, "Credentials can't be checked right now; try again.")
                    .retry_after(Duration::from_secs(2))
            }
        }
    }
}
