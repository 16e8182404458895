//! Schedules: jobs by the clock, of one tenant or of all.

use chrono::{DateTime, Utc};
use tenantry_core::AccountId;
use uuid::Uuid;

use super::{Job, enqueue::to_json, times::Times};
use crate::{Error, ErrorKind, FromRow, Row, Scope, Transaction};

/// What becomes of due times that nobody was there for: no worker ran, or the tenant was suspended. A time is missed when it is
/// older than a minute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Missed {
    /// Nothing.
    Skip = 0,
    /// One job for all of them together.
    #[default]
    Once = 1,
}

/// When jobs are made: a cron expression in a time zone.
///
/// Five fields: minute, hour, day of the month, month, day of the week; lists, ranges, steps and names, `L` for the last day;
/// `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. Where both days are named, one of them is enough.
///
/// What names a time that the zone's clocks leave out is due when the gap ends; a time that is there twice is due once.
///
/// ```
/// use tenantry::jobs::{Missed, Schedule};
///
/// let nightly = Schedule::in_zone("0 3 * * *", "Europe/Zurich")?.missed(Missed::Skip);
/// let next = nightly.next_after("2026-07-01T12:00:00Z".parse().unwrap());
/// assert_eq!(next.unwrap().to_rfc3339(), "2026-07-02T01:00:00+00:00");
/// assert!(Schedule::new("0 3 * *").is_err());
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it says when jobs are made, and makes none"]
pub struct Schedule {
    pub(super) cron: String,
    pub(super) zone: String,
    pub(super) missed: Missed,
    pub(super) priority: i16,
    pub(super) attempts_max: i16,
    times: Times,
}

impl Schedule {
    /// In UTC.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Parameter`] for what is no cron expression, or is never due.
    pub fn new(cron: &str) -> Result<Self, Error> {
        Self::in_zone(cron, "UTC")
    }

    /// In a time zone of the IANA's, such as `Europe/Zurich`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and for what is no time zone.
    pub fn in_zone(cron: &str, zone: &str) -> Result<Self, Error> {
        let times = Times::new(cron, zone).map_err(|wrong| Error::new(ErrorKind::Parameter, wrong))?;
        Ok(Self {
            cron: cron.trim().to_owned(),
            zone: zone.to_owned(),
            missed: Missed::default(),
            priority: 0,
            attempts_max: 25,
            times,
        })
    }

    /// What becomes of missed times; [`Missed::Once`] unless it is said.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Before scheduled jobs of the same tenant with a smaller priority.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// How often each job is tried at most, at least once.
    pub fn attempts_max(mut self, attempts: i16) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// The first due time after this, if there is one in the next thousands of years.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times.next(time)
    }
}

/// A schedule as its tenant's admins see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedSchedule {
    /// Its name: unique among the tenant's own, and among those of everyone.
    pub name: String,
    /// A program declares it for every tenant; else it is the tenant's own.
    pub everyone: bool,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// What becomes of missed times.
    pub missed: Missed,
    /// [`Job::KIND`](super::Job::KIND) of its jobs.
    pub kind: String,
    /// Their JSON.
    pub payload: String,
    /// Who set it, if a person did.
    pub account: Option<AccountId>,
    /// Their priority.
    pub priority: i16,
    /// How often each is tried at most.
    pub attempts_max: i16,
    /// The next due time; `None` before a worker has looked at it.
    pub next_at: Option<DateTime<Utc>>,
    /// Why no worker makes its jobs.
    pub broken: Option<String>,
    /// When it was first set.
    pub made_at: DateTime<Utc>,
}

impl FromRow for ListedSchedule {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let account: Option<Uuid> = row.get("account")?;
        Ok(Self {
            name: row.get("name")?,
            everyone: row.get("everyone")?,
            cron: row.get("cron")?,
            zone: row.get("zone")?,
            missed: missed(row.get("missed")?),
            kind: row.get("kind")?,
            payload: row.get("payload")?,
            account: account.map(AccountId::from_uuid),
            priority: row.get("priority")?,
            attempts_max: row.get("attempts_max")?,
            next_at: row.get("next_at")?,
            broken: row.get("broken")?,
            made_at: row.get("made_at")?,
        })
    }
}

/// As it is stored.
pub(super) fn missed(stored: i16) -> Missed {
    match stored {
        0 => Missed::Skip,
        _ => Missed::Once,
    }
}

const SET: &str = "select tenantry.schedule_set($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The same on a scope and in a transaction.
macro_rules! set {
    ($on:expr, $name:ident, $schedule:ident, $job:ident, $kind:expr, $api_key:expr) => {{
        let payload = to_json($job)?;
        let api_key = $api_key.map(|key| *key.as_uuid());
        $on.execute(
            SET,
            &[
                &$name,
                &$schedule.cron,
                &$schedule.zone,
                &($schedule.missed as i16),
                &$kind,
                &payload,
                &$schedule.priority,
                &$schedule.attempts_max,
                &api_key,
            ],
        )
        .await?;
    }};
}

impl Scope {
    /// Makes a job of the tenant at each due time from now on, as whoever sets it. The same name again takes the place of the
    /// earlier one; nothing is lost or made twice where it says the same. A tenant has 1000 schedules at most.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`ErrorKind::Database`] (42501) for roles below admin.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Self::query): dropped, it is not known whether it was set, and setting it again does no harm.
    pub async fn set_schedule<J: Job>(&self, name: &str, schedule: &Schedule, job: &J) -> Result<(), Error> {
        set!(self, name, schedule, job, J::KIND, self.context().api_key());
        self.tenantry().inner.job_wakes.wake_clock();
        Ok(())
    }

    /// The tenant's own schedules and those that programs declare for every tenant, by name.
    ///
    /// # Errors
    ///
    /// As [`set_schedule`](Self::set_schedule).
    pub async fn schedules(&self) -> Result<Vec<ListedSchedule>, Error> {
        self.query_as("select * from tenantry.schedule_list()", &[]).await
    }

    /// Ends one of the tenant's own schedules; jobs that it has made stay. Tells whether there was one.
    ///
    /// # Errors
    ///
    /// As [`set_schedule`](Self::set_schedule).
    pub async fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        self.query_one("select tenantry.schedule_remove($1)", &[&name])
            .await?
            .get(0)
    }
}

impl Transaction {
    /// As [`Scope::set_schedule`], and only if this transaction commits.
    ///
    /// # Errors
    ///
    /// As [`Scope::set_schedule`].
    pub async fn set_schedule<J: Job>(&mut self, name: &str, schedule: &Schedule, job: &J) -> Result<(), Error> {
        set!(self, name, schedule, job, J::KIND, self.api_key());
        Ok(())
    }
}
