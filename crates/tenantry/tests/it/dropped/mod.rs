//! Dropping every public future at every await it has; then somebody else uses the connections.
//!
//! `TENANTRY_DROPS` says how many drops the long run makes (`cargo xtask drops`); each test alone makes what one pass over
//! its programs takes.

#[cfg(all(feature = "sqlx", feature = "diesel"))]
mod adapters;
mod coverage;
mod poll;
mod programs;

pub(crate) use poll::dropped_after;

use std::time::{Duration, Instant};

use tenantry::{PoolConfig, PoolStatus};

use crate::world::World;
use programs::Program;

/// Every program.
fn programs() -> impl Iterator<Item = &'static Program> {
    let programs = programs::PROGRAMS.iter();
    #[cfg(all(feature = "sqlx", feature = "diesel"))]
    let programs = programs.chain(adapters::PROGRAMS);
    programs
}

/// Two, so that a program which waits for a second connection while it holds one would be found by its time-out.
const CONNECTIONS_MAX: usize = 2;
/// How long it may wait for one.
const PATIENCE: Duration = Duration::from_secs(60);
/// No program has as many awaits.
const POLLS_MAX: usize = 500;
/// How often a program has to come to its end before its awaits count as exhausted: polls vary with the weather.
const ENDS: usize = 2;

/// A world, and how many futures were dropped in it.
struct Drops {
    world: World,
    /// Makes ids and texts that no earlier attempt used.
    attempt: i32,
    dropped: usize,
}

impl Drops {
    async fn new() -> Self {
        let pool = PoolConfig {
            connections_max: CONNECTIONS_MAX,
            // A machine that does much else is not a connection that was lost.
            wait_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..PoolConfig::default()
        };
        Self {
            world: World::with(pool).await,
            attempt: 1000,
            dropped: 0,
        }
    }

    /// Drops the program of tenant `n` at each of its awaits.
    async fn at_every_await(&mut self, program: &Program, n: usize) {
        let mut ends = 0;
        for polls in 1..POLLS_MAX {
            self.attempt += 1;
            let scope = self.world.scope(n).await;
            let work = (program.start)(scope, self.attempt);
            if dropped_after(polls, work).await {
                ends += 1;
            } else {
                self.dropped += 1;
            }
            let after = format!("{} of tenant {n}", program.name);
            self.world.nobody_is_in_a_transaction(&after).await;
            self.is_untouched(program, n).await;
            self.neighbour_sees_its_own(program, n ^ 1).await;
            if ends == ENDS {
                return self.nothing_is_lost(program, n).await;
            }
        }
        panic!("{} never came to its end", program.name);
    }

    /// What the tenant had before is as it was. In a database of its own, nobody else could come upon what is left.
    async fn is_untouched(&self, program: &Program, n: usize) {
        let scope = self.world.scope(n).await;
        let sql = "select name from contact where id = 1";
        let row = scope.query_one_as::<(String,)>(sql, &[]).await.unwrap();
        assert_eq!(row.0, format!("contact of {n}"), "after {}", program.name);
    }

    /// The tenant that shares the connections sees its own rows and no others, and writes to its own.
    async fn neighbour_sees_its_own(&self, program: &Program, n: usize) {
        let scope = self.world.scope(n).await;
        let rows: Vec<(i32, String)> = scope
            .query_as("select id, name from contact order by id", &[])
            .await
            .unwrap();
        assert_eq!(rows, [(1, format!("contact of {n}"))], "after {}", program.name);
        let renamed = scope
            .execute("update contact set name = name where name = $1", &[&rows[0].1])
            .await
            .unwrap();
        assert_eq!(renamed, 1, "after {}", program.name);
    }

    /// No transaction is left open, and the pools and the server agree on how many connections there are.
    async fn nothing_is_lost(&self, program: &Program, n: usize) {
        let since = Instant::now();
        loop {
            let (open, transactions) = self.world.sessions().await;
            let status = self.status();
            let settled = status.idle == status.open && status.waiting == 0;
            if transactions == 0 && settled && open == status.open {
                // The scope's own, sqlx's and diesel's, in each of three databases.
                return assert!(status.open <= 3 * 3 * CONNECTIONS_MAX, "{status:?}");
            }
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "after {} of tenant {n}: {transactions} transactions are open, {open} sessions, {status:?}",
                program.name
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All pools together.
    fn status(&self) -> PoolStatus {
        let each = self.world.tenantry.pool_status();
        each.iter().fold(PoolStatus::default(), |sum, (_, status)| PoolStatus {
            open: sum.open + status.open,
            idle: sum.idle + status.idle,
            waiting: sum.waiting + status.waiting,
            raw: sum.raw + status.raw,
        })
    }

    /// One pass over every program, for one tenant of each isolation in turn.
    async fn pass(&mut self, tenants: &[usize]) {
        for program in programs() {
            for &n in tenants {
                self.at_every_await(program, n).await;
            }
        }
    }
}

#[tokio::test]
async fn every_future_dropped_at_every_await_leaves_nothing_in_shared_tables() {
    passes(&[0]).await;
}

#[tokio::test]
async fn every_future_dropped_at_every_await_leaves_nothing_in_an_own_schema() {
    passes(&[2]).await;
}

#[tokio::test]
async fn every_future_dropped_at_every_await_leaves_nothing_in_an_own_database() {
    passes(&[4]).await;
}

async fn passes(tenants: &[usize]) {
    let mut drops = Drops::new().await;
    drops.pass(tenants).await;
    assert!(drops.dropped > programs().count(), "hardly anything was dropped");
    let wanted = std::env::var("TENANTRY_DROPS").map_or(0, |drops| drops.parse().expect("TENANTRY_DROPS is a number"));
    while drops.dropped < wanted {
        // Who drops and who looks changes with each pass.
        let others: Vec<usize> = tenants.iter().map(|n| n ^ (drops.dropped % 2)).collect();
        drops.clear(&others).await;
        drops.pass(&others).await;
    }
    if wanted > 0 {
        println!(
            "{} drops for tenants {tenants:?}: no foreign row, no open transaction, no connection lost",
            drops.dropped
        );
    }
}

impl Drops {
    /// What earlier attempts of these tenants and their neighbours have left, which is theirs.
    async fn clear(&self, tenants: &[usize]) {
        for n in tenants.iter().flat_map(|n| [*n, n ^ 1]) {
            let scope = self.world.scope(n).await;
            scope.execute("delete from contact where id <> 1", &[]).await.unwrap();
        }
    }
}
