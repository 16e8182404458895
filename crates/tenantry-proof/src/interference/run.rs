//! Runs a program in two worlds at once and compares what A observes.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use anyhow::Result;
use tenantry_core::Isolation;
use tokio_postgres::Statement;

use super::{
    lane::{Faults, Flushed, Lane},
    observe,
    schema::TABLES,
    site::{World, census, epoch, schema_of, tenant},
    step::{FillRow, Must, Owner, Program, Round, Step},
};

/// How A was told something about B, or reached it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A's observations differ.
    Difference,
    /// A step that has to be refused was not.
    NotRefused,
    /// A step that has to show nothing showed a row.
    Shown,
    /// The rows of a tenant that does nothing have changed.
    Integrity,
    /// A does not see exactly its own rows.
    Incomplete,
    /// A's binding was refused: it is shut out, for what another tenant did or for a step that was left out.
    Unbound,
    /// The program could not be run.
    Broken,
}

/// What was found, at which of A's statements.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// How many of the program's statements were compared until then, this one included.
    pub(super) statements: usize,
    pub(super) step: String,
    pub(super) shape: String,
    /// What each world answered.
    pub(super) answers: [String; 2],
}

/// One world with the backends that are used in it.
pub(super) struct Driver {
    world: Arc<World>,
    index: usize,
    faults: Faults,
    a: Option<Lane>,
    b: Option<Lane>,
    programs: usize,
    resting: Option<Resting>,
    /// Counts A's rows and digests C's; prepared once, as it is run with every program.
    count: Option<Statement>,
}

/// The rows of those who do nothing, C and D, as they stand: the same for many programs.
struct Resting {
    rows: Vec<FillRow>,
    /// Of C's, as it was after the last program.
    digest: String,
}

/// What one world answered to a program.
struct Seen {
    steps: Vec<Vec<u8>>,
    refused_binding: Option<Vec<u8>>,
    integrity: [String; 2],
    census: [String; 2],
}

/// Programs after which the tables are truncated and not only emptied: dead rows cost time, a truncation does too.
const TRUNCATE_EVERY: usize = 24;

impl Driver {
    pub(super) fn new(world: Arc<World>, index: usize, faults: Faults) -> Self {
        Self {
            world,
            index,
            faults,
            a: None,
            b: None,
            programs: 0,
            resting: None,
            count: None,
        }
    }

    async fn run(&mut self, program: &Program) -> Result<Seen> {
        let seen = self.attempt(program).await;
        if seen.is_err() {
            self.a = None;
            self.b = None;
            self.resting = None;
        }
        seen
    }

    /// The next program finds all rows made anew.
    fn refill(&mut self) {
        self.resting = None;
    }

    /// What A's rows come to, and the digest of C's.
    async fn count(&mut self) -> Result<(String, String)> {
        let (a, c) = (self.world.place(Owner::A), self.world.place(Owner::C));
        let digest = self.world.digest_sql(Owner::C)?;
        let (schema, id) = (self.world.schema(Owner::A), tenant(Owner::A));
        let census = census(|table| format!("{schema}.{table} where tenant_id = '{id}'"));
        if self.world.isolation == Isolation::Database {
            let held = a.admin.query_one(&census, &[]).await?.get(0);
            return Ok((held, c.admin.query_one(&digest, &[]).await?.get(0)));
        }
        let count = match &self.count {
            Some(count) => count,
            None => {
                let both = format!("select ({census}), ({digest})");
                self.count.insert(a.admin.prepare(&both).await?)
            }
        };
        let row = a.admin.query_one(count, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }

    async fn attempt(&mut self, program: &Program) -> Result<Seen> {
        self.fill(program).await?;
        let before = match &self.resting {
            Some(resting) if !resting.digest.is_empty() => resting.digest.clone(),
            _ => self.count().await?.1,
        };
        if self.a.is_none() {
            self.a = Some(Lane::open(&self.world, Owner::A, self.faults).await?);
        }
        if self.b.is_none() {
            self.b = Some(Lane::open(&self.world, Owner::B, Faults::default()).await?);
        }
        let (Some(a), Some(b)) = (&mut self.a, &mut self.b) else {
            anyhow::bail!("no lanes");
        };
        a.restart(program.travel)?;
        if !program.travel.shared_backend {
            b.restart(program.travel)?;
        }
        let mut all = Flushed::default();
        for round in &program.rounds {
            let flushed = play(&self.world, self.index, a, b, program.travel.shared_backend, round).await?;
            all.steps.extend(flushed.steps);
            all.controls.extend(flushed.controls);
        }
        a.put(Owner::A, &Step::sql("end", "rollback").inside())?;
        a.put(Owner::A, &Step::sql("census", census(str::to_owned)))?;
        if !program.travel.shared_backend {
            b.put(Owner::B, &Step::sql("end", "rollback").inside())?;
            // Its observations are its own affair, and a program may have broken its session.
            let _ = b.flush().await;
        }
        let mut last = a.flush().await?;
        all.controls.extend(last.controls);
        let told = last
            .steps
            .pop()
            .and_then(|unit| observe::first_value(&unit))
            .unwrap_or_default();
        let (held, after) = self.count().await?;
        if let Some(resting) = &mut self.resting {
            resting.digest.clone_from(&after);
        }
        Ok(Seen {
            steps: all.steps,
            refused_binding: all.controls.into_iter().next(),
            integrity: [before, after],
            census: [held, told],
        })
    }

    /// A's rows first: where a defect lets tenants collide, A's are there in both worlds. Rows of C and D that stand there
    /// already stay.
    async fn fill(&mut self, program: &Program) -> Result<()> {
        let isolation = self.world.isolation;
        let truncate = self.programs.is_multiple_of(TRUNCATE_EVERY);
        self.programs += 1;
        let resting = program.fill_b[self.index].iter().filter(|row| row.owner >= Owner::C);
        let stay = !truncate && matches!(&self.resting, Some(there) if there.rows.iter().eq(resting.clone()));
        if !stay {
            self.resting = None;
        }
        for (number, place) in self.world.places().iter().enumerate() {
            let owners: &[Owner] = match (isolation, number) {
                (Isolation::Database, 0) => &[Owner::A],
                (Isolation::Database, _) => &[Owner::B, Owner::C, Owner::D],
                _ => &[Owner::A, Owner::B, Owner::C, Owner::D],
            };
            let moves = |owner: &&Owner| !stay || **owner < Owner::C;
            let owners: Vec<Owner> = owners.iter().filter(moves).copied().collect();
            let mut sql =
                "begin; set local session_replication_role = replica; set local client_min_messages = error;\n"
                    .to_owned();
            // Filling notes nothing: what stands there is of the program before.
            sql.push_str(match truncate {
                true => "truncate tenantry_private.history;",
                false => "delete from tenantry_private.history;",
            });
            let mut schemas: Vec<String> = owners.iter().map(|owner| schema_of(isolation, *owner)).collect();
            schemas.dedup();
            for schema in &schemas {
                match truncate {
                    true => write!(sql, "truncate {};", tables_of(schema).join(", "))?,
                    false => empty(&mut sql, schema, if stay { &owners } else { &[] })?,
                }
                write!(sql, "select setval('{schema}.note_id_seq', 1000);")?;
            }
            let rows = program.fill.iter().chain(&program.fill_b[self.index]);
            insert(&mut sql, isolation, rows.filter(|row| owners.contains(&row.owner)))?;
            sql.push_str("commit;");
            let done = place.admin.batch_execute(&sql).await;
            if let Err(error) = done {
                self.resting = None;
                place.admin.batch_execute("rollback").await?;
                anyhow::bail!("can't fill the world: {error:?}");
            }
        }
        if !stay {
            self.resting = Some(Resting {
                rows: resting.cloned().collect(),
                digest: String::new(),
            });
        }
        Ok(())
    }
}

fn tables_of(schema: &str) -> Vec<String> {
    TABLES.iter().map(|(table, _)| format!("{schema}.{table}")).collect()
}

/// Takes out the rows of these owners, or all.
fn empty(sql: &mut String, schema: &str, owners: &[Owner]) -> Result<()> {
    let ids: Vec<String> = owners.iter().map(|owner| format!("'{}'", tenant(*owner))).collect();
    let which = match ids.as_slice() {
        [] => String::new(),
        ids => format!(" where tenant_id in ({})", ids.join(", ")),
    };
    for table in tables_of(schema) {
        write!(sql, "delete from {table}{which};")?;
    }
    Ok(())
}

fn insert<'a>(sql: &mut String, isolation: Isolation, rows: impl Iterator<Item = &'a FillRow>) -> Result<()> {
    let mut grouped: BTreeMap<(Owner, usize), Vec<&str>> = BTreeMap::new();
    for row in rows {
        grouped.entry((row.owner, row.table)).or_default().push(&row.values);
    }
    for ((owner, table), values) in grouped {
        let (name, columns) = TABLES[table];
        let (schema, id) = (schema_of(isolation, owner), tenant(owner));
        let values: Vec<String> = values.iter().map(|values| format!("('{id}', {values})")).collect();
        write!(
            sql,
            "insert into {schema}.{name} (tenant_id, {columns}) values {}",
            values.join(", ")
        )?;
        // A deferrable key can't decide a conflict.
        sql.push_str(if name == "slot" {
            ";\n"
        } else {
            " on conflict do nothing;\n"
        });
    }
    Ok(())
}

async fn play(
    world: &World,
    index: usize,
    a: &mut Lane,
    b: &mut Lane,
    shared_backend: bool,
    round: &Round,
) -> Result<Flushed> {
    for act in &round.operator[index] {
        world.place(Owner::B).admin.batch_execute(act).await?;
    }
    let acts_of_b = &round.b[index];
    if shared_backend {
        for step in acts_of_b {
            a.put(Owner::B, step)?;
        }
        a.end_turn();
    } else {
        for step in acts_of_b {
            b.put(Owner::B, step)?;
        }
        if !round.concurrent {
            flush_b(b, acts_of_b).await;
        }
    }
    if round.fenced {
        // Bound before the fence closes: what is compiled has to refuse it.
        a.put(Owner::A, &Step::sql("bind", "select 1"))?;
        let mut before = a.flush().await?;
        before.steps.clear();
        fence(world, "fence_close", ", 1::int2").await?;
        put_all(a, round)?;
        let seen = a.flush().await;
        fence(world, "fence_open", "").await?;
        let mut seen = seen?;
        seen.controls.extend(before.controls);
        return Ok(seen);
    }
    put_all(a, round)?;
    if round.concurrent && !shared_backend {
        let (seen, ()) = tokio::join!(a.flush(), flush_b(b, acts_of_b));
        return seen;
    }
    a.flush().await
}

fn put_all(a: &mut Lane, round: &Round) -> Result<()> {
    round.a.iter().try_for_each(|step| a.put(Owner::A, step))
}

async fn flush_b(b: &mut Lane, acts: &[Step]) {
    // What B is told is its own affair.
    if acts.iter().any(|step| step.shape == "cancelled") {
        let _ = b.flush_cancelled().await;
    } else {
        let _ = b.flush().await;
    }
}

async fn fence(world: &World, function: &str, state: &str) -> Result<()> {
    let (id, epoch) = (tenant(Owner::A), epoch(Owner::A).0);
    let admin = &world.place(Owner::A).admin;
    admin
        .batch_execute(&format!("select tenantry.{function}('{id}', {epoch}{state})"))
        .await?;
    Ok(())
}

/// The two worlds with their backends.
pub(super) struct Pair {
    drivers: [Driver; 2],
    databases: [String; 2],
    refills: bool,
}

impl Pair {
    pub(super) fn new(worlds: &[Arc<World>; 2], faults: Faults) -> Self {
        let driver = |index: usize| Driver::new(worlds[index].clone(), index, faults);
        Self {
            drivers: [driver(0), driver(1)],
            databases: [0, 1].map(|index| worlds[index].place(Owner::A).name().to_owned()),
            refills: false,
        }
    }

    /// Fills everything anew for each program: where a defect lets tenants collide, rows that stand there already would
    /// keep A's out.
    pub(super) fn refilling(mut self) -> Self {
        self.refills = true;
        self
    }

    /// Fills both worlds for a program.
    pub(super) async fn fill(&mut self, program: &Program) -> Result<()> {
        for driver in &mut self.drivers {
            driver.fill(program).await?;
        }
        Ok(())
    }

    /// Runs the program in both worlds; what A could tell them apart by, if anything.
    pub(super) async fn compare(&mut self, program: &Program) -> Option<Finding> {
        let [first, second] = &mut self.drivers;
        let (first, second) = tokio::join!(first.run(program), second.run(program));
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (first, second) => {
                let told = |seen: Result<Seen>| seen.map_or_else(|error| format!("{error:#}"), |_| "done".to_owned());
                return Some(Finding {
                    kind: Kind::Broken,
                    statements: program.statements(),
                    step: "the whole program".to_owned(),
                    shape: "-".to_owned(),
                    answers: [told(first), told(second)],
                });
            }
        };
        let found = self.judge(program, &first, &second);
        if found.is_some() || self.refills {
            self.drivers.iter_mut().for_each(Driver::refill);
        }
        found
    }

    fn judge(&self, program: &Program, first: &Seen, second: &Seen) -> Option<Finding> {
        let steps = program.rounds.iter().flat_map(|round| &round.a);
        for (position, step) in steps.enumerate() {
            let answers = [first.steps.get(position)?, second.steps.get(position)?];
            let kind = if step.must == Must::BeRefused && !answers.iter().all(|answer| observe::is_refused(answer)) {
                Kind::NotRefused
            } else if step.must == Must::ShowNothing && answers.iter().any(|answer| observe::shows_a_row(answer)) {
                Kind::Shown
            } else if step.must == Must::ShowNothing && answers.iter().any(|answer| observe::is_refused_by_us(answer)) {
                // Neither showed a row; whether a scan met one to refuse on is the plan's affair (channel `refusals`).
                continue;
            } else if self.differ(answers, step.ordered) {
                Kind::Difference
            } else {
                continue;
            };
            return Some(Finding {
                kind,
                statements: position + 1,
                step: step.text(),
                shape: step.shape.clone(),
                answers: answers.map(|answer| observe::pretty(answer)),
            });
        }
        let whole = |kind, answers| {
            Some(Finding {
                kind,
                statements: program.statements(),
                step: "the whole program".to_owned(),
                shape: "-".to_owned(),
                answers,
            })
        };
        for seen in [first, second] {
            if let Some(refusal) = &seen.refused_binding {
                return whole(Kind::Unbound, [observe::pretty(refusal), String::new()]);
            }
            if seen.integrity[0] != seen.integrity[1] {
                return whole(Kind::Integrity, seen.integrity.clone());
            }
            if seen.census[0] != seen.census[1] {
                return whole(Kind::Incomplete, seen.census.clone());
            }
        }
        None
    }

    fn differ(&self, answers: [&Vec<u8>; 2], ordered: bool) -> bool {
        answers[0] != answers[1]
            && observe::normalise(answers[0], ordered, &self.databases[0])
                != observe::normalise(answers[1], ordered, &self.databases[1])
    }
}
