//! Who asks for a change, and from where: an argument of every use case.

use std::net::IpAddr;

use tenantry_core::{Actor, Context, Operator, OperatorScope, Role, TenantId};

/// Who asks.
///
/// Holding one proves nothing by itself: the edges (HTTP, command line) make it from what they verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authority {
    /// An operator, with a verified key.
    Operator {
        /// The key and what it may do.
        operator: Operator,
        /// From where.
        origin: Origin,
    },
    /// A member or an API key of a tenant, with a verified context.
    Member {
        /// Tenant, actor and role.
        context: Context,
        /// From where.
        origin: Origin,
    },
    /// The program itself, or whoever holds the catalog's address and master key at a command line.
    System {
        /// Why, for the audit log.
        reason: String,
    },
}

/// From where a request came, for the audit log and for budgets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// The caller's address: the peer's, or what a configured proxy says.
    pub address: Option<IpAddr>,
    /// The request's id, under which the log knows it.
    pub request_id: Option<String>,
}

/// The authority does not allow this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not allowed")]
pub struct Forbidden;

impl Authority {
    /// The program itself.
    pub fn system(reason: impl Into<String>) -> Self {
        Self::System { reason: reason.into() }
    }

    /// Passes operators with the scope and the program itself.
    ///
    /// # Errors
    /// [`Forbidden`] for everybody else.
    pub fn require_operator(&self, scope: OperatorScope) -> Result<(), Forbidden> {
        match self {
            Self::Operator { operator, .. } if operator.scopes.allows(scope) => Ok(()),
            Self::System { .. } => Ok(()),
            Self::Operator { .. } | Self::Member { .. } => Err(Forbidden),
        }
    }

    /// The role with which the authority acts on this tenant's members and keys: an operator with the scope acts as an
    /// owner, a member with the own role in the own tenant.
    ///
    /// # Errors
    /// [`Forbidden`] for other tenants' members and operators without the scope.
    pub fn role_in(&self, tenant: TenantId, scope: OperatorScope) -> Result<Role, Forbidden> {
        match self {
            Self::Member { context, .. } if context.tenant == tenant => Ok(context.role),
            Self::Member { .. } => Err(Forbidden),
            Self::Operator { .. } | Self::System { .. } => self.require_operator(scope).map(|()| Role::Owner),
        }
    }

    /// Who it is, as the audit log writes it: `operator:<id>`, `account:<id>`, `api-key:<id>` or `system`.
    pub fn actor(&self) -> String {
        match self {
            Self::Operator { operator, .. } => format!("operator:{}", operator.key),
            Self::Member { context, .. } => actor(&context.actor),
            Self::System { .. } => "system".to_owned(),
        }
    }

    /// From where.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Operator { origin, .. } | Self::Member { origin, .. } => origin.clone(),
            Self::System { .. } => Origin::default(),
        }
    }
}

fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Account(id) => format!("account:{id}"),
        Actor::ApiKey(id) => format!("api-key:{id}"),
        _ => "system".to_owned(),
    }
}

impl Origin {
    /// The address as text, empty if it is not known.
    pub fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}
