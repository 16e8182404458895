//! How the budget of connections to a server is divided among processes.
//!
//! The only clock is the catalog's. What a process holds is what stands in its row, and rows change under one lock per server,
//! so the sum never exceeds the budget, whatever the processes hear of each other and when. See `docs/adr/0014`.

use std::time::Duration;

use tenantry_core::{Change, ServerId, divide, reserve};
use uuid::Uuid;

use crate::{Catalog, CatalogError, Db, change};

/// What a process says of itself when it renews its lease.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Which process.
    pub process: Uuid,
    /// Of which server.
    pub server: ServerId,
    /// More it would not use.
    pub wanted: u32,
    /// More it does not have, and will not open before it is given more.
    pub held: u32,
    /// Whether it serves requests, and divides what plans give with the others that do.
    pub serves: bool,
    /// How long it believes the answer.
    pub lease: Duration,
    /// How long after the lease's end it may still have connections.
    pub grace: Duration,
}

/// What a process may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Its share, once the others have come down to theirs.
    pub target: u32,
    /// What it may have now, or has still to give back.
    pub held: u32,
}

/// Renews a process's lease on a server, and divides the budget anew; `None` if there is no such server.
///
/// # Errors
/// When the catalog fails: then it is not known whether the row was written, and the process goes on with what it had.
pub async fn renew(catalog: &Catalog, standing: &Standing) -> Result<Option<Granted>, CatalogError> {
    let mut client = catalog.client().await?;
    let transaction = client.transaction().await?;
    let server = standing.server.as_uuid();
    // Who is cut off while it holds the lock must not keep it: the server ends its session.
    let idle_ms = (standing.lease / 3).as_millis().max(100).to_string();
    transaction
        .execute(
            "select set_config('idle_in_transaction_session_timeout', $2, true),
                    pg_advisory_xact_lock(hashtextextended('tenantry.connection_share ' || $1::text, 0))",
            &[&server.to_string(), &idle_ms],
        )
        .await?;
    // In a statement of its own: its snapshot is taken under the lock.
    let Some(budget) = budget(&transaction, standing.server).await? else {
        return Ok(None);
    };
    // Each row says how long its process needs to come down by itself.
    let gone = Db::execute(
        &transaction,
        "delete from connection_share where server = $1 and process <> $2 and kept_until < clock_timestamp()",
        &[server, &standing.process],
    )
    .await?;
    let rows = Db::query(
        &transaction,
        "select process, wanted, held, serves from connection_share where server = $1 order by joined_at, process",
        &[server],
    )
    .await?;
    let mut wanted = Vec::with_capacity(rows.len() + 1);
    let (mut own, mut before, mut others) = (rows.len(), None, 0);
    for (n, row) in rows.iter().enumerate() {
        let held = number(row.get(2));
        if row.get::<_, Uuid>(0) == standing.process {
            (own, before) = (n, Some((number(row.get(1)), held, row.get::<_, bool>(3))));
            wanted.push(standing.wanted);
        } else {
            others += held;
            wanted.push(number(row.get(1)));
        }
    }
    if before.is_none() {
        wanted.push(standing.wanted);
    }
    let target = divide(budget - reserve(budget), &wanted)[own];
    let free = budget.saturating_sub(others);
    let held = standing.held.max(target.min(free));
    Db::execute(
        &transaction,
        "insert into connection_share (server, process, wanted, held, serves, kept_until)
         values ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 millisecond')
         on conflict (server, process) do update
         set wanted = excluded.wanted, held = excluded.held, serves = excluded.serves, kept_until = excluded.kept_until",
        &[
            server,
            &standing.process,
            &signed(standing.wanted),
            &signed(held),
            &standing.serves,
            &millis(standing.lease + standing.grace),
        ],
    )
    .await?;
    // What gives others more or less than before; that a lease goes on is nobody's news.
    let is_news = gone > 0
        || before.is_none_or(|(wanted, before, served)| {
            wanted != standing.wanted || held < before || served != standing.serves
        });
    if is_news {
        change::announce(&transaction, Change::Shares).await?;
    }
    transaction.commit().await?;
    Ok(Some(Granted { target, held }))
}

/// A process has closed its connections and needs no more.
///
/// # Errors
/// When the catalog fails; the leases then end by themselves.
pub async fn leave(catalog: &Catalog, process: Uuid) -> Result<(), CatalogError> {
    let mut client = catalog.client().await?;
    let transaction = client.transaction().await?;
    let left = Db::execute(
        &transaction,
        "delete from connection_share where process = $1",
        &[&process],
    )
    .await?;
    if left > 0 {
        change::announce(&transaction, Change::Shares).await?;
    }
    Ok(transaction.commit().await?)
}

/// Who holds how many connections to a server, the longest there first.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, server: ServerId) -> Result<Vec<(Uuid, u32)>, CatalogError> {
    let rows = db
        .query(
            "select process, held from connection_share where server = $1 order by joined_at, process",
            &[server.as_uuid()],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), number(row.get(1)))).collect())
}

/// How many other processes hold a lease on any server's connections and serve requests, or don't: those that run, and those that were
/// killed a moment ago.
///
/// # Errors
/// When the catalog fails.
pub async fn count_others(db: &impl Db, process: Uuid, serve: bool) -> Result<u32, CatalogError> {
    let row = db
        .query_one(
            "select count(distinct process) from connection_share
             where kept_until > clock_timestamp() and process <> $1 and serves = $2",
            &[&process, &serve],
        )
        .await?;
    Ok(u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX))
}

async fn budget(db: &impl Db, server: ServerId) -> Result<Option<u32>, CatalogError> {
    let row = db
        .query_opt(
            // A replica has as many as its server.
            "select s.connections from server as s
             where s.id = $1 or s.id = (select r.server from server_replica as r where r.id = $1)",
            &[server.as_uuid()],
        )
        .await?;
    Ok(row.map(|row| number(row.get(0))))
}

fn number(column: i32) -> u32 {
    u32::try_from(column).unwrap_or(0)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
