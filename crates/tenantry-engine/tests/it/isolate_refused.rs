//! What is refused is refused with its line, its reason and its mend.

use crate::support::{derived, files, refused};

/// The refusal of a text whose only fault stands in line 2.
async fn in_line_two(sql: &str) -> String {
    let refusals = refused(&format!("-- head\n{sql}")).await;
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert_eq!(refusals[0].line, 2, "{:?}", refusals[0]);
    assert_eq!(refusals[0].file, "0001_test.sql");
    assert!(!refusals[0].mend.is_empty());
    refusals[0].reason.clone()
}

#[tokio::test]
async fn names_with_a_schema_are_refused() {
    for sql in [
        "create table public.a (id int);",
        "create table a (id int references app.b);",
        "create view v as select * from public.a;",
        "create function f() returns int language sql return app.g();",
        "create table a (mood app.mood);",
        "comment on column app.a.b is 'x';",
    ] {
        let reason = in_line_two(sql).await;
        assert!(reason.contains("names a schema"), "{sql}: {reason}");
    }
}

#[tokio::test]
async fn what_only_looks_like_a_schema_is_not_refused() {
    crate::support::steps(
        "create table a (id int primary key, b int, c text collate pg_catalog.\"C\");
         comment on column a.b is 'x';
         create view v as select x.id, x.b from a x where pg_catalog.length(x.c) > 0;
         create sequence s; alter sequence s owned by a.b;",
    )
    .await;
}

#[tokio::test]
async fn transactions_databases_roles_and_sessions_are_refused() {
    for (sql, part) in [
        ("begin;", "transactions"),
        ("commit;", "transactions"),
        ("create database x;", "database"),
        ("create schema x;", "schema"),
        ("create role x;", "roles"),
        ("set role x;", "roles"),
        ("grant select on a to x;", "grants"),
        ("set search_path = x;", "session"),
        ("select set_config('tenantry.expect', '', false);", "session"),
        ("set tenantry.expect = 'x';", "session"),
        ("\\connect x", "psql"),
        ("listen x;", "session"),
        ("create publication p for all tables;", "publication"),
    ] {
        let reason = in_line_two(sql).await;
        assert!(reason.contains(part), "{sql}: {reason}");
    }
}

#[tokio::test]
async fn data_without_a_declaration_is_refused() {
    for sql in [
        "insert into a values (1);",
        "update a set id = 1;",
        "delete from a;",
        "truncate a;",
        "with x as (delete from a returning *) select * from x;",
    ] {
        let reason = in_line_two(sql).await;
        assert!(reason.contains("tenants' rows"), "{sql}: {reason}");
    }
    let reason = in_line_two("copy a from stdin;").await;
    assert!(reason.contains("no data stream"), "{reason}");
}

#[tokio::test]
async fn a_reference_table_that_there_is_not_is_refused() {
    let countries = "create table countries (code text primary key);";
    let refusals = refused(&format!("-- tenantry: reference countrys\n{countries}")).await;
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(refusals[0].reason.contains("`countrys`"), "{refusals:#?}");
    // A file that fills one may name it.
    let reference = "-- tenantry: reference countries\n";
    let (made, filled) = (
        format!("{reference}{countries}"),
        format!("{reference}insert into countries values ('at');"),
    );
    let both = files(&[("0001_a.sql", made.as_str()), ("0002_b.sql", filled.as_str())]);
    derived(&both).await.expect("derives");
}

#[tokio::test]
async fn what_row_security_cannot_protect_is_refused() {
    for (sql, part) in [
        ("create materialized view m as select 1;", "materialized"),
        ("create foreign table f (id int) server s;", "foreign table"),
        ("create rule r as on insert to a do instead nothing;", "rule"),
        (
            "create function f() returns int language sql security definer as 'select 1';",
            "security definer",
        ),
        ("create table a (tenant_id int);", "tenant_id"),
        (
            "create table a_name_that_is_longer_than_the_sixty_three_bytes_that_postgresql_keeps_of_it (id int);",
            "keeps 63",
        ),
    ] {
        let reason = in_line_two(sql).await;
        assert!(reason.contains(part), "{sql}: {reason}");
    }
}

#[tokio::test]
async fn on_update_set_null_is_refused() {
    let refusals = refused(
        "create table a (id int primary key);
         create table b (a_id int references a on update set null);",
    )
    .await;
    assert_eq!(refusals[0].line, 2);
    assert!(refusals[0].reason.contains("on update set null"), "{refusals:?}");
    assert!(refusals[0].mend.contains("cascade"));
}

#[tokio::test]
async fn every_fault_of_every_file_is_told_at_once() {
    let refusals = refused("create schema x;\ncreate table public.a (id int);\ncommit;").await;
    let lines: Vec<_> = refusals.iter().map(|refusal| refusal.line).collect();
    assert_eq!(lines, [1, 2, 3]);
}

#[tokio::test]
async fn what_takes_row_security_away_is_refused() {
    for (sql, part) in [
        ("alter table a disable row level security;", "row security"),
        ("alter table a no force row level security;", "row security"),
        ("alter table a owner to x;", "owner"),
        ("alter table a set schema x;", "schema"),
        ("create temp table a (id int);", "temporary"),
        ("create index concurrently i on a (id);", "transaction"),
        ("vacuum a;", "transaction"),
        ("create table a as select 1 as id;", "copies rows"),
    ] {
        let reason = in_line_two(sql).await;
        assert!(reason.contains(part), "{sql}: {reason}");
    }
}

#[tokio::test]
async fn bodies_that_write_or_switch_are_refused_at_their_line() {
    let refusals = refused("do $$\nbegin\n  update a set id = 1;\nend $$;\ncreate function f() returns void language plpgsql as '\n begin set role x; end';").await;
    let lines: Vec<_> = refusals.iter().map(|refusal| refusal.line).collect();
    assert_eq!(lines, [3, 6], "{refusals:#?}");
}

#[tokio::test]
async fn names_of_ours_and_permissive_policies_are_refused() {
    let refusals = refused(
        "create table a (id int, owner_id uuid);
         create index tenantry_x on a (id);
         do $$ begin alter table a add column tenant_id uuid; end $$;
         create policy own on a using (owner_id = tenantry.account_id());",
    )
    .await;
    let lines: Vec<_> = refusals.iter().map(|refusal| refusal.line).collect();
    assert_eq!(lines, [2, 3, 4], "{refusals:#?}");
}

#[tokio::test]
async fn a_restrictive_policy_narrows_within_the_tenant() {
    let world = crate::support::World::new().await;
    world
        .migrate(&[(
            "0001_a.sql",
            "create table a (id int primary key, hidden boolean);
             create policy seen on a as restrictive for select using (not hidden);",
        )])
        .await;
    let one = crate::support::tenant(1);
    world
        .as_tenant(one, "insert into a values (1, true), (2, false)")
        .await
        .expect("inserts");
    assert_eq!(world.ask(one, "select count(*) from a").await, "1");
    assert_eq!(
        world.ask(crate::support::tenant(2), "select count(*) from a").await,
        "0"
    );
}

#[tokio::test]
async fn what_a_file_allows_by_name_is_let_through() {
    let world = crate::support::World::new().await;
    world
        .migrate(&[(
            "0001_a.sql",
            "-- tenantry: allow totals, trusted
             create table a (id int primary key);
             create materialized view totals as select count(*) from a;
             create function trusted() returns bigint language sql security definer return (select count(*) from a);",
        )])
        .await;
    let one = crate::support::tenant(1);
    world.as_tenant(one, "insert into a values (1)").await.expect("inserts");
    assert_eq!(world.ask(one, "select trusted()").await, "1");
    assert_eq!(
        world.ask(crate::support::tenant(2), "select trusted()").await,
        "0",
        "the owner is bound as well"
    );
    let refused = world.as_tenant(one, "select * from totals").await.unwrap_err();
    assert!(refused.starts_with("42501"), "{refused}");
}
