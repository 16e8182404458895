//! Jobs that wait, run or are dead: of a tenant for its admins, of the fleet for operators.
//!
//! A job's payload is its tenant's: only that tenant's admins are shown it. Why it failed is told to operators too, who have to
//! find out.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tenantry_catalog::{
    CatalogError, placement, server,
    tenant_database::{self, TenantDatabase},
};
use tenantry_core::{JobId, JobState, OperatorScope, Role, TenantDatabaseId, TenantId};
use tenantry_engine::home::{self, JobChoice, StoredJob, StoredSchedule};
use tokio_postgres::Client;

use crate::{
    Authority, Forbidden, MemberError, Ops,
    audit::{self, Act},
    members::recheck,
    runner::{Failure, administer},
    upgrade,
};

/// How many databases are asked at once.
const AT_ONCE: usize = 8;
/// From here on a call asks no more of them, should they answer slowly or not at all.
const ASKING: Duration = Duration::from_secs(10);

/// Which jobs to list.
#[derive(Clone, Copy, Debug)]
pub struct JobFilter<'a> {
    /// In these states.
    pub states: &'a [JobState],
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// After this one, in the order of tenants' ids and then of jobs'; not looked at where all tenants are asked for.
    pub after: Option<(TenantId, JobId)>,
}

/// A place in the jobs of the whole fleet: these stand by the ids of databases, of tenants and of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FleetPlace {
    /// In this database.
    pub database: TenantDatabaseId,
    /// After this job; behind all that the database has where none is named.
    pub job: Option<(TenantId, JobId)>,
}

/// A job, as far as whoever asks may see it.
#[derive(Clone, Debug)]
pub struct ShownJob {
    /// The job; its payload is empty where it is not shown.
    pub job: StoredJob,
    /// Whether the payload is shown.
    pub with_payload: bool,
}

/// What was found or done over the whole fleet.
#[derive(Clone, Debug)]
pub struct OverFleet<T> {
    /// What databases that answered said.
    pub found: T,
    /// The databases that did not, each with the reason.
    pub unreachable: Vec<String>,
    /// Where the next call goes on; `None` where all databases were asked.
    pub next: Option<FleetPlace>,
}

/// What one database answered.
struct Asked<T> {
    database: TenantDatabaseId,
    answer: Result<T, String>,
}

/// Why jobs were not shown or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant or job that the authority may know of, or the job is not in a state for it.
    #[error(
        "there is no such tenant or job, or the job can't be changed so: running ones end by themselves, and only dead ones begin anew"
    )]
    NotFound,
    /// The tenant has no schedule of its own with this name.
    #[error(
        "the tenant has no schedule of its own with this name: what a program declares for every tenant goes with the program"
    )]
    NoSchedule,
    /// The tenant's database can't be asked.
    #[error("the tenant's database can't be asked: {0}")]
    Server(String),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        Self::Server(failure.message())
    }
}

impl From<tenantry_engine::SqlError> for JobError {
    fn from(error: tenantry_engine::SqlError) -> Self {
        Self::Server(error.to_string())
    }
}

impl From<tokio_postgres::Error> for JobError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<MemberError> for JobError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Catalog(error) => Self::Catalog(error),
            MemberError::NotFound => Self::NotFound,
            _ => Self::Forbidden(Forbidden),
        }
    }
}

impl Ops {
    /// The jobs of a tenant, oldest first, at most `limit`.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn list_jobs(
        &self,
        authority: &Authority,
        tenant: TenantId,
        filter: &JobFilter<'_>,
        limit: i32,
    ) -> Result<Vec<ShownJob>, JobError> {
        require_admin(authority, tenant, OperatorScope::Read)?;
        let client = self.home_of(tenant).await?;
        let choice = JobChoice {
            tenant: Some(tenant),
            kind: filter.kind,
            id: None,
        };
        let found = home::list_jobs(&client, choice, filter.states, filter.after, limit).await?;
        Ok(found.into_iter().map(|job| shown(authority, job)).collect())
    }

    /// Lets dead jobs of a tenant begin anew: one that is named, or all of a kind. Tells how many there were; never none where one
    /// is named.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn retry_jobs(
        &self,
        authority: &Authority,
        tenant: TenantId,
        id: Option<JobId>,
        kind: Option<&str>,
    ) -> Result<u64, JobError> {
        self.change_jobs(authority, tenant, id, kind, Change::Retry).await
    }

    /// Takes out dead jobs of a tenant, all of a kind; or one that is named and does not run. Tells how many there were; never none
    /// where one is named.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn remove_jobs(
        &self,
        authority: &Authority,
        tenant: TenantId,
        id: Option<JobId>,
        kind: Option<&str>,
    ) -> Result<u64, JobError> {
        self.change_jobs(authority, tenant, id, kind, Change::Remove).await
    }

    async fn change_jobs(
        &self,
        authority: &Authority,
        tenant: TenantId,
        id: Option<JobId>,
        kind: Option<&str>,
        change: Change,
    ) -> Result<u64, JobError> {
        require_admin(authority, tenant, OperatorScope::Tenants)?;
        let client = self.home_of(tenant).await?;
        let choice = JobChoice {
            tenant: Some(tenant),
            id,
            kind,
        };
        self.note(authority, choice, change).await?;
        let changed = change.make(&client, choice).await?;
        match (id, changed) {
            (Some(_), 0) => Err(JobError::NotFound),
            (_, changed) => Ok(changed),
        }
    }

    /// The schedules of a tenant: its own, and after them those that programs declare for every tenant, each by name.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn list_schedules(
        &self,
        authority: &Authority,
        tenant: TenantId,
    ) -> Result<Vec<StoredSchedule>, JobError> {
        require_admin(authority, tenant, OperatorScope::Read)?;
        let client = self.home_of(tenant).await?;
        Ok(home::list_schedules(&client, tenant).await?)
    }

    /// Ends one of a tenant's own schedules; jobs that it has made stay.
    ///
    /// # Errors
    /// See [`JobError`]; [`JobError::NoSchedule`] where there is none of this name.
    pub async fn remove_schedule(&self, authority: &Authority, tenant: TenantId, name: &str) -> Result<(), JobError> {
        require_admin(authority, tenant, OperatorScope::Tenants)?;
        // PostgreSQL's texts hold no zero bytes, and so no schedule's name does.
        if name.contains('\0') {
            return Err(JobError::NoSchedule);
        }
        let client = self.home_of(tenant).await?;
        let act = Act {
            action: "schedule.remove",
            tenant: Some(tenant),
            target: name.to_owned(),
            before: None,
            after: None,
        };
        self.note_act(authority, act).await?;
        match home::remove_schedule(&client, tenant, name).await? {
            true => Ok(()),
            false => Err(JobError::NoSchedule),
        }
    }

    /// The jobs of every tenant, by database, tenant and age, at most `limit`, from a place on. A call asks so many databases at most: one
    /// may find less than `limit`, or nothing, and [`OverFleet::next`] still goes on.
    ///
    /// # Errors
    /// See [`JobError`]. That a database can't be asked is no error but a part of the answer.
    pub async fn list_all_jobs(
        &self,
        authority: &Authority,
        filter: &JobFilter<'_>,
        after: Option<FleetPlace>,
        limit: i32,
    ) -> Result<OverFleet<Vec<ShownJob>>, JobError> {
        authority.require_operator(OperatorScope::Read)?;
        let choice = JobChoice {
            kind: filter.kind,
            ..JobChoice::default()
        };
        let most = usize::try_from(limit).unwrap_or_default();
        let enough = |asked: &[Asked<Vec<StoredJob>>]| {
            let found = asked.iter().filter_map(|asked| asked.answer.as_ref().ok());
            found.map(Vec::len).sum::<usize>() > most
        };
        let ask = |client: Client, database: TenantDatabaseId| async move {
            let begun = after.filter(|place| place.database == database);
            // One more than is wanted, to see whether there are more.
            home::list_jobs(
                &client,
                choice,
                filter.states,
                begun.and_then(|place| place.job),
                limit.saturating_add(1),
            )
            .await
        };
        let (asked, next) = self.some_databases(after, ask, enough).await?;
        Ok(page(authority, asked, next, most))
    }

    /// Lets dead jobs of every tenant begin anew, of one kind or of all, from a place on. A call asks so many databases at most, and
    /// [`OverFleet::next`] goes on.
    ///
    /// # Errors
    /// As [`list_all_jobs`](Self::list_all_jobs).
    pub async fn retry_all_jobs(
        &self,
        authority: &Authority,
        kind: Option<&str>,
        after: Option<FleetPlace>,
    ) -> Result<OverFleet<u64>, JobError> {
        self.change_all_jobs(authority, kind, after, Change::Retry).await
    }

    /// Takes out dead jobs of every tenant, as [`retry_all_jobs`](Self::retry_all_jobs) lets them begin anew.
    ///
    /// # Errors
    /// As [`list_all_jobs`](Self::list_all_jobs).
    pub async fn remove_all_jobs(
        &self,
        authority: &Authority,
        kind: Option<&str>,
        after: Option<FleetPlace>,
    ) -> Result<OverFleet<u64>, JobError> {
        self.change_all_jobs(authority, kind, after, Change::Remove).await
    }

    async fn change_all_jobs(
        &self,
        authority: &Authority,
        kind: Option<&str>,
        after: Option<FleetPlace>,
        change: Change,
    ) -> Result<OverFleet<u64>, JobError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let choice = JobChoice {
            kind,
            ..JobChoice::default()
        };
        self.note(authority, choice, change).await?;
        let ask = |client: Client, _: TenantDatabaseId| async move { change.make(&client, choice).await };
        let (asked, next) = self.some_databases(after, ask, |_| false).await?;
        let mut changed = OverFleet {
            found: 0,
            unreachable: Vec::new(),
            next,
        };
        for Asked { answer, .. } in asked {
            match answer {
                Ok(jobs) => changed.found += jobs,
                Err(reason) => changed.unreachable.push(reason),
            }
        }
        Ok(changed)
    }

    async fn note(&self, authority: &Authority, choice: JobChoice<'_>, change: Change) -> Result<(), JobError> {
        let target = choice
            .id
            .map_or_else(|| "every dead one".to_owned(), |id| id.to_string());
        let act = Act {
            action: change.action(),
            tenant: choice.tenant,
            target,
            before: None,
            after: choice.kind.map(|kind| json!({ "kind": kind })),
        };
        self.note_act(authority, act).await
    }

    /// Written down before it is done: what can't be written down is not done. The member's right is looked at once more there, since
    /// the context can be a second old.
    async fn note_act(&self, authority: &Authority, act: Act<'_>) -> Result<(), JobError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if let Some(tenant) = act.tenant {
            recheck(&transaction, authority, tenant, Role::Admin).await?;
        }
        audit::record(&transaction, authority, act).await?;
        Ok(transaction.commit().await?)
    }

    /// The administrator's connection to where a tenant lives.
    async fn home_of(&self, tenant: TenantId) -> Result<Client, JobError> {
        let client = self.catalog().client().await?;
        let located = placement::locate(self.catalog(), &client, tenant).await?;
        let located = located.ok_or(JobError::NotFound)?;
        drop(client);
        Ok(connect(self, &located.database).await?)
    }

    /// Asks databases from a place on, in the order of their ids, until it is enough or a call's bounds are reached. Tells where the next
    /// call goes on.
    async fn some_databases<T, F>(
        &self,
        after: Option<FleetPlace>,
        ask: impl Fn(Client, TenantDatabaseId) -> F,
        enough: impl Fn(&[Asked<T>]) -> bool,
    ) -> Result<(Vec<Asked<T>>, Option<FleetPlace>), JobError>
    where
        F: Future<Output = Result<T, tenantry_engine::SqlError>>,
    {
        let client = self.catalog().client().await?;
        let mut databases = tenant_database::list_ready(&client).await?;
        let servers: BTreeMap<_, _> = server::list(&client)
            .await?
            .into_iter()
            .map(|server| (server.id, server.name))
            .collect();
        drop(client);
        databases.retain(|database| is_after(after, database.id));
        databases.sort_by_key(|database| database.id);
        let begun = Instant::now();
        let most = self.fleet().job_databases_max.max(1);
        let mut all = Vec::new();
        for some in databases.chunks(AT_ONCE.min(most)) {
            let asked = some.iter().map(|database| ask_one(self, database, &ask));
            for (database, answer) in some.iter().zip(join_all(asked).await) {
                let answer = answer.map_err(|failure| {
                    let server = servers.get(&database.server).map_or("", String::as_str);
                    format!("{server} {}: {}", database.name, failure.message())
                });
                all.push(Asked {
                    database: database.id,
                    answer,
                });
            }
            if all.len() >= most || begun.elapsed() >= ASKING || enough(&all) {
                break;
            }
        }
        let next = (all.len() < databases.len()).then(|| all.last()).flatten();
        let next = next.map(|last| FleetPlace {
            database: last.database,
            job: None,
        });
        Ok((all, next))
    }
}

/// Whether a database has anything behind the place.
fn is_after(place: Option<FleetPlace>, database: TenantDatabaseId) -> bool {
    match place {
        None => true,
        Some(FleetPlace {
            database: at,
            job: None,
        }) => database > at,
        Some(FleetPlace { database: at, .. }) => database >= at,
    }
}

/// So many jobs at most of what databases answered, and where the next page begins.
fn page(
    authority: &Authority,
    asked: Vec<Asked<Vec<StoredJob>>>,
    next: Option<FleetPlace>,
    most: usize,
) -> OverFleet<Vec<ShownJob>> {
    let mut page = OverFleet {
        found: Vec::new(),
        unreachable: Vec::new(),
        next,
    };
    let (mut last, mut seen) = (None, HashSet::new());
    for Asked { database, answer } in asked {
        let jobs = match answer {
            Ok(jobs) => jobs,
            Err(reason) => {
                page.unreachable.push(reason);
                continue;
            }
        };
        for job in jobs {
            if page.found.len() == most {
                // Whoever comes behind is asked again by the next page.
                page.next = last;
                return page;
            }
            last = Some(FleetPlace {
                database,
                job: Some((job.tenant, job.id)),
            });
            // While a tenant moves, both of its homes have them.
            if seen.insert((job.tenant, job.id)) {
                page.found.push(shown(authority, job));
            }
        }
    }
    page
}

async fn ask_one<T, F>(
    ops: &Ops,
    database: &TenantDatabase,
    ask: &impl Fn(Client, TenantDatabaseId) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, tenantry_engine::SqlError>>,
{
    let client = connect(ops, database).await?;
    Ok(ask(client, database.id).await?)
}

#[derive(Clone, Copy)]
enum Change {
    Retry,
    Remove,
}

impl Change {
    const fn action(self) -> &'static str {
        match self {
            Self::Retry => "job.retry",
            Self::Remove => "job.remove",
        }
    }

    async fn make(self, client: &Client, choice: JobChoice<'_>) -> Result<u64, tenantry_engine::SqlError> {
        match self {
            Self::Retry => home::retry_jobs(client, choice).await,
            Self::Remove => home::remove_jobs(client, choice).await,
        }
    }
}

async fn connect(ops: &Ops, database: &TenantDatabase) -> Result<Client, Failure> {
    upgrade::require_current(database)?;
    let (admin, _) = administer(ops, database.server).await?;
    Ok(admin.connect(&database.name).await?)
}

/// Passes the tenant's admins and owners, and operators with the scope. Another tenant's member learns nothing of it.
fn require_admin(authority: &Authority, tenant: TenantId, scope: OperatorScope) -> Result<(), JobError> {
    let role = match (authority, authority.role_in(tenant, scope)) {
        (Authority::Member { .. }, Err(Forbidden)) => return Err(JobError::NotFound),
        (_, role) => role?,
    };
    match role.may_manage_members() {
        true => Ok(()),
        false => Err(Forbidden.into()),
    }
}

fn shown(authority: &Authority, mut job: StoredJob) -> ShownJob {
    let with_payload = matches!(authority, Authority::Member { .. });
    if !with_payload {
        job.payload.clear();
    }
    ShownJob { job, with_payload }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_place_is_followed_by_what_its_database_has_left_and_by_those_behind() {
        let database = |number| TenantDatabaseId::from_uuid(Uuid::from_u128(number));
        let job = (
            TenantId::from_uuid(Uuid::from_u128(1)),
            JobId::from_uuid(Uuid::from_u128(1)),
        );
        let within = FleetPlace {
            database: database(2),
            job: Some(job),
        };
        let behind = FleetPlace { job: None, ..within };
        let after = |place| [1, 2, 3].map(|number| is_after(place, database(number)));
        assert_eq!(after(None), [true; 3]);
        assert_eq!(after(Some(within)), [false, true, true]);
        assert_eq!(after(Some(behind)), [false, false, true]);
    }
}
