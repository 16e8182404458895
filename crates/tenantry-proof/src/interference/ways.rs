//! The ways that A and B reach their worlds by, and the search for a program that tells the worlds apart by one of them.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tenantry_core::{Isolation, Tier};

use super::{
    gate::Grounds,
    grammar, http,
    lane::Faults,
    library::{self, Calls, Library},
    run::{Finding, Kind, Pair},
    shrink::Shrinks,
    site::World,
    step::Program,
};

/// How the tenants reach their worlds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// Raw connections of the application role.
    Wire,
    /// The library's calls over one pool.
    Library,
    /// The library's lane for SQL from outside of the application.
    Outside,
    /// Requests to two servers.
    Http,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Wire, Self::Library, Self::Outside, Self::Http];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Library => "library",
            Self::Outside => "raw lane",
            Self::Http => "HTTP",
        }
    }

    /// How many of a thousand statements go this way in a run that takes them all: by what one costs.
    pub(super) fn share(self, tier: Tier) -> u64 {
        match (self, tier) {
            (Self::Wire, Tier::Sealed) => 860,
            (Self::Library, Tier::Sealed) => 90,
            (Self::Outside, Tier::Sealed) => 3,
            (Self::Http, Tier::Sealed) => 4,
            (Self::Wire, Tier::Signed) => 40,
            (Self::Library, Tier::Signed) => 3,
            (Self::Outside | Self::Http, Tier::Signed) => 0,
        }
    }
}

/// Where programs are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mode {
    pub(super) isolation: Isolation,
    pub(super) tier: Tier,
    pub(super) way: Way,
    /// On the second server.
    pub(super) second: bool,
}

impl Mode {
    /// By raw connections, sealed, on the first server.
    pub(super) fn plain(isolation: Isolation) -> Self {
        Self {
            isolation,
            tier: Tier::Sealed,
            way: Way::Wire,
            second: false,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.isolation, self.tier, self.way.as_str())?;
        f.write_str(if self.second { ", second server" } else { "" })
    }
}

/// Runs programs in two worlds.
pub(super) trait Compares {
    type Program: Shrinks;

    /// What A could tell the worlds apart by, if anything. Begins from the program's rows whatever was run before.
    async fn compare(&mut self, program: &Self::Program) -> Option<Finding>;
}

impl Compares for Pair {
    type Program = Program;

    async fn compare(&mut self, program: &Program) -> Option<Finding> {
        Pair::compare(self, program).await
    }
}

/// Two worlds through the library.
pub(super) struct Libraries {
    /// Fills the worlds.
    pair: Pair,
    libraries: [Library; 2],
}

impl Libraries {
    pub(super) async fn new(worlds: &[Arc<World>; 2], calls: Calls, connections: usize) -> anyhow::Result<Self> {
        let [first, second] = worlds;
        Ok(Self {
            pair: Pair::new(worlds, Faults::default()).refilling(),
            libraries: [
                Library::new(first.clone(), 0, calls, connections).await?,
                Library::new(second.clone(), 1, calls, connections).await?,
            ],
        })
    }
}

impl Compares for Libraries {
    type Program = Program;

    async fn compare(&mut self, program: &Program) -> Option<Finding> {
        if let Err(error) = self.pair.fill(program).await {
            return Some(Finding {
                kind: Kind::Broken,
                statements: program.statements(),
                step: "the whole program".to_owned(),
                shape: "-".to_owned(),
                answers: [format!("{error:#}"), String::new()],
            });
        }
        library::compare(&mut self.libraries, program).await
    }
}

/// A program that told the worlds apart.
pub(super) struct Found<P> {
    /// Which of the comparers found it.
    pub(super) by: usize,
    pub(super) number: u64,
    pub(super) program: P,
    pub(super) finding: Finding,
    /// How many statements were compared, all programs before it included.
    pub(super) statements: u64,
}

/// What a search came to.
pub(super) struct Tally<P> {
    pub(super) programs: u64,
    pub(super) compared: u64,
    pub(super) failed: u64,
    pub(super) shapes: BTreeMap<String, u64>,
    pub(super) found: Option<Found<P>>,
}

impl<P> Tally<P> {
    /// What was found, after how many statements.
    pub(super) fn finding(self) -> Option<(usize, Finding)> {
        let found = self.found?;
        Some((usize::try_from(found.statements).unwrap_or(usize::MAX), found.finding))
    }
}

/// How far to search.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) statements: u64,
    /// This program and no other.
    pub(super) only: Option<u64>,
    /// Print what is found, and go on.
    pub(super) keep_going: bool,
}

impl Extent {
    pub(super) fn of(statements: u64) -> Self {
        Self {
            statements,
            only: None,
            keep_going: false,
        }
    }
}

/// Runs program after program until one tells the worlds apart or enough is compared. Several comparers work side by
/// side: while one waits, for a lock or the network, another goes on.
pub(super) async fn search<C: Compares>(
    comparers: &mut [C],
    extent: Extent,
    make: impl Fn(u64) -> C::Program,
) -> Tally<C::Program> {
    let tally = RefCell::new(Tally {
        programs: 0,
        compared: 0,
        failed: 0,
        shapes: BTreeMap::new(),
        found: None,
    });
    let work = async |by: usize, comparer: &mut C| {
        loop {
            let number = {
                let mut tally = tally.borrow_mut();
                let only_is_done = extent.only.is_some() && tally.programs > 0;
                if tally.compared >= extent.statements || tally.found.is_some() || only_is_done {
                    return;
                }
                tally.programs += 1;
                extent.only.unwrap_or(tally.programs - 1)
            };
            let program = make(number);
            let finding = comparer.compare(&program).await;
            let mut tally = tally.borrow_mut();
            match finding {
                Some(finding) if extent.keep_going => {
                    println!("program {number}: {finding}");
                    tally.failed += 1;
                    tally.compared += finding.statements as u64;
                }
                Some(finding) => {
                    // Of several that are found at once, the first of the seed.
                    if tally.found.as_ref().is_none_or(|found| found.number > number) {
                        tally.found = Some(Found {
                            by,
                            number,
                            statements: tally.compared + finding.statements as u64,
                            program,
                            finding,
                        });
                    }
                    return;
                }
                None => {
                    tally.compared += program.statements() as u64;
                    for shape in program.shapes() {
                        *tally.shapes.entry(shape.to_owned()).or_default() += 1;
                    }
                }
            }
        }
    };
    join_all(
        comparers
            .iter_mut()
            .enumerate()
            .map(|(by, comparer)| work(by, comparer)),
    )
    .await;
    tally.into_inner()
}

/// What each way's programs are run by.
pub(super) enum Comparers {
    Wire(Vec<Pair>),
    Library(Vec<Libraries>),
    Http(Vec<http::Webs>),
}

impl Comparers {
    /// So many for the mode; in the library's way, over one connection for both tenants and over several.
    pub(super) async fn new(grounds: &Grounds, mode: Mode, count: usize) -> anyhow::Result<Self> {
        if mode.way == Way::Http {
            let webs = http::Webs::start(Grounds::server(mode.second).await, mode.isolation).await?;
            return Ok(Self::Http(vec![webs]));
        }
        let site = grounds.site(mode).await?;
        Ok(match mode.way {
            Way::Wire => {
                let mut pairs = Vec::new();
                for _ in 0..count.max(1) {
                    pairs.push(Pair::new(&site.pair().await?, Faults::default()));
                }
                Self::Wire(pairs)
            }
            _ => {
                let calls = match mode.way {
                    Way::Outside => Calls::Outside,
                    _ => Calls::Scoped,
                };
                let mut all = Vec::new();
                for connections in [1, 4] {
                    all.push(Libraries::new(&site.pair().await?, calls, connections).await?);
                }
                Self::Library(all)
            }
        })
    }
}

/// A program's seed for a way: no two ways run the same ones.
pub(super) fn seed_of(seed: u64, way: Way) -> u64 {
    match way {
        Way::Wire => seed,
        Way::Library => seed ^ 0x11b,
        Way::Outside => seed ^ 0x0a7,
        Way::Http => seed ^ 0x477,
    }
}

/// The program of a seed.
pub(super) fn program_of(seed: u64, number: u64, mode: Mode) -> Program {
    grammar::program(seed_of(seed, mode.way), number, mode.isolation)
}
