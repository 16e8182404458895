//! Use cases and durable operations: provision, lifecycle, members, log-in, migrate, adopt.
//!
//! Nothing here knows of HTTP: who asks is an [`Authority`], what is refused an error enum per resource.

mod adopt;
mod api_keys;
mod archive;
mod at_hand;
pub mod audit;
mod authority;
mod backups;
mod balance;
mod beside;
mod certificate;
mod config;
mod counts;
mod database_audit;
mod derived;
mod erasure;
mod failpoint;
mod fleet;
mod hardening;
mod idempotency;
mod job_backlog;
mod jobs;
mod load;
mod login;
mod members;
mod migrations;
mod moves;
mod operations;
mod operator_keys;
mod ops;
mod password;
mod password_resets;
mod placing;
mod plans;
mod reach;
mod replicas;
mod runner;
mod safety;
mod secret;
mod servers;
mod signing_keys;
mod sizes;
mod spares;
mod tenants;
mod upgrade;
mod usage;

pub use adopt::AdoptRowsError;
pub use api_keys::{ApiKeyError, ApiKeyRequest};
pub use archive::{CloneRequest, Compared, Exported, ImportRequest, PortError, RowIds, Unfit};
pub use authority::{Authority, Forbidden, Origin};
pub use backups::{
    BACKUP_INTERVAL_MAX, BACKUP_INTERVAL_MIN, BackupAt, BackupAtError, BackupError, BackupSchedule, BackupStore,
    BackupStoreError, Drilled, RestoreRequest, Retention,
};
pub use balance::{BalanceError, FleetPlan, MoveOutcome, PlannedMove, ServerWeight, Stays};
pub use beside::Beside;
pub use certificate::{CertificateError, Signed};
pub use config::{IdentityConfig, LoginBudget};
pub use counts::FleetCounts;
pub use database_audit::{AuditOptions, AuditedDatabase, NotAudited};
pub use erasure::{
    Certificate, Erasure, ErasureError, ErasureRequest, FoundTrace, LookedAt, Place as ErasurePlace, Removed, Verdict,
};
pub use fleet::FleetConfig;
pub use hardening::{DatabaseHardening, HardenedDatabases, HardeningChange};
pub use jobs::{FleetPlace, JobError, JobFilter, OverFleet, ShownJob};
pub use load::{Figures, Limits, ServerLoad, Strain};
pub use login::{AccountSession, LoggedIn, Login, LoginError, Me};
pub use members::{MemberError, NewMember, PreparedOwner, add_first_owner};
pub use migrations::{
    DatabaseLedgers, DiffedFile, DiffedMigration, DriftState, FailureBudget, Label, MigrationError, MigrationReport,
    NoBudget, NoLabel, Reconciled, Rehearsal, RequiredVersion, Rollout, RolloutError, RolloutFieldError,
    RolloutProgress, RolloutRequest, SiteDifference, SiteStatus, TimedVersion, VerifiedSite, Verify, VerifyRequest,
};
pub use moves::{MoveError, MoveHome, MovePlan, MoveRequest, MoveStep, Steer, SteerError};
pub use operations::{OperationError, Unfinished};
pub use operator_keys::{OperatorKeyError, OperatorKeyRequest};
pub use ops::Ops;
pub use password::{PASSWORD_LEN_MAX, PASSWORD_LEN_MIN, Password, PasswordError};
pub use password_resets::{PasswordReset, PasswordResetError};
pub use plans::PlanLimitError;
pub use reach::{Found, Reach};
pub use replicas::{ReplicaCheck, ReplicaReach};
pub use runner::steps;
pub use safety::{DatabaseCheck, DatabaseFinding, SafetyError};
pub use servers::{ServerChange, ServerCheck, ServerError, ServerRequest};
pub use signing_keys::SigningKeyError;
pub use sizes::{SizeError, TenantSize};
pub use tenantry_catalog::{
    CatalogError,
    account::Account,
    api_key::ApiKey,
    audit_log::Record as AuditRecord,
    backup::Backup,
    fleet_state::Correction,
    fleet_state::Mistake,
    job_backlog::JobBacklog,
    membership::Member,
    membership::MemberFilter,
    membership::Place,
    operation::Operation,
    operation::OperationKind,
    operation::OperationState,
    operator_key::OperatorKey,
    plan_rule::PlanRule,
    server::{Pooler, Server},
    tenant::Profile,
    tenant::Tenant,
    tenant::TenantCursor,
    tenant::TenantFilter,
    tenant::TenantPatch,
    tenant::TenantPlacement,
    tenant_database::DatabaseKind,
    usage_day::Usage,
};
pub use tenantry_engine::archive::{
    ArchiveError, ExportOptions, IdError, IdPlan, KeptKey, KeyedDifference, LeftOut, Manifest, MaskError, MaskRule,
    Masks, PackedTable, Signer, TableDifference, Unpacker,
};
pub use tenantry_engine::home::{StoredJob, StoredSchedule};
pub use tenantry_engine::size::TableSize;
pub use tenantry_engine::transfer::Obstacle;
pub use tenants::{FirstOwner, HOLD_REASON_LEN_MAX, SETTINGS_LEN_MAX, TenantError, TenantRef, TenantRequest};
pub use upgrade::{OutdatedDatabase, UpgradeError, UpgradedDatabase};
pub use usage::TenantUsage;
