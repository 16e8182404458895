//! Jobs and schedules of a tenant: all but the last of the jobs while it works, so that their number is not what it waits for.
//!
//! They are signed with the key of their database. What the old database signed is signed anew by the new one; a row that was changed by
//! hand keeps its signature, and with it stays the dead letter that it was. To verify one and to sign it anew takes as long as to look
//! whether dozens have changed.
//!
//! **What is brought ahead is known by its versions.** PostgreSQL gives each version of a row the number of the transaction that wrote it
//! (`xmin`). A transaction leaves one version of a row behind, so an id and this number name one. It is read in the statement that copies the
//! row, and kept with the number of the transaction that wrote the row at the target. A row whose two numbers are still these when both
//! are looked at again is as it was when it was brought, on either side; every other one is thrown away at the target, and what the source has
//! of it is brought anew. Nothing is asked about what happened in between, in which order it was committed, or by whom:
//!
//! - **Done, removed, purged**: the source has the id no more, so the target loses it.
//! - **Taken by a worker, kept by its beat, given back, failed, dead, begun anew, due, changed by hand, signed by another key**: each is
//!   an update, and so another version. A job that runs was brought as one that waits, with the attempt given back; where its worker ends it before
//!   the fence closes it is gone, and otherwise it waits in the new home.
//! - **Of transactions that were open or prepared**: none of their rows is seen before they commit, and those of the application are waited for
//!   behind the fence, before the last look.
//! - **Frozen rows** show the number that they had. Numbers come again after four thousand million transactions; where a table was written anew by
//!   `vacuum full` they stay.
//! - **A crash** can take back transactions whose rows were seen, and their numbers are given again; what is known of the versions is
//!   lost with either connection, and the next try begins anew. So it does where another process goes on.
//! - **Changed at the target**: its workers make jobs due without asking whose they are, operators begin dead ones anew, keys change. None
//!   of them takes a job of a tenant whose fence is not open (`job_take`), and each leaves another version.
//!
//! A look reads two numbers of each job on both sides at once, and no payload. Schedules are a thousand at most, and all of them are taken
//! behind the fence. They come before the jobs: a worker that learned of a due time before the fence closed may still move a schedule on and make its
//! job. Then the job is taken with it or the time is due once more, and the job's unique key lets nobody make it twice.

use std::collections::HashMap;

use tenantry_core::TenantId;
use tokio_postgres::{Client, types::Type};
use uuid::Uuid;

use super::{
    TransferError,
    beside::{columns, stream},
    lasting::LIGHTLY,
};
use crate::sql_error::{Doing, SqlError};

/// How many jobs are taken by one transaction.
const PIECE: usize = 5_000;

/// A table of the mechanism with signed rows of tenants.
struct Signed {
    name: &'static str,
    mac: &'static str,
    /// What becomes of rows that somebody was at work on.
    settle: &'static str,
}

const JOB: Signed = Signed {
    name: "job",
    mac: "job_mac",
    // As if its worker had given it back: the lease was a number of the old database, and counts there only.
    settle: "update pg_temp.carried set state = 0, attempt = greatest(attempt - 1, 0)::pg_catalog.int2,
                    lease = null, leased_until = null, worker = null
              where state = 1",
};

const SCHEDULE: Signed = Signed {
    name: "schedule",
    mac: "schedule_mac",
    settle: "select",
};

/// Which jobs of a tenant were brought while it works, each by its version at the source and at the target.
#[derive(Default, Debug)]
pub struct JobsAhead {
    brought: HashMap<Uuid, Versions>,
}

/// What is left to be done with a tenant's jobs, as of one look at both sides.
#[derive(PartialEq, Eq, Default, Debug)]
pub struct JobsLeft {
    /// What the target has and shall not keep.
    gone: Vec<Uuid>,
    /// What the source has and the target has not, or shall not keep.
    missing: Vec<Uuid>,
}

/// The transactions that wrote a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Versions {
    source: i64,
    target: i64,
}

/// What becomes of a job in whose place the target has another one, by its id or its unique key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clash {
    /// It comes later: both sides go on, and one with the same unique key may have been done in between.
    LeftOut,
    /// Both sides stand still, so this can't be.
    Refused,
}

impl JobsLeft {
    /// How many jobs are to be thrown away or brought.
    pub fn count(&self) -> usize {
        self.gone.len() + self.missing.len()
    }

    /// Whether the target has what the source has.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// So many at most, first of what is to be thrown away: what comes may need its place.
    fn next(&mut self, count: usize) -> Self {
        let gone = self.gone.split_off(self.gone.len().saturating_sub(count));
        let room = if self.gone.is_empty() { count - gone.len() } else { 0 };
        let missing = self.missing.split_off(self.missing.len().saturating_sub(room));
        Self { gone, missing }
    }
}

impl JobsAhead {
    /// Looks at both sides. Of jobs that an earlier try has brought nothing is known, and all of them are to be thrown away.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn look(&self, source: &Client, target: &Client, tenant: TenantId) -> Result<JobsLeft, SqlError> {
        let (here, there) = tokio::try_join!(versions(source, tenant), versions(target, tenant))?;
        Ok(self.left(&here, &there))
    }

    fn left(&self, here: &HashMap<Uuid, i64>, there: &HashMap<Uuid, i64>) -> JobsLeft {
        let is_kept = |id: &Uuid| {
            let (source, target) = (here.get(id).copied(), there.get(id).copied());
            let versions = source.zip(target).map(|(source, target)| Versions { source, target });
            versions.is_some() && versions == self.brought.get(id).copied()
        };
        let others = |side: &HashMap<Uuid, i64>| side.keys().filter(|id| !is_kept(id)).copied().collect();
        JobsLeft {
            gone: others(there),
            missing: others(here),
        }
    }

    /// Does some of what is left, in one transaction, whose commit is not waited for. Both sides may go on.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections; begin anew.
    pub async fn bring(
        &mut self,
        source: &Client,
        target: &Client,
        tenant: TenantId,
        left: &mut JobsLeft,
    ) -> Result<(), TransferError> {
        let some = left.next(PIECE);
        let put = bring_some(source, target, tenant, &some, Clash::LeftOut).await?;
        for id in &some.gone {
            self.brought.remove(id);
        }
        self.brought.extend(put);
        Ok(())
    }
}

/// Takes a tenant's jobs and schedules from one database to another: what has changed of the jobs since some were brought ahead, else all. What
/// the target has beside that is thrown away: it can be done again. Jobs that were running wait again. Tells how many rows were taken now.
///
/// Both databases have the same version of the mechanism, and both fences are closed: nobody enqueues or takes one meanwhile. The commits at
/// the target are not waited for: [`make_lasting`](super::make_lasting) has to follow.
///
/// # Errors
///
/// Where a statement fails; drop both connections then.
///
/// # Cancel safety
///
/// Drop both connections; done again, it begins anew.
pub async fn carry_jobs(
    source: &Client,
    target: &Client,
    tenant: TenantId,
    ahead: Option<&JobsAhead>,
) -> Result<u64, TransferError> {
    let mut taken = carry_schedules(source, target, tenant).await?;
    let none = JobsAhead::default();
    let mut left = ahead.unwrap_or(&none).look(source, target, tenant).await?;
    while !left.is_empty() {
        let some = left.next(PIECE);
        let put = bring_some(source, target, tenant, &some, Clash::Refused).await?;
        taken += put.len() as u64;
    }
    Ok(taken)
}

/// A job's version is the transaction that wrote it.
async fn versions(client: &Client, tenant: TenantId) -> Result<HashMap<Uuid, i64>, SqlError> {
    let rows = client
        .query_typed(
            "select id, xmin::pg_catalog.text::pg_catalog.int8 from tenantry_private.job where tenant = $1",
            &[(tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("look which jobs there are")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// By the index: an estimate that is wrong would have all tenants' read. Nothing at the target has to be lasting before the switch.
async fn begin(source: &Client, target: &Client) -> Result<(), SqlError> {
    let read = "begin; set local enable_seqscan = off";
    let write = format!("{read}; {LIGHTLY}");
    tokio::try_join!(source.batch_execute(read), target.batch_execute(&write))
        .map(drop)
        .doing("begin to carry jobs")
}

async fn commit(source: &Client, target: &Client) -> Result<(), SqlError> {
    tokio::try_join!(source.batch_execute("commit"), target.batch_execute("commit"))
        .map(drop)
        .doing("commit the jobs")
}

/// Throws some jobs away at the target and brings some. Tells which it has now, and their versions.
async fn bring_some(
    source: &Client,
    target: &Client,
    tenant: TenantId,
    some: &JobsLeft,
    clash: Clash,
) -> Result<Vec<(Uuid, Versions)>, TransferError> {
    begin(source, target).await?;
    if !some.gone.is_empty() {
        target
            .execute_typed(
                "delete from tenantry_private.job where tenant = $1 and id = any ($2)",
                &[(tenant.as_uuid(), Type::UUID), (&some.gone, Type::UUID_ARRAY)],
            )
            .await
            .doing("throw away the jobs that have changed")?;
    }
    let mut put = Vec::new();
    if !some.missing.is_empty() {
        let ids: Vec<_> = some.missing.iter().map(Uuid::to_string).collect();
        let which = format!(" and o.id = any ('{{{}}}'::pg_catalog.uuid[])", ids.join(","));
        let columns = take(source, target, tenant, &JOB, &which).await?;
        put = put_jobs(target, &columns, clash).await?;
    }
    commit(source, target).await?;
    Ok(put)
}

async fn put_jobs(target: &Client, columns: &str, clash: Clash) -> Result<Vec<(Uuid, Versions)>, SqlError> {
    let clash = match clash {
        Clash::LeftOut => "on conflict do nothing",
        Clash::Refused => "",
    };
    let put = format!(
        "with put as (
           insert into tenantry_private.job ({columns}) select {columns} from pg_temp.carried {clash} returning id
         )
         select c.id, c.version, pg_catalog.pg_current_xact_id()::pg_catalog.xid::pg_catalog.text::pg_catalog.int8
           from put join pg_temp.carried as c on c.id = put.id"
    );
    let rows = target.query_typed(&put, &[]).await.doing("write the jobs")?;
    let of = |row: &tokio_postgres::Row| {
        let versions = Versions {
            source: row.get(1),
            target: row.get(2),
        };
        (row.get(0), versions)
    };
    Ok(rows.iter().map(of).collect())
}

async fn carry_schedules(source: &Client, target: &Client, tenant: TenantId) -> Result<u64, TransferError> {
    // Most tenants have none: a table would be made for them and thrown away while the tenant waits.
    let (here, there) = tokio::try_join!(has_schedules(source, tenant), has_schedules(target, tenant))?;
    if !here && !there {
        return Ok(0);
    }
    begin(source, target).await?;
    target
        .execute_typed(
            "delete from tenantry_private.schedule where tenant = $1",
            &[(tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("make room for schedules")?;
    let columns = take(source, target, tenant, &SCHEDULE, "").await?;
    let put = format!("insert into tenantry_private.schedule ({columns}) select {columns} from pg_temp.carried");
    let taken = target.execute_typed(&put, &[]).await.doing("write the schedules")?;
    commit(source, target).await?;
    Ok(taken)
}

async fn has_schedules(client: &Client, tenant: TenantId) -> Result<bool, SqlError> {
    let row = client
        .query_typed_one(
            "select exists (select from tenantry_private.schedule where tenant = $1)",
            &[(tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("look for schedules")?;
    Ok(row.get(0))
}

/// Takes rows of the source into a table of the target's transaction, each with its version, and signs there what the source has signed.
/// Tells the columns.
async fn take(
    source: &Client,
    target: &Client,
    tenant: TenantId,
    Signed { name, mac, settle }: &Signed,
    which: &str,
) -> Result<String, TransferError> {
    let columns = columns(target, name).await?;
    target
        .batch_execute(&format!(
            "create temporary table carried (like tenantry_private.{name}) on commit drop;
             alter table pg_temp.carried add column genuine boolean, add column version pg_catalog.int8"
        ))
        .await
        .doing("make room for jobs")?;
    let read = format!(
        "copy (select {columns}, o.mac is not distinct from tenantry_private.{mac}(o.kid, o), o.xmin::pg_catalog.text::pg_catalog.int8
                 from tenantry_private.{name} as o
                where o.tenant = '{}'{which}) to stdout",
        tenant.as_uuid()
    );
    let write = format!("copy pg_temp.carried ({columns}, genuine, version) from stdin");
    stream(source, &read, target, &write)
        .await
        .map_err(|source| TransferError::Copy {
            table: (*name).to_owned(),
            source,
        })?;
    // Before they stand beside others: no row can be taken for another one with the same signature.
    target
        .batch_execute(&format!(
            "{settle};
             update pg_temp.carried as c
                set kid = k.signs, mac = tenantry_private.{mac}(k.signs, row({columns})::tenantry_private.{name})
               from (select m.kid as signs from tenantry_private.mac_key as m
                      where m.database_name = pg_catalog.current_database()
                      order by m.created_at desc, m.kid desc limit 1) as k
              where c.genuine"
        ))
        .await
        .doing("sign the jobs")?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(versions: &[(u128, i64)]) -> HashMap<Uuid, i64> {
        let of = |&(id, version): &(u128, i64)| (Uuid::from_u128(id), version);
        versions.iter().map(of).collect()
    }

    fn sorted(mut ids: Vec<Uuid>) -> Vec<u128> {
        ids.sort();
        ids.iter().map(Uuid::as_u128).collect()
    }

    #[test]
    fn what_changed_on_either_side_is_thrown_away_and_brought_anew() {
        let mut ahead = JobsAhead::default();
        for id in 1..=6 {
            let versions = Versions { source: 10, target: 90 };
            ahead.brought.insert(Uuid::from_u128(id), versions);
        }
        // 2 was changed at the source, 3 at the target; 4 is done, 5 was taken out of the target, 6 is nowhere; 7 came, 8 is nobody's.
        let here = side(&[(1, 10), (2, 11), (3, 10), (5, 10), (7, 12)]);
        let there = side(&[(1, 90), (2, 90), (3, 91), (4, 90), (8, 90)]);
        let left = ahead.left(&here, &there);
        assert_eq!(left.count(), 8);
        assert_eq!(sorted(left.missing), [2, 3, 5, 7]);
        assert_eq!(sorted(left.gone), [2, 3, 4, 8]);
    }

    #[test]
    fn nothing_comes_before_all_that_goes_is_gone() {
        let ids = |from: u128, to: u128| (from..to).map(Uuid::from_u128).collect::<Vec<_>>();
        let mut left = JobsLeft {
            gone: ids(0, 5),
            missing: ids(10, 14),
        };
        let sizes = |some: &JobsLeft| (some.gone.len(), some.missing.len());
        assert_eq!(sizes(&left.next(3)), (3, 0));
        assert_eq!(sizes(&left.next(3)), (2, 1));
        assert_eq!(sizes(&left.next(3)), (0, 3));
        assert!(left.is_empty());
        assert_eq!(left.next(3), JobsLeft::default());
    }
}
