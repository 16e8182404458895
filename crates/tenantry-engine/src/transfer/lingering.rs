//! Transactions that have been open for long: they would hold a move up for as long as they stay.

use std::time::Duration;

use tokio_postgres::{Client, Row};

use super::Obstacle;
use crate::sql_error::{Doing, SqlError};

/// A transaction that somebody has left open.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Lingering {
    /// The process that has it; `None` of a prepared one.
    pub pid: Option<i32>,
    /// `process 4711`, or the name that it was prepared under.
    pub name: String,
    /// Whose it is, and in which database.
    pub whose: String,
    /// How old it is.
    pub seconds: i64,
}

impl Lingering {
    /// As something in the way of what has to wait for it.
    #[must_use]
    pub fn obstacle(&self, waits: &str) -> Obstacle {
        let Self {
            name, whose, seconds, ..
        } = self;
        match self.pid {
            Some(pid) => Obstacle::new(
                "open-transaction",
                format!("{name} ({whose}) has been in a transaction for {seconds} s, and {waits} until it ends"),
                format!("wait until it ends, or end it: select pg_terminate_backend({pid})"),
            ),
            None => Obstacle::new(
                "prepared-transaction",
                format!(
                    "{name} ({whose}) has waited for {seconds} s, and {waits} until it is committed or rolled back"
                ),
                "commit prepared or rollback prepared, in that database",
            ),
        }
    }

    fn of(row: &Row) -> Self {
        let (pid, gid): (Option<i32>, Option<String>) = (row.get(0), row.get(1));
        let (role, database): (String, String) = (row.get(2), row.get(3));
        Self {
            name: match (pid, gid) {
                (Some(pid), _) => format!("process {pid}"),
                (None, gid) => format!("the prepared transaction `{}`", gid.unwrap_or_default()),
            },
            pid,
            whose: format!("{role} in {database}"),
            seconds: row.get(4),
        }
    }
}

/// The application's transactions in the connected tenant database that are older than that: a fence that closes waits for them.
///
/// # Errors
///
/// Where the database can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn before_a_fence(client: &Client, older_than: Duration) -> Result<Vec<Lingering>, SqlError> {
    read(
        client,
        "select a.pid, null::text, a.usename::text, a.datname::text,
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start)::int8
           from pg_catalog.pg_stat_activity a, tenantry_private.tenant_database d
          where a.usename = d.app_role and a.datname = pg_catalog.current_database()
            and a.xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
         union all
         select null::int4, p.gid, p.owner::text, p.database::text,
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared)::int8
           from pg_catalog.pg_prepared_xacts p, tenantry_private.tenant_database d
          where p.owner = d.app_role and p.database = pg_catalog.current_database()
            and p.prepared < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
          order by 5 desc",
        older_than,
    )
    .await
}

/// Everybody's transactions on the connected server that have written and are older than that: a slot is made when they are over,
/// whichever database they are in.
///
/// # Errors
///
/// Where the server can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn before_a_slot(client: &Client, older_than: Duration) -> Result<Vec<Lingering>, SqlError> {
    read(
        client,
        "select a.pid, null::text, coalesce(a.usename::text, a.backend_type), coalesce(a.datname::text, 'no database'),
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start)::int8
           from pg_catalog.pg_stat_activity a
          where a.backend_xid is not null
            and a.xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
         union all
         select null::int4, p.gid, p.owner::text, p.database::text,
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared)::int8
           from pg_catalog.pg_prepared_xacts p
          where p.prepared < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
          order by 5 desc",
        older_than,
    )
    .await
}

async fn read(client: &Client, sql: &str, older_than: Duration) -> Result<Vec<Lingering>, SqlError> {
    let rows = client
        .query(sql, &[&older_than.as_secs_f64()])
        .await
        .doing("look for transactions that stay open")?;
    Ok(rows.iter().map(Lingering::of).collect())
}
