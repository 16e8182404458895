//! Statements that change rows, and their refusals.

use super::{
    Grammar, Shape,
    read::{one, ordered},
    shape,
};
use crate::interference::{
    site::tenant,
    step::{Must, Step},
};

pub(super) const SHAPES: &[Shape] = &[
    shape("insert", 5, |g| {
        let sql = insert(g);
        one(format!("{sql} returning *"))
    }),
    shape("insert several", 2, |g| {
        let (first, second, text) = (g.id(), g.id(), g.text());
        one(format!(
            "insert into task (id, project_id, title) values ({first}, {second}, '{text}'), ({}, {first}, '{text}') returning id",
            first + 1
        ))
    }),
    shape("insert from select", 2, |g| {
        let add = g.rng.between(1, 6);
        let sql = [
            format!("insert into slot (id, place) select id + {add}, id + {add} from slot"),
            format!("insert into note (id, task_id, body) select id + {add}, id, title from task returning id"),
            format!(
                "insert into event (id, day, kind) select id, '2024-03-01', name from project where id > {add} on conflict do nothing"
            ),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("do nothing on conflict", 3, |g| {
        let sql = match g.rng.below(4) {
            0 => insert_project(g),
            1 => insert_person(g),
            2 => insert_event(g),
            _ => insert_booking(g),
        };
        one(format!("{sql} on conflict do nothing returning id"))
    }),
    shape("update on conflict", 3, |g| {
        let (id, text, code) = (g.id(), g.text(), g.code());
        let target = *g.rng.pick(&["tenant_id, id", "tenant_id, code"]);
        one(format!(
            "insert into project (id, name, code) values ({id}, '{text}', {code}) on conflict ({target}) do update set name = excluded.name returning id, name, code"
        ))
    }),
    shape("update by key", 4, |g| {
        let (id, text) = (g.id(), g.text());
        let sql = [
            format!("update project set name = '{text}', budget = budget + 1 where id = {id} returning id, budget"),
            format!("update task set done = not done where id = {id} returning id, done"),
            format!("update note set body = '{text}' where id = {id} returning size"),
            format!("update person set age = age + 1 where id = {id}"),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("update everything", 3, |g| {
        let sql = [
            "update project set budget = budget + 1",
            "update task set done = false",
            "update note set body = body || '.'",
            "update event set kind = 'x'",
        ];
        one(*g.rng.pick(&sql))
    }),
    shape("update with join", 2, |_| {
        one(
            "update task t set title = p.name from project p where p.id = t.project_id and t.done returning t.id, t.title",
        )
    }),
    shape("update of a key", 2, |g| {
        let (from, to) = (g.id(), g.id());
        let sql = [
            format!("update project set id = {to} where id = {from}"),
            format!("update task set id = {to} where id = {from}"),
            format!("update project set code = 'c{to}' where id = {from} returning code"),
            format!("update person set email = 'EVE{to}@x.y' where id = {from}"),
            format!("update booking set during = '[{to},{})' where id = {from}", to + 9),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("delete by key", 4, |g| {
        let (table, id) = (g.table(), g.id());
        one(format!("delete from {table} where id = {id} returning *"))
    }),
    shape("delete everything", 5, |g| {
        let table = *g
            .rng
            .pick(&["note", "event", "trail", "booking", "slot", "event_early", "task"]);
        one(format!("delete from {table}"))
    }),
    shape("delete with join", 1, |g| {
        let mood = g.mood();
        one(format!(
            "delete from task t using project p where p.id = t.project_id and p.mood = '{mood}'"
        ))
    }),
    shape("merge", 3, |g| {
        let (id, text) = (g.id(), g.text());
        one(format!(
            "merge into project p using (values ({id}, '{text}'), ({}, '{text}')) s (id, name) on p.id = s.id
             when matched and p.mood = 'gone' then delete
             when matched then update set name = s.name
             when not matched then insert (id, name) values (s.id, s.name)",
            id + 1
        ))
    }),
    shape("changes in a query", 3, |g| {
        let (id, text) = (g.id(), g.text());
        let sql = [
            format!(
                "with gone as (delete from note where id <= {id} returning id, body) select count(*), max(body) from gone"
            ),
            format!(
                "with made as (insert into event (id, day, kind) values ({id}, '2025-02-01', '{text}') on conflict do nothing returning id), changed as (update task set title = '{text}' where id in (select id from made) returning id) select (select count(*) from made), (select count(*) from changed), (select count(*) from event)"
            ),
            format!(
                "with moved as (delete from slot where id = {id} returning place) insert into booking (id, room, during) select place, 1, '[80,90)' from moved returning id"
            ),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("booking", 3, |g| {
        let sql = insert_booking(g);
        one(sql)
    }),
    shape("person", 3, |g| {
        let sql = insert_person(g);
        one(format!("{sql} returning id, email"))
    }),
    shape("reference that may not be there", 3, |g| {
        let (id, other, text) = (g.id(), g.rng.between(5, 22), g.text());
        let sql = [
            format!("insert into task (id, project_id, title) values ({id}, {other}, '{text}')"),
            format!("update note set task_id = {other} where id = {id}"),
            format!("update person set boss_id = {other} where id = {id}"),
            format!("insert into project (id, name, region_id) values ({id}, '{text}', {other})"),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("deferred key", 2, |g| {
        let (id, place) = (g.id(), g.id());
        let sql = [
            "update slot set place = place + 1".to_owned(),
            format!("update slot set place = {place} where id = {id}"),
            format!("insert into slot (id, place) values ({id}, {place})"),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("history forgotten", 2, |_| {
        // All that was noted, so that the moment decides nothing.
        one("select tenantry.history_forget(clock_timestamp() + interval '1 hour', 1000)")
    }),
    shape("refused values", 3, |g| {
        let id = g.id();
        let sql = [
            format!("update project set budget = -1 where id = {id}"),
            format!("update project set progress = 200 where id = {id}"),
            format!("insert into project (id, name, mood) values ({id}, 'x', 'cross')"),
            format!("insert into task (id, title) values ({id}, null)"),
            "insert into event (id, day, kind) values (1, '1999-01-01', 'x')".to_owned(),
            format!("insert into note (id, size) values ({id}, 3)"),
            format!("update project set budget = budget * 1000000000 where id = {id}"),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("trail of a trigger", 3, |g| {
        let sql = [
            "select task_id, tasks, what from trail order by 1, 2, 3",
            "select count(*), sum(tasks) from trail",
        ];
        ordered(*g.rng.pick(&sql))
    }),
    shape("procedure and function", 5, |g| {
        let (id, text) = (g.id(), g.text());
        let sql = [
            format!("call close_task({id})"),
            format!("select rename_project({id}, '{text}')"),
        ];
        one(g.rng.pick(&sql).clone())
    }),
    shape("row of another tenant", 9, |g| {
        let (id, stranger, text) = (g.id(), tenant(g.stranger()), g.text());
        let sql = [
            format!("insert into project (tenant_id, id, name) values ('{stranger}', {id}, '{text}')"),
            format!("insert into event (tenant_id, id, day, kind) values ('{stranger}', {id}, '2024-02-01', '{text}')"),
            format!(
                "insert into note (tenant_id, id, body) values ('{stranger}', {}, '{text}')",
                id + 30
            ),
        ];
        let step = Step::sql("", g.rng.pick(&sql).clone());
        vec![step.must(Must::BeRefused)]
    }),
    shape("change of the tenant column", 9, |g| {
        let (table, stranger, id) = (g.table(), tenant(g.stranger()), g.id());
        let which = if g.rng.chance(50) {
            format!(" where id = {id}")
        } else {
            String::new()
        };
        let step = Step::sql("", format!("update {table} set tenant_id = '{stranger}'{which}"));
        vec![step.must(Must::BeRefused)]
    }),
    shape("truncate", 2, |g| {
        let table = g.table();
        vec![Step::sql("", format!("truncate {table} cascade")).must(Must::BeRefused)]
    }),
    shape("copy", 3, |g| {
        let table = g.table();
        let sql = [
            format!("copy (select * from {table} order by 1, 2, 3) to stdout"),
            format!("copy {table} to stdout (format csv, header)"),
            format!("copy {table} from stdin"),
            "copy (select id, name from busy order by id) to stdout (format binary)".to_owned(),
        ];
        one(g.rng.pick(&sql).clone())
    }),
];

fn insert(g: &mut Grammar) -> String {
    match g.rng.below(5) {
        0 => insert_project(g),
        1 => {
            let (id, project, text) = (g.id(), g.id(), g.text());
            format!("insert into task (id, project_id, title) values ({id}, {project}, '{text}')")
        }
        2 => {
            let (id, task, text) = (g.id(), g.id(), g.text());
            format!("insert into note (id, task_id, body) values ({id}, {task}, '{text}')")
        }
        3 => insert_event(g),
        _ => insert_person(g),
    }
}

fn insert_project(g: &mut Grammar) -> String {
    let (id, text, code, mood) = (g.id(), g.text(), g.code(), g.mood());
    format!("insert into project (id, name, code, mood) values ({id}, '{text}', {code}, '{mood}')")
}

fn insert_person(g: &mut Grammar) -> String {
    let (id, boss, email) = (g.id(), g.id(), g.email());
    format!("insert into person (id, boss_id, email, age) values ({id}, {boss}, {email}, 30)")
}

fn insert_event(g: &mut Grammar) -> String {
    let (id, day, text) = (g.id(), g.day(), g.text());
    format!("insert into event (id, day, kind) values ({id}, {day}, '{text}')")
}

fn insert_booking(g: &mut Grammar) -> String {
    let (id, room, range) = (g.rng.between(1, 30), g.rng.below(3), g.range());
    format!("insert into booking (id, room, during) values ({id}, {room}, {range})")
}
