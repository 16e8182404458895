//! Moving a tenant to another home: what would be in the way, the request, and waiting for it.

mod certificate;
mod lingering;
mod notes;
mod plan;
mod steer;
mod step;

pub(crate) use certificate::certify;
pub(crate) use plan::WITHIN;
pub use plan::{MoveHome, MovePlan};
pub(crate) use steer::Wanted;
pub use steer::{Steer, SteerError};
pub use step::MoveStep;
pub(crate) use step::{NAMES, may_wait, work_for_the_source};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, Transaction,
    operation::{self, NewOperation, Operation, OperationKind, OperationState},
    placement,
    server::{self, Server, Wish},
    tenant,
    tenant_database::{self, DatabaseState},
};
use tenantry_core::{
    Epoch, Isolation, OperationId, OperatorScope, Placement, SHARED_SCHEMA, TenantId, TenantState, own_schema_name,
};
use tenantry_engine::transfer::Obstacle;

use crate::{
    Authority, Forbidden, Ops, TenantRef,
    audit::{self, Act},
    idempotency::{KeyError, Keyed},
    placing, secret,
};

/// The longest soak: an old home and its log are kept that long.
const SOAK_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where a tenant shall live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveRequest {
    /// How its rows shall be kept apart.
    pub to: Isolation,
    /// On the server of this name; on its own if left out.
    pub server: Option<String>,
    /// Ends transactions that don't end in time, instead of trying later.
    pub force: bool,
    /// Moves it also where its calls wait while more rows are compared than [`FleetConfig::move_held_rows`](crate::FleetConfig::move_held_rows),
    /// since they can't be copied while it works.
    pub wait: bool,
    /// How long the old home is kept and held in step with the new one, so that the tenant can be taken back ([`Steer::Rollback`]). Without,
    /// the old home is removed at once.
    pub soak: Option<Duration>,
}

/// Why a tenant is not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant, or it has no home.
    #[error("there is no such tenant")]
    NotFound,
    /// The named server does not exist.
    #[error("there is no server of this name")]
    UnknownServer,
    /// The tenant lives so already.
    #[error("the tenant lives there already: name another isolation or another server")]
    AlreadyThere,
    /// The tenant's state does not allow it.
    #[error("the tenant is {state}: only an active or suspended tenant can be moved")]
    State {
        /// The state it is in.
        state: TenantState,
    },
    /// Another operation works on the tenant.
    #[error("the tenant's {kind} is still under way (operation {operation}): try again when it has ended")]
    Busy {
        /// Which.
        operation: OperationId,
        /// What it does.
        kind: OperationKind,
    },
    /// Something is in the way; the tenant was not touched.
    #[error("the tenant can't be moved: {}", listed(.0))]
    Obstacles(Vec<Obstacle>),
    /// The old home can't be kept that long.
    #[error("a soak takes 30 days at most: the old home and the new home's log are kept as long")]
    SoakTooLong,
    /// One of the two servers can't be asked; the tenant was not touched.
    #[error("{0}")]
    Server(String),
    /// The idempotency key has no usable form.
    #[error("an idempotency key has 1 to 255 characters")]
    KeyMalformed,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for MoveError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<KeyError> for MoveError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Malformed => Self::KeyMalformed,
            KeyError::Reused => Self::KeyReused,
            KeyError::Catalog(error) => Self::Catalog(error),
        }
    }
}

fn listed(obstacles: &[Obstacle]) -> String {
    let each: Vec<_> = obstacles
        .iter()
        .map(|one| format!("{} ({})", one.what, one.mend))
        .collect();
    each.join("; ")
}

/// What a move's operation was asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MoveInput {
    /// Where the tenant lived.
    pub(crate) from: Placement,
    /// Where it shall live.
    pub(crate) to: Placement,
    /// Whether transactions that don't end are ended.
    pub(crate) force: bool,
    /// For how many seconds the old home is kept in step.
    #[serde(default)]
    pub(crate) soak_s: Option<u64>,
}

impl MoveInput {
    /// Whether both homes are schemas of one database, which has one fence for the tenant.
    pub(crate) fn within_a_database(&self) -> bool {
        self.from.database == self.to.database
    }

    /// The same tenant's way back: to the home that it has left, at an epoch of its own.
    pub(crate) fn reversed(&self) -> Self {
        let mut home = self.from.clone();
        home.epoch = Epoch(self.to.epoch.0 + 1);
        Self {
            from: self.to.clone(),
            to: home,
            force: self.force,
            soak_s: None,
        }
    }
}

impl Ops {
    /// What a move would take, and everything that is in its way. It changes nothing.
    ///
    /// # Errors
    /// See [`MoveError`]. What is in the way is no error.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn plan_move(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        request: &MoveRequest,
    ) -> Result<MovePlan, MoveError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.examine_move(tenant, request).await
    }

    /// Begins to move a tenant, unless something is in the way. The operation goes on by itself: in this process, if it runs
    /// operations, or in any other; [`Ops::finish_move`] does it here and now.
    ///
    /// With an idempotency key, the same request again is the same request.
    ///
    /// # Errors
    /// See [`MoveError`]; the tenant was not touched.
    ///
    /// # Cancel safety
    /// The move is recorded or not; once it is, it goes on.
    pub async fn move_tenant(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        request: &MoveRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Operation, MoveError> {
        authority.require_operator(OperatorScope::Tenants)?;
        if request.soak.is_some_and(|soak| soak > SOAK_MAX) {
            return Err(MoveError::SoakTooLong);
        }
        let client = self.catalog().client().await?;
        let id = plan::find(&client, tenant).await?.id;
        drop(client);
        let soak_s = soak_s(request);
        let sameness = match soak_s {
            None => json!(["tenant.move", id, request.to, request.server, request.force]),
            Some(soak_s) => json!(["tenant.move", id, request.to, request.server, request.force, soak_s]),
        };
        let keyed = Keyed::new(authority, idempotency_key, &sameness)?;
        if let Some(earlier) = self.earlier_move(&keyed).await? {
            return Ok(earlier);
        }
        let plan = self.examine_move(&id.into(), request).await?;
        if !plan.obstacles.is_empty() {
            return Err(MoveError::Obstacles(plan.obstacles));
        }
        self.record_move(authority, id, request, &keyed).await
    }

    /// The move that the same request began before.
    async fn earlier_move(&self, keyed: &Keyed<'_>) -> Result<Option<Operation>, MoveError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let Some(again) = keyed.claim(&transaction).await? else {
            return Ok(None);
        };
        let id = again.operation.ok_or(MoveError::KeyReused)?;
        Ok(operation::find(&transaction, id).await?)
    }

    async fn record_move(
        &self,
        authority: &Authority,
        tenant: TenantId,
        request: &MoveRequest,
        keyed: &Keyed<'_>,
    ) -> Result<Operation, MoveError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if let Some(again) = keyed.claim(&transaction).await? {
            let id = again.operation.ok_or(MoveError::KeyReused)?;
            return operation::find(&transaction, id).await?.ok_or(MoveError::NotFound);
        }
        let found = tenant::lock(&transaction, tenant).await?.ok_or(MoveError::NotFound)?;
        plan::require_state(found.state)?;
        plan::require_idle(&transaction, tenant).await?;
        let located = placement::locate(self.catalog(), &transaction, tenant).await?;
        let from = located.ok_or(MoveError::NotFound)?.placement;
        let server = target_server(&transaction, &from, request).await?;
        if server.id != from.server {
            let wish = Wish {
                server: Some(&server.name),
                ..Wish::default()
            };
            if server::take_place(&transaction, wish).await?.is_none() {
                return Err(MoveError::Obstacles(vec![plan::no_room(&server)]));
            }
        }
        let to = self.record_home(&transaction, &from, request.to, &server).await?;
        let id = secret::operation_id();
        let input = MoveInput {
            to,
            from,
            force: request.force,
            soak_s: soak_s(request),
        };
        let new = NewOperation {
            id,
            kind: OperationKind::Move,
            tenant: Some(tenant),
            database: Some(input.to.database),
            input: &json!(input),
            run_after: None,
        };
        if !operation::insert(&transaction, &new).await? {
            plan::require_idle(&transaction, tenant).await?;
            return Err(MoveError::NotFound);
        }
        keyed.record(&transaction, tenant, Some(id)).await?;
        let made = operation::find(&transaction, id).await?.ok_or(MoveError::NotFound)?;
        let act = Act {
            action: "tenant.move",
            tenant: Some(tenant),
            target: tenant.to_string(),
            before: Some(shown(&input.from)),
            after: Some(shown(&input.to)),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// Where the tenant goes; a database of its own is recorded, and made by the operation.
    async fn record_home(
        &self,
        transaction: &Transaction<'_>,
        from: &Placement,
        isolation: Isolation,
        server: &Server,
    ) -> Result<Placement, MoveError> {
        let (database, database_name) = match isolation {
            Isolation::Database => placing::record_own_database(self, transaction, server.id, from.tenant).await?,
            Isolation::Shared | Isolation::Schema => {
                let shared = tenant_database::find_shared(transaction, server.id).await?;
                let shared = shared.filter(|shared| shared.state == DatabaseState::Ready);
                let shared = shared.ok_or_else(|| MoveError::Obstacles(vec![plan::no_shared_database(server)]))?;
                (shared.id, shared.name)
            }
        };
        Ok(Placement {
            tenant: from.tenant,
            isolation,
            server: server.id,
            database,
            database_name,
            schema: schema_of(isolation, from.tenant),
            epoch: Epoch(from.epoch.0 + 1),
        })
    }

    /// Works on a move here and now, unless another process does, and waits until it has ended, is paused, or has moved the tenant and
    /// soaks. `told` is called with the operation
    /// whenever it has been looked at.
    ///
    /// # Errors
    /// When the catalog fails. How the move ended, the operation tells.
    ///
    /// # Cancel safety
    /// The move goes on when the future is dropped.
    pub async fn finish_move(
        &self,
        authority: &Authority,
        id: OperationId,
        told: &(dyn Fn(&Operation) + Send + Sync),
    ) -> Result<Operation, MoveError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.work_on(id, told).await?.ok_or(MoveError::NotFound)
    }
}

/// Whether an operation that can be steered needs nobody for a while.
pub(crate) fn rests(operation: &Operation) -> bool {
    let soaks = operation.step == MoveStep::Soak.as_str() && operation.wish.is_none();
    operation.state == OperationState::Paused || operation.state == OperationState::Pending && soaks
}

fn soak_s(request: &MoveRequest) -> Option<u64> {
    request.soak.map(|soak| soak.as_secs()).filter(|seconds| *seconds > 0)
}

/// The server that a request names, or the tenant's own.
pub(crate) async fn target_server(
    db: &impl tenantry_catalog::Db,
    from: &Placement,
    request: &MoveRequest,
) -> Result<Server, MoveError> {
    let server = match &request.server {
        Some(name) => server::find_by_name(db, name).await?,
        None => server::find(db, from.server).await?,
    };
    let server = server.ok_or(MoveError::UnknownServer)?;
    match server.id == from.server && from.isolation == request.to {
        true => Err(MoveError::AlreadyThere),
        false => Ok(server),
    }
}

pub(crate) fn schema_of(isolation: Isolation, tenant: TenantId) -> String {
    match isolation {
        Isolation::Shared | Isolation::Database => SHARED_SCHEMA.to_owned(),
        Isolation::Schema => own_schema_name(tenant),
    }
}

/// What the audit log keeps of a home.
pub(crate) fn shown(placement: &Placement) -> serde_json::Value {
    json!({
        "isolation": placement.isolation, "server": placement.server, "database": placement.database_name,
        "schema": placement.schema, "epoch": placement.epoch,
    })
}
