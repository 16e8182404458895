//! Homes from finished definitions are those that the migrations make.

use tenantry_engine::{
    isolate::{Derived, Finished},
    migrate::{Patience, Replayed, fill},
    structure::{self, Finish},
};
use tenantry_testing::{database_on, second_cluster};

use crate::{
    isolate_real::{definitions, shared},
    migrate_forms::FORMS,
    structure::{FIRST, SECOND},
    support::{World, derived, files, finish, finish_in, tenant},
};

const LEDGER: &str = "select string_agg(version || ' ' || name || ' ' || checksum, ',' order by version) from tenantry_private.migration";

async fn of(sql: &[(&str, &str)]) -> Derived {
    let mut derived = derived(&files(sql)).await.unwrap_or_else(|error| panic!("{error}"));
    derived.finished = None;
    derived
}

fn written(finish: Finish) -> Finished {
    match finish {
        Finish::Written(finished) => finished,
        Finish::Replay(reason) => panic!("{reason}"),
    }
}

fn reason(finish: Finish) -> String {
    match finish {
        Finish::Replay(reason) => reason,
        Finish::Written(finished) => panic!("written: {finished:#?}"),
    }
}

/// Makes a home in each way in a bootstrapped database, and compares what a tenant's service and a drift check see of them.
async fn are_alike(world: &World, all: &Derived, finished: &Finished) {
    let with = Derived {
        finished: Some(finished.clone()),
        ..all.clone()
    };
    for (schema, derived) in [("t_replayed", all), ("t_finished", &with)] {
        world.make_schema(schema).await;
        world
            .apply_to(schema, derived, &[])
            .await
            .unwrap_or_else(|error| panic!("{schema}: {error}"));
    }
    let read = async |schema: &str| {
        structure::read(&world.admin, &world.target(schema), None)
            .await
            .expect("reads")
    };
    let (replayed, new) = (read("t_replayed").await, read("t_finished").await);
    assert_eq!(
        structure::compare(&new, &replayed, &world.target("t_finished"), None),
        []
    );
    assert_eq!(new.fingerprint(), replayed.fingerprint());
    let ledgers =
        "select count(distinct l) from (select string_agg(version || name || checksum, ',' order by version) l
                     from tenantry_private.migration where schema in ('t_replayed', 't_finished') group by schema) x";
    assert_eq!(world.all(ledgers).await, "1");
    assert_eq!(
        world
            .all("select count(distinct schema) from tenantry_private.migration")
            .await,
        "2"
    );
}

fn steps(all: &Derived) -> usize {
    let steps = all.versions.iter().flat_map(|version| &version.steps);
    steps.filter(|step| !step.only_filled).count()
}

#[tokio::test]
async fn every_kind_of_object_comes_out_the_same() {
    let all = of(&[FIRST, SECOND]).await;
    let finished = written(finish(&all).await);
    are_alike(&World::new().await, &all, &finished).await;
}

#[tokio::test]
async fn a_newer_postgresql_writes_in_its_own_words() {
    let cluster = second_cluster().await;
    let all = of(&[FIRST, SECOND]).await;
    let finished = written(finish_in(database_on(cluster).await, &all).await);
    let world = World::of(database_on(cluster).await).await;
    are_alike(&world, &all, &finished).await;
    // An older one has other words, and lives through the history.
    assert_ne!(finished.server_major, 15);
    are_alike(&World::new().await, &all, &finished).await;
}

#[tokio::test]
async fn a_long_history_of_every_form_is_one_short_script() {
    let texts: Vec<(String, &str)> = (1..)
        .zip(FORMS.split("-- next\n").skip(1))
        .map(|(number, text)| (format!("{number:04}_form.sql"), text))
        .collect();
    let mut named: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    assert!(reason(finish(&of(&named).await).await).contains("can't be written"));
    named.retain(|(_, text)| !text.contains("create aggregate") && !text.contains("create collation"));
    let all = of(&named).await;
    let finished = written(finish(&all).await);
    let (before, after) = (steps(&all), finished.steps.len());
    assert!(after * 2 < before, "{after} instead of {before}");
    are_alike(&World::new().await, &all, &finished).await;
    // On the way there, too.
    for length in [2, named.len() / 3, named.len() / 2] {
        let part = of(&named[..length]).await;
        let finished = written(finish(&part).await);
        are_alike(&World::new().await, &part, &finished).await;
    }
}

#[tokio::test]
async fn the_crm_northwind_and_chinook_come_out_the_same() {
    let crm = include_str!("../../../../examples/crm/migrations/0001_crm.sql").to_owned();
    let real = ["northwind.sql", "chinook.sql"].map(|file| shared(file).map(|text| definitions(&text)));
    for text in [Some(crm)].into_iter().chain(real).flatten() {
        let all = of(&[("0001_all.sql", &text)]).await;
        let finished = written(finish(&all).await);
        are_alike(&World::new().await, &all, &finished).await;
    }
}

#[tokio::test]
async fn what_tables_went_through_is_not_lived_through_again() {
    let all = of(&[
        (
            "0001_one.sql",
            "create type color as enum ('red', 'blue');
             create table things (id serial primary key, name text, old int, color color default 'red');
             create table gone (id int primary key);",
        ),
        ("0002_label.sql", "alter type color add value 'green' before 'blue';"),
        (
            "0003_two.sql",
            "drop table gone;
             alter table things drop column old;
             alter table things rename to goods;
             alter table goods rename column name to title;
             alter table goods alter column title set not null;
             alter table goods alter color set default 'green';
             create table parts (
               id int generated by default as identity (start 100 increment 10) primary key,
               goods int not null references goods on delete cascade,
               next int references parts);
             create index on parts (next);
             create table events (id int, day date, primary key (id, day)) partition by range (day);
             create table events_old partition of events for values from ('2020-01-01') to ('2025-01-01');
             create index on events (day);
             create function total(of int) returns bigint language sql stable begin atomic
               select count(*) from parts where goods = total.of; end;
             create view lonely with (security_barrier) as select id, title from goods where total(id) = 0;
             comment on column goods.title is 'What''s its name';
             comment on view lonely is 'Without parts';",
        ),
        (
            "0004_reference.sql",
            "-- tenantry: reference
             create table currencies (code text primary key, name text, digits int generated always as (length(code)) stored, since date);
             insert into currencies (code, name, since) values ('EUR', 'Euro ''€'' \\n', '1999-01-01'), ('XXX', null, null);
             create table counted (id serial primary key, name text);
             insert into counted (name) values ('one'), ('two');",
        ),
    ])
    .await;
    let finished = written(finish(&all).await);
    assert!(finished.steps.len() < steps(&all), "{finished:#?}");
    let world = World::new().await;
    are_alike(&world, &all, &finished).await;
    for schema in ["t_replayed", "t_finished"] {
        let rows = format!("select string_agg(c::text, ';' order by code) from {schema}.currencies c");
        assert_eq!(
            world.all(&rows).await,
            "(EUR,\"Euro '€' \\\\n\",3,1999-01-01);(XXX,,3,)",
            "{schema}"
        );
        assert_eq!(
            world.all(&format!("select nextval('{schema}.counted_id_seq')")).await,
            "3"
        );
        let sql = "insert into goods (title) values ('a'); insert into parts (goods) values (1)";
        world.as_tenant_in(schema, tenant(1), sql).await.expect("writes");
        assert_eq!(world.ask_in(schema, tenant(1), "select id from parts").await, "100");
        assert_eq!(world.ask_in(schema, tenant(2), "select count(*) from parts").await, "0");
        assert_eq!(
            world.ask_in(schema, tenant(1), "select color from goods").await,
            "green"
        );
    }
}

#[tokio::test]
async fn what_a_script_can_not_say_is_replayed() {
    for (text, says) in [
        (
            "-- tenantry: reference\ncreate table r (id uuid primary key, at timestamptz);
             insert into r values (gen_random_uuid(), now());",
            "rows differ",
        ),
        (
            "-- tenantry: reference\ncreate table r (id int primary key, t text);
             insert into r select i, repeat('x', 1000) from generate_series(1, 300) i;",
            "many rows",
        ),
        ("create type span as range (subtype = int);", "can't be written"),
        (
            "create collation german (provider = icu, locale = 'de');",
            "makes another home: object collation",
        ),
        (
            "create collation german (provider = icu, locale = 'de'); create table a (id int primary key, t text collate german);",
            "does not run",
        ),
        (
            "create function f() returns text language sql as 'select ''tenantry_finished''';",
            "the name of its schema",
        ),
    ] {
        let all = match derived(&files(&[("0001_one.sql", text)])).await {
            Ok(all) => all,
            Err(error) => panic!("{text}: {error}"),
        };
        let reason = reason(finish(&all).await);
        assert!(reason.contains(says), "{text}: {reason}");
    }
}

#[tokio::test]
async fn a_new_home_is_filled_in_one_message_and_one_that_is_not_new_is_left_alone() {
    let mut all = of(&[FIRST, SECOND]).await;
    let world = World::new().await;
    let patience = Patience::default();
    let target = world.target("app");
    let filled = async |derived: &Derived| {
        fill(&world.admin, &target, derived, &patience)
            .await
            .expect("the connection holds")
    };
    // A script that fails leaves nothing, and the versions are there still.
    let finished = written(finish(&all).await);
    let mut broken = finished.clone();
    broken.steps.push(broken.steps[0].clone());
    all.finished = Some(broken);
    assert_eq!(filled(&all).await, Replayed::NotThisWay);
    assert_eq!(world.all("select to_regclass('app.people') is null").await, "true");
    world.apply(&all).await.expect("replays");
    let there = world.all(LEDGER).await;
    // Neither way does anything where something is.
    for finished in [None, Some(finished)] {
        all.finished = finished;
        assert_eq!(filled(&all).await, Replayed::NotThisWay);
    }
    assert_eq!(world.all(LEDGER).await, there);
    world.run("set search_path = pg_catalog").await;
    assert_eq!(
        world
            .all("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
            .await,
        "0"
    );
}
