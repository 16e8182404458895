//! The moment at which the tenant moves.

use tenantry_catalog::{change, operation, operation_cleanup, placement, tenant_database};
use tenantry_core::{Change, Isolation};
use tenantry_engine::{
    fence::{self, State},
    transfer::stream::Direction,
};
use tokio_postgres::Client;

use super::{Failure, Hands, MoveStep, Moving, moves};
use crate::{
    Authority,
    audit::{self, Act},
    runner::steered::Stop,
};

impl Moving<'_> {
    /// From this commit on the tenant lives in the new home, and what was made stays.
    pub(super) async fn switch(&self, hands: &Hands) -> Result<(), Failure> {
        let (from, to) = (&self.input.from, &self.input.to);
        let mut client = self.ops.catalog().client().await?;
        let transaction = client.transaction().await?;
        let step = self.named(MoveStep::Switch);
        self.journal.hold_step(&transaction, step.as_str()).await?;
        if self.direction == Direction::There
            && Stop::of(operation::wish_of(&transaction, self.journal.operation.id).await?).is_some()
        {
            return Err(Failure::retry("steered", "an operator wants the move to stop"));
        }
        self.require_closed(hands).await?;
        if !placement::switch(&transaction, from, to).await? {
            return Err(Failure::retry(
                "placement_changed",
                "the tenant's placement has changed",
            ));
        }
        if to.isolation == Isolation::Database {
            match self.direction {
                Direction::There => tenant_database::set_ready(&transaction, to.database).await?,
                Direction::Back => tenant_database::set_ready_again(&transaction, to.database).await?,
            }
        }
        if from.isolation == Isolation::Database {
            // Or it would be taken for one that waits for a tenant.
            tenant_database::set_dropping(&transaction, from.database).await?;
        }
        operation_cleanup::settle_home(&transaction, self.journal.operation.id).await?;
        change::announce(&transaction, Change::Tenant(from.tenant)).await?;
        let act = Act {
            action: match self.direction {
                Direction::There => "tenant.moved",
                Direction::Back => "tenant.moved_back",
            },
            tenant: Some(from.tenant),
            target: from.tenant.to_string(),
            before: Some(moves::shown(from)),
            after: Some(moves::shown(to)),
        };
        audit::record(&transaction, &Authority::system("operation"), act).await?;
        Ok(transaction.commit().await?)
    }

    /// Both homes are shut, and both connections, on which the operation's turn hangs, are alive.
    async fn require_closed(&self, hands: &Hands) -> Result<(), Failure> {
        let (from, to) = (&self.input.from, &self.input.to);
        let (old, new) = tokio::try_join!(
            fence::read(hands.source(), from.tenant),
            fence::read(hands.target(), to.tenant)
        )?;
        let is_shut = old.is_some_and(|fence| fence.epoch == from.epoch && fence.state == State::Moving);
        let waits = self.input.within_a_database()
            || new.is_some_and(|fence| fence.epoch == to.epoch && fence.state == State::NotOpenYet);
        match is_shut && waits {
            true => Ok(()),
            false => Err(Failure::retry(
                "fence_changed",
                format!("the fences are not as the move has left them: {old:?}, {new:?}"),
            )),
        }
    }

    /// Lets the tenant into its new home.
    pub(super) async fn open(&self) -> Result<(), Failure> {
        self.begin(MoveStep::Open).await?;
        let client = self.target.connect().await?;
        self.let_into_new_home(&client).await
    }

    /// The same over a connection on which the operation has its turn.
    pub(super) async fn open_by(&self, client: &Client) -> Result<(), Failure> {
        self.begin(MoveStep::Open).await?;
        self.let_into_new_home(client).await
    }

    async fn let_into_new_home(&self, client: &Client) -> Result<(), Failure> {
        let to = &self.input.to;
        let found = fence::read(client, to.tenant).await?;
        let is_done = found.is_some_and(|found| found.epoch == to.epoch && found.state == self.state());
        if !is_done {
            if self.suspended && self.input.within_a_database() {
                // A fence that nobody may pass comes to a later placement only by way of being gone.
                if found.is_some_and(|found| found.epoch == self.input.from.epoch) {
                    fence::close(client, to.tenant, self.input.from.epoch, fence::Closed::Gone).await?;
                }
                fence::register(client, to.tenant, to.epoch, false).await?;
            }
            self.let_in(client, to.tenant, to.epoch).await?;
            self.wake_who_waits();
        }
        self.journal.relax();
        self.end(MoveStep::Open).await
    }

    /// Tells the processes whose calls wait that the tenant is let in again. They look by themselves too, so nobody waits for this, and
    /// nothing is lost with it.
    pub(super) fn wake_who_waits(&self) {
        let (catalog, tenant) = (self.ops.catalog().clone(), self.input.to.tenant);
        tokio::spawn(async move {
            let told = async {
                let client = catalog.client().await?;
                change::hint(&client, Change::Tenant(tenant)).await
            };
            if let Err(error) = told.await {
                tracing::debug!(error = %error, tenant.id = %tenant, "the calls that wait for a move find out by themselves that it has ended");
            }
        });
    }
}
