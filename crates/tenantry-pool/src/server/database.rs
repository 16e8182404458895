//! What one tenant database has of a server's connections, and who waits for one there.

use std::{
    collections::HashMap,
    sync::Weak,
    time::{Duration, Instant},
};

use tenantry_core::TenantId;
use tenantry_wire::Binding;

use super::LaneState;
use crate::{
    Error, PoolConfig,
    database::DatabasePool,
    heat::Heat,
    member::{Lease, Member},
    place::Lane,
    queue::{FairQueue, Waiter},
    turns::Turns,
};

/// How long a tenant counts as one that others have to be kept room for.
const CONTENDED_FOR: Duration = Duration::from_secs(1);

/// What one tenant database has and needs.
pub(crate) struct Database {
    pub(crate) pool: Weak<DatabasePool>,
    /// Least recently used first. While somebody waits who may be served, nothing lies idle.
    #[expect(
        clippy::vec_box,
        reason = "a member is taken out and put back for each call, and is half a kilobyte"
    )]
    pub(crate) idle: Vec<Box<Member>>,
    pub(crate) waiting: FairQueue<Result<Lease, Error>>,
    pub(crate) lanes: [LaneState; 2],
    /// Of each other driver that serves it.
    pub(crate) turns: Vec<Turns>,
    /// All that exist, of all lanes: idle, lent, being opened, being closed.
    pub(crate) open: usize,
    pub(crate) opening: usize,
    /// Of the pool's own lane.
    pub(crate) closing: usize,
    /// How many each tenant uses, of the pool's own lane and of other drivers.
    pub(crate) lent: HashMap<TenantId, usize>,
    /// What single tenants may have by their plans, over all processes, and of that this process's part.
    pub(crate) bounds: HashMap<TenantId, (usize, usize)>,
    last_tenant: Option<TenantId>,
    contended_at: Option<Instant>,
    pub(crate) heat: Heat,
    /// Since when it waits for a place; it stands in the queue then.
    pub(crate) hungry_since: Option<Instant>,
    /// Another pool leads to the database now: what comes back is closed.
    pub(crate) retired: bool,
    /// Nobody holds the pool any more.
    pub(super) abandoned: bool,
}

impl Database {
    pub(super) fn new(pool: Weak<DatabasePool>) -> Self {
        Self {
            pool,
            idle: Vec::new(),
            waiting: FairQueue::default(),
            lanes: Default::default(),
            turns: Vec::new(),
            open: 0,
            opening: 0,
            closing: 0,
            lent: HashMap::new(),
            bounds: HashMap::new(),
            last_tenant: None,
            contended_at: None,
            heat: Heat::default(),
            hungry_since: None,
            retired: false,
            abandoned: false,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        let places: usize = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
        self.waiting.len() + places + self.waiting_for_turns()
    }

    pub(super) fn waiting_for_turns(&self) -> usize {
        self.turns.iter().map(|turns| turns.waiting.len()).sum()
    }

    /// Those of the pool's own lane that exist.
    pub(super) fn own_open(&self) -> usize {
        self.open - self.lanes.iter().map(|lane| lane.open).sum::<usize>()
    }

    /// Whether it has as many connections as one database may. Other drivers have a bound of their own.
    pub(crate) fn is_full(&self, config: &PoolConfig) -> bool {
        self.open - self.lanes[Lane::Foreign as usize].open >= config.connections_max
    }

    /// Those that are being closed, of all lanes.
    pub(crate) fn closes(&self) -> usize {
        self.closing + self.lanes.iter().map(|lane| lane.closing).sum::<usize>()
    }

    /// Those that serve, or will come back to serve.
    pub(crate) fn established(&self) -> usize {
        self.own_open() - self.closing
    }

    pub(crate) fn note_use(&mut self, tenant: TenantId, now: Instant) {
        // A question of the pool's own takes nothing from a tenant.
        if tenant.as_uuid().is_nil() {
            return;
        }
        if self.last_tenant != Some(tenant) && self.last_tenant.replace(tenant).is_some() {
            self.contended_at = Some(now);
        }
    }

    /// How many connections one tenant may have.
    fn limit(&self, config: &PoolConfig, tenant: TenantId, now: Instant) -> usize {
        let by_plan = match self.bounds.is_empty() {
            true => usize::MAX,
            false => self.bounds.get(&tenant).map_or(usize::MAX, |(_, own)| *own),
        };
        self.limit_of_each(config, now).min(by_plan)
    }

    /// The same where nothing is said of a tenant. Alone it is bounded as its database is, for each driver apart.
    pub(crate) fn limit_of_each(&self, config: &PoolConfig, now: Instant) -> usize {
        let contended = self
            .contended_at
            .is_some_and(|at| now.saturating_duration_since(at) < CONTENDED_FOR);
        match contended {
            true => config.tenant_connections_max.max(1),
            false => usize::MAX,
        }
    }

    /// How many more connections the tenant may have.
    pub(crate) fn room(&self, config: &PoolConfig, tenant: TenantId, now: Instant) -> usize {
        self.limit(config, tenant, now)
            .saturating_sub(self.lent.get(&tenant).copied().unwrap_or(0))
    }

    pub(super) fn lend(&mut self, tenant: TenantId) {
        *self.lent.entry(tenant).or_insert(0) += 1;
    }

    pub(crate) fn take_back(&mut self, tenant: TenantId) {
        if let Some(lent) = self.lent.get_mut(&tenant) {
            *lent = lent.saturating_sub(1);
        }
    }

    pub(super) fn next_waiter(
        &mut self,
        config: &PoolConfig,
        now: Instant,
    ) -> Option<(TenantId, Waiter<Result<Lease, Error>>)> {
        let (each, lent, bounds) = (self.limit_of_each(config, now), &self.lent, &self.bounds);
        self.waiting.pop_where(|tenant| {
            let limit = bounds.get(&tenant).map_or(each, |(_, own)| each.min(*own));
            lent.get(&tenant).is_none_or(|lent| *lent < limit)
        })
    }

    /// Whether one more caller of this tenant may wait.
    pub(crate) fn admit(&mut self, config: &PoolConfig, tenant: TenantId) -> Result<(), Error> {
        let of_tenant = |database: &Self| {
            let places = database.lanes.iter().map(|lane| lane.waiting.len_of(tenant));
            let turns = database.turns.iter().map(|turns| turns.waiting.len_of(tenant));
            database.waiting.len_of(tenant) + places.chain(turns).sum::<usize>()
        };
        if of_tenant(self) >= config.tenant_waiting_max || self.waiting() >= config.waiting_max {
            // Those who gave up are still in the queue until their turn comes.
            self.waiting.sweep();
            for lane in &mut self.lanes {
                lane.waiting.sweep();
            }
            for turns in &mut self.turns {
                turns.waiting.sweep();
            }
        }
        if of_tenant(self) >= config.tenant_waiting_max {
            return Err(Error::TenantFull(of_tenant(self)));
        }
        let waiting = self.waiting();
        if waiting < config.waiting_max {
            return Ok(());
        }
        // Not for what others ask: whoever has more waiters than anybody loses one.
        if let Some(other) = self.waiting.pop_of_longest(tenant) {
            let _ = other.sender.send(Err(Error::Full(waiting)));
            return Ok(());
        }
        let mut of_drivers = self.turns.iter_mut();
        match of_drivers.find_map(|turns| turns.waiting.pop_of_longest(tenant)) {
            Some(other) => {
                let _ = other.sender.send(Err(Error::Full(waiting)));
                Ok(())
            }
            None => Err(Error::Full(waiting)),
        }
    }

    /// Whether its backend remembers more tables than it may. While somebody waits, half as many again.
    pub(super) fn is_full_of_tables(&self, config: &PoolConfig, member: &Member) -> bool {
        let tables = member.touched.len() * config.tables_per_schema;
        let most = match self.waiting.len() {
            0 => config.touched_tables_max,
            _ => config.touched_tables_max + config.touched_tables_max / 2,
        };
        // One schema alone is served whatever its size.
        member.touched.len() > 1 && tables > most
    }

    /// The idle connection that costs least to use for this binding.
    pub(super) fn best(&mut self, binding: &Binding<'_>) -> Option<Box<Member>> {
        if self.idle.is_empty() {
            return None;
        }
        let bound = self.idle.iter().rposition(|member| member.session.serves(binding));
        let place = bound
            .or_else(|| self.idle.iter().position(|member| !member.session.is_bound()))
            .unwrap_or(0);
        Some(self.idle.remove(place))
    }
}
