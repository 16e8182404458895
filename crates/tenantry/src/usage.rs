//! Counting what each tenant uses, and writing it to the catalog, minute by minute; and among how many processes plans are divided.

use std::{sync::Arc, time::Duration};

use tenantry_catalog::{
    Catalog, CatalogError, ChangeEvent, connection_share,
    usage_day::{self, More},
};
use tenantry_core::Change;
use tenantry_pool::Pools;

use crate::{Error, ErrorKind, meter::Meter, process::Process};

/// How long a stretch of the count is.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one statement writes.
const AT_ONCE: usize = 1000;
/// How long writing waits for a catalog that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends a stretch each minute and writes it down, until it is dropped.
pub(crate) async fn keep(catalog: Catalog, meter: Arc<Meter>) {
    let mut minutes = tokio::time::interval(EVERY);
    // The first tick comes at once.
    minutes.tick().await;
    loop {
        minutes.tick().await;
        if let Err(error) = flush(&catalog, &meter).await {
            tracing::warn!(%error, "what tenants used is not written down; trying again in a minute");
        }
    }
}

/// Writes down what was counted. See [`Tenantry::flush_usage`](crate::Tenantry::flush_usage).
pub(crate) async fn flush(catalog: &Catalog, meter: &Arc<Meter>) -> Result<(), Error> {
    let mut taken = meter.take();
    while !taken.uses().is_empty() {
        let some: Vec<More> = taken
            .uses()
            .iter()
            .take(AT_ONCE)
            .map(|(tenant, used)| More {
                tenant: *tenant,
                requests: used.requests,
                limited: used.limited,
                failed: used.failed,
                busy_ms: u64::try_from(used.busy.as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
        let writing = async {
            let client = catalog.client().await?;
            usage_day::add(&client, &some).await
        };
        let failed = |error: CatalogError| {
            Error::new(ErrorKind::Unavailable, "the catalog does not take what tenants used").with_source(error)
        };
        match tokio::time::timeout(PATIENCE, writing).await {
            Ok(written) => written.map_err(failed)?,
            Err(_) => return Err(Error::new(ErrorKind::Unavailable, "the catalog does not answer")),
        }
        taken.kept(some.len());
    }
    Ok(())
}

/// Keeps up with how many processes there are that do as this one does, until it is dropped: each has its part of what plans give.
pub(crate) async fn follow_processes(catalog: Catalog, pools: Pools, process: Arc<Process>) {
    let mut changes = catalog.follower();
    loop {
        match count(&catalog, &process).await {
            Ok(number) => {
                process.divide_among(number);
                pools.divide_among(number as usize);
            }
            // The part of before goes on: more than one process's part is never given by it.
            Err(error) => tracing::debug!(%error, "how many processes there are is not known"),
        }
        // Dropping any arm loses nothing: it is counted anew after each. A killed process's lease ends without a word.
        tokio::select! {
            () = until_shares_change(&mut changes) => {}
            () = process.until_marked() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

async fn count(catalog: &Catalog, process: &Process) -> Result<u32, CatalogError> {
    let client = catalog.client().await?;
    let others = connection_share::count_others(&client, process.id(), process.serves()).await?;
    // With itself, whether or not its leases say so by now.
    Ok(others.saturating_add(1))
}

async fn until_shares_change(changes: &mut tenantry_catalog::ChangeFollower) {
    loop {
        if let ChangeEvent::Changed(Change::Shares) | ChangeEvent::Lost = changes.next().await {
            return;
        }
    }
}
