//! For whom a call is made.

use std::sync::Arc;

use parking_lot::Mutex;
use tenantry_core::{AccountId, Context, Role, TenantId};

use crate::{placements::Memo, written::Written};

/// For whom a call is made.
pub struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    pub(crate) account: Option<AccountId>,
    pub(crate) account_text: String,
    /// When it may have written for the last time, for reads from replicas.
    pub(crate) written: Arc<Written>,
    /// Where the tenant lived at the last call.
    pub(crate) memo: Mutex<Option<Memo>>,
}

impl Caller {
    /// The caller that a context names. Who makes one has checked the context.
    pub fn new(context: &Context) -> Self {
        let account = context.account();
        Self {
            tenant: context.tenant,
            role: context.role,
            account,
            account_text: account.map_or_else(String::new, |account| account.to_string()),
            written: Arc::default(),
            memo: Mutex::new(None),
        }
    }

    /// A caller with other rights, which reads what this one has written.
    #[must_use]
    pub fn beside(&self, context: &Context) -> Self {
        Self {
            written: self.written.clone(),
            ..Self::new(context)
        }
    }
}
