//! The bounds of a pool.

use std::time::Duration;

/// The bounds of the pools, each with the reason for its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolConfig {
    /// Connections to one tenant database. PostgreSQL serves a few per core best; several processes share a server.
    pub connections_max: usize,
    /// Callers that may wait for one tenant database; the next is refused at once, so that a stuck database does not
    /// collect the whole process. Where it is a tenant with few waiters, the last one of the tenant with the most is refused instead.
    pub waiting_max: usize,
    /// How long a caller waits for a connection.
    pub wait_timeout: Duration,
    /// How long a new connection may take to open.
    pub connect_timeout: Duration,
    /// How long a statement may run; counted here, because SQL could switch off a limit of the session's.
    pub statement_timeout: Duration,
    /// Connections of the raw lane among those to one tenant database: SQL of end users must not keep the application's own
    /// calls waiting. At least one.
    pub raw_connections_max: usize,
    /// How long one call of the raw lane may take, all its statements together.
    pub raw_timeout: Duration,
    /// How much one call of the raw lane may give, in bytes: its SQL is anybody's, and the rows stand in our memory.
    pub raw_result_bytes_max: usize,
    /// The age at which a connection is closed once idle, so that compiled fences can be forgotten and memory returns.
    pub life_max: Duration,
    /// How long a connection may lie idle before it is closed.
    pub idle_max: Duration,
    /// Prepared statements kept on each connection.
    pub statements_max: usize,
    /// How long a placement is believed without a notification; the fence catches what is older.
    pub placement_ttl: Duration,
    /// Placements kept.
    pub placements_max: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connections_max: 16,
            waiting_max: 1024,
            wait_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            raw_connections_max: 4,
            raw_timeout: Duration::from_secs(30),
            raw_result_bytes_max: 16 * 1024 * 1024,
            life_max: Duration::from_secs(30 * 60),
            idle_max: Duration::from_secs(5 * 60),
            statements_max: 256,
            placement_ttl: Duration::from_secs(60),
            placements_max: 100_000,
        }
    }
}
