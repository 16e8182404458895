//! One thing that happened.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_catalog::audit_log::Record;
use tenantry_core::TenantId;

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Grows in the order in which things took effect; the same each time the event is delivered.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub kind: EventKind,
    /// In which tenant, if in one.
    pub tenant: Option<TenantId>,
    /// Who did it: `operator:<id>`, `account:<id>`, `api-key:<id>` or `system`.
    pub actor: String,
    /// To what: an id or a name.
    pub target: String,
    /// The object before, as the audit log has it: never with secrets.
    pub before: Option<Value>,
    /// The object after.
    pub after: Option<Value>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $action:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The word for it in the audit log.
            pub const fn action(self) -> &'static str {
                match self {
                    $(Self::$kind => $action,)*
                }
            }
        }
    };
}

kinds! {
    /// A tenant was asked for; its home is being made.
    TenantCreated = "tenant.create",
    /// Its home is ready: from here on it is served.
    TenantActivated = "tenant.activate",
    /// Its name, profile, settings or plan changed.
    TenantUpdated = "tenant.update",
    /// It is served no more, for the time being.
    TenantSuspended = "tenant.suspend",
    /// It will be served again.
    TenantResumed = "tenant.resume",
    /// It lives at another place from here on, which `after` tells: its isolation, server, database, schema and epoch.
    TenantMoved = "tenant.moved",
    /// It was taken back to the place from which it had moved.
    TenantMovedBack = "tenant.moved_back",
    /// It is deleted, and can be resumed until it is purged.
    TenantDeleted = "tenant.delete",
    /// Its rows begin to be removed: there is no way back.
    TenantPurged = "tenant.purged",
    /// A person was made a member, or invited.
    MemberAdded = "member.add",
    /// An invited person accepted.
    MemberAccepted = "member.accept",
    /// A member has another role.
    MemberRoleChanged = "member.set-role",
    /// A person is no member any more.
    MemberRemoved = "member.remove",
    /// The tenant has another API key.
    ApiKeyCreated = "api-key.create",
    /// An API key opens nothing any more.
    ApiKeyRevoked = "api-key.revoke",
}

impl Event {
    /// `None` for an entry that is no event.
    pub(super) fn of(record: Record) -> Option<Self> {
        let kind = EventKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.action() == record.action)?;
        Some(Self {
            id: record.id,
            at: record.at,
            kind,
            tenant: record.tenant,
            actor: record.actor,
            target: record.target,
            before: record.before,
            after: record.after,
        })
    }
}
