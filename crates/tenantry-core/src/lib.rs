//! What Tenantry talks about, and the rules that hold everywhere: ids, slugs, tenants, placements, roles, contexts and
//! the message that seals a session.
//!
//! Nothing here does I/O, reads a clock or makes randomness: time and random bytes come in as arguments.

mod account;
mod change;
mod claims;
mod context;
mod credential;
mod id;
mod isolation;
mod job;
mod limits;
mod log_position;
mod operator;
mod placement;
mod role;
pub mod seal;
mod share;
mod slug;
pub mod sqlstate;
mod tenant;
mod tier;
mod version;

pub use account::{Email, EmailError, MembershipStatus, PersonName, PersonNameError};
pub use change::Change;
pub use claims::{ACCESS_TOKEN_LIFE_MAX_S, ACCESS_TOKEN_TYPE, AccessClaims, CLOCK_LEEWAY_S};
pub use context::{Actor, Context};
pub use credential::{CREDENTIAL_BYTES, CredentialKind};
pub use id::{
    AccountId, ApiKeyId, IdError, InstallationId, InstallationIdError, JobId, OperationId, OperatorKeyId, ServerId,
    SessionId, TenantDatabaseId, TenantId,
};
pub use isolation::{Isolation, UnknownIsolation};
pub use job::{JobState, UnknownJobState};
pub use limits::{Decision, Excess, Measure, Pace, PlanLimits, Rate};
pub use log_position::end_of_log;
pub use operator::{Operator, OperatorScope, OperatorScopes, UnknownOperatorScope};
pub use placement::{Epoch, Placement, SHARED_SCHEMA, own_database_name, own_schema_name};
pub use role::{Role, UnknownRole};
pub use share::{divide, reserve};
pub use slug::{Slug, SlugError};
pub use tenant::{Plan, PlanError, TenantName, TenantNameError, TenantState, UnknownTenantState};
pub use tier::{Tier, UnknownTier, protection};
pub use version::TENANT_DATABASE_VERSION;
