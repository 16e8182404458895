//! What other tenants of the same tables wait for while one is copied to another server.
//!
//! That server and who moves are on the last processor, the application and the first server on the others: in production they are
//! machines of their own, and what is measured is what the copy costs the source.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use tenantry::Scope;
use tenantry_ops::{MoveStep, Operation};

use super::{
    super::{
        measure::Spread,
        placed::Placed,
        report::{Finding, Target},
        world::CROWD,
    },
    calls::{Answer, Call, Calls, percentile_ms},
    mover,
    site::{AT_HOME, AWAY, Site},
};

/// How long they are measured without a move.
const ALONE: Duration = Duration::from_secs(6);
const ALONE_SMALL: Duration = Duration::from_millis(500);
/// Calls before that count for neither: their connections are opened, and their statements prepared.
const WARM_UP: Duration = Duration::from_secs(1);
/// One of so many calls writes.
const WRITE_OF: u64 = 4;
const READ: &str = "select name, phone from contacts where email = 'person-1@example.com'";
const WRITE: &str = "update contacts set phone = $1 where email = 'person-2@example.com'";

/// p99 of reads and of writes, in milliseconds.
struct Tails {
    reads: f64,
    writes: f64,
}

pub(super) async fn all(site: &Site<'_>, rounds: u32, progress: &dyn Fn(&str)) -> Result<Vec<Finding>> {
    let application = site.world.handle(CROWD)?;
    let mut scopes = Vec::new();
    for tenant in &site.neighbours {
        scopes.push(application.system_context(*tenant, "benchmark").await?);
    }
    let scopes: Arc<[Scope]> = scopes.into();
    let _placed = Placed::aside(
        &[site.world.cluster.pid(), site.one.cluster.pid()],
        site.two.cluster.pid(),
        mover::NAME,
    );
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        progress(&format!("moves: beside a copy, round {} of {rounds}", round + 1));
        site.settle().await?;
        alone.push(quiet(site, &scopes).await?);
        beside.push(during_a_copy(site, &scopes).await?);
        site.mover.moves(site.large, AT_HOME, |_| ()).await?;
    }
    let finding = |name, what: &str, p99: fn(&Tails) -> f64| {
        let ratios = beside
            .iter()
            .zip(&alone)
            .map(|(beside, alone)| p99(beside) / p99(alone));
        let median = |tails: &[Tails]| Spread::of(tails.iter().map(p99)).median;
        Finding::new(
            name,
            format!(
                "other tenants' p99 of {what} while one of {} rows in the same tables is copied to another server and compared",
                site.sizes.rows
            ),
            "the same without the move",
            Spread::of(ratios),
            Target::AtMost(1.3),
        )
        .detail(format!(
            "{:.2} ms against {:.2} ms; {:.0} calls/s of {} tenants, one of {WRITE_OF} a write",
            median(&beside),
            median(&alone),
            site.sizes.rate,
            site.neighbours.len()
        ))
    };
    Ok(vec![
        finding("move-beside", "reads", |tails| tails.reads),
        finding("move-beside-writes", "writes", |tails| tails.writes),
    ])
}

fn calls(site: &Site<'_>, scopes: &Arc<[Scope]>) -> Calls {
    let scopes = scopes.clone();
    Calls::start(site.sizes.rate, move |number| {
        let scopes = scopes.clone();
        async move {
            // Each of them reads and writes.
            let scope = &scopes[(number / WRITE_OF) as usize % scopes.len()];
            let done = match number % WRITE_OF {
                0 => scope.execute(WRITE, &[&number.to_string()]).await,
                _ => scope.query(READ, &[]).await.map(|rows| rows.len() as u64),
            };
            match done {
                Ok(1) => Answer::Served { begun_again: 0 },
                Ok(rows) => Answer::Failed(format!("{rows} rows")),
                Err(error) => Answer::Failed(error.to_string()),
            }
        }
    })
}

async fn quiet(site: &Site<'_>, scopes: &Arc<[Scope]>) -> Result<Tails> {
    let calls = calls(site, scopes);
    tokio::time::sleep(WARM_UP).await;
    let begun = Instant::now();
    tokio::time::sleep(if site.sizes.rows < 100_000 { ALONE_SMALL } else { ALONE }).await;
    Tails::of(&calls.stop().await?, begun, Instant::now())
}

/// From the beginning of the copy until the old home is about to be closed.
async fn during_a_copy(site: &Site<'_>, scopes: &Arc<[Scope]>) -> Result<Tails> {
    let calls = calls(site, scopes);
    let seen: Arc<Mutex<Option<(Instant, Instant)>>> = Arc::default();
    let told = {
        let seen = seen.clone();
        move |operation: &Operation| {
            let step = MoveStep::of(&operation.step);
            if step.is_some_and(|step| (MoveStep::Follow..MoveStep::Close).contains(&step)) {
                let now = Instant::now();
                seen.lock().get_or_insert((now, now)).1 = now;
            }
        }
    };
    tokio::time::sleep(WARM_UP).await;
    let moved = site.mover.moves(site.large, AWAY, told).await;
    let calls = calls.stop().await?;
    moved?;
    let Some((begun, ended)) = *seen.lock() else {
        bail!("nobody saw the copy, so short it was");
    };
    Tails::of(&calls, begun, ended)
}

impl Tails {
    /// Of the calls that were under way between the two.
    fn of(calls: &[Call], begun: Instant, ended: Instant) -> Result<Self> {
        let within: Vec<_> = calls.iter().filter(|call| call.is_within(begun, ended)).collect();
        let failed = within.iter().find_map(|call| match &call.answer {
            Answer::Failed(why) => Some(why),
            Answer::Served { .. } => None,
        });
        ensure!(failed.is_none(), "a call of another tenant was not served: {failed:?}");
        let p99 = |writes: bool| {
            let of_kind = within.iter().filter(|call| (call.number % WRITE_OF == 0) == writes);
            percentile_ms(of_kind.map(|call| call.took), 0.99)
        };
        Ok(Self {
            reads: p99(false)?,
            writes: p99(true)?,
        })
    }
}
