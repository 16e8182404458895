//! Who moves: threads and connections of their own, as a `tenantry serve` beside the application would have them.

use anyhow::{Context as _, Result, bail};
use tenantry::{Catalog, TenantId};
use tenantry_core::Isolation;
use tenantry_ops::{FleetConfig, IdentityConfig, MoveRequest, Operation, OperationState, Ops};
use tokio::sync::{mpsc, oneshot};

use super::super::world::{authority, master_key};

/// What its threads are called.
pub(super) const NAME: &str = "mover";

/// Is called with the operation whenever it has been looked at.
type Told = Box<dyn Fn(&Operation) + Send + Sync>;

/// Where a tenant shall live.
#[derive(Clone, Copy)]
pub(super) struct Home {
    pub(super) isolation: Isolation,
    /// The server's name.
    pub(super) server: &'static str,
}

struct Order {
    tenant: TenantId,
    to: Home,
    told: Told,
    answer: oneshot::Sender<Result<Operation>>,
}

/// Moves tenants, one after the other. Its threads end when it is dropped.
pub(super) struct Mover {
    orders: mpsc::Sender<Order>,
}

impl Mover {
    pub(super) async fn start(catalog_url: String, identity: IdentityConfig, fleet: FleetConfig) -> Result<Self> {
        let (orders, received) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        std::thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name(NAME)
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match ops(&catalog_url, identity, fleet).await {
                    Ok(ops) => {
                        // Nobody waits where that fails, and no order comes.
                        let _ = ready.send(Ok(()));
                        work(&ops, received).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        is_ready.await.context("the mover's thread ended")??;
        Ok(Self { orders })
    }

    /// Moves a tenant, and gives the operation once it is done.
    pub(super) async fn moves(
        &self,
        tenant: TenantId,
        to: Home,
        told: impl Fn(&Operation) + Send + Sync + 'static,
    ) -> Result<Operation> {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            tenant,
            to,
            told: Box::new(told),
            answer,
        };
        self.orders.send(order).await.ok().context("the mover's thread ended")?;
        let ended = answered.await.context("the mover's thread ended")??;
        if ended.state != OperationState::Done {
            let why = ended.error.as_deref().unwrap_or_default();
            bail!("the move to {} on {} did not succeed: {why}", to.isolation, to.server);
        }
        Ok(ended)
    }
}

async fn ops(catalog_url: &str, identity: IdentityConfig, fleet: FleetConfig) -> Result<Ops> {
    let ops = Ops::with_fleet(Catalog::connect(catalog_url, &master_key()).await?, identity, fleet);
    // A process does so once, not with each move.
    ops.derive_migrations().await?;
    Ok(ops)
}

async fn work(ops: &Ops, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let moved = carry_out(ops, &order).await;
        // Who does not wait any more has ended the benchmark.
        let _ = order.answer.send(moved);
    }
}

async fn carry_out(ops: &Ops, order: &Order) -> Result<Operation> {
    let request = MoveRequest {
        to: order.to.isolation,
        server: Some(order.to.server.to_owned()),
        force: false,
        wait: false,
        soak: None,
    };
    let begun = ops
        .move_tenant(&authority(), &order.tenant.into(), &request, None)
        .await?;
    Ok(ops.finish_move(&authority(), begun.id, &*order.told).await?)
}
