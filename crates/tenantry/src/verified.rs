//! The proof that a context was checked.

use std::{fmt, sync::Arc};

use tenantry_core::Context;
use tenantry_pool::Caller;

/// A context that was checked: a credential was verified and the membership looked up, or the application said why it
/// acts by itself.
///
/// Only the resolver and [`Tenantry::system_context`](crate::Tenantry::system_context) make one, so that a scope cannot
/// be had from a bare id.
#[derive(Clone)]
pub struct Verified {
    pub(crate) context: Arc<Context>,
    /// Remembers where the tenant lives, for every scope that is made of this or of a clone.
    pub(crate) caller: Arc<Caller>,
}

impl Verified {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            caller: Arc::new(Caller::new(&context)),
            context: Arc::new(context),
        }
    }

    /// A context with other rights of the same caller, which reads what this one has written.
    pub(crate) fn beside(&self, context: Context) -> Self {
        Self {
            caller: Arc::new(self.caller.beside(&context)),
            context: Arc::new(context),
        }
    }

    /// Whose rows, who acts, with which rights.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.context == other.context
    }
}

impl Eq for Verified {}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.context).finish()
    }
}
