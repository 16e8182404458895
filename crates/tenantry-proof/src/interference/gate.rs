//! The gates: every seeded defect has to be found, every declared channel has to be as declared.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail};
use tenantry_core::Isolation;
use tenantry_sql::Identifier;
use tenantry_testing::{TestCluster, cluster, second_cluster};
use tokio::sync::{Mutex, OnceCell};

use super::{
    channels::{self, CHANNELS, Channel},
    grammar,
    http::{self, Webs},
    lane::Faults,
    library::Calls,
    mutations::{FURTHER, HELD, MUTATIONS, Mutation},
    run::{Finding, Kind, Pair},
    site::{Ground, Site, World, tenant},
    step::{Owner, Program, Round, Step, Travel},
    ways::{Comparers, Extent, Libraries, Mode, Way, program_of, search, seed_of},
};

/// A defect that is not found in so many statements is not found.
const STATEMENTS_MAX: usize = 20_000;

/// What became of a seeded defect.
pub(super) struct Outcome {
    pub(super) id: &'static str,
    /// `None`: it was not found.
    pub(super) found: Option<(usize, Finding)>,
}

/// Runs programs on each defect until it is found.
pub(super) async fn mutations(grounds: &Grounds, seed: u64, share: Share) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (number, mutation) in MUTATIONS.iter().enumerate() {
        if share.holds(number) {
            let mode = Mode::plain(mutation.isolation);
            outcomes.push(seek(grounds, mutation, mode, seed).await?);
        }
    }
    Ok(outcomes)
}

/// The same for the defects of the other server, tier and ways.
pub(super) async fn further(grounds: &Grounds, seed: u64) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for further in FURTHER {
        outcomes.push(seek(grounds, &further.mutation, further.mode(), seed).await?);
    }
    Ok(outcomes)
}

async fn seek(grounds: &Grounds, mutation: &Mutation, mode: Mode, seed: u64) -> Result<Outcome> {
    let found = find(grounds, mutation, mode, seed, STATEMENTS_MAX).await?;
    let outcome = Outcome { id: mutation.id, found };
    outcome.print();
    Ok(outcome)
}

/// Runs programs on defects that another layer holds; gives those of which something was found.
pub(super) async fn held(grounds: &Grounds, seed: u64, statements: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for mutation in HELD {
        let found = find(grounds, mutation, Mode::plain(mutation.isolation), seed, statements).await?;
        outcomes.push(Outcome { id: mutation.id, found });
    }
    Ok(outcomes)
}

/// Every `of`-th, for a quick look.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) of: usize,
}

impl Share {
    fn holds(self, number: usize) -> bool {
        number.is_multiple_of(self.of.max(1))
    }
}

/// The servers with the templates of the worlds, each made when it is first needed.
#[derive(Default)]
pub(super) struct Grounds {
    first: OnceCell<Ground>,
    second: OnceCell<Ground>,
    sites: Mutex<Vec<(Mode, Arc<Site>)>>,
}

impl Grounds {
    async fn ground(&self, second: bool) -> Result<&Ground> {
        let ground = if second { &self.second } else { &self.first };
        ground
            .get_or_try_init(async || Ground::new(Self::server(second).await).await)
            .await
    }

    /// PostgreSQL 15, or 18.
    pub(super) async fn server(second: bool) -> &'static TestCluster {
        if second {
            second_cluster().await
        } else {
            cluster().await
        }
    }

    pub(super) async fn site(&self, mode: Mode) -> Result<Arc<Site>> {
        // The tenants' way does not matter to where they live.
        let key = Mode { way: Way::Wire, ..mode };
        let mut sites = self.sites.lock().await;
        if let Some((_, site)) = sites.iter().find(|(made, _)| *made == key) {
            return Ok(site.clone());
        }
        let site = Arc::new(self.ground(mode.second).await?.site(mode.isolation, mode.tier).await?);
        sites.push((key, site.clone()));
        Ok(site)
    }
}

/// Worlds with a defect.
pub(super) struct Seeded {
    pub(super) comparers: Comparers,
    /// What takes back that part of it that is the server's.
    undo: Option<(Arc<World>, String)>,
}

impl Seeded {
    pub(super) async fn new(grounds: &Grounds, mutation: &Mutation, mode: Mode) -> Result<Self> {
        if mode.way == Way::Http {
            let webs = Webs::start(Grounds::server(mode.second).await, mode.isolation).await?;
            webs.seed_defect(mutation.sql).await?;
            return Ok(Self {
                comparers: Comparers::Http(vec![webs]),
                undo: None,
            });
        }
        let worlds = grounds.site(mode).await?.pair().await?;
        for world in &worlds {
            mutate(world, mutation)
                .await
                .with_context(|| format!("seed the defect `{}`", mutation.id))?;
        }
        let comparers = match mode.way {
            Way::Library => Comparers::Library(vec![Libraries::new(&worlds, Calls::Scoped, 4).await?]),
            Way::Outside => Comparers::Library(vec![Libraries::new(&worlds, Calls::Outside, 4).await?]),
            _ => Comparers::Wire(vec![Pair::new(&worlds, mutation.faults).refilling()]),
        };
        let undo = (!mutation.undo.is_empty()).then(|| (worlds[0].clone(), mutation.undo.to_owned()));
        Ok(Self { comparers, undo })
    }

    pub(super) async fn undo(&self) -> Result<()> {
        if let Some((world, sql)) = &self.undo {
            world.place(Owner::A).admin.batch_execute(&fill_in(world, sql)?).await?;
        }
        Ok(())
    }
}

async fn find(
    grounds: &Grounds,
    mutation: &Mutation,
    mode: Mode,
    seed: u64,
    most: usize,
) -> Result<Option<(usize, Finding)>> {
    let mut seeded = Seeded::new(grounds, mutation, mode).await?;
    let extent = Extent::of(most as u64);
    let program = |number| program_of(seed, number, mode);
    let found = match &mut seeded.comparers {
        Comparers::Wire(pairs) => search(pairs, extent, program).await.finding(),
        Comparers::Library(libraries) => search(libraries, extent, program).await.finding(),
        Comparers::Http(webs) => {
            let requests = |number| http::requests(seed_of(seed, mode.way), number);
            search(webs, extent, requests).await.finding()
        }
    };
    seeded.undo().await?;
    if let Some((_, finding)) = &found
        && finding.kind == Kind::Broken
    {
        bail!("`{}` could not be run: {:?}", mutation.id, finding.answers);
    }
    Ok(found)
}

async fn mutate(world: &World, mutation: &Mutation) -> Result<()> {
    let admin = &world.place(Owner::A).admin;
    if let Some((function, text, instead)) = mutation.edit {
        let row = admin
            .query_one("select pg_get_functiondef($1::text::regprocedure)", &[&function])
            .await?;
        let definition: String = row.get(0);
        if !definition.contains(text) {
            bail!("{function} does not hold `{text}`: the defect has to be seeded otherwise");
        }
        admin.batch_execute(&definition.replacen(text, instead, 1)).await?;
    }
    if !mutation.sql.is_empty() {
        admin.batch_execute(&fill_in(world, mutation.sql)?).await?;
    }
    Ok(())
}

fn fill_in(world: &World, sql: &str) -> Result<String> {
    let app = Identifier::new(world.place(Owner::A).app_role.as_str())?;
    // Names of roles here are plain, so that they stand in literals too.
    Ok(sql
        .replace("{schema}", &world.schema(Owner::A))
        .replace("{c_schema}", &world.schema(Owner::C))
        .replace("{b_schema}", &world.schema(Owner::B))
        .replace("{a}", &tenant(Owner::A).to_string())
        .replace("{b}", &tenant(Owner::B).to_string())
        .replace("'{app}'", &format!("'{}'", app.as_str()))
        .replace("{app}", app.as_str())
        .replace("{owner}", world.owner.as_str()))
}

/// What was found of a channel.
pub(super) struct Probed {
    pub(super) id: &'static str,
    pub(super) mode: String,
    /// Whether the channel is declared closed in this mode.
    pub(super) closed: bool,
    pub(super) finding: Option<Finding>,
}

impl Probed {
    pub(super) fn as_declared(&self) -> bool {
        self.closed == self.finding.is_none()
    }
}

/// Probes every channel in every isolation, and where hardening closes it, hardened.
///
/// The worlds of a mode serve all its probes: what one leaves behind can only make a closed channel look open.
pub(super) async fn channels(grounds: &Grounds) -> Result<Vec<Probed>> {
    let mut probed = Vec::new();
    let probes = || CHANNELS.iter().filter(|channel| channel.way != channels::Way::Unprobed);
    for isolation in Isolation::ALL {
        let worlds = grounds.site(Mode::plain(isolation)).await?.pair().await?;
        for channel in probes() {
            probed.push(Probed {
                id: channel.id,
                mode: isolation.to_string(),
                closed: channel.closed_in.contains(&isolation),
                finding: probe(&worlds, channel).await?,
            });
        }
    }
    let worlds = grounds.site(Mode::plain(Isolation::Shared)).await?.pair().await?;
    for hardening in probes().filter_map(|channel| channel.hardening) {
        for world in &worlds {
            world.place(Owner::A).admin.batch_execute(hardening).await?;
        }
    }
    for channel in probes().filter(|channel| channel.hardening.is_some()) {
        probed.push(Probed {
            id: channel.id,
            mode: "shared, hardened".to_owned(),
            closed: true,
            finding: probe(&worlds, channel).await?,
        });
    }
    Ok(probed)
}

async fn probe(worlds: &[Arc<World>; 2], channel: &Channel) -> Result<Option<Finding>> {
    let isolation = worlds[0].isolation;
    let shared_backend = channel.way == channels::Way::InTurn && isolation != Isolation::Database;
    let (mut acts, mut asks) = (Round::default(), Round::default());
    for act in channel.acts {
        match act.strip_prefix("operator: ") {
            // Operators act at the beginning of a round, hence after B.
            Some(act) => asks.operator[1].push(fill_in_b(&worlds[1], act)?),
            None => acts.b[1].push(Step::sql("act", *act)),
        }
    }
    let (mut rounds, mut open) = (Vec::new(), false);
    for sql in channel.probe {
        match sql.strip_prefix("operator: ") {
            Some(act) => {
                rounds.push(std::mem::take(&mut asks));
                asks.operator[1].push(fill_in_b(&worlds[1], act)?);
            }
            None => {
                let mut step = Step::sql("probe", fill_in_b(&worlds[1], sql)?).ordered();
                // Stated at the beginning of a transaction, it holds for all of it.
                step.lead = !open;
                open = (open || *sql == "begin") && *sql != "rollback";
                asks.a.push(step);
            }
        }
    }
    rounds.push(asks);
    let listen = Round {
        a: vec![Step::sql("listen", "listen between")],
        ..Round::default()
    };
    // The same in both: the acts are the only difference. B's only, since operators' acts may reach everybody.
    let mut fill_b: [Vec<_>; 2] = Default::default();
    let program = grammar::program(1, 1, isolation);
    for rows in &mut fill_b {
        rows.extend(program.fill_b[0].iter().filter(|row| row.owner == Owner::B).cloned());
    }
    let program = Program {
        travel: Travel {
            shared_backend,
            raw: !shared_backend,
            natural_counters: true,
        },
        fill: program.fill,
        fill_b,
        rounds: [listen, acts].into_iter().chain(rounds).collect(),
    };
    let mut pair = Pair::new(worlds, Faults::default()).refilling();
    let finding = pair.compare(&program).await;
    if let Some(finding) = &finding
        && finding.kind == Kind::Broken
    {
        bail!("the probe of `{}` did not run: {:?}", channel.id, finding.answers);
    }
    Ok(finding)
}

fn fill_in_b(world: &World, sql: &str) -> Result<String> {
    fill_in(world, &sql.replace("{schema}", &world.schema(Owner::B)))
}

impl Outcome {
    /// A line of the table.
    fn print(&self) {
        match &self.found {
            Some((statements, finding)) => println!(
                "{:<52} {statements:>6}  {:?} at `{}`",
                self.id, finding.kind, finding.shape
            ),
            None => println!("{:<52}      -  NOT FOUND", self.id),
        }
    }
}

/// The table's last line.
pub(super) fn summary(outcomes: &[Outcome], begun: Instant) -> String {
    let mut statements: Vec<usize> = outcomes
        .iter()
        .filter_map(|outcome| Some(outcome.found.as_ref()?.0))
        .collect();
    statements.sort_unstable();
    format!(
        "{} of {} defects found, median {} statements, worst {}, {:.0} s",
        statements.len(),
        outcomes.len(),
        statements.get(statements.len() / 2).copied().unwrap_or(0),
        statements.last().copied().unwrap_or(0),
        begun.elapsed().as_secs_f64()
    )
}
