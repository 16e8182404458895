//! The names under which a tenant's things stand.

use sha2::{Digest, Sha256};
use tenantry_core::TenantId;
use uuid::Uuid;

use crate::cache::key;

/// The names of a value and of what its tenant has beside.
pub(super) struct Names {
    tenant: TenantId,
    pub(super) value: String,
    pub(super) generation: String,
    pub(super) deletion: String,
    pub(super) ends: String,
    pub(super) sizes: String,
}

impl Names {
    pub(super) fn new(tenant: TenantId, key: &str) -> Self {
        Self {
            tenant,
            value: key::name(tenant, key),
            generation: generation(tenant),
            deletion: format!("d:{tenant}:{key}"),
            ends: format!("i:{tenant}"),
            sizes: format!("s:{tenant}"),
        }
    }

    /// Matches the values and deletions of the tenant; an id has no character that means something in a pattern.
    pub(super) fn pattern(&self) -> String {
        format!("[td]:{}:*", self.tenant)
    }

    /// Matches whatever holds the tenant's id in its name.
    pub(super) fn anything(&self) -> String {
        format!("*{}*", self.tenant)
    }

    /// Whether the name is one of those: a pattern is not trusted with what is removed.
    pub(super) fn is_ours(&self, name: &[u8]) -> bool {
        let tenant = format!(":{}:", self.tenant);
        matches!(name.first(), Some(b't' | b'd')) && name[1..].starts_with(tenant.as_bytes())
    }
}

pub(super) fn generation(tenant: TenantId) -> String {
    format!("g:{tenant}")
}

/// A generation that nobody had before.
pub(super) fn fresh() -> String {
    let hash = Sha256::digest(Uuid::now_v7().as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
