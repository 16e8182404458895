//! The old home's fence: closed before the last changes are brought, opened again where that came to nothing.

use tenantry_core::{Epoch, TenantId};
use tenantry_engine::fence::{self, Closed, Drained, Ended, State, Wait};
use tokio_postgres::Client;

use super::{Failure, Hands, Moving, Standing, standing};
use crate::runner::replicas;

impl Moving<'_> {
    /// How long open transactions may take.
    pub(super) fn wait(&self) -> Wait {
        Wait {
            deadline: self.ops.fleet().move_drain,
            force: self.input.force,
        }
    }

    /// Lets nobody in any more, and waits for who is in.
    pub(super) async fn close_source(&self, hands: &Hands) -> Result<(), Failure> {
        let (client, from) = (hands.source(), &self.input.from);
        fence::close(client, from.tenant, from.epoch, Closed::Moving).await?;
        if let Drained::Reopened { blockers } =
            fence::wait_for_older(client, from.tenant, from.epoch, self.wait()).await?
        {
            return Err(in_use(&blockers));
        }
        let within = self.input.within_a_database();
        let followed = replicas::follow(&self.source.site, client, within, self.wait());
        if !within {
            return followed.await;
        }
        // The new home has the same fence: what is bound to the old one would be let into it again. Meanwhile the catalog is asked for replicas.
        let ended = async {
            match fence::end_older(client, from.tenant, self.wait()).await? {
                Ended::All { .. } => Ok(()),
                Ended::Left { pids } => Err(in_use(&pids)),
            }
        };
        tokio::try_join!(followed, ended)?;
        Ok(())
    }

    /// Opens the old home, or closes it as suspended, if the tenant lives there and it is closed for the move. Tells where it lives.
    ///
    /// The catalog's row of the tenant is held meanwhile: a switch that is under way ends before, and none begins.
    pub(super) async fn reopen(&self) -> Result<Standing, Failure> {
        let client = self.source.connect().await?;
        let mut catalog = self.ops.catalog().client().await?;
        let transaction = catalog.transaction().await?;
        self.journal.hold(&transaction).await?;
        let standing = standing(&transaction, &self.input).await?;
        if standing == Standing::Source {
            let from = &self.input.from;
            let found = fence::read(&client, from.tenant).await?;
            if found.is_some_and(|found| found.epoch == from.epoch && found.state != self.state()) {
                self.let_in(&client, from.tenant, from.epoch).await?;
                self.wake_who_waits();
            }
            self.journal.relax();
        }
        Ok(standing)
    }

    /// What the fence of the tenant's home says when nothing moves.
    pub(super) fn state(&self) -> State {
        match self.suspended {
            true => State::Suspended,
            false => State::Open,
        }
    }

    /// Brings a fence that is at this epoch to that.
    pub(super) async fn let_in(&self, client: &Client, tenant: TenantId, epoch: Epoch) -> Result<(), Failure> {
        match self.suspended {
            true => fence::close(client, tenant, epoch, Closed::Suspended).await?,
            false => fence::open(client, tenant, epoch).await?,
        }
        Ok(())
    }
}

/// Who is at work there does not end.
pub(super) fn in_use<T: ToString>(who: &[T]) -> Failure {
    let who: Vec<_> = who.iter().map(ToString::to_string).collect();
    let message = format!(
        "transactions stay open and the tenant was let in again: {} (`--force` ends them)",
        who.join(", ")
    );
    Failure::retry("tenant_in_use", message)
}
