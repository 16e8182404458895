//! What happened in the pools of this process since it started, for metrics: plain counters that only grow.
//!
//! Of the process and not of one [`Pools`](crate::Pools): a metric is. None of them is touched by a call that goes well.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::pools::Verdict;

/// What happened in the pools of this process so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that could not be opened.
    pub open_failures: u64,
    /// Callers that had to wait for a connection.
    pub waits: u64,
    /// How long they waited, all together.
    pub waited: Duration,
    /// Statements that took longer than [`PoolConfig::slow_statement`](crate::PoolConfig::slow_statement).
    pub slow_statements: u64,
    /// Calls that a tenant database's fence refused: the tenant had moved, was moving or was suspended.
    pub fence_refusals: u64,
    /// Tokens that a tenant database did not accept.
    pub seal_refusals: u64,
    /// Sessions that were not as they had been left; their connections were closed.
    pub session_refusals: u64,
    /// Reads that a replica answered.
    pub replica_reads: u64,
    /// Reads that might have gone to a replica and went to the primary.
    pub primary_reads: u64,
    /// Those of them that had failed at a replica.
    pub replica_failures: u64,
}

struct Counters {
    opened: AtomicU64,
    open_failures: AtomicU64,
    waits: AtomicU64,
    waited_us: AtomicU64,
    slow_statements: AtomicU64,
    fence_refusals: AtomicU64,
    seal_refusals: AtomicU64,
    session_refusals: AtomicU64,
    replica_reads: AtomicU64,
    primary_reads: AtomicU64,
    replica_failures: AtomicU64,
}

static COUNTERS: Counters = Counters {
    opened: AtomicU64::new(0),
    open_failures: AtomicU64::new(0),
    waits: AtomicU64::new(0),
    waited_us: AtomicU64::new(0),
    slow_statements: AtomicU64::new(0),
    fence_refusals: AtomicU64::new(0),
    seal_refusals: AtomicU64::new(0),
    session_refusals: AtomicU64::new(0),
    replica_reads: AtomicU64::new(0),
    primary_reads: AtomicU64::new(0),
    replica_failures: AtomicU64::new(0),
};

impl PoolCounts {
    /// As they are now.
    pub fn now() -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            opened: read(&COUNTERS.opened),
            open_failures: read(&COUNTERS.open_failures),
            waits: read(&COUNTERS.waits),
            waited: Duration::from_micros(read(&COUNTERS.waited_us)),
            slow_statements: read(&COUNTERS.slow_statements),
            fence_refusals: read(&COUNTERS.fence_refusals),
            seal_refusals: read(&COUNTERS.seal_refusals),
            session_refusals: read(&COUNTERS.session_refusals),
            replica_reads: read(&COUNTERS.replica_reads),
            primary_reads: read(&COUNTERS.primary_reads),
            replica_failures: read(&COUNTERS.replica_failures),
        }
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

pub(crate) fn opened() {
    add(&COUNTERS.opened, 1);
}

pub(crate) fn not_opened() {
    add(&COUNTERS.open_failures, 1);
}

pub(crate) fn waited(time: Duration) {
    add(&COUNTERS.waits, 1);
    add(&COUNTERS.waited_us, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

pub(crate) fn read_at_replica() {
    add(&COUNTERS.replica_reads, 1);
}

pub(crate) fn read_at_primary() {
    add(&COUNTERS.primary_reads, 1);
}

pub(crate) fn fell_back() {
    add(&COUNTERS.replica_failures, 1);
}

pub(crate) fn slow_statement() {
    add(&COUNTERS.slow_statements, 1);
}

/// Each refusal is weighed once, and counted there.
pub(crate) fn refused(verdict: Verdict) {
    match verdict {
        Verdict::Final | Verdict::Ended => {}
        Verdict::Elsewhere | Verdict::Moving | Verdict::Suspended | Verdict::Fenced => {
            add(&COUNTERS.fence_refusals, 1);
        }
        Verdict::Rejected => add(&COUNTERS.seal_refusals, 1),
        Verdict::NotBound | Verdict::Tampered => add(&COUNTERS.session_refusals, 1),
    }
}
