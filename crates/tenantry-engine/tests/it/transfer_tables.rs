//! What of a home holds a tenant's values, and in which order it goes.

use tenantry_engine::transfer::{Identity, Table, tables};
use tenantry_sql::Identifier;

use crate::support::World;

const SCHEMA: &str = "
create type mood as enum ('fine', 'low');
create type place as (street text, mood mood);
create domain short as text check (length(value) < 10);
create table zones (id uuid primary key, name short not null, unique (name));
create table accounts (
  id bigint generated always as identity primary key,
  zone uuid references zones,
  mood mood, moods mood[], place place, tags text[], span tstzrange, total numeric,
  twice numeric generated always as (total * 2) stored);
create table entries (
  id serial primary key, account bigint not null references accounts, parent int references entries, is_of regclass);
create table words (word text);
";

fn named<'a>(tables: &'a [Table], name: &str) -> &'a Table {
    tables.iter().find(|table| table.name == name).expect("is there")
}

#[tokio::test]
async fn tables_come_parents_first_with_the_columns_that_hold_values() {
    let world = World::new().await;
    let countries = "-- tenantry: reference\ncreate table countries (code text primary key);";
    world
        .migrate(&[("0001_all.sql", SCHEMA), ("0002_countries.sql", countries)])
        .await;
    let found = tables(&world.admin, &Identifier::new("app").unwrap()).await.unwrap();
    let names: Vec<_> = found.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["words", "zones", "accounts", "entries"]);

    let accounts = named(&found, "accounts");
    assert_eq!(accounts.quoted, "app.accounts");
    assert_eq!(
        accounts.column_list(),
        "id, mood, moods, place, span, tags, tenant_id, total, zone"
    );
    assert_eq!(accounts.parents, ["zones"]);
    let of = |name: &str| accounts.columns.iter().find(|column| column.name == name).unwrap();
    assert_eq!(of("id").identity, Some(Identity::Always));
    assert_eq!(of("id").sequence.as_deref(), Some("accounts_id_seq"));
    let textual: Vec<_> = accounts
        .columns
        .iter()
        .filter(|column| !column.binary)
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(textual, ["moods", "place"], "these name types by their number");
    assert!(!accounts.binary() && named(&found, "zones").binary());

    let entries = named(&found, "entries");
    assert_eq!(entries.parents, ["accounts"], "itself is no parent");
    assert_eq!(
        entries.columns[1].sequence.as_deref(),
        Some("entries_id_seq"),
        "{:?}",
        entries.columns
    );
    assert!(!entries.binary(), "a regclass is a number");
    assert_eq!(entries.key_list().as_deref(), Some("id"));
    assert_eq!(named(&found, "words").key_list(), None);
}
