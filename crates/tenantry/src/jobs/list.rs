//! What waits, runs or is dead in a tenant, for its admins.

use chrono::{DateTime, Utc};
use tenantry_core::AccountId;
use uuid::Uuid;

use super::{JobId, JobState};
use crate::{Error, ErrorKind, FromRow, Row, Scope};

/// A job as its tenant's admins see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedJob {
    /// Its id.
    pub id: JobId,
    /// [`Job::KIND`](super::Job::KIND).
    pub kind: String,
    /// Its JSON.
    pub payload: String,
    /// Who enqueued it, if a person did.
    pub account: Option<AccountId>,
    /// Where it stands.
    pub state: JobState,
    /// Its priority.
    pub priority: i16,
    /// When it is due.
    pub run_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempt: i16,
    /// How often it is tried at most.
    pub attempts_max: i16,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was enqueued.
    pub enqueued_at: DateTime<Utc>,
    /// When the last attempt failed.
    pub failed_at: Option<DateTime<Utc>>,
}

impl FromRow for ListedJob {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let state: i16 = row.get("state")?;
        let account: Option<Uuid> = row.get("account")?;
        Ok(Self {
            id: JobId::from_uuid(row.get("id")?),
            kind: row.get("kind")?,
            payload: row.get("payload")?,
            account: account.map(AccountId::from_uuid),
            state: JobState::of_number(state)
                .ok_or_else(|| Error::new(ErrorKind::Column, "a job's state is unknown to this version"))?,
            priority: row.get("priority")?,
            run_at: row.get("run_at")?,
            attempt: row.get("attempt")?,
            attempts_max: row.get("attempts_max")?,
            unique_key: row.get("unique_key")?,
            error: row.get("error")?,
            enqueued_at: row.get("enqueued_at")?,
            failed_at: row.get("failed_at")?,
        })
    }
}

impl Scope {
    /// The tenant's jobs in these states, oldest first, `count` at most, after the one named.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::Database`] (42501) for roles below admin.
    pub async fn jobs(&self, states: &[JobState], after: Option<JobId>, count: u32) -> Result<Vec<ListedJob>, Error> {
        let states: Vec<i16> = states.iter().map(|state| state.number()).collect();
        let after = after.map(|id| *id.as_uuid());
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let sql = "select * from tenantry.job_list($1, $2, $3)";
        self.query_as(sql, &[&states, &after, &count]).await
    }

    /// Lets a dead job begin anew, with all its attempts. Tells whether there was one.
    ///
    /// # Errors
    ///
    /// As [`jobs`](Self::jobs).
    pub async fn retry_job(&self, id: JobId) -> Result<bool, Error> {
        self.query_one("select tenantry.job_retry($1)", &[id.as_uuid()])
            .await?
            .get(0)
    }

    /// Takes out a job that does not run. Tells whether there was one.
    ///
    /// # Errors
    ///
    /// As [`jobs`](Self::jobs).
    pub async fn remove_job(&self, id: JobId) -> Result<bool, Error> {
        self.query_one("select tenantry.job_remove($1)", &[id.as_uuid()])
            .await?
            .get(0)
    }
}
