//! Keeping leases and giving jobs back: each database by itself, so that one that hangs costs no other's leases.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tenantry_core::TenantDatabaseId;
use tokio::{task::JoinError, time::timeout};

use super::Shift;
use crate::jobs::claim::{Claimed, Kept, Source};

/// How long a database has to take jobs back; later, their leases are as good as over.
const RELEASE: Duration = Duration::from_secs(5);

/// What a database said to a beat.
pub(super) struct Beaten {
    database: TenantDatabaseId,
    /// Which leases are over; by their numbers, since the same job may be back under a new one.
    lost: Vec<i64>,
}

impl Shift {
    /// What this worker has a lease of. Of what is over it has none any more, even where its handler goes on.
    fn leased(&self) -> Vec<(Arc<Source>, Vec<Arc<Claimed>>)> {
        let held = self.held.values().filter(|held| !held.over.is_done());
        let held = held.map(|held| (held.source.clone(), held.job.clone()));
        let ready = self.ready.iter().map(|ready| (ready.source.clone(), ready.job.clone()));
        by_database(held.chain(ready))
    }

    /// Keeps the leases.
    pub(super) fn beat(&mut self) {
        let lease = self.worker.lease;
        for (source, jobs) in self.leased() {
            self.beating.spawn(async move {
                // No longer than until the next beat.
                let lost = match timeout(lease / 6, source.beat(&jobs, lease)).await {
                    Ok(Kept { lost, failed: None }) => lost,
                    Ok(Kept {
                        lost,
                        failed: Some(error),
                    }) => {
                        tracing::warn!(error = %error, database = %source.database, "the leases of jobs can't be kept");
                        lost
                    }
                    Err(_) => {
                        tracing::warn!(database = %source.database, "the leases of jobs can't be kept in time");
                        Vec::new()
                    }
                };
                let lost = jobs.iter().filter(|job| lost.contains(&job.id));
                Beaten {
                    database: source.database,
                    lost: lost.map(|job| job.lease).collect(),
                }
            });
        }
    }

    /// Stops what was lost.
    pub(super) fn beaten(&mut self, beaten: Result<Beaten, JoinError>) {
        let Beaten { database, lost } = match beaten {
            Ok(beaten) => beaten,
            Err(error) => return tracing::error!(error = %error, "a beat came to no end"),
        };
        let is_lost = |job: &Claimed| job.database == database && lost.contains(&job.lease);
        for held in self.held.values().filter(|held| is_lost(&held.job)) {
            // The database has no such job where its end was committed a moment ago, and there is nothing to stop. Else the transaction
            // that would end it is refused.
            if !held.over.may_be_done() {
                held.task.abort();
            }
        }
        self.ready.retain(|ready| !is_lost(&ready.job));
    }

    /// Gives jobs back, without waiting for it.
    pub(super) fn give_back(&mut self, jobs: impl Iterator<Item = (Arc<Source>, Arc<Claimed>)>) {
        for (source, jobs) in by_database(jobs) {
            self.releasing.spawn(async move {
                match timeout(RELEASE, source.release(&jobs, Duration::ZERO)).await {
                    Ok(Ok(())) => jobs.len(),
                    // Their leases end.
                    Ok(Err(error)) => {
                        tracing::warn!(error = %error, database = %source.database, "jobs can't be given back");
                        0
                    }
                    Err(_) => {
                        tracing::warn!(database = %source.database, "jobs can't be given back in time");
                        0
                    }
                }
            });
        }
    }

    pub(super) fn given_back(&mut self, given_back: Result<usize, JoinError>) {
        match given_back {
            Ok(jobs) => self.report.given_back += jobs as u64,
            Err(error) => tracing::error!(error = %error, "jobs were given back to no end"),
        }
    }
}

fn by_database(jobs: impl Iterator<Item = (Arc<Source>, Arc<Claimed>)>) -> Vec<(Arc<Source>, Vec<Arc<Claimed>>)> {
    let mut by_database: HashMap<TenantDatabaseId, (Arc<Source>, Vec<Arc<Claimed>>)> = HashMap::new();
    for (source, job) in jobs {
        let entry = by_database.entry(job.database).or_insert_with(|| (source, Vec::new()));
        entry.1.push(job);
    }
    by_database.into_values().collect()
}
