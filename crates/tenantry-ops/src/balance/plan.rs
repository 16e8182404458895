//! Who goes where: from figures to moves, and nothing else.

use std::collections::BTreeSet;

use tenantry_core::{Isolation, TenantId};

/// How much the servers of a region may differ from their mean before anybody is moved, as a part of it.
const TOLERANCE: f64 = 0.2;
/// What one move has to gain at least, as a part of the mean: a move is work for two servers.
const GAIN_MIN: f64 = 0.02;

/// The fleet in figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    pub(super) servers: Vec<Bin>,
    pub(super) tenants: Vec<Weighed>,
}

/// A server as a place for tenants.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    pub(super) name: String,
    pub(super) region: String,
    /// How many more tenants it takes; `None` is any number.
    pub(super) room: Option<i32>,
    /// Whether new tenants may come.
    pub(super) active: bool,
    /// Whether its shared tenant database is there.
    pub(super) shared: bool,
    pub(super) bytes: i64,
    pub(super) calls: i64,
    pub(super) tenants: i32,
}

/// A tenant as a weight.
#[derive(Clone, Debug)]
pub(super) struct Weighed {
    pub(super) tenant: TenantId,
    pub(super) slug: String,
    pub(super) isolation: Isolation,
    /// By the index of its server.
    pub(super) on: usize,
    pub(super) bytes: i64,
    pub(super) calls: i64,
    /// Why it can't be moved now.
    pub(super) bound: Option<String>,
}

/// What would be moved.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct FleetPlan {
    /// In the order in which they are begun.
    pub moves: Vec<PlannedMove>,
    /// Tenants that should go and can't.
    pub stays: Vec<Stays>,
    /// Each server before and after, by name.
    pub servers: Vec<ServerWeight>,
}

/// One tenant's move to another server; its isolation stays.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PlannedMove {
    /// Who.
    pub tenant: TenantId,
    /// As it is called.
    pub slug: String,
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// The server where it is.
    pub from: String,
    /// The server where it goes.
    pub to: String,
    /// Its bytes, estimated.
    pub bytes: i64,
    /// Its calls in the last week.
    pub calls: i64,
}

/// A tenant that should go and can't.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stays {
    /// Who.
    pub tenant: TenantId,
    /// As it is called.
    pub slug: String,
    /// Where it is.
    pub server: String,
    /// Why, with what to do.
    pub why: String,
}

/// How much a server is used.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ServerWeight {
    /// Its name.
    pub server: String,
    /// Its region.
    pub region: String,
    /// Its tenants, before and after.
    pub tenants: (i32, i32),
    /// The bytes of its tenant databases, before and, estimated, after.
    pub bytes: (i64, i64),
    /// Its tenants' calls in the last week, before and after.
    pub calls: (i64, i64),
}

/// How heavy something is: its part of all bytes and its part of all calls, each counting as much as the other. Where there are neither,
/// its part of all tenants decides.
struct Scale {
    bytes: f64,
    calls: f64,
    tenants: f64,
}

/// How much a tenant weighs beside what it uses: servers that are equally used are told apart by their number of tenants.
const BY_COUNT: f64 = 0.02;

impl Scale {
    fn of(fleet: &Fleet) -> Self {
        let sum = |figure: fn(&Bin) -> f64| fleet.servers.iter().map(figure).sum::<f64>().max(1.0);
        Self {
            bytes: sum(|bin| bin.bytes as f64),
            calls: sum(|bin| bin.calls as f64),
            tenants: sum(|bin| f64::from(bin.tenants)),
        }
    }

    fn weigh(&self, bytes: i64, calls: i64, tenants: i32) -> f64 {
        bytes as f64 / self.bytes + calls as f64 / self.calls + BY_COUNT * f64::from(tenants) / self.tenants
    }

    fn tenant(&self, tenant: &Weighed) -> f64 {
        self.weigh(tenant.bytes, tenant.calls, 1)
    }

    fn server(&self, bin: &Bin) -> f64 {
        self.weigh(bin.bytes, bin.calls, bin.tenants)
    }
}

impl Bin {
    fn takes(&self, isolation: Isolation) -> bool {
        self.active && self.room.is_none_or(|room| room > 0) && (self.shared || isolation == Isolation::Database)
    }
}

/// The servers as they would be after the moves so far.
struct Moving {
    bins: Vec<Bin>,
    moves: Vec<PlannedMove>,
}

impl Moving {
    fn go(&mut self, tenant: &Weighed, to: usize) {
        let change = |bin: &mut Bin, sign: i32| {
            bin.bytes += i64::from(sign) * tenant.bytes;
            bin.calls += i64::from(sign) * tenant.calls;
            bin.tenants += sign;
            bin.room = bin.room.map(|room| room - sign);
        };
        change(&mut self.bins[tenant.on], -1);
        change(&mut self.bins[to], 1);
        self.moves.push(PlannedMove {
            tenant: tenant.tenant,
            slug: tenant.slug.clone(),
            isolation: tenant.isolation,
            from: self.bins[tenant.on].name.clone(),
            to: self.bins[to].name.clone(),
            bytes: tenant.bytes,
            calls: tenant.calls,
        });
    }

    fn plan(self, fleet: &Fleet, stays: Vec<Stays>) -> FleetPlan {
        let weight = |(before, after): (&Bin, &Bin)| ServerWeight {
            server: before.name.clone(),
            region: before.region.clone(),
            tenants: (before.tenants, after.tenants),
            bytes: (before.bytes, after.bytes.max(0)),
            calls: (before.calls, after.calls),
        };
        FleetPlan {
            servers: fleet.servers.iter().zip(&self.bins).map(weight).collect(),
            moves: self.moves,
            stays,
        }
    }
}

/// Everybody off one server: the heaviest first, each to the least used server of its region, among those named if any are.
pub(super) fn drain(fleet: &Fleet, from: &str, to: &[String]) -> FleetPlan {
    let scale = Scale::of(fleet);
    let mut moving = Moving {
        bins: fleet.servers.clone(),
        moves: Vec::new(),
    };
    let mut stays = Vec::new();
    let mut leaving: Vec<&Weighed> = fleet
        .tenants
        .iter()
        .filter(|tenant| fleet.servers[tenant.on].name == from)
        .collect();
    leaving.sort_by(|a, b| {
        scale
            .tenant(b)
            .total_cmp(&scale.tenant(a))
            .then(a.tenant.cmp(&b.tenant))
    });
    for tenant in leaving {
        let region = &fleet.servers[tenant.on].region;
        let is_meant = |bin: &Bin| bin.name != from && (to.is_empty() || to.contains(&bin.name));
        let bins = moving.bins.iter().enumerate();
        let target = bins
            .filter(|(_, bin)| is_meant(bin) && bin.region == *region && bin.takes(tenant.isolation))
            .min_by(|(_, a), (_, b)| scale.server(a).total_cmp(&scale.server(b)).then(a.name.cmp(&b.name)))
            .map(|(number, _)| number);
        match (&tenant.bound, target) {
            (None, Some(target)) => moving.go(tenant, target),
            (Some(why), _) => stays.push(stay(tenant, from, why.clone())),
            (None, None) => {
                let meant: Vec<&Bin> = moving.bins.iter().filter(|bin| is_meant(bin)).collect();
                stays.push(stay(tenant, from, why_nowhere(&meant, region, tenant.isolation)));
            }
        }
    }
    moving.plan(fleet, stays)
}

fn stay(tenant: &Weighed, server: &str, why: String) -> Stays {
    Stays {
        tenant: tenant.tenant,
        slug: tenant.slug.clone(),
        server: server.to_owned(),
        why,
    }
}

fn why_nowhere(meant: &[&Bin], region: &str, isolation: Isolation) -> String {
    let mut left: Vec<&&Bin> = meant.iter().filter(|bin| bin.region == region).collect();
    if left.is_empty() {
        return format!(
            "no other server of the region {region} may take it, and nobody is taken out of their region by this: add one there, or move the \
             tenant by itself"
        );
    }
    left.retain(|bin| bin.active);
    if left.is_empty() {
        return format!("every other server of the region {region} is being drained: add one");
    }
    left.retain(|bin| bin.shared || isolation == Isolation::Database);
    if left.is_empty() {
        return format!(
            "no other server of the region {region} has a shared tenant database that is ready: tenantry server check"
        );
    }
    format!("the other servers of the region {region} are full: raise a capacity, or add one")
}

/// The servers of each region about equally used, by as few moves as do it: each takes from the most used what brings it and the least used
/// nearest to each other. Nobody moves twice.
pub(super) fn rebalance(fleet: &Fleet) -> FleetPlan {
    let scale = Scale::of(fleet);
    let mut moving = Moving {
        bins: fleet.servers.clone(),
        moves: Vec::new(),
    };
    let mut moved = BTreeSet::new();
    let regions: BTreeSet<&String> = fleet.servers.iter().map(|bin| &bin.region).collect();
    for region in regions {
        while let Some((tenant, to)) = best_move(fleet, &moving.bins, &scale, region, &moved) {
            moved.insert(tenant.tenant);
            moving.go(tenant, to);
        }
    }
    moving.plan(fleet, Vec::new())
}

/// The best single move within a region, from the most used server that can give any; none where the servers are near enough to each
/// other, or nothing gains enough.
fn best_move<'a>(
    fleet: &'a Fleet,
    bins: &[Bin],
    scale: &Scale,
    region: &str,
    moved: &BTreeSet<TenantId>,
) -> Option<(&'a Weighed, usize)> {
    let load = |number: usize| scale.server(&bins[number]);
    // One that is being drained is emptied by that, not by this.
    let mut here: Vec<usize> = (0..bins.len())
        .filter(|number| bins[*number].region == region && bins[*number].active)
        .collect();
    here.sort_by(|a, b| load(*a).total_cmp(&load(*b)));
    let mean = here.iter().map(|number| load(*number)).sum::<f64>() / here.len().max(1) as f64;
    here.iter().rev().find_map(|from| {
        let mut best: Option<(&Weighed, usize, f64)> = None;
        // The least used first: of two that gain the same it gets the tenant.
        for to in &here {
            let gap = load(*from) - load(*to);
            if gap <= TOLERANCE * mean {
                break;
            }
            let movable = |tenant: &&Weighed| {
                tenant.on == *from
                    && tenant.bound.is_none()
                    && !moved.contains(&tenant.tenant)
                    && bins[*to].takes(tenant.isolation)
            };
            for tenant in fleet.tenants.iter().filter(movable) {
                let weight = scale.tenant(tenant);
                // By how much the higher of the two comes down.
                let gain = weight.min(gap - weight);
                if gain >= GAIN_MIN * mean && best.is_none_or(|(_, _, so_far)| gain > so_far) {
                    best = Some((tenant, *to, gain));
                }
            }
        }
        best.map(|(tenant, to, _)| (tenant, to))
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn bin(name: &str, capacity: Option<i32>) -> Bin {
        Bin {
            name: name.to_owned(),
            region: "eu".to_owned(),
            room: capacity,
            active: true,
            shared: true,
            bytes: 0,
            calls: 0,
            tenants: 0,
        }
    }

    /// A fleet of these servers, with tenants given as server, bytes and calls.
    fn fleet(servers: Vec<Bin>, tenants: &[(usize, i64, i64)]) -> Fleet {
        let mut fleet = Fleet {
            servers,
            tenants: Vec::new(),
        };
        for (number, (on, bytes, calls)) in tenants.iter().enumerate() {
            let bin = &mut fleet.servers[*on];
            bin.bytes += bytes;
            bin.calls += calls;
            bin.tenants += 1;
            bin.room = bin.room.map(|room| room - 1);
            fleet.tenants.push(Weighed {
                tenant: TenantId::from_uuid(Uuid::from_u128(number as u128)),
                slug: format!("t{number}"),
                isolation: Isolation::Shared,
                on: *on,
                bytes: *bytes,
                calls: *calls,
                bound: None,
            });
        }
        fleet
    }

    /// `t0>b t1>c`
    fn said(plan: &FleetPlan) -> String {
        let each: Vec<String> = plan
            .moves
            .iter()
            .map(|one| format!("{}>{}", one.slug, one.to))
            .collect();
        each.join(" ")
    }

    #[test]
    fn a_drain_takes_the_largest_first_to_the_least_used() {
        let servers = || vec![bin("a", None), bin("b", None), bin("c", None)];
        let sizes = [(0, 10, 0), (0, 60, 0), (0, 30, 0), (1, 50, 0)];
        let plan = drain(&fleet(servers(), &sizes), "a", &[]);
        assert_eq!(said(&plan), "t1>c t2>b t0>c");
        assert_eq!(plan.stays, []);
        let bytes: Vec<_> = plan.servers.iter().map(|server| server.bytes).collect();
        assert_eq!(bytes, [(100, 0), (50, 80), (0, 70)]);
        // Calls count as much as bytes.
        let calls = [(0, 10, 0), (0, 0, 90), (1, 50, 0), (2, 0, 100)];
        let plan = drain(&fleet(servers(), &calls), "a", &[]);
        assert_eq!(said(&plan), "t1>c t0>b");
        assert_eq!(
            said(&drain(&fleet(servers(), &sizes), "a", &["b".to_owned()])),
            "t1>b t2>b t0>b"
        );
    }

    #[test]
    fn a_drain_keeps_capacity_region_and_what_is_not_ready() {
        let mut servers = vec![bin("a", None), bin("b", Some(1)), bin("c", None), bin("d", None)];
        servers[2].region = "us".to_owned();
        servers[3].active = false;
        let mut fleet = fleet(servers, &[(0, 9, 0), (0, 8, 0)]);
        let plan = drain(&fleet, "a", &[]);
        assert_eq!(said(&plan), "t0>b");
        assert!(plan.stays[0].why.contains("full"), "{:?}", plan.stays);
        fleet.servers[1].active = false;
        let plan = drain(&fleet, "a", &[]);
        assert!(
            plan.moves.is_empty() && plan.stays[0].why.contains("being drained"),
            "{:?}",
            plan.stays
        );
        let plan = drain(&fleet, "a", &["c".to_owned()]);
        assert!(plan.stays[0].why.contains("of the region eu"), "{:?}", plan.stays);
        // A database of one's own needs no shared one.
        fleet.servers[3].active = true;
        fleet.servers[3].shared = false;
        fleet.tenants[1].isolation = Isolation::Database;
        let plan = drain(&fleet, "a", &[]);
        assert_eq!(said(&plan), "t1>d");
        assert!(plan.stays[0].why.contains("shared tenant database"), "{:?}", plan.stays);
        fleet.tenants[1].bound = Some("it is deleted".to_owned());
        assert_eq!(drain(&fleet, "a", &[]).stays.len(), 2);
    }

    #[test]
    fn a_balanced_fleet_moves_nobody() {
        let servers = || vec![bin("a", None), bin("b", None)];
        assert_eq!(said(&rebalance(&fleet(servers(), &[(0, 50, 5), (1, 45, 5)]))), "");
        assert_eq!(said(&rebalance(&fleet(servers(), &[]))), "");
        // One that is larger than all others together gains nothing where it goes.
        assert_eq!(said(&rebalance(&fleet(servers(), &[(0, 1000, 0), (1, 1, 0)]))), "");
    }

    #[test]
    fn a_rebalance_moves_few_and_ends_near_the_mean() {
        let servers = vec![bin("a", None), bin("b", None), bin("c", None)];
        let mut tenants: Vec<(usize, i64, i64)> = (0..30).map(|n| (0, 10 + n % 5, n)).collect();
        tenants.push((1, 20, 3));
        let fleet = fleet(servers, &tenants);
        let plan = rebalance(&fleet);
        let scale = Scale::of(&fleet);
        let loads: Vec<f64> = plan
            .servers
            .iter()
            .map(|server| scale.weigh(server.bytes.1, server.calls.1, server.tenants.1))
            .collect();
        let mean = loads.iter().sum::<f64>() / 3.0;
        for load in &loads {
            assert!((load - mean).abs() <= 2.0 * TOLERANCE * mean, "{loads:?}");
        }
        assert!(plan.moves.len() <= 20, "{}", plan.moves.len());
        assert!(plan.moves.iter().all(|one| one.from == "a"), "{:?}", plan.moves);
    }

    #[test]
    fn a_rebalance_stays_within_regions_and_capacities() {
        let mut servers = vec![bin("a", None), bin("b", Some(1)), bin("c", None)];
        servers[2].region = "us".to_owned();
        let tenants: Vec<(usize, i64, i64)> = (0..10).map(|_| (0, 10, 0)).collect();
        let mut fleet = fleet(servers, &tenants);
        let plan = rebalance(&fleet);
        assert_eq!(plan.moves.len(), 1);
        assert_eq!(plan.moves[0].to, "b");
        fleet.servers[1].active = false;
        assert_eq!(said(&rebalance(&fleet)), "");
    }
}
