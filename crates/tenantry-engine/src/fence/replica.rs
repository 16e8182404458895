//! The fence on a standby, where it closes when it is replayed.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Wait, pause::Pauses};
use crate::{
    sql_error::{Doing, SqlError},
    standby::{self, Position},
};

/// Between two looks, at most.
const PAUSE: Duration = Duration::from_millis(5);
/// How long ended sessions may take to go, after the deadline.
const GRACE: Duration = Duration::from_secs(5);

/// How it ended.
#[must_use = "the fence may not be closed there"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Followed {
    /// It is closed there, and nobody reads the tenant there any more.
    Closed,
    /// The server is a standby no more: nobody reads there.
    NoStandby,
    /// It has not replayed the fence.
    Behind {
        /// How many bytes of the log it lacks.
        bytes: u64,
    },
    /// These processes there are at work in a transaction that may have begun before.
    InUse {
        /// Their process ids.
        pids: Vec<i32>,
    },
}

/// Waits until a standby has replayed what closed a fence, and until the application role's transactions that may have begun
/// before are over there; with `Wait::force`, those are ended at the deadline. With `end_sessions` the application role's sessions
/// from before are ended too, as [`super::end_older`] does at the primary.
///
/// Takes a connection to the tenant database on the standby, and where the primary's log was after the fence closed.
///
/// # Errors
///
/// Where the standby can't be asked.
///
/// # Cancel safety
///
/// Those that were ended are ended.
pub async fn follow(client: &Client, closed: Position, end_sessions: bool, wait: Wait) -> Result<Followed, SqlError> {
    let started = Instant::now();
    let mut pauses = Pauses::up_to(PAUSE);
    loop {
        let Some(replayed) = standby::replayed(client).await? else {
            return Ok(Followed::NoStandby);
        };
        if replayed >= closed {
            break;
        }
        if started.elapsed() >= wait.deadline {
            let bytes = replayed.behind(closed);
            return Ok(Followed::Behind { bytes });
        }
        pauses.pause().await;
    }
    // By this server's clock, which is not the primary's.
    let row = client
        .query_one("select pg_catalog.clock_timestamp()::text", &[])
        .await
        .doing("ask for the standby's time")?;
    let since: String = row.get(0);
    let mut pauses = Pauses::up_to(PAUSE);
    loop {
        let force = wait.force && started.elapsed() >= wait.deadline;
        let pids = older(client, &since, end_sessions, force).await?;
        if pids.is_empty() {
            return Ok(Followed::Closed);
        }
        let patience = if wait.force {
            wait.deadline + GRACE
        } else {
            wait.deadline
        };
        if started.elapsed() >= patience {
            return Ok(Followed::InUse { pids });
        }
        pauses.pause().await;
    }
}

/// The sessions of the application's role that are in the way; those that shall be ended are.
async fn older(client: &Client, since: &str, end_sessions: bool, force: bool) -> Result<Vec<i32>, SqlError> {
    let rows = client
        .query(
            "select a.pid, case when $2 and (a.state = 'idle' or a.state = 'disabled') or $3 then pg_catalog.pg_terminate_backend(a.pid) end
               from pg_catalog.pg_stat_activity a, tenantry_private.tenant_database d
              where a.usename = d.app_role and a.datname = pg_catalog.current_database()
                and (a.backend_start >= $1::text::timestamptz) is not true
                and ($2 or (a.xact_start < $1::text::timestamptz))",
            &[&since, &end_sessions, &force],
        )
        .await
        .doing("look who is at work at the standby")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
