//! Several statements: transactions, savepoints, cursors, prepared statements, several in one message.

use super::{Grammar, Needs, Shape, prepared, shape};
use crate::interference::step::{Act, Step};

pub(super) const SHAPES: &[Shape] = &[
    shape("transaction", 7, |g| {
        let mode = *g
            .rng
            .pick(&["", "", "", " isolation level repeatable read", " read only"]);
        let mut steps = begin(mode);
        for _ in 0..g.rng.between(2, 5) {
            let statement = g.statement().inside();
            steps.push(statement);
        }
        steps.push(end(g));
        steps
    }),
    shape("savepoint", 4, |g| {
        let mut steps = begin("");
        steps.push(g.statement().inside());
        steps.push(Step::sql("", "savepoint here").inside());
        steps.push(g.statement().inside());
        let back = *g.rng.pick(&["rollback to here", "release here"]);
        steps.push(Step::sql("", back).inside());
        steps.push(g.statement().inside());
        steps.push(end(g));
        steps
    }),
    shape("cursor", 3, |g| {
        let table = g.table();
        let mut steps = begin("");
        for sql in [
            format!("declare c scroll cursor for select * from {table} order by 1, 2, 3"),
            "fetch 2 from c".to_owned(),
            "move 1 in c".to_owned(),
            "fetch backward 1 from c".to_owned(),
            "fetch all from c".to_owned(),
            "close c".to_owned(),
        ] {
            steps.push(Step::sql("", sql).inside().ordered());
        }
        steps.push(end(g));
        steps
    }),
    shape("deferred constraints", 2, |g| {
        let mut steps = begin("");
        steps.push(Step::sql("", "set constraints all deferred").inside());
        steps.push(Step::sql("", "update slot set place = place + 1").inside());
        let immediate = *g
            .rng
            .pick(&["set constraints all immediate", "select count(*) from slot"]);
        steps.push(Step::sql("", immediate).inside());
        steps.push(end(g));
        steps
    }),
    shape("prepared by the application", 20, prepared).needs(Needs::HotLane),
    shape("prepared by SQL", 4, |g| {
        let id = g.id();
        let mut steps = Vec::new();
        for sql in [
            "prepare mine (int) as select id, name from project where id >= $1 order by id".to_owned(),
            format!("execute mine ({id})"),
            "execute mine (1)".to_owned(),
            "deallocate mine".to_owned(),
        ] {
            steps.push(Step::sql("", sql).ordered());
        }
        steps
    })
    .needs(Needs::RawLane),
    shape("several in one message", 4, |g| {
        let mut texts = Vec::new();
        for _ in 0..g.rng.between(2, 3) {
            if let Act::Sql(sql) = g.statement().act {
                texts.push(sql);
            }
        }
        let mut step = Step::sql("", "");
        step.act = Act::Simple(texts.join("; "));
        vec![step]
    })
    .needs(Needs::RawLane),
];

fn begin(mode: &str) -> Vec<Step> {
    // The expectation holds for the transaction it is stated in.
    let mut step = Step::sql("", "");
    step.act = Act::Simple(format!("begin{mode}"));
    let begin = Step { lead: false, ..step };
    let expect = Step::sql("", "select 1");
    vec![begin, expect]
}

fn end(g: &mut Grammar) -> Step {
    let end = if g.rng.chance(70) { "commit" } else { "rollback" };
    Step::sql("", end).inside()
}
