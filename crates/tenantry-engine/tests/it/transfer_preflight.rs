//! What is in the way of a transfer, as far as the two databases show it.

use tenantry_core::InstallationId;
use tenantry_engine::transfer::{Collations, Sides, collations, obstacles};
use tenantry_sql::Identifier;
use tenantry_testing::{TestDatabase, database};

use crate::support::{World, derived, files};

#[tokio::test]
async fn an_administrator_who_may_not_write_as_the_mover_is_in_the_way() {
    let world = World::new().await;
    let tables = derived(&files(&[("0001_notes.sql", "create table notes (id int primary key)")])).await;
    world.apply(&tables.unwrap()).await.unwrap();
    let schema = world.target("app");
    let installation: InstallationId = schema.mover.as_str().split('_').nth(1).unwrap().parse().unwrap();
    let codes = async || {
        let sides = Sides {
            source: &world.admin,
            source_schema: &schema,
            source_tenant: None,
            target: &world.admin,
            target_schema: &schema,
            same_database: true,
            // The structures are not what this is about.
            has_overlay: true,
        };
        let found = obstacles(sides, &installation).await.unwrap();
        found.iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(codes().await, [""; 0]);
    // As where a server's address names a role that is no superuser.
    world.admin.batch_execute("set role pg_read_all_data").await.unwrap();
    assert_eq!(codes().await, ["administrator"; 2], "at both homes");
}

/// A database whose people have names that are unique as this collation has it.
async fn with_collation(locale: &str, deterministic: bool) -> TestDatabase {
    let database = database().await;
    let sql = format!(
        "create schema app;
         create collation app.folded (provider = icu, locale = '{locale}', deterministic = {deterministic});
         create table app.people (id int primary key, name text collate app.folded unique)"
    );
    database.connect().await.batch_execute(&sql).await.unwrap();
    database
}

async fn compared(here: &TestDatabase, there: &TestDatabase) -> Collations {
    let schema = Identifier::new("app").unwrap();
    let (here, there) = (here.connect().await, there.connect().await);
    collations((&here, &schema), (&there, &schema)).await.unwrap()
}

#[tokio::test]
async fn text_that_is_compared_otherwise_is_in_the_way_where_it_is_unique_and_told_elsewhere() {
    let no_case = with_collation("und-u-ks-level2", false).await;
    let no_accents = with_collation("und-u-ks-level1", false).await;
    assert_eq!(compared(&no_case, &no_case).await, Collations::default());
    let found = compared(&no_case, &no_accents).await;
    let told: Vec<_> = found
        .obstacles
        .iter()
        .map(|one| (one.code, one.what.as_str()))
        .collect();
    assert!(
        matches!(told[..], [("collation", what)] if what.contains("people_name_key") && what.contains("level1")),
        "{told:?}"
    );
    assert_eq!(found.notes, [""; 0]);

    // Where only the same bytes are equal, what is unique here is unique there.
    let german = with_collation("de", true).await;
    let swedish = with_collation("sv", true).await;
    let found = compared(&german, &swedish).await;
    assert_eq!(found.obstacles, []);
    assert!(
        matches!(&found.notes[..], [note] if note.contains("folded is icu de") && note.contains("icu sv")),
        "{found:?}"
    );
}
