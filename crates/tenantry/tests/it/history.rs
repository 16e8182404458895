//! The history of rows: whole, true, of one's own tenant only, and out of everybody's reach but those whom it is for.

use serde_json::{Value, json};
use tenantry::{
    Error, Role, Scope,
    history::{Act, Entry, EntryFilter},
};
use tenantry_core::Isolation;
use tenantry_engine::home;

use crate::{
    jobs::fleet::Fleet,
    moves::moved,
    world::{MIGRATION, World},
};

const ASKED: &str = "
-- tenantry: history project, visit
create table visit (place text, day date, note numeric, primary key (place, day)) partition by range (day);
create table visit_old partition of visit for values from (minvalue) to ('2026-01-01');
create table visit_new partition of visit for values from ('2026-01-01') to (maxvalue);
";

/// A world whose projects and visits have a history.
async fn world() -> World {
    let mut world = World::new().await;
    world
        .migrate_all(&[("0001_first.sql", MIGRATION), ("0002_history.sql", ASKED)])
        .await;
    world
}

fn json(text: Option<&String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(text).unwrap())
}

async fn all(scope: &Scope) -> Vec<Entry> {
    scope.history(EntryFilter::default(), 100).await.unwrap()
}

#[tokio::test]
async fn each_change_of_a_row_is_told_in_each_isolation() {
    let world = world().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        scope
            .execute("insert into project (id, name) values (7, 'new')", &[])
            .await
            .unwrap();
        scope
            .execute("update project set name = 'newer' where id = 7", &[])
            .await
            .unwrap();
        scope
            .execute("update project set name = name where id = 7", &[])
            .await
            .unwrap();
        scope
            .execute("update project set id = 8 where id = 7", &[])
            .await
            .unwrap();
        scope.execute("delete from project where id = 8", &[]).await.unwrap();
        let undone: Result<(), Error> = scope
            .transaction(async |tx| {
                tx.execute("insert into project (id, name) values (9, 'undone')", &[])
                    .await?;
                tx.execute("select 1 / 0", &[]).await?;
                Ok(())
            })
            .await;
        undone.unwrap_err();
        // A table that did not ask.
        scope
            .execute("update contact set name = name || '!'", &[])
            .await
            .unwrap();

        let told: Vec<_> = all(&scope)
            .await
            .into_iter()
            .map(|entry| {
                let [key, old, new] = [Some(&entry.key), entry.old.as_ref(), entry.new.as_ref()].map(json);
                (entry.table, key.unwrap(), entry.act, old, new)
            })
            .collect();
        let of = |id: i32| json!({ "id": id });
        let project = || "project".to_owned();
        assert_eq!(
            told,
            [
                (
                    project(),
                    of(8),
                    Act::Delete,
                    Some(json!({ "id": 8, "name": "newer" })),
                    None
                ),
                (
                    project(),
                    of(8),
                    Act::Update,
                    Some(json!({ "id": 7 })),
                    Some(json!({ "id": 8 }))
                ),
                (
                    project(),
                    of(7),
                    Act::Update,
                    Some(json!({ "name": "new" })),
                    Some(json!({ "name": "newer" }))
                ),
                (
                    project(),
                    of(7),
                    Act::Insert,
                    None,
                    Some(json!({ "id": 7, "name": "new" }))
                ),
            ],
            "{n}"
        );
        let key = of(7);
        let filter = EntryFilter {
            table: Some("project"),
            key: Some(&key),
            ..EntryFilter::default()
        };
        let of_row = scope.history(filter, 1).await.unwrap();
        assert_eq!(of_row[0].act, Act::Update);
        let before = EntryFilter {
            before: Some(of_row[0].id),
            ..filter
        };
        let next = scope.history(before, 10).await.unwrap();
        assert_eq!(next.iter().map(|entry| entry.act).collect::<Vec<_>>(), [Act::Insert]);
        assert!(next[0].at <= of_row[0].at);
        // The neighbour in the same database, or the one who has another.
        assert_eq!(all(&world.scope(n ^ 1).await).await.len(), 0, "{n}");
    }
}

#[tokio::test]
async fn values_keep_what_they_are_and_partitions_are_their_tables() {
    let world = world().await;
    let scope = world.scope(0).await;
    scope
        .execute("insert into visit values ('Å \"x\"', '2025-05-05', 'NaN')", &[])
        .await
        .unwrap();
    // To the other partition, and a number that is equal and reads otherwise.
    scope
        .execute("update visit set day = '2026-05-05', note = 1.0", &[])
        .await
        .unwrap();
    scope.execute("update visit set note = 1.00", &[]).await.unwrap();
    let told = all(&scope).await;
    assert!(told.iter().all(|entry| entry.table == "visit"), "{told:?}");
    assert_eq!(told[0].new.as_deref(), Some(r#"{"note": 1.00}"#));
    let key = json!({ "place": "Å \"x\"", "day": "2026-05-05" });
    assert_eq!(json(Some(&told[0].key)), Some(key.clone()));
    let filter = EntryFilter {
        table: Some("visit"),
        key: Some(&key),
        ..EntryFilter::default()
    };
    assert!(!scope.history(filter, 10).await.unwrap().is_empty());
    let first = told.last().unwrap();
    assert_eq!(
        json(first.new.as_ref()),
        Some(json!({ "place": "Å \"x\"", "day": "2025-05-05", "note": "NaN" }))
    );
}

#[tokio::test]
async fn history_is_for_admins_and_forgetting_it_for_owners() {
    let world = world().await;
    let system = world.scope(0).await;
    for id in 10..20 {
        system
            .execute("insert into project (id, name) values ($1, 'x')", &[&id])
            .await
            .unwrap();
    }
    let refused = |error: Error| assert_eq!(error.database().unwrap().code(), "42501", "{error}");
    for role in [Role::Viewer, Role::Member] {
        let scope = system.at_most(role);
        refused(scope.history(EntryFilter::default(), 1).await.unwrap_err());
    }
    let entries = all(&system).await;
    let admin = system.at_most(Role::Admin);
    assert_eq!(all(&admin).await.len(), entries.len());
    let middle = entries[4].at;
    refused(admin.forget_history(middle).await.unwrap_err());
    let other = world.scope(1).await;
    other
        .execute("insert into project (id, name) values (10, 'x')", &[])
        .await
        .unwrap();
    let before_all = all(&other).await.len();
    let owner = system.at_most(Role::Owner);
    assert_eq!(owner.forget_history(middle).await.unwrap() as usize, entries.len() - 5);
    let left: Vec<_> = all(&owner).await.iter().map(|entry| entry.id).collect();
    assert_eq!(left, entries[..5].iter().map(|entry| entry.id).collect::<Vec<_>>());
    assert_eq!(all(&other).await.len(), before_all, "another tenant's stay");
}

/// SQL that runs as the application's role reads no other tenant's, and neither writes nor changes its own.
#[tokio::test]
async fn hostile_sql_gets_nowhere() {
    let world = world().await;
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    for scope in [&scope, &other] {
        scope
            .execute("insert into project (id, name) values (7, 'x')", &[])
            .await
            .unwrap();
    }
    let theirs = world.tenants[1].as_uuid();
    let before = all(&other).await.len();
    let application = world.as_application(0).await;
    for sql in [
        "select * from tenantry_private.history".to_owned(),
        "delete from tenantry_private.history".to_owned(),
        "update tenantry_private.history set account = null".to_owned(),
        format!("select tenantry_private.history_purge('{theirs}', 100)"),
        "select tenantry.note_history()".to_owned(),
        "select tenantry_private.history_id(now(), '')".to_owned(),
        // A table of one's own with somebody else's tenant in it.
        format!(
            "create temp table t (id int primary key, tenant_id uuid); \
             create trigger t after insert on t for each row execute function tenantry.note_history(); \
             insert into t values (1, '{theirs}')"
        ),
        "alter table project disable trigger tenantry_history".to_owned(),
        "drop trigger tenantry_history on project".to_owned(),
        "set session_replication_role = replica".to_owned(),
    ] {
        let error = application.batch_execute(&sql).await.unwrap_err();
        let code = error
            .code()
            .unwrap_or_else(|| panic!("{sql}: {error}"))
            .code()
            .to_owned();
        assert_eq!(code, "42501", "{sql}: {error}");
    }
    assert_eq!(all(&other).await.len(), before);
    assert_eq!(all(&scope).await.len(), 1);
}

#[tokio::test]
async fn a_later_migration_ends_it_and_a_purge_takes_it() {
    let mut world = world().await;
    let scope = world.scope(0).await;
    scope
        .execute("insert into project (id, name) values (7, 'x')", &[])
        .await
        .unwrap();
    world
        .migrate_all(&[
            ("0001_first.sql", MIGRATION),
            ("0002_history.sql", ASKED),
            ("0003_ended.sql", "-- tenantry: no history project\n"),
        ])
        .await;
    scope
        .execute("insert into project (id, name) values (8, 'x')", &[])
        .await
        .unwrap();
    assert_eq!(all(&scope).await.len(), 1);
    world.scope(1).await.execute("delete from visit", &[]).await.unwrap();
    let admin = &world.databases[0].admin;
    assert_eq!(home::delete_history(admin, world.tenants[0]).await.unwrap(), 1);
    assert_eq!(all(&scope).await.len(), 0);
}

const NOTED: &str = "
-- tenantry: history note
create table note (id int primary key, text text not null);
";

#[tokio::test(flavor = "multi_thread")]
async fn history_follows_its_tenant_from_home_to_home_and_goes_on_there() {
    let cluster = tenantry_testing::cluster().await;
    let fleet = Fleet::with(cluster, &[("0001_note.sql", NOTED)]).await;
    let tenant = fleet.tenants[0];
    let scope = fleet.scope(0).await;
    let write = async |sql: &str| scope.execute(sql, &[]).await.unwrap();
    // A neighbour in the same database, whose history stays as it is.
    let neighbour = fleet.scope(1).await;
    neighbour
        .execute("insert into note (id, text) values (1, 'of the neighbour')", &[])
        .await
        .unwrap();
    let of_neighbour = all(&neighbour).await;
    write("insert into note (id, text) values (1, 'new')").await;
    write("update note set text = 'newer'").await;
    let mut told = all(&scope).await;
    assert_eq!(told.len(), 2);
    for (number, to) in [Isolation::Schema, Isolation::Database, Isolation::Shared]
        .into_iter()
        .enumerate()
    {
        moved(&fleet, tenant, to).await;
        // Nothing is lost, doubled or written anew: the move itself is nobody's change of a row.
        assert_eq!(all(&scope).await, told, "{to}");
        write(&format!("update note set text = 'in home {number}'")).await;
        let now = all(&scope).await;
        assert_eq!(now.len(), told.len() + 1, "{to}");
        assert_eq!(now[1..], told, "{to}");
        let new = json(now[0].new.as_ref());
        assert_eq!(new, Some(json!({ "text": format!("in home {number}") })), "{to}");
        told = now;
    }
    // Of a row that is gone, too.
    write("delete from note").await;
    assert_eq!(all(&scope).await[0].act, Act::Delete);
    assert_eq!(all(&neighbour).await, of_neighbour);
}
