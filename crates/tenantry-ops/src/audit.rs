//! The audit log: written with each change, read by operators and tenants' admins.

use serde_json::Value;
use tenantry_catalog::{
    CatalogError, Db,
    audit_log::{self, Entry, Record},
};
use tenantry_core::{OperatorScope, TenantId};

use crate::{Authority, Forbidden, Ops};

/// Why the audit log is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What was done, to be written down beside who did it.
#[derive(Clone, Debug)]
pub struct Act<'a> {
    /// `member.add`, `tenant.suspend`, …
    pub action: &'a str,
    /// In which tenant, if in one.
    pub tenant: Option<TenantId>,
    /// To what: an id or a name.
    pub target: String,
    /// The object before; never with secrets.
    pub before: Option<Value>,
    /// The object after; never with secrets.
    pub after: Option<Value>,
}

/// Writes down an act. To be called last in the transaction that does it: until that ends, other writers wait.
///
/// # Errors
/// When the catalog fails; what can't be written down is then not done either.
pub async fn record(db: &impl Db, authority: &Authority, act: Act<'_>) -> Result<(), CatalogError> {
    let origin = authority.origin();
    let entry = Entry {
        actor: &authority.actor(),
        action: act.action,
        tenant: act.tenant,
        target: &act.target,
        before: act.before,
        after: act.after,
        origin: &origin.address_text(),
        request_id: origin.request_id.as_deref().unwrap_or_default(),
    };
    audit_log::append(db, &entry).await
}

impl Ops {
    /// The audit log's entries before `before`, newest first: of one tenant for its admins, of all for operators.
    ///
    /// # Errors
    /// When the authority does not allow it, or the catalog fails.
    pub async fn list_audit(
        &self,
        authority: &Authority,
        tenant: Option<TenantId>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Record>, AuditError> {
        match tenant {
            Some(tenant) if authority.role_in(tenant, OperatorScope::Read)?.may_manage_members() => {}
            Some(_) => return Err(Forbidden.into()),
            None => authority.require_operator(OperatorScope::Read)?,
        }
        let client = self.catalog().client().await?;
        Ok(audit_log::list(&client, tenant, before, limit).await?)
    }

    /// The first entry that was tampered with, if there is one.
    ///
    /// # Errors
    /// When the authority does not allow it, or the catalog fails.
    pub async fn first_broken_audit_entry(&self, authority: &Authority) -> Result<Option<i64>, AuditError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(audit_log::first_broken(&client).await?)
    }
}
