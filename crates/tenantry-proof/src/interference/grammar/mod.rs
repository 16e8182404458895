//! The programs: random in everything, with ids and unique values that the tenants share on purpose.

mod change;
mod hostile;
mod read;
mod together;

use tenantry_core::Isolation;

use super::{
    schema::TABLES,
    step::{Act, FillRow, Must, Owner, PREPARED, Program, Round, Step, Travel},
};
use crate::rng::Rng;

/// Makes the steps of one tenant.
pub(super) struct Grammar {
    rng: Rng,
    isolation: Isolation,
    /// Stands in every text that B writes: whatever A observes of it, it is in one world only.
    canary: Option<String>,
}

/// What a shape needs to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needs {
    /// Leaves nothing in the session: may stand on a backend that the tenants take turns on without a discard.
    Nothing,
    /// May leave something: the raw lane.
    RawLane,
    /// The application's prepared statements, or a session that a token may still be tried on: not the raw lane.
    HotLane,
}

struct Shape {
    name: &'static str,
    weight: u64,
    needs: Needs,
    make: fn(&mut Grammar) -> Vec<Step>,
}

const fn shape(name: &'static str, weight: u64, make: fn(&mut Grammar) -> Vec<Step>) -> Shape {
    Shape {
        name,
        weight,
        needs: Needs::Nothing,
        make,
    }
}

impl Shape {
    const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }
}

fn shapes() -> impl Iterator<Item = &'static Shape> {
    read::SHAPES
        .iter()
        .chain(change::SHAPES)
        .chain(together::SHAPES)
        .chain(hostile::SHAPES)
}

/// The names of all shapes.
pub(super) fn shape_names() -> Vec<&'static str> {
    shapes().map(|shape| shape.name).collect()
}

impl Grammar {
    fn new(rng: Rng, isolation: Isolation, canary: Option<String>) -> Self {
        Self { rng, isolation, canary }
    }

    /// One shape's steps.
    fn next(&mut self, travel: Travel) -> Vec<Step> {
        let fits = |shape: &&Shape| match shape.needs {
            Needs::Nothing => true,
            Needs::RawLane => travel.raw,
            Needs::HotLane => !travel.raw,
        };
        let total: u64 = shapes().filter(fits).map(|shape| shape.weight).sum();
        let mut at = self.rng.below(total);
        for shape in shapes().filter(fits) {
            if at < shape.weight {
                let mut steps = (shape.make)(self);
                for step in &mut steps {
                    shape.name.clone_into(&mut step.shape);
                }
                return steps;
            }
            at -= shape.weight;
        }
        Vec::new()
    }

    /// One statement that can stand in a transaction with others.
    fn statement(&mut self) -> Step {
        loop {
            let from = if self.rng.chance(50) {
                read::SHAPES
            } else {
                change::SHAPES
            };
            let shape = self.rng.pick(from);
            if let [step] = (shape.make)(self).as_slice()
                && matches!(step.act, Act::Sql(_))
                && !matches!(&step.act, Act::Sql(sql) if sql.starts_with("copy"))
            {
                return step.clone();
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.rng.between(1, 15)
    }

    fn text(&mut self) -> String {
        let number = self.rng.below(30);
        match &self.canary {
            Some(canary) => format!("{canary}-{number}"),
            None => format!("n{number}"),
        }
    }

    fn code(&mut self) -> String {
        if self.rng.chance(15) {
            return "null".to_owned();
        }
        format!("'c{}'", self.rng.between(1, 9))
    }

    fn email(&mut self) -> String {
        let number = self.rng.between(1, 15);
        let name = if self.rng.chance(50) { "Eve" } else { "eve" };
        format!("'{name}{number}@x.y'")
    }

    fn mood(&mut self) -> &'static str {
        let mood: &&'static str = self.rng.pick(&["calm", "busy", "gone"]);
        mood
    }

    fn day(&mut self) -> String {
        let (year, month) = (self.rng.between(2024, 2025), self.rng.between(1, 12));
        format!("'{year}-{month:02}-01'")
    }

    fn range(&mut self) -> String {
        let from = self.rng.below(120);
        format!("'[{from},{})'", from + self.rng.between(1, 6))
    }

    fn table(&mut self) -> &'static str {
        const TABLES: [&str; 7] = ["project", "task", "note", "booking", "person", "slot", "event"];
        let table: &&'static str = self.rng.pick(&TABLES);
        table
    }

    /// A tenant that is not the one that acts.
    fn stranger(&mut self) -> Owner {
        *self.rng.pick(&[Owner::B, Owner::C, Owner::D])
    }

    fn fill(&mut self, owner: Owner, rows: u64, into: &mut Vec<FillRow>) {
        for (table, (name, _)) in TABLES.iter().enumerate() {
            for number in 1..=rows {
                // Some numbers are left free, so that inserts succeed and fail.
                if self.rng.chance(30) {
                    continue;
                }
                let values = self.row(name, number, rows);
                into.push(FillRow { owner, table, values });
            }
        }
    }

    fn row(&mut self, table: &str, number: u64, rows: u64) -> String {
        let (id, text) = (self.rng.between(1, rows.max(1)), self.text());
        match table {
            "project" => {
                let (code, mood) = (format!("'c{number}'"), self.mood());
                let (region, budget) = (self.rng.between(1, 3), self.rng.below(90));
                format!(
                    "{number}, '{text}', {code}, {region}, {budget}, '{mood}', '{{t{region}}}', '{{\"k\": {region}}}', {budget}"
                )
            }
            "task" => format!("{number}, {id}, '{text}', {}", self.rng.chance(40)),
            "note" => format!("{number}, {id}, '{text}'"),
            "booking" => format!("{number}, {}, '[{},{})'", number % 3, number * 6, number * 6 + 4),
            "person" => {
                let boss = if number == 1 { "null".to_owned() } else { "1".to_owned() };
                format!("{number}, {boss}, 'eve{number}@x.y', {}", self.rng.between(20, 60))
            }
            "slot" => format!("{number}, {number}"),
            "event" => format!("{number}, {}, '{text}'", self.day()),
            _ => format!("{id}, {number}, '{text}'"),
        }
    }
}

/// So many programs of a seed are short.
const SHORT: u64 = 20;

/// A program for both worlds.
pub(super) fn program(seed: u64, number: u64, isolation: Isolation) -> Program {
    let mut rng = Rng::of(seed, &[number, 0]);
    // In turn and not by chance, so that each way of travelling comes early.
    let travel = Travel {
        shared_backend: isolation != Isolation::Database && matches!(number % 5, 1 | 2 | 4),
        raw: matches!(number % 5, 0 | 2 | 4),
        natural_counters: false,
    };
    // Short ones first: what a defect needs of rows and ways is met sooner.
    let is_short = number < SHORT;
    let mut a = Grammar::new(Rng::of(seed, &[number, 1]), isolation, None);
    let mut bs = [0, 1].map(|world| {
        let mut rng = Rng::of(seed, &[number, 2, world]);
        let canary = format!("B{world}canary{:08x}", rng.next() as u32);
        Grammar::new(rng, isolation, Some(canary))
    });

    let mut fill = Vec::new();
    a.fill(Owner::A, 8, &mut fill);
    let fill_b = [0, 1].map(|world| {
        let (mut rows, b) = (Vec::new(), &mut bs[world]);
        // Now and then B has nothing at all in one of the worlds.
        let most = if b.rng.chance(15) { 0 } else { b.rng.between(6, 20) };
        b.fill(Owner::B, most, &mut rows);
        // Those who do nothing have the same rows in all programs of a seed and world, so that they can stay.
        let mut resting = Grammar::new(
            Rng::of(seed, &[3, world as u64]),
            isolation,
            Some(format!("R{world}canary")),
        );
        resting.fill(Owner::C, 6, &mut rows);
        resting.fill(Owner::D, 5, &mut rows);
        rows
    });

    let mut rounds = Vec::new();
    let mut open = [false, false];
    for _ in 0..if is_short { 2 } else { rng.between(5, 8) } {
        let mut round = Round {
            concurrent: rng.chance(40),
            fenced: rng.chance(3),
            ..Round::default()
        };
        for world in 0..2 {
            let leave_open = !travel.shared_backend && rng.chance(25);
            round.b[world] = acts_of_b(&mut bs[world], travel, &mut open[world], leave_open);
            if rng.chance(4) {
                round.operator[world] = operator_acts(&mut bs[world]);
            }
        }
        if round.fenced {
            round.a = fenced_acts(&mut a);
        } else {
            let until = if is_short { 14 } else { rng.between(16, 36) as usize };
            while round.a.len() < until {
                round.a.extend(a.next(travel));
            }
        }
        rounds.push(round);
    }
    Program {
        travel,
        fill,
        fill_b,
        rounds,
    }
}

/// B does as it likes: nothing, some statements, a transaction that stays open, one that is cancelled, and where a
/// backend changes hands it leaves behind whatever it can.
fn acts_of_b(b: &mut Grammar, travel: Travel, open: &mut bool, leave_open: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if std::mem::take(open) {
        let end = if b.rng.chance(50) { "commit" } else { "rollback" };
        steps.push(Step::sql("end", end).inside());
    }
    for _ in 0..b.rng.below(4) {
        steps.extend(b.next(travel));
    }
    if travel.raw && b.rng.chance(75) {
        steps.extend(hostile::poison(b));
        steps.extend(hostile::poison(b));
    }
    if leave_open {
        *open = true;
        steps.push(Step::sql("begin", "begin").inside());
        let first = b.statement();
        steps.push(first);
        if b.rng.chance(30) {
            let mut slow = Step::sql("cancelled", "select pg_sleep(0.02), name from project");
            slow.lead = false;
            steps.push(slow);
        }
    }
    steps
}

/// What happens to B by its operator: closed and opened again; its tables are analysed.
fn operator_acts(b: &mut Grammar) -> Vec<String> {
    let id = super::site::tenant(Owner::B);
    let epoch = super::site::epoch(Owner::B).0;
    if b.rng.chance(50) {
        vec![
            format!("select tenantry.fence_close('{id}', {epoch}, 3::int2)"),
            format!("select tenantry.fence_open('{id}', {epoch})"),
        ]
    } else {
        let (schema, table) = (super::site::schema_of(b.isolation, Owner::B), b.table());
        vec![format!("analyze {schema}.{table}")]
    }
}

/// A was bound before its fence closed.
fn fenced_acts(a: &mut Grammar) -> Vec<Step> {
    let table = a.table();
    vec![
        Step::sql("fenced", format!("select * from {table} order by 1, 2")).must(Must::ShowNothing),
        Step::sql("fenced", format!("delete from {table} returning 1")).must(Must::ShowNothing),
    ]
}

fn prepared(grammar: &mut Grammar) -> Vec<Step> {
    let number = grammar.rng.below(PREPARED.len() as u64) as usize;
    let values = (0..PREPARED[number].matches("::text").count())
        .map(|_| grammar.id().to_string())
        .collect();
    let mut step = Step::sql("prepared", "");
    step.act = Act::Prepared(number, values);
    step.ordered = PREPARED[number].contains("order by");
    vec![step]
}
