//! Whose data a migration changes, and how nobody who comes meanwhile is left out.
//!
//! A migration of data is recorded when the tenants that there are have it; whoever is made later gets what the ledger has then. In
//! between a tenant could read the ledger too early and be listed too late. So the end of a migration and the arrival of a tenant
//! exclude each other: the one lists the tenants once more and writes the ledger, the other reads the ledger and gets listed.

use std::{
    error::Error,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio_postgres::Client;

use super::{
    apply::ApplyError,
    run::Failure,
    target::{Patience, Target},
    turn,
};
use tenantry_core::TenantId;

/// Why tenants could not be listed.
pub type ListError = Box<dyn Error + Send + Sync>;

/// A list that is being asked for.
pub type Listing<'a> = Pin<Box<dyn Future<Output = Result<Vec<TenantId>, ListError>> + Send + 'a>>;

/// Tells which tenants live in a placement.
pub trait ListTenants: Sync {
    /// Those that live there now; asked while the placement's turn is taken, and more than once.
    fn list(&self) -> Listing<'_>;
}

/// The tenants that live in a placement.
#[derive(Clone, Copy)]
pub(super) enum Tenants<'a> {
    /// These, and nobody comes meanwhile.
    These(&'a [TenantId]),
    /// Those that the list tells when it is asked.
    Listed(&'a dyn ListTenants),
}

impl Tenants<'_> {
    pub(super) async fn now(self) -> Result<Vec<TenantId>, Failure> {
        match self {
            Self::These(tenants) => Ok(tenants.to_vec()),
            Self::Listed(list) => list.list().await.map_err(Failure::Tenants),
        }
    }

    /// Those that live there when everybody has been listed who had read the ledger before.
    pub(super) async fn settled(
        self,
        client: &Client,
        target: &Target,
        patience: &Patience,
    ) -> Result<Vec<TenantId>, Failure> {
        if let Self::These(_) = self {
            return self.now().await;
        }
        close_arrivals(client, target, patience).await?;
        let tenants = self.now().await;
        open_arrivals(client, target).await;
        tenants
    }
}

/// Lets no migration of data end in the placement for as long as the session lives, so that a tenant that gets [`seed`](super::seed())
/// now, and is listed before the session ends, has all of them.
///
/// # Errors
///
/// [`ApplyError::Busy`] where a migration takes longer than `patience` to end.
///
/// # Cancel safety
///
/// Dropping the future may leave the session with it; close the connection.
pub async fn arrive(client: &Client, target: &Target, patience: Duration) -> Result<(), ApplyError> {
    let lock = format!("pg_advisory_lock_shared({})", key(target));
    turn::take(client, target, &lock, patience).await
}

/// How long the end of a migration waits at a time for tenants that are being made: whoever comes meanwhile queues behind it.
const CLOSING: Duration = Duration::from_millis(500);

/// Lets nobody read the ledger to be listed later: for a moment, since tenants that are being made wait for it. One that does not get done
/// keeps the migration waiting and not the others.
pub(super) async fn close_arrivals(client: &Client, target: &Target, patience: &Patience) -> Result<(), Failure> {
    let lock = format!("pg_advisory_lock({})", key(target));
    let begun = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let left = patience.turn_timeout.saturating_sub(begun.elapsed());
        // Without any time it would wait for ever.
        let wait = left.clamp(Duration::from_millis(1), CLOSING);
        match turn::take(client, target, &lock, wait).await {
            Ok(()) => return Ok(()),
            Err(ApplyError::Database(error)) => return Err(Failure::Database(error)),
            Err(_) if left <= CLOSING => return Err(Failure::Arriving(target.schema.as_str().to_owned())),
            Err(_) => tokio::time::sleep(Patience::pause(attempts)).await,
        }
    }
}

pub(super) async fn open_arrivals(client: &Client, target: &Target) {
    // Where this fails the connection is gone, and the lock with it.
    let _ = client
        .batch_execute(&format!("select pg_advisory_unlock({})", key(target)))
        .await;
}

fn key(target: &Target) -> String {
    turn::key(target, "arrive")
}
