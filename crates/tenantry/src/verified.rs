//! The proof that a context was checked.

use tenantry_core::Context;

/// A context that was checked: a credential was verified and the membership looked up, or the application said why it
/// acts by itself.
///
/// Only the resolver and [`Tenantry::system_context`](crate::Tenantry::system_context) make one, so that a scope cannot
/// be had from a bare id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified(pub(crate) Context);

impl Verified {
    /// Whose rows, who acts, with which rights.
    pub fn context(&self) -> &Context {
        &self.0
    }
}
