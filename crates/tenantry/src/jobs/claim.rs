//! The calls of a worker to one tenant database.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, ApiKeyId, Role, TenantDatabaseId, TenantId};
use tenantry_pool::Pools;
use tenantry_wire::Outcome;
use uuid::Uuid;

use super::JobId;
use crate::{Error, ErrorKind, Params, Row};

/// A job that was handed to this worker.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) database: TenantDatabaseId,
    pub(super) id: JobId,
    pub(super) tenant: TenantId,
    pub(super) kind: String,
    pub(super) payload: String,
    pub(super) account: Option<AccountId>,
    pub(super) api_key: Option<ApiKeyId>,
    /// The rights of who enqueued it, as the seal said.
    pub(super) role: Role,
    pub(super) attempt: i16,
    pub(super) attempts_max: i16,
    pub(super) lease: i64,
    pub(super) enqueued_at: DateTime<Utc>,
    pub(super) lane: i16,
}

/// The lane of jobs that somebody asked for.
pub(super) const ASKED: i16 = 0;
/// The lane of those that schedules made.
const SCHEDULED: i16 = 1;

/// Whose turn is next in a database: that of the tenant after the last one, among the jobs that somebody asked for, and among
/// those that schedules made; the two take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    lane: i16,
    after: [TenantId; 2],
}

impl Turn {
    pub(super) fn first() -> Self {
        Self {
            lane: ASKED,
            after: [TenantId::from_uuid(Uuid::nil()); 2],
        }
    }

    /// The next one's, when this job's was had.
    pub(super) fn had(&mut self, job: &Claimed) {
        let scheduled = job.lane != ASKED;
        self.after[usize::from(scheduled)] = job.tenant;
        self.lane = if scheduled { ASKED } else { SCHEDULED };
    }
}

/// A tenant database, as a worker sees it.
pub(super) struct Source {
    pub(super) database: TenantDatabaseId,
    pools: Pools,
}

const CLAIM: &str = "select id, tenant, kind, payload, account, role, attempt, attempts_max, lease, enqueued_at, lane, api_key \
    from tenantry.job_take($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.make_interval(secs => $9), $10, $11, true)";
const BEAT: &str = "select tenantry.job_beat($1, $2, $3, $4, $5, pg_catalog.make_interval(secs => $6))";
const FAILED: &str = "select tenantry.job_failed($1, $2, $3, $4, $5, $6, pg_catalog.make_interval(secs => $7))";
const RELEASE: &str = "select tenantry.job_release($1, $2, $3, $4, $5, pg_catalog.make_interval(secs => $6))";

/// What came of a beat.
pub(super) struct Kept {
    /// Jobs whose leases are over.
    pub(super) lost: Vec<JobId>,
    /// Why those of the others were not kept.
    pub(super) failed: Option<Error>,
}

/// What a worker asks for.
pub(super) struct Wish {
    pub(super) worker: Arc<str>,
    pub(super) kinds: Arc<[&'static str]>,
    pub(super) turn: Turn,
    pub(super) count: usize,
    pub(super) lease: Duration,
    pub(super) tenant_max: Option<i32>,
    /// Look after what became due and after leases that ended, too.
    pub(super) tidy: bool,
}

impl Source {
    pub(super) fn new(pools: Pools, database: TenantDatabaseId) -> Self {
        Self { database, pools }
    }

    /// Calls one of the functions for workers; the proof of the key goes before these parameters.
    pub(super) async fn call(&self, sql: &str, params: Params<'_>) -> Result<Outcome, Error> {
        Ok(self.pools.as_worker(self.database, sql, params).await?)
    }

    /// The same where it gives a number.
    pub(super) async fn number(&self, sql: &str, params: Params<'_>) -> Result<i32, Error> {
        let outcome = self.call(sql, params).await?;
        match outcome.rows.into_iter().next() {
            Some(row) => Row(row).get(0),
            None => Ok(0),
        }
    }

    /// Each is shared from here on: with its payload it may be a megabyte.
    pub(super) async fn claim(&self, wish: &Wish) -> Result<Vec<Arc<Claimed>>, Error> {
        let count = i32::try_from(wish.count).unwrap_or(i32::MAX);
        let outcome = self
            .call(
                CLAIM,
                &[
                    &&*wish.worker,
                    &&*wish.kinds,
                    &wish.turn.lane,
                    wish.turn.after[0].as_uuid(),
                    wish.turn.after[1].as_uuid(),
                    &count,
                    &wish.lease.as_secs_f64(),
                    &wish.tenant_max,
                    &wish.tidy,
                ],
            )
            .await?;
        let claimed = |row| self.claimed(&Row(row)).map(Arc::new);
        outcome.rows.into_iter().map(claimed).collect()
    }

    fn claimed(&self, row: &Row) -> Result<Claimed, Error> {
        let role: i16 = row.get(5)?;
        let account: Option<Uuid> = row.get(4)?;
        let api_key: Option<Uuid> = row.get(11)?;
        Ok(Claimed {
            database: self.database,
            id: JobId::from_uuid(row.get(0)?),
            tenant: TenantId::from_uuid(row.get(1)?),
            kind: row.get(2)?,
            payload: row.get(3)?,
            account: account.map(AccountId::from_uuid),
            api_key: api_key.map(ApiKeyId::from_uuid),
            role: Role::ALL
                .into_iter()
                .find(|known| i16::from(*known as u8) == role)
                .unwrap_or(Role::Viewer),
            attempt: row.get(6)?,
            attempts_max: row.get(7)?,
            lease: row.get(8)?,
            enqueued_at: row.get(9)?,
            lane: row.get(10)?,
        })
    }

    /// Keeps the leases of these, but for those that are lost.
    pub(super) async fn beat(&self, held: &[Arc<Claimed>], lease: Duration) -> Kept {
        match self.try_beat(held, lease).await {
            Ok(lost) => Kept { lost, failed: None },
            Err(error) => {
                // With the database its jobs are gone: its tenant was purged, or took them along to where it lives by now.
                let is_gone = error.kind() == ErrorKind::TenantNotFound;
                let gone = held.iter().filter(|_| is_gone);
                Kept {
                    lost: gone.map(|job| job.id).collect(),
                    failed: Some(error),
                }
            }
        }
    }

    async fn try_beat(&self, held: &[Arc<Claimed>], lease: Duration) -> Result<Vec<JobId>, Error> {
        let (tenants, ids, leases) = columns(held);
        let outcome = self
            .call(BEAT, &[&tenants, &ids, &leases, &lease.as_secs_f64()])
            .await?;
        let id = |row| Ok(JobId::from_uuid(Row(row).get(0)?));
        outcome.rows.into_iter().map(id).collect()
    }

    /// `again` is `None` for never. Tells whether the job was still this worker's.
    pub(super) async fn failed(&self, job: &Claimed, error: &str, again: Option<Duration>) -> Result<bool, Error> {
        // PostgreSQL's texts hold no zero bytes.
        let error = error.replace('\0', " ");
        let again = again.map(|again| again.as_secs_f64());
        let outcome = self
            .call(
                FAILED,
                &[job.tenant.as_uuid(), job.id.as_uuid(), &job.lease, &error, &again],
            )
            .await?;
        match outcome.rows.into_iter().next() {
            Some(row) => Row(row).get(0),
            None => Ok(false),
        }
    }

    /// Gives jobs back; the attempt does not count.
    pub(super) async fn release(&self, held: &[Arc<Claimed>], again: Duration) -> Result<(), Error> {
        let (tenants, ids, leases) = columns(held);
        self.call(RELEASE, &[&tenants, &ids, &leases, &again.as_secs_f64()])
            .await?;
        Ok(())
    }
}

fn columns(jobs: &[Arc<Claimed>]) -> (Vec<Uuid>, Vec<Uuid>, Vec<i64>) {
    let tenants = jobs.iter().map(|job| *job.tenant.as_uuid()).collect();
    let ids = jobs.iter().map(|job| *job.id.as_uuid()).collect();
    (tenants, ids, jobs.iter().map(|job| job.lease).collect())
}
