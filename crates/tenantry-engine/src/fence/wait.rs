//! Waiting for the transactions that began before a fence.

use std::time::{Duration, Instant};

use tenantry_core::{Epoch, TenantId};
use tokio_postgres::Client;

use super::pause::Pauses;
use crate::sql_error::{Doing, SqlError};

/// Between two looks, at most. A look costs the server a fraction of a millisecond.
const PAUSE: Duration = Duration::from_millis(5);
/// How long ended sessions may take to go, after the deadline.
const TERMINATION_GRACE: Duration = Duration::from_secs(5);

/// How long to wait, and then what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// How long the transactions may take.
    pub deadline: Duration,
    /// At the deadline: end the sessions that hold them, instead of opening the fence again. A prepared transaction has no
    /// session and cannot be ended so.
    pub force: bool,
}

/// How the wait ended.
#[must_use = "the fence may have been opened again"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Drained {
    /// None of them is left: nothing reads or writes the tenant here.
    Closed {
        /// How many sessions were ended.
        terminated: u32,
    },
    /// The deadline passed. The fence is open again at the same placement; try later.
    Reopened {
        /// The transactions that were still there: virtual ids, or `prepared <name>`.
        blockers: Vec<String>,
    },
}

/// How a wait ended that leaves the fence as it is.
#[must_use = "some may still be at work"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Nothing reads or writes the tenant here.
    Nobody {
        /// How many sessions were ended.
        terminated: u32,
    },
    /// The deadline passed, and these transactions are still there: virtual ids, or `prepared <name>`.
    Transactions(Vec<String>),
}

/// Waits for the application role's transactions in this database that are open now, prepared ones too. Called after
/// [`super::close`] has returned, these are all that may not have seen the fence: whichever begins later sees it.
///
/// # Errors
///
/// Where the database can't be asked. The fence is then still closed: call this again, or [`super::open`].
///
/// # Cancel safety
///
/// Dropped, the fence stays closed.
pub async fn wait_for_older(client: &Client, tenant: TenantId, epoch: Epoch, wait: Wait) -> Result<Drained, SqlError> {
    match wait_behind(client, wait).await? {
        Behind::Nobody { terminated } => Ok(Drained::Closed { terminated }),
        Behind::Transactions(blockers) => {
            super::open(client, tenant, epoch).await?;
            Ok(Drained::Reopened { blockers })
        }
    }
}

/// The same, and whoever is still there at the end, the fence stays as it is: for a tenant that shall be served to nobody
/// whether or not the wait succeeds.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// The fence stays as it is.
pub async fn wait_behind(client: &Client, wait: Wait) -> Result<Behind, SqlError> {
    let older = transactions(client).await?;
    let started = Instant::now();
    let mut pauses = Pauses::up_to(PAUSE);
    loop {
        // Where nobody is, nobody becomes a prepared one either.
        let left = match older.is_empty() {
            true => Vec::new(),
            false => still_open(client, &older).await?,
        };
        if left.is_empty() {
            return Ok(Behind::Nobody { terminated: 0 });
        }
        if started.elapsed() >= wait.deadline {
            return match wait.force {
                true => terminate(client, &older).await,
                false => Ok(Behind::Transactions(left)),
            };
        }
        pauses.pause().await;
    }
}

/// One of the earlier set may become a prepared transaction while we wait, under another name; so every prepared one counts.
async fn still_open(client: &Client, older: &[String]) -> Result<Vec<String>, SqlError> {
    let now = transactions(client).await?;
    Ok(now
        .into_iter()
        .filter(|id| older.contains(id) || id.starts_with("prepared "))
        .collect())
}

async fn transactions(client: &Client) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query_typed("select id from tenantry.fence_transactions()", &[])
        .await
        .doing("list the application's transactions")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn terminate(client: &Client, older: &[String]) -> Result<Behind, SqlError> {
    let row = client
        .query_one("select tenantry.fence_terminate($1)", &[&older])
        .await
        .doing("end the sessions that are in the way")?;
    let terminated = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
    let started = Instant::now();
    let mut pauses = Pauses::up_to(PAUSE);
    loop {
        let left = still_open(client, older).await?;
        if left.is_empty() {
            return Ok(Behind::Nobody { terminated });
        }
        if started.elapsed() >= TERMINATION_GRACE {
            return Ok(Behind::Transactions(left));
        }
        pauses.pause().await;
    }
}
