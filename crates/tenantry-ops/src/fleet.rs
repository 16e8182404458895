//! What an installation decides about its fleet.

use std::{sync::Arc, time::Duration};

use tenantry_catalog::plan_rule::PlanRule;
use tenantry_core::{Isolation, Slug};
use tenantry_engine::migrate::{Files, Patience};

use crate::{BackupStore, Beside, HardenedDatabases, Retention};

/// Where plans lead, how long deleted tenants are kept, and how operations are run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetConfig {
    /// What plans give where a request names nothing; a rule here wins over the catalog's.
    pub plans: Vec<PlanRule>,
    /// The isolation where neither the request nor its plan names one.
    pub default_isolation: Isolation,
    /// The application's migrations; without any, tenants' homes stay empty.
    pub migrations: Option<Arc<Files>>,
    /// How patient migrations are with locks.
    pub patience: Patience,
    /// Whether tenant databases use the signed tier although their server allows the sealed one.
    pub force_signed: bool,
    /// Which tenant databases are hardened when they are made.
    pub hardening: HardenedDatabases,
    /// How many schemas are kept ready on each server for tenants that get one of their own; zero for none. What is more is dropped. A server
    /// that has a number of its own ([`ServerChange`](crate::ServerChange)) keeps to that.
    pub spare_schemas: usize,
    /// How many databases are kept ready on each server for tenants that get one of their own; zero for none. What is more is dropped. A
    /// server that has a number of its own keeps to that.
    pub spare_databases: usize,
    /// How many databases one call about the jobs of all tenants asks at most: a request has an end in time, and a fleet may have thousands.
    pub job_databases_max: usize,
    /// How long a deleted tenant can be recovered.
    pub retention: Duration,
    /// How long a runner may be silent before another takes its operation over.
    pub lease: Duration,
    /// How long a request waits for the operation it began.
    pub wait: Duration,
    /// How long the steps of one try may take together, purging aside; a server that holds a connection open and answers
    /// nothing must not hold the operation for ever. Each question about a schema's ledger and structure is given up after as long.
    pub patience_per_try: Duration,
    /// How long a move waits for the transactions that are open in the old home before it lets the tenant in again and tries later.
    pub move_drain: Duration,
    /// From what age on a transaction that a move would wait for is in its way before it begins: as long as a slot waits for those that
    /// write.
    pub move_transaction_age: Duration,
    /// How long one try of a move brings on what its tenant writes before it gives up for now. The next one goes on where it ended.
    pub move_catch_up: Duration,
    /// How long a tenant may wait for a move that has compared its rows before: a cut-over that takes longer is broken off, and tried later.
    /// A pool's calls wait as long by default.
    pub move_cut_over: Duration,
    /// How often a home that a tenant has left is brought in step while its move soaks.
    pub soak_look: Duration,
    /// From how many rows on a move copies while the tenant works. Below, copying behind the closed fence takes less than a
    /// stream takes to begin.
    pub move_online_rows: i64,
    /// How many rows of a large table a move that copies while the tenant works commits at least with a note of how far it is: about so many
    /// are copied again after a crash, or a fifth of those that are there where that is more.
    pub move_piece_rows: u64,
    /// How many rows of an active tenant are copied behind the closed fence without being asked for it ([`MoveRequest::wait`](crate::MoveRequest)):
    /// its calls wait meanwhile.
    pub move_held_rows: i64,
    /// How often a step that failed in a way that may pass is tried before the operation is undone.
    pub attempts_max: i32,
    /// The same of a move that the tenant's open transactions or a busy server are in the way of: what was copied is kept meanwhile, and
    /// nobody wants to begin anew for them. With the pauses, a hundred take an hour and a half. A server that does not answer is tried for
    /// half a minute.
    pub move_attempts_max: i32,
    /// How many moves off one server all processes that run operations begin at once: a drain asks for all of them. One that somebody
    /// waits for where it was begun ([`Ops::finish_move`](crate::Ops::finish_move)) does not wait for others.
    pub moves_per_source: usize,
    /// How many operations one process runs at once; each holds two or three connections.
    pub operations_max: usize,
    /// What tenants have beside their rows, which goes when they are purged.
    pub besides: Vec<Arc<dyn Beside>>,
    /// Where backups of tenants stand; without, there are none.
    pub backups: Option<BackupStore>,
    /// How old a tenant's newest backup gets before `serve` makes another; zero for never.
    pub backup_interval: Duration,
    /// Which backups are kept.
    pub backup_retention: Retention,
    /// How long a restore in a tenant's place waits for the transactions that are open there before it gives up.
    pub restore_drain: Duration,
}

impl FleetConfig {
    /// How many spare schemas are kept on a server that has this number of its own.
    pub(crate) fn spare_schemas_on(&self, own: Option<u16>) -> usize {
        own.map_or(self.spare_schemas, usize::from)
    }

    /// How many spare databases are kept on a server that has this number of its own.
    pub(crate) fn spare_databases_on(&self, own: Option<u16>) -> usize {
        own.map_or(self.spare_databases, usize::from)
    }

    /// Whether the tenant of this slug has migrations of its own.
    pub(crate) fn has_own_files(&self, slug: &Slug) -> bool {
        let slugs = self.migrations.iter().flat_map(|files| files.overlay_slugs());
        slugs.into_iter().any(|known| known == slug.as_str())
    }
}

impl Default for FleetConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            plans: Vec::new(),
            default_isolation: Isolation::Shared,
            migrations: None,
            patience: Patience::default(),
            force_signed: false,
            hardening: HardenedDatabases::default(),
            spare_schemas: 0,
            spare_databases: 0,
            job_databases_max: 64,
            retention: 30 * DAY,
            lease: Duration::from_secs(15),
            wait: Duration::from_secs(60),
            patience_per_try: Duration::from_secs(120),
            // The tenant's new calls wait meanwhile.
            move_drain: Duration::from_secs(1),
            move_transaction_age: Duration::from_secs(60),
            move_catch_up: Duration::from_secs(3600),
            move_cut_over: Duration::from_secs(5),
            soak_look: Duration::from_secs(5),
            move_online_rows: 20_000,
            // Less than a second's.
            move_piece_rows: 100_000,
            // Some seconds.
            move_held_rows: 500_000,
            attempts_max: 5,
            move_attempts_max: 100,
            // As many as `tenantry server drain` moves at a time; fewer than a process runs operations.
            moves_per_source: 2,
            operations_max: 4,
            besides: Vec::new(),
            backups: None,
            backup_interval: Duration::ZERO,
            backup_retention: Retention::default(),
            // As long as a statement may take.
            restore_drain: Duration::from_secs(30),
        }
    }
}
