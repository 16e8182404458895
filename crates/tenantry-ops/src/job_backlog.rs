//! How many jobs wait and are dead over the whole fleet: tenant databases are asked by one process at a time, and what they said stands in
//! the catalog for every process that shows it.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tenantry_catalog::{
    CatalogError,
    job_backlog::{self, JobBacklog},
    tenant_database::TenantDatabase,
};
use tenantry_engine::home;

use crate::{
    Ops,
    runner::{Failure, administer, chain},
    upgrade,
};

/// How often tenant databases are asked.
const EVERY: Duration = Duration::from_secs(60);
/// Those that were asked within this time are not asked again: other processes come round as well.
const FRESH: Duration = Duration::from_secs(50);
/// How many are asked at once.
const AT_ONCE: usize = 4;
/// How many in a round, so that what each of a large fleet costs is borne over several.
const MOST: i64 = 1000;
/// How long a round takes at most: it holds a connection to the catalog meanwhile.
const ROUND: Duration = Duration::from_secs(45);
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Ops {
    /// Asks tenant databases each minute how many jobs wait and are dead, until the future is dropped. Of any number of processes that do
    /// so one does it at a time.
    pub async fn keep_counting_jobs(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.count_job_backlog().await {
                tracing::warn!(error = %chain(&error), "how many jobs wait can't be counted");
            }
        }
    }

    /// Asks them now, unless another process does; says how many answered. One that can't be asked keeps what was known of it.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// What was noted stays; the next round goes on.
    pub async fn count_job_backlog(&self) -> Result<usize, CatalogError> {
        let mut client = self.catalog().client().await?;
        // Held as long as it takes, and given up when this is dropped.
        let turn = client.transaction().await?;
        if !job_backlog::take_turn(&turn).await? {
            return Ok(0);
        }
        let databases = job_backlog::list_to_count(&turn, FRESH, MOST).await?;
        let mut asking = Vec::with_capacity(databases.len());
        for database in &databases {
            asking.push(self.note_backlog(database));
        }
        let round = stream::iter(asking)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<Result<bool, CatalogError>>>();
        let noted = tokio::time::timeout(ROUND, round).await.unwrap_or_default();
        turn.commit().await?;
        let noted = noted.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(noted.into_iter().filter(|noted| *noted).count())
    }

    /// Asks one; `false` where it can't be asked.
    async fn note_backlog(&self, database: &TenantDatabase) -> Result<bool, CatalogError> {
        let client = self.catalog().client().await?;
        job_backlog::begin(&client, database.id).await?;
        drop(client);
        let backlog = match tokio::time::timeout(PATIENCE, ask(self, database)).await {
            Ok(Ok(backlog)) => backlog,
            Ok(Err(failure)) => {
                let error = failure.message();
                tracing::debug!(
                    database = database.name,
                    error,
                    "a tenant database does not say how many jobs wait"
                );
                return Ok(false);
            }
            Err(_) => {
                tracing::debug!(
                    database = database.name,
                    "a tenant database does not say in time how many jobs wait"
                );
                return Ok(false);
            }
        };
        let client = self.catalog().client().await?;
        job_backlog::set(&client, database.id, &backlog).await?;
        Ok(true)
    }
}

async fn ask(ops: &Ops, database: &TenantDatabase) -> Result<JobBacklog, Failure> {
    upgrade::require_current(database)?;
    let (admin, _) = administer(ops, database.server).await?;
    let client = admin.connect(&database.name).await?;
    let said = home::job_backlog(&client).await?;
    Ok(JobBacklog {
        waiting: said.waiting,
        oldest: said.oldest,
        dead: said.dead,
    })
}
