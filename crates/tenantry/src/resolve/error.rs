//! Why a request was not resolved.

/// Why no context was given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no credential.
    #[error("the request carries no credential")]
    Unauthenticated,
    /// The credential is forged, expired, revoked or made for something else.
    #[error("the credential is not valid")]
    BadToken,
    /// Neither the credential nor the header named a tenant.
    #[error("the request names no tenant")]
    TenantUnresolved,
    /// Header or host name another tenant than the credential.
    #[error("the request names another tenant than its credential")]
    TenantMismatch,
    /// The credential is valid and opens nothing in this tenant.
    #[error("the credential does not open this tenant")]
    Forbidden,
    /// The tenant is suspended or deleted.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// The tenant is being provisioned.
    #[error("the tenant is not ready yet")]
    TenantNotReady,
    /// The catalog can't be reached, so nobody knows whether the credential still holds.
    #[error("the catalog can't be reached")]
    Unavailable,
}
