//! Dead rows: a delete only marks rows, and their bytes stay where they were until something is done about it.

use std::time::Duration;

use tenantry_sql::Literal;
use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// How far it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clearing {
    /// Vacuums and analyzes: nobody waits for it. Queries, indexes and statistics lead to nothing of the tenant any more; the bytes of a
    /// dead row can stay in its page until another row is written there.
    Vacuum,
    /// Writes the tables and their indexes anew, without what was dead. Whoever uses a table waits meanwhile.
    Rewrite,
}

/// What was done with a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HowCleared {
    /// The table, quoted, with its schema.
    pub table: String,
    /// Why nothing was done, where that is so.
    pub skipped: Option<String>,
}

/// How long a rewrite waits for a table, and with it everybody behind it.
const REWRITE_PATIENCE: &str = "5s";
/// How long a vacuum waits for another one, or for a migration; nobody waits behind it for longer.
const VACUUM_PATIENCE: &str = "60s";
/// Where the tenants of the database are listed, those that are gone too.
const FENCE: &str = "tenantry_private.fence";
/// PostgreSQL's samples of values.
const STATISTICS: &str = "pg_catalog.pg_statistic";
/// How long is waited for those who may still write or see samples of what is gone.
const STATISTICS_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether older transactions have ended.
const LOOK: Duration = Duration::from_millis(100);

/// Clears the tables of the connected database in which tenants' rows stand side by side, Tenantry's own among them.
///
/// # Errors
///
/// Where the tables can't be listed. What can't be done with one is part of the answer.
///
/// # Cancel safety
///
/// Dropped, some tables are cleared and others not; ask again.
pub async fn clear(client: &Client, how: Clearing) -> Result<Vec<HowCleared>, SqlError> {
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname),
                    pg_catalog.pg_has_role(c.relowner, 'usage') or pg_catalog.pg_has_role(d.datdba, 'usage')
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
              where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^(pg_|t_[0-9a-f]{32}$)'
                and exists (select from pg_catalog.pg_attribute a
                             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                               and (a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype and a.attname in ('tenant_id', 'tenant')
                                    -- ledgers, where a schema of one's own is named after its tenant
                                    or n.nspname = 'tenantry_private' and a.attname = 'schema'))
              order by 1",
            &[],
        )
        .await
        .doing("list the shared tables")?;
    let mut tables: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let is_superuser: bool = client
        .query_one(
            "select rolsuper from pg_catalog.pg_roles where rolname = current_user",
            &[],
        )
        .await
        .doing("read the administrator's rights")?
        .get(0);
    if how == Clearing::Rewrite {
        // Last: it holds samples of the others' values until they are analyzed.
        tables.push((STATISTICS.to_owned(), is_superuser));
    }
    let patience = match how {
        Clearing::Vacuum => VACUUM_PATIENCE,
        Clearing::Rewrite => REWRITE_PATIENCE,
    };
    let patience = Literal::new(patience).expect("it holds no zero byte");
    client
        .batch_execute(&format!("set lock_timeout = {patience}"))
        .await
        .doing("set how long to wait")?;
    let mut cleared = Vec::with_capacity(tables.len());
    for (table, allowed) in tables {
        if allowed && table == STATISTICS {
            // Who analyzes just now writes samples of what was there when it began; and what it still sees is not cleared away.
            let holders = wait_for(client, Of::Catalogs, STATISTICS_PATIENCE).await?;
            if !holders.is_empty() {
                cleared.push(HowCleared {
                    skipped: Some(format!("{} still sees older samples", holders.join(", "))),
                    table,
                });
                continue;
            }
        }
        cleared.push(HowCleared {
            skipped: if allowed {
                match one(client, &table, how).await {
                    Ok(()) if is_superuser && table != STATISTICS => forget_samples(client, &table).await.err(),
                    done => done.err(),
                }
            } else {
                Some("the administrator owns neither the table nor the database".to_owned())
            },
            table,
        });
    }
    client
        .batch_execute("reset lock_timeout")
        .await
        .doing("set how long to wait")?;
    Ok(cleared)
}

async fn one(client: &Client, table: &str, how: Clearing) -> Result<(), String> {
    let sql = match how {
        // A system table is analyzed by nobody.
        Clearing::Rewrite if table == STATISTICS => format!("vacuum (full) {table}"),
        Clearing::Rewrite => format!("vacuum (full, analyze) {table}"),
        Clearing::Vacuum => format!("vacuum (analyze) {table}"),
    };
    client
        .batch_execute(&sql)
        .await
        .doing("clear a table")
        .map_err(|error| error.to_string())
}

/// Takes away PostgreSQL's samples of a table that has no rows any more: `analyze` finds nothing there, and leaves those that it took when
/// there were some. And those of the fence, where the id of a tenant that is gone stays: one place for it is enough. A superuser only sees
/// whether there are rows, and may.
async fn forget_samples(client: &Client, table: &str) -> Result<(), String> {
    let said = |error: SqlError| error.to_string();
    if table != FENCE {
        let rows = client
            .query_one(&format!("select exists (select from {table})"), &[])
            .await;
        if rows.doing("look for rows").map_err(said)?.get(0) {
            return Ok(());
        }
    }
    let name = Literal::new(table).map_err(|error| error.to_string())?;
    client
        .batch_execute(&format!(
            "delete from pg_catalog.pg_statistic
              where starelid = {name}::pg_catalog.regclass
                 or starelid in (select indexrelid from pg_catalog.pg_index where indrelid = {name}::pg_catalog.regclass);
             delete from pg_catalog.pg_statistic_ext_data
              where stxoid in (select oid from pg_catalog.pg_statistic_ext where stxrelid = {name}::pg_catalog.regclass)"
        ))
        .await
        .doing("take the samples of an empty table away")
        .map_err(said)
}

/// Waits until nobody can see any more what was deleted before this call, and tells who still does when the patience ends: sessions,
/// slots and prepared transactions, as sentences. What they see is not cleared away.
///
/// # Errors
///
/// Where a statement fails.
///
/// # Cancel safety
///
/// It changes nothing.
pub async fn holders(client: &Client, patience: Duration) -> Result<Vec<String>, SqlError> {
    wait_for(client, Of::Tables, patience).await
}

/// Whose older versions are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Tables,
    /// PostgreSQL's own tables, whose versions logical decoding keeps: of every database, whichever it decodes.
    Catalogs,
}

async fn wait_for(client: &Client, of: Of, patience: Duration) -> Result<Vec<String>, SqlError> {
    let now: String = client
        .query_one(
            "select pg_catalog.pg_current_xact_id()::pg_catalog.xid::pg_catalog.text",
            &[],
        )
        .await
        .doing("ask for the time of transactions")?
        .get(0);
    let until = tokio::time::Instant::now() + patience;
    loop {
        let holders = who_holds(client, of, &now).await?;
        if holders.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(holders);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn who_holds(client: &Client, of: Of, now: &str) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "with old as (
                 select pg_catalog.format('the session of %s (pid %s)', usename, pid) as who, backend_xmin as x
                   from pg_catalog.pg_stat_activity
                  where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid()
                    and query not ilike 'vacuum%'
                    and (backend_type <> 'autovacuum worker' or query ilike '%analyze%')
                 union all
                 select pg_catalog.format('the replication slot %s', slot_name), xmin from pg_catalog.pg_replication_slots
                 union all
                 select pg_catalog.format('the replication slot %s', slot_name), catalog_xmin
                   from pg_catalog.pg_replication_slots where $2
                 union all
                 select pg_catalog.format('the standby of the WAL sender %s', pid), backend_xmin
                   from pg_catalog.pg_stat_replication
                 union all
                 select pg_catalog.format('the prepared transaction %s', gid), transaction
                   from pg_catalog.pg_prepared_xacts where database = pg_catalog.current_database())
             select who from old
              where x is not null and pg_catalog.age(x) > pg_catalog.age($1::pg_catalog.text::pg_catalog.xid) order by 1",
            &[&now, &(of == Of::Catalogs)],
        )
        .await
        .doing("look for older transactions")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
