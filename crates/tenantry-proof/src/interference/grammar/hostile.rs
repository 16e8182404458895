//! SQL that an attacker brought in: attempts on roles, settings, objects, the mechanism, and on what others left behind.

use tenantry_engine::seal::carried;

use super::{Grammar, Needs, Shape, read::one, shape};
use crate::interference::{
    lane::forged_seal,
    site::{epoch, schema_of, tenant},
    step::{Act, Leaked, Must, Owner, Step},
};

pub(super) const SHAPES: &[Shape] = &[
    shape("roles", 2, |g| {
        let sql = [
            "set role postgres",
            "set session authorization postgres",
            "reset role",
            "set role none",
            "select set_config('role', 'postgres', false)",
            "select current_user = session_user, pg_has_role('pg_read_all_data', 'usage')",
        ];
        one(*g.rng.pick(&sql))
    })
    .needs(Needs::RawLane),
    shape("settings", 3, |g| {
        let sql = [
            "set row_security = off",
            "set session_replication_role = replica",
            "set datestyle = 'german'",
            "set search_path = pg_catalog",
            "set standard_conforming_strings = off",
            "set client_min_messages = debug1",
            "set default_transaction_read_only = on",
            "select set_config('tenantry.account', 'x', false)",
        ];
        let set = Step::sql("", *g.rng.pick(&sql));
        let then = [g.statement(), g.statement()];
        let mut steps = vec![set];
        steps.extend(then);
        // Else everything after it would be refused alike.
        steps.push(bare("discard all"));
        steps
    })
    .needs(Needs::RawLane),
    shape("what a session shows", 9, |g| {
        let names = [
            "search_path", "standard_conforming_strings", "row_security", "datestyle", "timezone", "statement_timeout",
            "default_transaction_read_only", "client_min_messages", "work_mem", "application_name", "tenantry.expect",
            "backtrace_functions",
        ];
        let name = *g.rng.pick(&names);
        let sql = [
            format!("select current_setting('{name}', true)"),
            format!("select setting, source from pg_settings where name = '{name}'"),
            "select pg_listening_channels()".to_owned(),
            "select name, statement, from_sql from pg_prepared_statements where from_sql order by name".to_owned(),
            "select name, statement, is_holdable from pg_cursors where name <> '' order by name".to_owned(),
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()".to_owned(),
            "select count(*) from pg_class where relpersistence = 't' and relnamespace = pg_my_temp_schema()".to_owned(),
            "select tenantry.tenant_id(), tenantry.account_id(), tenantry.may_write(), tenantry.has_role('owner')".to_owned(),
            "select current_user = session_user, current_schemas(false)".to_owned(),
        ];
        (0..TRIES).map(|_| Step::sql("", g.rng.pick(&sql).clone())).collect()
    })
    .needs(Needs::RawLane),
    shape("what others left behind", 14, |g| {
        let sql = [
            "execute theirs",
            "fetch all from theirs",
            "fetch 1 from theirs",
            "select * from pg_temp.project",
            "deallocate theirs",
        ];
        (0..TRIES).map(|_| Step::sql("", *g.rng.pick(&sql)).ordered()).collect()
    })
    .needs(Needs::RawLane),
    shape("objects", 6, |g| {
        let table = g.table();
        let sql = [
            format!("alter table {table} disable row level security"),
            format!("alter table {table} no force row level security"),
            format!("drop policy tenantry_floor on {table}"),
            format!("create policy mine on {table} using (true)"),
            format!("create table probe (id int references {table})"),
            "create function mine() returns int language sql as 'select 1'".to_owned(),
            "create temp table project (id int, name text)".to_owned(),
            "create schema mine".to_owned(),
            "alter function reveal(text) leakproof".to_owned(),
            "drop table task".to_owned(),
            "create view mine as select * from project".to_owned(),
            "refresh materialized view totals".to_owned(),
            "create publication mine for all tables".to_owned(),
            "copy project to '/dev/null'".to_owned(),
            "copy (select 1) to program 'id'".to_owned(),
        ];
        refused(g, &sql)
    })
    .needs(Needs::RawLane),
    shape("acting as the owner", 3, |_| {
        let mut steps = Vec::new();
        for sql in [
            "alter table project disable row level security",
            "select id, name from project order by id",
        ] {
            steps.push(Step::sql("", sql));
        }
        steps
    })
    .needs(Needs::RawLane),
    shape("mechanism", 14, |g| {
        let (stranger, seal) = (g.stranger(), forged_seal(g.stranger()));
        let carried = carried(&seal);
        let (id, epoch) = (tenant(stranger), epoch(stranger).0);
        let sql = [
            "select * from tenantry_private.mac_key".to_owned(),
            "select * from tenantry_private.fence".to_owned(),
            "select * from tenantry_private.history order by id".to_owned(),
            format!("select tenantry_private.history_purge('{id}', 100)"),
            "update tenantry_private.fence set state = 0".to_owned(),
            format!("select tenantry_private.act_for('{id}')"),
            format!("select tenantry_private.carry('{seal}')"),
            format!("select tenantry.fence_open('{id}', {epoch})"),
            format!("select tenantry.fence_close('{id}', {epoch}, 3::int2)"),
            "select tenantry_private.compile_fence()".to_owned(),
            "select * from tenantry.fence_transactions()".to_owned(),
            format!("select set_config('backtrace_functions', '{carried}', false)"),
            format!("set backtrace_functions = '{carried}'"),
            format!("set local backtrace_functions = '{carried}'"),
            "reset backtrace_functions".to_owned(),
            format!("update pg_settings set setting = '{carried}' where name = 'backtrace_functions'"),
            format!("alter role current_user set backtrace_functions = '{carried}'"),
            "select tenantry.enter(decode(repeat('00', 58), 'hex'), decode(repeat('00', 32), 'hex'))".to_owned(),
            "select tenantry.enter(null, null)".to_owned(),
        ];
        refused(g, &sql)
    })
    .needs(Needs::RawLane),
    shape("forged expectation", 4, |g| {
        let seal = forged_seal(g.stranger());
        let table = g.table();
        let local = *g.rng.pick(&["true", "false"]);
        inside_a_transaction(vec![
            Step::sql("", format!("select set_config('tenantry.expect', '{seal}', {local})")).inside(),
            // An error where there is a row to decide on; on an empty table nothing is decided.
            Step::sql("", format!("select * from {table}")).inside().must(Must::ShowNothing),
        ])
    })
    .needs(Needs::RawLane),
    shape("forged statement", 3, |g| {
        // In the form that the signed tier leaves in a setting, for this backend and this very transaction; no key signed it.
        let (table, seal) = (g.table(), forged_seal(g.stranger()));
        inside_a_transaction(vec![
            Step::sql(
                "",
                format!(
                    "select length(set_config('tenantry.signed', '{seal}01' || encode(int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp()), 'hex') || repeat('00', 32), true)), set_config('tenantry.expect', '{seal}', true)"
                ),
            )
            .inside(),
            Step::sql("", format!("select * from {table}")).inside().must(Must::ShowNothing),
        ])
    })
    .needs(Needs::RawLane),
    shape("no expectation", 4, |g| {
        let table = g.table();
        inside_a_transaction(vec![
            Step::sql("", "select set_config('tenantry.expect', '', true)").inside(),
            Step::sql("", format!("select * from {table}")).inside().must(Must::ShowNothing),
            Step::sql("", "delete from event returning *").inside().must(Must::ShowNothing),
        ])
    })
    .needs(Needs::RawLane),
    shape("carrier cleared", 2, |g| {
        // The search path is gone as well.
        let (table, schema) = (g.table(), schema_of(g.isolation, Owner::A));
        let mut step = Step::sql("", "").must(Must::ShowNothing);
        step.act = Act::Simple(format!("reset all; select * from {schema}.{table}"));
        vec![step]
    })
    .needs(Needs::RawLane),
    shape("session ended by itself", 2, |g| {
        let sql = ["discard all", "reset all", "select tenantry.leave()"];
        let sql: &&str = g.rng.pick(&sql);
        vec![bare(sql)]
    })
    .needs(Needs::RawLane),
    shape("shadowed function", 5, |_| {
        let seal = forged_seal(Owner::B);
        let make = |arguments: &str| {
            Step::sql(
                "",
                format!("create or replace function current_setting({arguments}) returns text language sql immutable as $$ select '{seal}'::text $$"),
            )
        };
        vec![
            make("text"),
            make("text, boolean"),
            Step::sql("", "select set_config('search_path', regexp_replace(current_setting('search_path'), ', .*', '') || ', pg_catalog', false)"),
            Step::sql("", "select id, name from project order by id"),
            Step::sql("", "drop function if exists current_setting(text)"),
            Step::sql("", "drop function if exists current_setting(text, boolean)"),
            Step::sql("", "select set_config('search_path', regexp_replace(current_setting('search_path'), ', .*', '') || ', tenantry_ext, pg_temp', false)"),
        ]
    })
    .needs(Needs::RawLane),
    shape("block of code", 2, |g| {
        let id = g.id();
        let sql = [
            "do $$ declare r record; begin for r in select id, name from project order by id loop raise notice '% %', r.id, r.name; end loop; end $$".to_owned(),
            format!("do $$ begin execute format('delete from note where id = %s', {id}); exception when others then raise notice '%', sqlerrm; end $$"),
        ];
        one(g.rng.pick(&sql).clone())
    })
    .needs(Needs::RawLane),
    shape("notification of one's own", 2, |_| {
        ["listen mine", "notify mine, 'x'", "unlisten mine"]
            .into_iter()
            .map(|sql| Step::sql("", sql))
            .collect()
    })
    .needs(Needs::RawLane),
    shape("token in the wrong hands", 12, |g| {
        let leaked = [
            Leaked::Used, Leaked::OtherBackend, Leaked::Expired, Leaked::Tampered, Leaked::StaleEpoch, Leaked::Gone,
            Leaked::AfterReset, Leaked::Pooled, Leaked::AfterLeave, Leaked::Statement,
        ];
        (0..TRIES).flat_map(|_| replay(*g.rng.pick(&leaked))).collect()
    })
    .needs(Needs::HotLane),
    shape("token on the raw lane", 2, |_| replay(Leaked::OnRawLane)).needs(Needs::RawLane),
];

/// Many of these attempts differ in kind, and each finds a defect that no other does: several at a time.
const TRIES: usize = 3;

fn refused(g: &mut Grammar, sql: &[String]) -> Vec<Step> {
    let one = |_| Step::sql("", g.rng.pick(sql).clone()).must(Must::BeRefused);
    (0..TRIES).map(one).collect()
}

/// By itself, without an expectation.
fn bare(sql: &str) -> Step {
    let mut step = Step::sql("", "").inside();
    step.act = Act::Simple(sql.to_owned());
    step
}

fn replay(leaked: Leaked) -> Vec<Step> {
    // A statement is read where there is a row to decide on, a token at once.
    let must = if leaked == Leaked::Statement {
        Must::ShowNothing
    } else {
        Must::BeRefused
    };
    let mut step = Step::sql("", "").inside().must(must);
    step.act = Act::Replay(leaked);
    vec![step]
}

fn inside_a_transaction(steps: Vec<Step>) -> Vec<Step> {
    let mut all = vec![Step::sql("", "begin").inside(), Step::sql("", "select 1")];
    all.extend(steps);
    all.push(Step::sql("", "rollback").inside());
    all
}

/// What B leaves on a backend before it changes hands.
pub(super) fn poison(b: &mut Grammar) -> Vec<Step> {
    let text = b.text();
    let sql = [
        vec!["prepare theirs as select id, name from project order by id".to_owned()],
        vec![format!("prepare theirs as select '{text}'")],
        vec!["declare theirs cursor with hold for select id, name from project order by id".to_owned()],
        vec![format!(
            "create temp table project as select 1 as id, '{text}'::text as name"
        )],
        vec![
            "set standard_conforming_strings = off".to_owned(),
            "set default_transaction_read_only = on".to_owned(),
            "set row_security = off".to_owned(),
            "set search_path = pg_catalog".to_owned(),
        ],
        vec!["listen theirs".to_owned()],
        vec!["select pg_advisory_lock(4711)".to_owned()],
        vec!["begin".to_owned(), "select * from project for update".to_owned()],
    ];
    let mut steps = Vec::new();
    for sql in b.rng.pick(&sql).clone() {
        steps.push(Step::sql("poison", sql));
    }
    steps
}
