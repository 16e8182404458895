//! What it costs to keep a million tenants to their rates.

use std::{hint::black_box, time::Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use tenantry::{Limiter, Pace, TenantId};
use uuid::Uuid;

use super::{
    measure::{Plan, Spread},
    report::{Finding, Target},
};

const TENANTS: usize = 1_000_000;
/// Decisions that are timed together: the clock itself takes some twenty nanoseconds.
const AT_ONCE: usize = 100_000;

const WHAT: &str = "a request of any of 1,000,000 tenants is let through or refused";

/// Time and memory.
pub(super) fn all(plan: Plan) -> Result<Vec<Finding>> {
    let mut random = rand::rng();
    let tenants: Vec<TenantId> = (0..TENANTS)
        .map(|_| TenantId::from_uuid(Uuid::from_u128(random.random())))
        .collect();
    let pace = Pace {
        interval_ns: 3_600_000_000_000,
        burst: 2,
    };
    let before = resident()?;
    let limiter = Limiter::new();
    let now = Instant::now();
    for tenant in &tenants {
        ensure!(limiter.decide(*tenant, pace, now).allowed, "the first is let through");
    }
    let bytes = resident()?.saturating_sub(before);
    ensure!(limiter.tenants() == TENANTS, "all are remembered");
    let mut times = Vec::new();
    for _ in 0..plan.rounds {
        let asking: Vec<TenantId> = (0..AT_ONCE).map(|_| tenants[random.random_range(0..TENANTS)]).collect();
        let begun = Instant::now();
        for tenant in asking {
            // Each request looks at the clock by itself.
            black_box(limiter.decide(tenant, pace, Instant::now()));
        }
        times.push(begun.elapsed().as_nanos() as f64 / AT_ONCE as f64);
    }
    let memory = Spread::of([bytes as f64 / (1024.0 * 1024.0)]);
    Ok(vec![
        Finding::new("limiter", WHAT, "nothing", Spread::of(times), Target::AtMost(300.0)).unit("ns"),
        Finding::new(
            "limiter-memory",
            "1,000,000 tenants remembered by the limiter",
            "nothing",
            memory,
            Target::AtMost(200.0),
        )
        .unit("MB"),
    ])
}

/// The process's memory, in bytes.
fn resident() -> Result<u64> {
    let text =
        std::fs::read_to_string("/proc/self/statm").context("the system does not tell how much memory is used")?;
    let pages: u64 = text.split(' ').nth(1).context("no pages")?.parse()?;
    Ok(pages * 4096)
}
