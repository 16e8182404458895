//! Which move is broken where, and how: pure, so that a seed says all of it.

use std::fmt;

use tenantry_core::Isolation;
use tenantry_ops::MoveStep;

use crate::rng::Rng;

/// One of the two servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Server {
    One,
    Two,
}

impl Server {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Two];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }
}

/// A home by its kind and its server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Home {
    pub(super) isolation: Isolation,
    pub(super) server: Server,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.isolation, self.server.name())
    }
}

/// What happens when the move is at its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Fault {
    /// `kill -9` of the process that moves; another one takes over.
    KillMover,
    /// `kill -9` of the server that the tenant leaves, which starts again.
    KillSource,
    /// `kill -9` of the server that it goes to.
    KillTarget,
    /// `kill -9` of the catalog's server.
    KillCatalog,
    /// Every connection to the source is closed; new ones work.
    CutSource,
    /// The same of the target.
    CutTarget,
    /// The same of the catalog.
    CutCatalog,
    /// Nothing passes between anybody and the source or the target for longer than a lease; connections stay open.
    Stall,
    /// Every piece of every connection takes its time, until the move has ended.
    Slow,
    /// The mover sleeps over its lease, another one takes over, and it wakes up while that one works.
    TwoMovers,
    /// Processes that hear nothing of the move, and sessions that hold on to the old placement.
    Stale,
    /// The clocks by which leases run out and connections count as old are an hour ahead, or behind.
    Clock,
}

impl Fault {
    pub(super) const ALL: [Self; 12] = [
        Self::KillMover,
        Self::KillSource,
        Self::KillTarget,
        Self::KillCatalog,
        Self::CutSource,
        Self::CutTarget,
        Self::CutCatalog,
        Self::Stall,
        Self::Slow,
        Self::TwoMovers,
        Self::Stale,
        Self::Clock,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillMover => "kill-mover",
            Self::KillSource => "kill-source",
            Self::KillTarget => "kill-target",
            Self::KillCatalog => "kill-catalog",
            Self::CutSource => "cut-source",
            Self::CutTarget => "cut-target",
            Self::CutCatalog => "cut-catalog",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::TwoMovers => "two-movers",
            Self::Stale => "stale",
            Self::Clock => "clock",
        }
    }

    /// As it is named in the options.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether the two servers have to be different ones for it.
    fn is_about_one_server(self) -> bool {
        matches!(
            self,
            Self::KillSource | Self::KillTarget | Self::CutSource | Self::CutTarget
        )
    }
}

/// The isolation level at which the application's transactions run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    pub(super) const ALL: [Self; 3] = [Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Course {
    /// A move without a soak. It is met on the way to the new home.
    There,
    /// A move that soaks, and is taken back. It is met where it does something for the way back, or on it.
    Back,
}

impl Course {
    const ALL: [Self; 2] = [Self::There, Self::Back];

    /// The steps at which it is met.
    fn steps(self) -> Vec<MoveStep> {
        match self {
            Self::There => MoveStep::STRAIGHT.to_vec(),
            // The others are those of a move that nobody takes back, and are met there.
            Self::Back => MoveStep::ALL
                .into_iter()
                .filter(|step| *step == MoveStep::WayBack || !MoveStep::STRAIGHT.contains(step))
                .collect(),
        }
    }
}

/// One run: a tenant, where it goes, and the place at which the fault meets its move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) course: Course,
    pub(super) from: Home,
    pub(super) to: Home,
    /// Whether it is copied while it works; else behind the closed fence.
    pub(super) online: bool,
    /// The failpoint.
    pub(super) place: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.online { "online" } else { "held" };
        let back = match self.course {
            Course::There => "",
            Course::Back => " and back",
        };
        write!(f, "{} to {}{back}, {how}, at {}", self.from, self.to, self.place)
    }
}

/// Runs that meet one fault together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) fault: Fault,
    pub(super) level: Level,
    pub(super) runs: Vec<Run>,
    /// Decides what else there is to decide.
    pub(super) seed: u64,
}

/// How many runs share a fault.
pub(super) const RUNS_PER_BATCH: u64 = 4;

impl Batch {
    /// The same for the same seed and number. The faults take turns; each fault takes turns with the two courses, and in each of them with
    /// the steps, and with the places of each.
    pub(super) fn of(seed: u64, number: u64, faults: &[Fault]) -> Self {
        let faults = shuffled(&mut Rng::of(seed, &[1]), faults);
        let turn = number / faults.len() as u64;
        let fault = faults[(number % faults.len() as u64) as usize];
        let course = Course::ALL[(turn % 2) as usize];
        let [of_way, of_step, of_place] = match course {
            Course::There => [3, 4, 9],
            Course::Back => [10, 11, 12],
        };
        let steps = course.steps();
        let mut rng = Rng::of(seed, &[2, number]);
        // The source of all of them is one server, and for a fault of one server the target the other.
        let source = *rng.pick(&Server::ALL);
        let runs = (0..RUNS_PER_BATCH)
            .map(|position| {
                let nth = turn / 2 * RUNS_PER_BATCH + position;
                let way = pick_nth(seed, &[of_way, fault as u64], &ways(course, source, fault), nth);
                let online = are_apart(way.0, way.1) && rng.chance(60);
                let step = pick_nth(seed, &[of_step, fault as u64], &steps, nth);
                // Each kind of move has its own places.
                let mut places = places(course, way.1.isolation, online);
                places.retain(|place| step_of(place) == step.as_str());
                let round = nth / steps.len() as u64;
                let place = pick_nth(seed, &[of_place, fault as u64, step as u64], &places, round);
                Run {
                    course,
                    from: way.0,
                    to: way.1,
                    online,
                    place,
                }
            })
            .collect();
        Self {
            number,
            fault,
            // Of the turn as well: the number of faults may be a multiple of three, and each fault would meet one level only.
            level: Level::ALL[((number + turn) % 3) as usize],
            runs,
            seed: rng.next(),
        }
    }
}

/// The nth of a list that is gone round in another order each time.
fn pick_nth<T: Clone>(seed: u64, purpose: &[u64], list: &[T], nth: u64) -> T {
    let length = list.len() as u64;
    let round = nth / length;
    let mut rng = Rng::of(seed, &[purpose, &[round]].concat());
    shuffled(&mut rng, list)[(nth % length) as usize].clone()
}

fn shuffled<T: Clone>(rng: &mut Rng, list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    for end in (1..list.len()).rev() {
        let other = rng.below(end as u64 + 1) as usize;
        list.swap(end, other);
    }
    list
}

/// Every pair of different homes that begins at this server. Nothing soaks within one database.
fn ways(course: Course, source: Server, fault: Fault) -> Vec<(Home, Home)> {
    let mut ways = Vec::new();
    for from in Isolation::ALL {
        for to in Isolation::ALL {
            for server in [source, source.other()] {
                let same = server == source;
                if same && (from == to || fault.is_about_one_server()) {
                    continue;
                }
                let (from, to) = (
                    Home {
                        isolation: from,
                        server: source,
                    },
                    Home { isolation: to, server },
                );
                if course == Course::Back && !are_apart(from, to) {
                    continue;
                }
                ways.push((from, to));
            }
        }
    }
    ways
}

/// Whether the homes are in different databases: only then can a tenant work while it is copied, and only then can it be taken back.
fn are_apart(from: Home, to: Home) -> bool {
    from.server != to.server || [from, to].iter().any(|home| home.isolation == Isolation::Database)
}

/// Every place at which such a move is met, in order.
fn places(course: Course, to: Isolation, online: bool) -> Vec<String> {
    let mut places = Vec::new();
    for step in course.steps() {
        places.push(format!("move.before_{step}"));
        match step {
            MoveStep::Prepare => places.push(format!("move.recorded_{}", first_object(to))),
            MoveStep::Follow if online => {
                let made = ["recorded_publication", "recorded_slot", "slot_made"];
                places.extend(made.map(|place| format!("move.{place}")));
            }
            _ => {}
        }
        // The last step ends the operation, and a soak that ends with the way back goes on without one.
        if !matches!(step, MoveStep::Remove | MoveStep::Soak | MoveStep::BackRemove) {
            places.push(format!("move.after_{step}"));
        }
    }
    places
}

fn first_object(to: Isolation) -> &'static str {
    match to {
        Isolation::Shared => "rows",
        Isolation::Schema => "schema",
        Isolation::Database => "database",
    }
}

/// The step that a place belongs to.
pub(super) fn step_of(place: &str) -> &'static str {
    let place = place.trim_start_matches("move.");
    let named = place.trim_start_matches("before_").trim_start_matches("after_");
    match MoveStep::of(named) {
        Some(step) => step.as_str(),
        None if matches!(place, "recorded_publication" | "recorded_slot" | "slot_made") => MoveStep::Follow.as_str(),
        None => MoveStep::Prepare.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_says_all_of_it() {
        for number in 0..50 {
            assert_eq!(Batch::of(7, number, &Fault::ALL), Batch::of(7, number, &Fault::ALL));
        }
        assert_ne!(Batch::of(7, 3, &Fault::ALL).runs, Batch::of(8, 3, &Fault::ALL).runs);
    }

    #[test]
    fn each_fault_is_met_at_each_step_of_both_courses_by_the_first_288_runs_and_every_direction_is_gone() {
        for seed in [1, 2026] {
            let (mut met, mut ways) = (BTreeSet::new(), BTreeSet::new());
            for number in 0..72 {
                let batch = Batch::of(seed, number, &Fault::ALL);
                for run in &batch.runs {
                    assert!(places(run.course, run.to.isolation, run.online).contains(&run.place));
                    assert_ne!(run.from, run.to);
                    met.insert((batch.fault, run.course, step_of(&run.place)));
                    let is_near = run.from.server == run.to.server;
                    ways.insert((run.course, run.from.isolation, run.to.isolation, is_near));
                }
            }
            for course in Course::ALL {
                let steps = met.iter().filter(|(_, one, _)| *one == course).count();
                assert_eq!(steps, Fault::ALL.len() * course.steps().len(), "{course:?}: {met:?}");
            }
            let gone = |course: Course| ways.iter().filter(|(one, ..)| *one == course).count();
            // Nine pairs between servers, and within one six, of which two are in one database.
            assert_eq!((gone(Course::There), gone(Course::Back)), (15, 13), "{ways:?}");
        }
    }

    #[test]
    fn every_step_of_a_move_is_one_of_a_course() {
        let met: BTreeSet<_> = Course::ALL.into_iter().flat_map(Course::steps).collect();
        assert_eq!(met, BTreeSet::from(MoveStep::ALL));
        // What is there for the way back does something only where there is one.
        assert!(Course::Back.steps().contains(&MoveStep::WayBack));
        for course in Course::ALL {
            for online in [true, false] {
                let places = places(course, Isolation::Schema, online);
                let steps: BTreeSet<_> = places.iter().map(|place| step_of(place)).collect();
                assert_eq!(steps.len(), course.steps().len(), "{course:?}: {places:?}");
            }
        }
    }

    #[test]
    fn each_fault_is_met_at_each_isolation_level_in_each_course() {
        let mut met = BTreeSet::new();
        for number in 0..6 * Fault::ALL.len() as u64 {
            let batch = Batch::of(1, number, &Fault::ALL);
            met.insert((batch.fault, batch.runs[0].course, batch.level.name()));
        }
        let all = Fault::ALL.len() * Course::ALL.len() * Level::ALL.len();
        assert_eq!(met.len(), all, "{met:?}");
    }

    #[test]
    fn what_is_taken_back_comes_from_another_database() {
        for number in 0..96 {
            for run in Batch::of(1, number, &Fault::ALL).runs {
                assert!(run.course == Course::There || are_apart(run.from, run.to), "{run}");
            }
        }
    }

    #[test]
    fn what_breaks_one_server_is_met_by_moves_between_two() {
        for number in 0..96 {
            let batch = Batch::of(1, number, &Fault::ALL);
            if batch.fault.is_about_one_server() {
                assert!(batch.runs.iter().all(|run| run.from.server != run.to.server));
            }
        }
    }
}
