//! The history of a tenant's rows: all but the last of it while the tenant works, so that its length is not what the tenant waits for.
//!
//! **Nothing is added to what is brought ahead.** Entries are never changed, only added and taken out. An entry's id begins with the moment
//! at which it was written, and an entry that nobody sees yet is of a transaction that is open: so none that is older than all of these can
//! still come. Where somebody has prepared a transaction, or does not say when it began, nothing is brought ahead.
//!
//! **What is taken out of it are the oldest entries that are left.** `tenantry.history_forget` takes as many as it is asked for in the order
//! of their ids, and of two at once one waits for the rows of the other. Only who began before all of them were committed might see the
//! later of two entries and not the older, and take that one out. So the application's transactions that are open when it is settled what
//! is brought are waited for before the first entry is read; whoever begins after that sees all of it. A purge takes out in the same order, and
//! not beside a move.
//!
//! **So behind the closed fence** the source lacks entries from before the first that it still has, and nothing else of what was brought. They are
//! deleted at the target, and what was written since is copied: that costs what was forgotten and written meanwhile, and nothing for what there is.
//! All of it is copied anew where the first or the last of what was brought is then not the same on both sides, since somebody else has deleted
//! there by hand, and where the source's clock was set back by more than the ids allow for. After a crash of either server or of the process
//! the next try begins anew.

use std::time::{Duration, Instant};

use tenantry_core::TenantId;
use tokio_postgres::{Client, types::Type};
use uuid::Uuid;

use super::{
    TransferError,
    beside::{columns, stream},
    lasting::LIGHTLY,
};
use crate::{
    fence::{self, Behind, Wait},
    sql_error::{Doing, SqlError},
};

/// How many entries are taken at a time.
const PIECE: u64 = 5_000;
/// So many seconds may the source's clock be set back without being noticed: half of what the ids allow for.
const CLOCK_SECONDS: f64 = 30.0;

/// What was brought of a history while its tenant works.
#[derive(Debug)]
pub struct HistoryAhead {
    /// Before this id none is added any more.
    until: Uuid,
    /// Up to this one they were brought.
    last: Uuid,
    /// When that was settled: by the source's clock, in seconds, ...
    clock: f64,
    /// ... and by ours.
    began: Instant,
}

/// What a side has of what was brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ends {
    first: Option<Uuid>,
    last: Option<Uuid>,
}

impl HistoryAhead {
    /// Throws away what the target has of the tenant's history, and looks how much of it can be brought while the tenant works. `None` where
    /// that can't be told: the administrator does not see who is at work, a prepared transaction waits for its end, or one of the
    /// application's stays open for longer than `patience`.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections; done again, it begins anew.
    pub async fn begin(
        source: &Client,
        target: &Client,
        tenant: TenantId,
        patience: Duration,
    ) -> Result<Option<Self>, TransferError> {
        target
            .execute(
                "delete from tenantry_private.history where tenant = $1",
                &[tenant.as_uuid()],
            )
            .await
            .doing("make room for the history")?;
        let began = Instant::now();
        // A minute for a clock that is set back meanwhile. Its own transaction is among those that are open.
        let row = source
            .query_one(
                "select case when pg_catalog.pg_has_role('pg_read_all_stats', 'usage')
                              and not coalesce(pg_catalog.bool_or(a.state = 'disabled'), false)
                              and not exists (select from pg_catalog.pg_prepared_xacts p where p.database = pg_catalog.current_database())
                             then tenantry_private.history_id(least(min(a.xact_start), now()) - interval '1 min',
                                                              decode(repeat('00', 8), 'hex')) end,
                        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
                   from pg_catalog.pg_stat_activity a
                  where a.datname = pg_catalog.current_database()",
                &[],
            )
            .await
            .doing("look from when on history is written")?;
        let Some(until) = row.get::<_, Option<Uuid>>(0) else {
            return Ok(None);
        };
        let wait = Wait {
            deadline: patience,
            force: false,
        };
        match fence::wait_behind(source, wait).await? {
            Behind::Nobody { .. } => Ok(Some(Self {
                until,
                last: Uuid::nil(),
                clock: row.get(1),
                began,
            })),
            Behind::Transactions(_) => Ok(None),
        }
    }

    /// Brings some more. Tells whether there may be more than that.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections; begin anew.
    pub async fn bring(&mut self, source: &Client, target: &Client, tenant: TenantId) -> Result<bool, TransferError> {
        let (columns, id) = (columns(target, "history").await?, tenant.as_uuid());
        let read = format!(
            "copy (select {columns} from tenantry_private.history
                    where tenant = '{id}' and id > '{}' and id < '{}' order by id limit {PIECE}) to stdout",
            self.last, self.until
        );
        let write = format!("copy tenantry_private.history ({columns}) from stdin");
        let brought = stream(source, &read, target, &write).await.map_err(failed)?;
        let last = target
            .query_opt(
                "select id from tenantry_private.history where tenant = $1 order by id desc limit 1",
                &[id],
            )
            .await
            .doing("look how far the history is")?;
        self.last = last.map_or(self.last, |row| row.get(0));
        Ok(brought == PIECE)
    }

    /// Takes out of the target what was taken out of the source since. Tells from which id on there is more to copy: from the first one, where
    /// both sides have something else of what was brought.
    async fn settle(&self, source: &Client, target: &Client, tenant: TenantId) -> Result<Uuid, SqlError> {
        let (here, clock) = self.ends(source, tenant).await?;
        let oldest = here.first.unwrap_or(self.until);
        target
            .batch_execute(&format!(
                "delete from tenantry_private.history where tenant = '{}' and id < '{oldest}'",
                tenant.as_uuid()
            ))
            .await
            .doing("take out what was forgotten meanwhile")?;
        let (there, _) = self.ends(target, tenant).await?;
        Ok(match here == there && self.is_in_time(clock) {
            true => self.until,
            false => Uuid::nil(),
        })
    }

    /// By one look at the index each. Tells the time there too.
    async fn ends(&self, client: &Client, tenant: TenantId) -> Result<(Ends, f64), SqlError> {
        let row = client
            .query_typed_one(
                "select (select id from tenantry_private.history where tenant = $1 and id < $2 order by id limit 1),
                        (select id from tenantry_private.history where tenant = $1 and id < $2 order by id desc limit 1),
                        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())",
                &[(tenant.as_uuid(), Type::UUID), (&self.until, Type::UUID)],
            )
            .await
            .doing("look where the history begins and ends")?;
        let ends = Ends {
            first: row.get(0),
            last: row.get(1),
        };
        Ok((ends, row.get(2)))
    }

    /// Whether the source's clock has gone on as ours has.
    fn is_in_time(&self, clock: f64) -> bool {
        clock - self.clock >= self.began.elapsed().as_secs_f64() - CLOCK_SECONDS
    }
}

/// Takes the history of a tenant's rows from one database to another: what is left of it where some was brought before, else all. What the
/// target has beside that is thrown away: it can be done again. Tells how many entries were taken now.
///
/// Both fences are closed: nobody adds to it or takes out of it. The commit at the target is not waited for:
/// [`make_lasting`](super::make_lasting) has to follow.
///
/// # Errors
///
/// Where a statement fails; drop both connections then.
///
/// # Cancel safety
///
/// As [`super::carry_jobs`].
pub async fn carry_history(
    source: &Client,
    target: &Client,
    tenant: TenantId,
    ahead: Option<&HistoryAhead>,
) -> Result<u64, TransferError> {
    let (columns, id) = (columns(target, "history").await?, tenant.as_uuid());
    // By the index: an estimate that is wrong would have all of it read.
    target
        .batch_execute(&format!("begin; set local enable_seqscan = off; {LIGHTLY}"))
        .await
        .doing("begin to carry the history")?;
    let from = match ahead {
        Some(ahead) => ahead.settle(source, target, tenant).await?,
        None => Uuid::nil(),
    };
    target
        .batch_execute(&format!(
            "delete from tenantry_private.history where tenant = '{id}' and id >= '{from}'"
        ))
        .await
        .doing("make room for the history")?;
    let read = format!(
        "copy (select {columns} from tenantry_private.history where tenant = '{id}' and id >= '{from}') to stdout"
    );
    let write = format!("copy tenantry_private.history ({columns}) from stdin");
    let entries = stream(source, &read, target, &write).await.map_err(failed)?;
    target.batch_execute("commit").await.doing("commit the history")?;
    Ok(entries)
}

fn failed(source: tokio_postgres::Error) -> TransferError {
    TransferError::Copy {
        table: "history".to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_shows() {
        let ahead = HistoryAhead {
            until: Uuid::nil(),
            last: Uuid::nil(),
            clock: 1_000.0,
            began: Instant::now().checked_sub(Duration::from_secs(100)).unwrap(),
        };
        assert!(ahead.is_in_time(1_100.0));
        assert!(ahead.is_in_time(1_080.0), "less than the ids allow for");
        assert!(!ahead.is_in_time(1_040.0));
        assert!(!ahead.is_in_time(-2_500.0));
    }
}
