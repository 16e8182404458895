//! Migrations from a desired schema.

use std::sync::Arc;

use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::{DiffedMigration, FleetConfig, MigrationError, VerifiedSite, Verify};

use crate::{
    fleet::{Fleet, config, files, operator, ops_on, request},
    migrate,
};

/// The same with these files behind its own.
fn followed_by(before: &FleetConfig, diffed: &DiffedMigration) -> FleetConfig {
    let files = before.migrations.as_ref().unwrap().as_slice();
    let all = files.iter().map(|file| (file.name.clone(), file.text.clone()));
    let new = diffed.files.iter().map(|file| (file.name.clone(), file.text.clone()));
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded(all.chain(new)).unwrap()));
    config
}

const DESIRED: &str = "
create type mood as enum ('sad', 'glad');
create table contacts (
  id uuid primary key default gen_random_uuid(),
  email text unique,
  name text not null default 'nobody',
  phone text,
  mood mood not null default 'glad',
  constraint named check (name <> ''));
create index contacts_name on contacts (lower(name));
create table notes (id bigint generated always as identity primary key,
                    contact uuid not null references contacts (id) on delete cascade, text varchar(100) not null);
create table tags (id serial primary key, tag text not null unique, parent int references tags (id));
create table tagged (tag int not null references tags (id), contact uuid not null references contacts (id), primary key (tag, contact));
create view named as select id, name from contacts;
comment on table tags is 'What contacts are about';
";

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_schema_becomes_a_migration_that_says_what_it_leaves_to_people() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let diffed = fleet.ops.diff_migrations(&operator(), DESIRED, "wanted").await.unwrap();
    let names: Vec<_> = diffed.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "0003_wanted.sql",
            "0004_wanted_concurrently.sql",
            "0005_wanted_checks.sql"
        ]
    );
    let refused: Vec<_> = diffed
        .statements
        .iter()
        .filter(|statement| statement.refused.is_some())
        .map(|statement| statement.object.as_str())
        .collect();
    assert_eq!(
        refused,
        [
            "column text of table notes",
            "constraint notes_contact_fkey of table notes"
        ],
        "{}",
        diffed.text()
    );
    assert_eq!(diffed.remaining, Vec::<String>::new(), "{}", diffed.text());
    assert!(!diffed.is_whole());
    assert!(
        diffed
            .text()
            .contains("-- alter table \"notes\" alter column \"text\" type character varying(100);"),
        "{}",
        diffed.text()
    );

    // The files are migrations like any other, and reach the fleet.
    let ops = ops_on(&fleet.catalog.url(), followed_by(&config(), &diffed)).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let again = ops.diff_migrations(&operator(), DESIRED, "again").await.unwrap();
    let left: Vec<_> = again
        .statements
        .iter()
        .map(|statement| statement.object.as_str())
        .collect();
    assert_eq!(left, refused, "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_is_dropped_where_no_row_goes_with_it_and_reference_tables_are_declared() {
    let fleet = Fleet::start().await;
    let same: String = files().as_slice()[0].text.clone();
    let diffed = fleet.ops.diff_migrations(&operator(), &same, "same").await.unwrap();
    assert!(diffed.is_empty() && diffed.is_whole(), "{}", diffed.text());
    let less = "create table contacts (id uuid primary key default gen_random_uuid(), name text not null);";
    let diffed = fleet.ops.diff_migrations(&operator(), less, "less").await.unwrap();
    assert!(
        diffed
            .text()
            .contains("alter table \"contacts\" drop constraint \"contacts_email_key\";\n"),
        "{}",
        diffed.text()
    );
    assert!(diffed.text().contains("-- drop table \"notes\";"), "{}", diffed.text());
    assert!(
        diffed
            .text()
            .contains("-- alter table \"contacts\" drop column \"email\";"),
        "{}",
        diffed.text()
    );
    let more = format!("-- tenantry: reference countries\n{same} create table countries (code text primary key);");
    let diffed = fleet.ops.diff_migrations(&operator(), &more, "more").await.unwrap();
    assert!(
        diffed.text().starts_with("-- tenantry: reference countries\n"),
        "{}",
        diffed.text()
    );
    assert!(diffed.is_whole(), "{:?}", diffed.remaining);
    let wrong = fleet
        .ops
        .diff_migrations(&operator(), "create materialized view v as select 1 as a;", "no")
        .await;
    assert!(matches!(wrong, Err(MigrationError::Refused(_))), "{wrong:?}");
}

const IN_USE: &str = "
create table contacts (
  id uuid primary key default gen_random_uuid(),
  email text unique,
  name text not null,
  boss uuid references contacts (id),
  constraint contacts_name_key unique (name),
  constraint named check (name <> ''));
create index contacts_lower on contacts (lower(name));
comment on index contacts_lower is 'To find them';
create table notes (id bigint generated always as identity primary key,
                    contact uuid not null references contacts (id), text text not null);
create table cards (id int primary key, name text references contacts (name));
";

#[tokio::test(flavor = "multi_thread")]
async fn tables_in_use_are_changed_in_steps_that_nobody_waits_for() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let shared = fleet.create("beta", Isolation::Shared).await.unwrap();
    fleet.add_contact(shared.id, "a@example.com").await;
    let diffed = fleet.ops.diff_migrations(&operator(), IN_USE, "use").await.unwrap();
    assert!(diffed.is_whole(), "{} {:?}", diffed.text(), diffed.remaining);
    let texts: Vec<_> = diffed
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.text.as_str()))
        .collect();
    let (definitions, concurrently) = (texts[0], texts[1]);
    assert_eq!(definitions.0, "0003_use.sql");
    assert!(
        definitions
            .1
            .contains("add constraint \"named\" CHECK (name <> ''::text) not valid;"),
        "{}",
        definitions.1
    );
    assert_eq!(
        concurrently,
        (
            "0004_use_concurrently.sql",
            "-- tenantry: no transaction\n\n\
             create unique index concurrently \"contacts_name_key\" on \"contacts\" (name);\n\
             create index concurrently \"contacts_lower\" on contacts USING btree (lower(name));\n\
             alter table \"contacts\" add constraint \"contacts_name_key\" unique using index \"contacts_name_key\";\n\
             alter table \"cards\" add constraint \"cards_name_fkey\" FOREIGN KEY (name) REFERENCES contacts(name) not valid;\n\
             alter table \"contacts\" add constraint \"contacts_boss_fkey\" FOREIGN KEY (boss) REFERENCES contacts(id) not valid;\n\
             comment on index contacts_lower is 'To find them';\n"
        )
    );
    assert_eq!(
        texts[2],
        (
            "0005_use_checks.sql",
            "alter table \"contacts\" validate constraint \"named\";\n"
        )
    );
    for ((name, text), key) in texts[3..].iter().zip(["cards_name_fkey", "contacts_boss_fkey"]) {
        assert!(
            text.starts_with("-- ") && text.contains("both are locked"),
            "{name}: {text}"
        );
        assert!(
            text.ends_with(&format!("validate constraint \"{key}\";\n")),
            "{name}: {text}"
        );
    }
    assert_eq!(texts.len(), 5);

    // Isolation keeps it so: what is read whole is read while others write, and an index below a key is built beside them too.
    let ops = ops_on(&fleet.catalog.url(), followed_by(&config(), &diffed)).await;
    let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    let [definitions, concurrently, checks, ..] = rehearsals[0].files.as_slice() else {
        panic!("{rehearsals:?}")
    };
    assert!(definitions.scans.is_empty(), "{definitions:?}");
    assert!(concurrently.scans.contains(&"contacts".to_owned()), "{concurrently:?}");
    assert_eq!(checks.scans, ["contacts"]);
    assert!(checks.locks.iter().all(|lock| lock.blocks.is_none()), "{checks:?}");
    let derived = ops.derive_migrations().await.unwrap().unwrap();
    let plain_builds = derived.versions[3]
        .steps
        .iter()
        .filter(|step| matches!(&step.act, tenantry_engine::isolate::Act::Sql(text) if text.contains("create index")));
    assert_eq!(plain_builds.count(), 0, "{:?}", derived.versions[3].steps);

    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let admin = fleet.shared_admin().await;
    let left = "select (select count(*) from pg_constraint where connamespace = 'app'::regnamespace and not convalidated)
                     + (select count(*) from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r' and not relforcerowsecurity)";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let again = ops.diff_migrations(&operator(), IN_USE, "again").await.unwrap();
    assert!(again.is_empty(), "{}", again.text());
    // Who comes later gets the same.
    ops.create_tenant(&operator(), &request("later", Isolation::Schema), None)
        .await
        .unwrap();
    let verified = ops
        .verify_migrations(&operator(), &Verify::default(), &|_| {})
        .await
        .unwrap();
    assert!(verified.iter().all(VerifiedSite::is_right), "{verified:#?}");
}

/// By name each of these would come before what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_another_new_one_comes_after_it() {
    let before = migrate::with(
        "create type mood as enum ('sad');
         alter table contacts add column mood mood, add column nick text;
         create index contacts_nick on contacts (nick);",
    );
    let wanted = "
        create type mood as enum ('sad', 'glad');
        create table contacts (id uuid primary key default gen_random_uuid(), email text unique, name text not null,
                               mood mood default 'glad', nick text);
        create index contacts_nick on contacts (lower(nick));
        create table notes (id bigint generated always as identity primary key,
                            contact uuid not null references contacts (id), text text not null);
        create function z_second(n int) returns int language sql immutable as 'select n';
        create function a_first(n int) returns int language sql immutable as 'select z_second(n)';
        create view z_named as select id, name from contacts;
        create view a_named as select id from z_named;
        create table z_parents (id int primary key);
        create table a_children (id int primary key, parent int references z_parents, constraint good check (a_first(id) > 0));";
    let fleet = Fleet::start_with(before.clone()).await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let diffed = fleet.ops.diff_migrations(&operator(), wanted, "grown").await.unwrap();
    assert!(diffed.is_whole(), "{} {:?}", diffed.text(), diffed.remaining);
    let names: Vec<_> = diffed.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        ["0004_grown_labels.sql", "0005_grown.sql", "0006_grown_concurrently.sql"],
        "{}",
        diffed.text()
    );
    let ops = ops_on(&fleet.catalog.url(), followed_by(&before, &diffed)).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let again = ops.diff_migrations(&operator(), wanted, "again").await.unwrap();
    assert!(again.is_empty(), "{}", again.text());
}
