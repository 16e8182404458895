//! Many moves at once: everybody off a server, or the servers of the fleet about equally used.
//!
//! Each tenant's move is an operation of its own, so what stops half way stands where it stands and is gone on with by asking again.

mod look;
mod plan;
mod run;

pub use plan::{FleetPlan, PlannedMove, ServerWeight, Stays};
pub use run::MoveOutcome;

use tenantry_catalog::{
    CatalogError, change,
    server::{self, Server, ServerState},
};
use tenantry_core::{Change, OperatorScope};

use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
};

/// Why nothing is drained or balanced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such server.
    #[error("there is no server `{0}`: `tenantry server list` shows those there are")]
    UnknownServer(String),
    /// A server can't be emptied onto itself.
    #[error("{0} is the server that is to be drained: name others")]
    OntoItself(String),
    /// There is nowhere to go.
    #[error("there is one server only: add another one first")]
    OneServer,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for BalanceError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Where each tenant of a server would go: onto the servers of these names, or onto any of its region. It changes nothing.
    ///
    /// Nobody leaves their region. The largest go first, each to the server that is then the least used, by bytes and by last week's calls.
    ///
    /// # Errors
    /// See [`BalanceError`]. That there is no place for a tenant is part of the answer.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn plan_drain(
        &self,
        authority: &Authority,
        name: &str,
        to: &[String],
    ) -> Result<FleetPlan, BalanceError> {
        authority.require_operator(OperatorScope::Servers)?;
        authority.require_operator(OperatorScope::Tenants)?;
        let servers = self.list_servers_for_balance().await?;
        let from = find(&servers, name)?.id;
        for target in to {
            if find(&servers, target)?.id == from {
                return Err(BalanceError::OntoItself(target.clone()));
            }
        }
        if servers.len() == 1 {
            return Err(BalanceError::OneServer);
        }
        let sources = [from];
        let fleet = look::fleet(self, servers, &sources).await?;
        Ok(plan::drain(&fleet, name, to))
    }

    /// Which tenants would move so that the servers of each region are about equally used, by bytes and by last week's calls: as few as do
    /// it. It changes nothing.
    ///
    /// # Errors
    /// See [`BalanceError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn plan_rebalance(&self, authority: &Authority) -> Result<FleetPlan, BalanceError> {
        authority.require_operator(OperatorScope::Servers)?;
        authority.require_operator(OperatorScope::Tenants)?;
        let servers = self.list_servers_for_balance().await?;
        if servers.len() == 1 {
            return Err(BalanceError::OneServer);
        }
        let sources: Vec<_> = servers.iter().map(|server| server.id).collect();
        let fleet = look::fleet(self, servers, &sources).await?;
        Ok(plan::rebalance(&fleet))
    }

    /// Lets no new tenant come onto a server, or lets them come again. Those that are there stay.
    ///
    /// # Errors
    /// See [`BalanceError`].
    pub async fn set_draining(
        &self,
        authority: &Authority,
        name: &str,
        draining: bool,
    ) -> Result<Server, BalanceError> {
        authority.require_operator(OperatorScope::Servers)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let known = server::find_by_name(&transaction, name).await?;
        let known = known.ok_or_else(|| BalanceError::UnknownServer(name.to_owned()))?;
        let state = match draining {
            true => ServerState::Draining,
            false => ServerState::Active,
        };
        if known.state != state {
            server::set_state(&transaction, known.id, state).await?;
            change::announce(&transaction, Change::Servers).await?;
            let act = Act {
                action: "server.change",
                tenant: None,
                target: known.name.clone(),
                before: Some(serde_json::json!({ "state": known.state })),
                after: Some(serde_json::json!({ "state": state })),
            };
            audit::record(&transaction, authority, act).await?;
            transaction.commit().await?;
        }
        Ok(Server { state, ..known })
    }

    async fn list_servers_for_balance(&self) -> Result<Vec<Server>, BalanceError> {
        let client = self.catalog().client().await?;
        Ok(server::list(&client).await?)
    }
}

fn find<'a>(servers: &'a [Server], name: &str) -> Result<&'a Server, BalanceError> {
    let found = servers.iter().find(|server| server.name == name);
    found.ok_or_else(|| BalanceError::UnknownServer(name.to_owned()))
}
