//! The bounds of a pool.

use std::time::Duration;

/// The bounds of the pools, each with the reason for its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolConfig {
    /// Connections to one tenant database, and as many again of each other driver in use; all within the server's budget.
    /// PostgreSQL serves a few per core best; several processes share a server.
    pub connections_max: usize,
    /// Connections to one server, over all its tenant databases, where nobody divides a budget among processes; and what this
    /// process asks for at most where somebody does.
    pub server_connections_max: usize,
    /// How long this process believes that its share of a server's connections is its own, without hearing it confirmed; then it
    /// closes them. A process that was killed keeps its share from the others for as long, and a third more.
    pub share_lease: Duration,
    /// Connections that one tenant may use at a time, by whatever driver, while another tenant uses its database too, and so long as a
    /// second after: one that asks for much leaves the server's processors to others. At least one.
    pub tenant_connections_max: usize,
    /// Callers of one tenant that may wait; the next is refused at once.
    pub tenant_waiting_max: usize,
    /// Callers that may wait for one tenant database; the next is refused at once, so that a stuck database does not
    /// collect the whole process. Where it is a tenant with few waiters, the last one of the tenant with the most is refused instead.
    pub waiting_max: usize,
    /// How long a caller waits for a connection.
    pub wait_timeout: Duration,
    /// How long a new connection may take to open.
    pub connect_timeout: Duration,
    /// How long a statement may run; counted here, because SQL could switch off a limit of the session's.
    pub statement_timeout: Duration,
    /// A statement that takes this long is told in the log, without the values in it: `Duration::MAX` for none.
    pub slow_statement: Duration,
    /// How long a transaction may last, from taking its connection to giving it back, by whatever driver; so may rows that are
    /// read one by one, and data in bulk: it holds locks, and a connection that others wait for. The connection is closed then,
    /// whatever the caller is doing.
    pub transaction_timeout: Duration,
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
    /// How long a caller waits for a connection of its own database to come back before one of another database, which is in
    /// use now and then, is closed for it: about as long as opening one takes.
    pub patience: Duration,
    /// How long a connection is kept with its database though another database has none and waits. Opening one costs some
    /// 8 ms of processor time, so this bounds what such turns cost.
    pub turn: Duration,
    /// Tables that a connection may have touched before it is closed: a backend remembers 17 to 35 kB of each for its life. A
    /// schema counts with [`tables_per_schema`](Self::tables_per_schema) when it is served for the first time.
    pub touched_tables_max: usize,
    /// How many tables a schema has, roughly.
    pub tables_per_schema: usize,
    /// Prepared statements kept on each connection.
    pub statements_max: usize,
    /// How long a call waits for its tenant's move to end, before it fails and says when to come again. What had no effect is run at the
    /// new home.
    pub move_wait: Duration,
    /// How old what a replica shows may be where a call says nothing else: half of what a suspension may take to be heard everywhere.
    pub staleness_max: Duration,
    /// How often a server and its replicas are asked how far they are, while somebody reads there: a few of these fit into
    /// [`staleness_max`](Self::staleness_max).
    pub replica_poll: Duration,
    /// How long a placement is believed without a notification; the fence catches what is older.
    pub placement_ttl: Duration,
    /// Placements kept.
    pub placements_max: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connections_max: 16,
            server_connections_max: 64,
            share_lease: Duration::from_secs(12),
            tenant_connections_max: 4,
            tenant_waiting_max: 256,
            waiting_max: 1024,
            wait_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            slow_statement: Duration::from_millis(500),
            transaction_timeout: Duration::from_secs(120),
            raw_connections_max: 4,
            raw_timeout: Duration::from_secs(30),
            raw_result_bytes_max: 16 * 1024 * 1024,
            life_max: Duration::from_secs(30 * 60),
            idle_max: Duration::from_secs(5 * 60),
            patience: Duration::from_millis(10),
            turn: Duration::from_millis(100),
            touched_tables_max: 2048,
            tables_per_schema: 32,
            statements_max: 256,
            move_wait: Duration::from_secs(5),
            staleness_max: Duration::from_millis(500),
            replica_poll: Duration::from_millis(100),
            placement_ttl: Duration::from_secs(60),
            placements_max: 100_000,
        }
    }
}
