//! Ending the connections that may be bound to a tenant at an earlier placement in the same database.
//!
//! What a session is bound to does not name the placement, so the compiled fence refuses the tenant to all of them, and opens at a
//! later placement only when none is left from before it closed.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::{Wait, pause::Pauses};
use crate::sql_error::{Doing, SqlError};

/// Between two looks, at most.
const PAUSE: Duration = Duration::from_millis(10);
/// How long ended sessions may take to go.
const GRACE: Duration = Duration::from_secs(5);
/// What an error of a look says.
const WHAT: &str = "end the connections from before the fence";

/// How it ended.
#[must_use = "some may be left"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// None is left.
    All {
        /// How many were ended.
        terminated: u32,
    },
    /// The deadline passed, and these processes of the server are still at work in a transaction.
    Left {
        /// Their process ids.
        pids: Vec<i32>,
    },
}

/// Ends the connections of the application's role to this database that are from before the tenant's fence closed: those that are
/// in no transaction at once, the others when theirs is over, or at the deadline where that is wanted. They are all tenants', and
/// their pools open new ones. After it, [`super::open`] opens at a later placement.
///
/// Where the tenant moves now, which these are is not left to the server's clock, which may have been set back since they began:
/// every connection that is there at the first look counts as older, also one that was opened a moment ago. Of a fence that closed
/// long ago, that would be everybody's.
///
/// The fence is closed. Needs a superuser.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// Those that were ended are ended.
pub async fn end_older(client: &Client, tenant: TenantId, wait: Wait) -> Result<Ended, SqlError> {
    super::settle(client, tenant).await?;
    let started = Instant::now();
    let first: Vec<String> = connections(client).await?;
    // Looked again and again while a tenant waits: read and planned once.
    let looking = client
        .prepare(
            "select a.pid, case when a.state = 'idle' or a.state = 'disabled' or $2 then pg_catalog.pg_terminate_backend(a.pid) else false end
               from pg_catalog.pg_stat_activity a, tenantry_private.tenant_database d, tenantry_private.fence f
              where a.usename = d.app_role and a.datname = pg_catalog.current_database()
                and f.tenant = $1 and f.fenced_at is not null
                and ((a.backend_start >= f.settled_at) is not true or f.state = 1 and a.pid || ' ' || a.backend_start = any ($3))",
        )
        .await
        .doing(WHAT)?;
    let mut pauses = Pauses::up_to(PAUSE);
    // One that is told so is still there at the next look or two.
    let mut ended = HashSet::new();
    loop {
        let waited = started.elapsed();
        let all = wait.force && waited >= wait.deadline;
        let rows = client
            .query(&looking, &[tenant.as_uuid(), &all, &first])
            .await
            .doing(WHAT)?;
        let told = rows.iter().filter(|row| row.get(1));
        ended.extend(told.map(|row| row.get::<_, i32>(0)));
        if rows.is_empty() {
            return Ok(Ended::All {
                terminated: u32::try_from(ended.len()).unwrap_or(u32::MAX),
            });
        }
        let patience = if wait.force {
            wait.deadline + GRACE
        } else {
            wait.deadline
        };
        if waited >= patience {
            return Ok(Ended::Left {
                pids: rows.iter().map(|row| row.get(0)).collect(),
            });
        }
        pauses.pause().await;
    }
}

/// The application's connections to this database that are there now, each by what tells it from every other one.
async fn connections(client: &Client) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "select a.pid || ' ' || a.backend_start
               from pg_catalog.pg_stat_activity a, tenantry_private.tenant_database d
              where a.usename = d.app_role and a.datname = pg_catalog.current_database()",
            &[],
        )
        .await
        .doing("list the application's connections")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
