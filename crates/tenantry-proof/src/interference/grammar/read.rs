//! Statements that read.

use super::{Shape, shape};
use crate::interference::{
    lane::forged_seal,
    site::{schema_of, tenant},
    step::{Must, Owner, Step},
};

pub(super) const SHAPES: &[Shape] = &[
    shape("point select", 6, |g| {
        let id = g.id();
        one(format!(
            "select id, name, code, region_id, budget, mood, tags, meta, progress from project where id = {id}"
        ))
    }),
    shape("select all in order", 5, |g| {
        let table = g.table();
        ordered(format!("select * from {table} order by 1, 2, 3"))
    }),
    shape("select without order", 4, |g| {
        let table = g.table();
        one(format!("select * from {table}"))
    }),
    shape("filter", 4, |g| {
        let (mood, age) = (g.mood(), g.rng.between(20, 60));
        let sql = [
            format!("select id, name from project where mood = '{mood}'"),
            "select id, name from project where name like '%1%' order by id".to_owned(),
            "select id from project where meta @> '{\"k\": 2}'".to_owned(),
            "select id from project where 't1' = any (tags)".to_owned(),
            format!("select id, email from person where age > {age} or lower(email) = 'eve3@x.y'"),
            "select id from booking where during && '[5,20)' order by id".to_owned(),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("join", 4, |g| {
        let id = g.id();
        let sql = [
            "select t.id, t.title, p.name, n.body from task t join project p on p.id = t.project_id left join note n on n.task_id = t.id order by t.id, n.id".to_owned(),
            format!("select p.id, count(t.id) from project p left join task t on t.project_id = p.id where p.id <= {id} group by p.id, p.name"),
            "select p.id, r.name from project p join region r on r.id = p.region_id order by p.id".to_owned(),
            "select a.id, b.id from person a full join person b on b.boss_id = a.id".to_owned(),
            "select p.id, x.title from project p cross join lateral (select title from task t where t.project_id = p.id order by t.id limit 1) x order by 1".to_owned(),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("subquery", 3, |g| {
        let id = g.id();
        let sql = [
            "select id, name from project p where exists (select from task t where t.project_id = p.id and not t.done)"
                .to_owned(),
            "select id from task where project_id not in (select id from project where mood = 'gone')".to_owned(),
            format!("select (select name from project where id = {id}), (select max(id) from task)"),
            "select id from project where budget >= all (select budget from project)".to_owned(),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("aggregate", 4, |g| {
        let sql = [
            "select count(*), sum(budget), min(name), max(id), bool_or(mood = 'gone') from project",
            "select mood, count(*), array_agg(id order by id) from project group by mood having count(*) > 1 order by mood",
            "select region_id, mood, count(*) from project group by rollup (region_id, mood)",
            "select percentile_disc(0.5) within group (order by budget), string_agg(name, ',' order by id) from project",
            "select jsonb_agg(t order by id) from (select id, title from task) t",
            "select count(*) filter (where done), count(distinct project_id) from task",
        ];
        one(*g.rng.pick(&sql))
    }),
    shape("window", 3, |g| {
        let sql = [
            "select id, row_number() over (order by id), lag(name) over (order by id) from project order by id",
            "select id, sum(budget) over (partition by mood order by id), rank() over (order by budget, id) from project order by id",
            "select id, first_value(title) over w, ntile(3) over w from task window w as (order by id) order by id",
        ];
        ordered(*g.rng.pick(&sql))
    }),
    shape("set operation", 2, |g| {
        let sql = [
            "select id from project union select id from task",
            "select id from project intersect select project_id from task",
            "select id from person except select id from slot",
            "select distinct on (mood) mood, id from project order by mood, id",
        ];
        one(*g.rng.pick(&sql))
    }),
    shape("recursive query", 2, |g| {
        let id = g.id();
        ordered(format!(
            "with recursive chain as (select id, boss_id, 1 as depth from person where id = {id} union all
             select p.id, p.boss_id, c.depth + 1 from person p join chain c on p.boss_id = c.id where c.depth < 5)
             select id, depth from chain order by depth, id"
        ))
    }),
    shape("series and values", 2, |g| {
        let id = g.id();
        ordered(format!(
            "select s, p.name from generate_series(1, {id}) s left join project p on p.id = s order by s"
        ))
    }),
    shape("limit in order", 2, |g| {
        let (table, skip) = (g.table(), g.rng.below(4));
        ordered(format!("select * from {table} order by 1, 2, 3 limit 3 offset {skip}"))
    }),
    shape("view", 3, |g| {
        let sql = [
            "select * from open_task order by id",
            "select id, name from busy order by id",
            "select count(*) from busy where code is not null",
        ];
        one(*g.rng.pick(&sql))
    }),
    shape("partition", 6, |g| {
        let (table, day) = (*g.rng.pick(&["event", "event_early", "event_late"]), g.day());
        one(format!("select id, day, kind from {table} where day >= {day}"))
    }),
    shape("reference table", 1, |g| {
        let sql = [
            "select id, name from region order by id",
            "select r.name, count(p.id) from region r left join project p on p.region_id = r.id group by r.name order by 1",
        ];
        ordered(*g.rng.pick(&sql))
    }),
    shape("function", 6, |g| {
        let sql = [
            "select project_count()",
            "select id from project where reveal(name) order by id",
            "select count(*) from task where reveal(title)",
            "select name, reveal(name) from busy order by id",
            "select query_to_xml('select id, name from project order by id', true, false, '')",
        ];
        one(*g.rng.pick(&sql))
    }),
    shape("history", 5, |g| {
        let (id, table, stranger) = (g.id(), *g.rng.pick(&["person", "slot"]), tenant(g.stranger()));
        // Without what differs with the moment, an entry's id and its time; all of them, since which come first is in which order a
        // statement came by its rows.
        let entries = "select act, table_name, row_key, account, old, new from tenantry.history_list";
        let sql = [
            format!("{entries}(null, null, null, null, 1000)"),
            format!("{entries}('{table}', null, null, null, 1000)"),
            format!("{entries}('{table}', '{{\"id\": {id}}}', null, null, 1000)"),
            format!("{entries}(null, null, '{stranger}', null, 1000)"),
            format!("{entries}(null, null, null, '{stranger}', 1000)"),
            "select count(*), count(distinct table_name), max(length(new)) from tenantry.history_list(null, null, null, null, 1000)".to_owned(),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("row lock", 2, |g| {
        let sql = [
            "select id from project order by id for update",
            "select id from task order by id for no key update skip locked",
            "select id from person order by id for share nowait",
        ];
        ordered(*g.rng.pick(&sql))
    }),
    shape("another tenant named", 3, |g| {
        let (table, id) = (g.table(), tenant(g.stranger()));
        one(format!("select * from {table} where tenant_id = '{id}'")).must(Must::ShowNothing)
    }),
    shape("another schema named", 7, |g| {
        let (table, schema) = (g.table(), schema_of(g.isolation, Owner::C));
        let step = one(format!("select * from {schema}.{table}"));
        // In shared tables that is A's own.
        match g.isolation {
            tenantry_core::Isolation::Schema => step.must(Must::ShowNothing),
            _ => step,
        }
    }),
    shape("forged expectation in a query", 2, |g| {
        let seal = forged_seal(g.stranger());
        one(format!(
            "select p.id, p.name from (select set_config('tenantry.expect', '{seal}', true) as e offset 0) e, lateral (select id, name from project where e.e <> '' offset 0) p"
        ))
    }),
    shape("sequence", 3, |g| {
        let sql = ["select last_value from note_id_seq", "select setval('note_id_seq', 1)"];
        let one = |sql: &&str| Step::sql("", *sql).must(Must::BeRefused);
        match g.rng.chance(50) {
            true => sql.iter().map(one).collect(),
            // One by itself can stand in a transaction.
            false => vec![one(g.rng.pick(&sql))],
        }
    }),
    shape("materialized view", 1, |_| one("select * from totals order by 1")),
    shape("no such thing", 2, |g| {
        let sql = [
            "select nothing from project",
            "select id + name from project",
            "selec 1",
            "grant all on project to public",
            "select project_count(1)",
            "select 1 / 0",
            "select id, 100 / (id - 3) from project order by id",
            "select name::int from project where id = 1",
        ];
        one(*g.rng.pick(&sql))
    }),
];

trait MustAll {
    fn must(self, must: Must) -> Self;
}

impl MustAll for Vec<Step> {
    fn must(self, must: Must) -> Self {
        self.into_iter().map(|step| step.must(must)).collect()
    }
}

pub(super) fn one(sql: impl Into<String>) -> Vec<Step> {
    vec![Step::sql("", sql)]
}

pub(super) fn ordered(sql: impl Into<String>) -> Vec<Step> {
    vec![Step::sql("", sql).ordered()]
}
