//! How full a server is, and what holds it up: in figures that PostgreSQL counts itself.

use tokio_postgres::Client;

use crate::sql_error::{Doing as _, SqlError};

/// A server's figures.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// Connections of clients, all of them.
    pub connections: i64,
    /// How many there can be, without those kept for superusers.
    pub connections_max: i64,
    /// Databases, templates left out.
    pub databases: i64,
    /// The database whose oldest row version is oldest, and how many transactions ago that was.
    pub oldest: Option<(String, i64)>,
    /// From which age on PostgreSQL freezes rows by itself (`autovacuum_freeze_max_age`).
    pub freeze_max_age: i64,
    /// The transaction that is open for longest, administrators' own aside.
    pub transaction: Option<OpenTransaction>,
}

/// A transaction that has not ended.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenTransaction {
    /// The backend.
    pub pid: i32,
    /// Whose it is.
    pub role: String,
    /// Where.
    pub database: String,
    /// `active`, `idle in transaction`.
    pub state: String,
    /// For how many seconds.
    pub seconds: f64,
}

/// Reads them.
///
/// # Errors
///
/// The server's.
pub async fn read(client: &Client) -> Result<Load, SqlError> {
    let row = client
        .query_one(
            "select (select count(*) from pg_stat_activity where backend_type = 'client backend'),
                    current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8,
                    (select count(*) from pg_database where not datistemplate),
                    o.datname::text, o.age::int8,
                    current_setting('autovacuum_freeze_max_age')::int8
               from (select 1) as one
               left join lateral (select datname, age(datfrozenxid) as age from pg_database
                                   order by age(datfrozenxid) desc, datname limit 1) as o on true",
            &[],
        )
        .await
        .doing("read how full the server is")?;
    let open = client
        .query_opt(
            "select pid, coalesce(usename::text, ''), coalesce(datname::text, ''), coalesce(state, ''),
                    extract(epoch from clock_timestamp() - xact_start)::float8
               from pg_stat_activity
              where xact_start is not null and backend_type = 'client backend' and pid <> pg_backend_pid()
              order by xact_start limit 1",
            &[],
        )
        .await
        .doing("look for open transactions")?;
    let oldest: Option<String> = row.get(3);
    Ok(Load {
        connections: row.get(0),
        connections_max: row.get(1),
        databases: row.get(2),
        oldest: oldest.map(|name| (name, row.get(4))),
        freeze_max_age: row.get(5),
        transaction: open.map(|row| OpenTransaction {
            pid: row.get(0),
            role: row.get(1),
            database: row.get(2),
            state: row.get(3),
            seconds: row.get(4),
        }),
    })
}

/// How many tables the connected database has, those of PostgreSQL left out.
///
/// # Errors
///
/// The database's.
pub async fn count_tables(client: &Client) -> Result<i64, SqlError> {
    let row = client
        .query_one(
            "select count(*) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
              where c.relkind in ('r', 'p', 'm') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'",
            &[],
        )
        .await
        .doing("count tables")?;
    Ok(row.get(0))
}
