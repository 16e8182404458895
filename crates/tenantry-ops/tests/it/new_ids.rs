//! Tenants made of others' rows with new ids: what refers to a row refers to it still, and nothing of the old ids is left in keys.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_engine::migrate::Files;
use tenantry_ops::{CloneRequest, ExportOptions, FleetConfig, ImportRequest, RowIds, TenantRef};
use tenantry_testing::{TestFolder, test_folder};
use tokio_postgres::Client;

use crate::{
    child::Process,
    fleet::{Fleet, config, operator},
};

/// Rows that refer to themselves, in a circle, by a key that is another's, by keys of several columns, and by a column that no key
/// explains.
const TABLES: &str = "
    create table people (id uuid primary key default gen_random_uuid(), name text not null unique,
                         boss uuid references people (id), favourite bigint);
    create table things (id bigint generated always as identity primary key, owner uuid not null references people (id),
                         twin bigint references things (id), name text not null unique, facts jsonb);
    alter table people add foreign key (favourite) references things (id) deferrable initially deferred;
    create table tags (person uuid not null references people (id), thing bigint not null references things (id), note text,
                       primary key (person, thing));
    create table badges (id uuid primary key references people (id), colour text not null);
    create table lines (thing bigint not null references things (id), line int not null, primary key (thing, line));
    create table words (word text not null, item uuid not null, primary key (word, item));
    create table small (id smallint primary key, name text);";

/// Of version 7: its first 48 bits are a time.
const ANN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

const ROWS: &str = "
    insert into people (id, name) values ('01890a5d-ac96-774b-bcce-b302099a8057', 'Ann'), (gen_random_uuid(), 'Bob');
    insert into things (owner, name, facts) select id, 'hat of ' || name, jsonb_build_object('of', id) from people;
    update people set boss = (select id from people where name = 'Ann'), favourite = (select min(id) from things);
    update things set twin = (select max(id) from things);
    insert into tags (person, thing, note) select p.id, t.id, p.name || t.name from people p, things t;
    insert into badges (id, colour) select id, 'red' from people where name = 'Ann';
    insert into lines (thing, line) select id, 7 from things;
    insert into words (word, item) select name, id from people;
    insert into small (id, name) values (1, 'one'), (2, 'two');";

/// Who refers to whom, without an id.
const SHAPE: &str = "
    select string_agg(said, '; ' order by said)
      from (select 'person ' || p.name || ' of ' || b.name || ' likes ' || f.name as said
              from people p join people b on b.id = p.boss join things f on f.id = p.favourite
            union all
            select 'thing ' || t.name || ' of ' || p.name || ' as ' || o.name
              from things t join people p on p.id = t.owner join things o on o.id = t.twin
            union all
            select 'tag ' || g.note || ' of ' || p.name || ' on ' || t.name
              from tags g join people p on p.id = g.person join things t on t.id = g.thing
            union all
            select 'badge ' || g.colour || ' of ' || p.name from badges g join people p on p.id = g.id
            union all
            select 'line ' || l.line::text || ' of ' || t.name from lines l join things t on t.id = l.thing
            union all
            select 'word ' || w.word || ' of ' || p.name from words w join people p on p.id = w.item) as lines";

struct World {
    fleet: Fleet,
    folder: TestFolder,
}

impl World {
    async fn start(config: FleetConfig) -> Self {
        Self {
            fleet: Fleet::start_with(config).await,
            folder: test_folder(),
        }
    }

    async fn filled(&self, slug: &str, isolation: Isolation, rows: &str) -> TenantId {
        let tenant = self.fleet.create(slug, isolation).await.unwrap().id;
        let client = self.fleet.enter(tenant).await.unwrap();
        client.batch_execute(rows).await.unwrap();
        tenant
    }

    async fn export(&self, tenant: TenantId) -> PathBuf {
        let path = self.folder.path().join(format!("{tenant}.archive"));
        let file = std::fs::File::create(&path).unwrap();
        let options = ExportOptions::default();
        let ops = &self.fleet.ops;
        let exported = ops
            .export_tenant(&operator(), &tenant.into(), file, options, &mut |_, _, _| {})
            .await;
        drop(exported.unwrap());
        path
    }
}

fn tables() -> FleetConfig {
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded([("0001_tables.sql", TABLES)]).unwrap()));
    config
}

/// Of this file as it is, with new ids; the words' column is named, since no foreign key says what it holds.
fn request(path: &Path, slug: &str, isolation: Isolation) -> ImportRequest {
    let mut request = ImportRequest::new(path);
    request.slug = Some(slug.parse().unwrap());
    request.isolation = Some(isolation);
    request.ids = wanted();
    request
}

fn wanted() -> RowIds {
    RowIds::New {
        also: vec!["words.item".to_owned()],
    }
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn ids(client: &Client, table: &str) -> BTreeSet<String> {
    let rows = client
        .query(&format!("select id::text from {table}"), &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_get_new_ids_and_whatever_refers_to_one_refers_to_it_still_in_every_isolation() {
    let world = World::start(tables()).await;
    let ops = &world.fleet.ops;
    let first = world.filled("first", Isolation::Shared, ROWS).await;
    let path = world.export(first).await;
    let original = world.fleet.enter(first).await.unwrap();
    let shape = text(&original, SHAPE).await;
    assert!(
        shape.contains("word Bob of Bob") && shape.contains("person Ann of Ann"),
        "{shape}"
    );
    let plan = ops
        .plan_import_ids(&operator(), &request(&path, "unmade", Isolation::Shared))
        .await
        .unwrap()
        .unwrap();
    let wanted_columns = "badges.id lines.thing people.boss people.favourite people.id small.id tags.person tags.thing things.id \
                          things.owner things.twin words.item";
    assert_eq!(plan.renewed.join(" "), wanted_columns);
    let mut kept: Vec<&str> = plan.kept.iter().map(|kept| kept.column.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["lines.line", "words.word"]);
    assert!(
        plan.not_followed.iter().any(|column| column == "things.facts"),
        "{plan:?}"
    );

    let mut made = Vec::new();
    for isolation in Isolation::ALL {
        let slug = format!("new-{isolation}");
        let imported = ops.import_tenant(&operator(), &request(&path, &slug, isolation)).await;
        made.push((slug, imported.unwrap().id));
    }
    let mut clone = CloneRequest::new("cloned".parse().unwrap());
    clone.ids = wanted();
    let cloned = ops.clone_tenant(&operator(), &first.into(), &clone).await.unwrap();
    made.push(("cloned".to_owned(), cloned.id));
    for (slug, tenant) in made {
        let client = world.fleet.enter(tenant).await.unwrap();
        assert_eq!(text(&client, SHAPE).await, shape, "{slug}");
        for table in ["people", "things", "small"] {
            let (old, new) = (ids(&original, table).await, ids(&client, table).await);
            assert_eq!(new.len(), old.len(), "{slug}: {table}");
            assert!(new.is_disjoint(&old), "{slug}: {table}: {new:?}, {old:?}");
        }
        let ann = text(&client, "select id::text from people where name = 'Ann'").await;
        assert_eq!(
            (&ann[..15], ann.len()),
            (&ANN[..15], 36),
            "the time and the version stay"
        );
        let told = text(&client, "select facts ->> 'of' from things where name = 'hat of Ann'").await;
        assert_eq!(told, ANN, "what is not looked into stays");
        // It goes on behind them.
        client
            .batch_execute("insert into things (owner, name) select id, 'next' from people where name = 'Bob'")
            .await
            .unwrap();
        let largest = text(&client, "select name from things order by id desc limit 1").await;
        assert_eq!(largest, "next", "{slug}");
    }
    assert_eq!(text(&original, SHAPE).await, shape);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_and_begun_again_gives_the_same_ids() {
    let world = World::start(config()).await;
    let note = "insert into notes (contact, text) select id, 'a note' from contacts";
    let acme = world.filled("acme", Isolation::Shared, note).await;
    let path = world.export(acme).await;
    let act = format!("import-new-ids-shared {}", path.display());
    let child = Process::start(&world.fleet.catalog.url(), &act, "killed", "provision.after_load=stop");
    child.gets_killed_at("provision.after_load").await;
    let slug = TenantRef::Slug("killed".to_owned());
    let tenant = world.fleet.ops.get_tenant(&operator(), &slug).await.unwrap().id;
    let loaded = format!(
        "select string_agg(id::text || ' ' || contact::text, ', ' order by id) from app.notes where tenant_id = '{tenant}'"
    );
    let admin = world.fleet.shared_admin().await;
    let before = text(&admin, &loaded).await;
    // The sequence goes on meanwhile, and is past what was loaded anyway.
    world
        .fleet
        .enter(acme)
        .await
        .unwrap()
        .batch_execute(note)
        .await
        .unwrap();
    let runner = tokio::spawn({
        let ops = world.fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    let settled = world.fleet.settled("killed").await;
    runner.abort();
    assert_eq!(settled.state, TenantState::Active);
    assert_eq!(text(&admin, &loaded).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_can_not_be_made_are_refused_and_nothing_is_left() {
    let world = World::start(tables()).await;
    let ops = &world.fleet.ops;
    let first = world
        .filled(
            "first",
            Isolation::Shared,
            "insert into small (id, name) values (32767, 'last')",
        )
        .await;
    let path = world.export(first).await;
    let before = world.fleet.objects().await;
    let mut misspelt = request(&path, "misspelt", Isolation::Schema);
    misspelt.ids = RowIds::New {
        also: vec!["words.itme".to_owned()],
    };
    let error = ops.import_tenant(&operator(), &misspelt).await.unwrap_err().to_string();
    assert!(error.contains("no column words.itme"), "{error}");
    let found = ops
        .get_tenant(&operator(), &TenantRef::Slug("misspelt".to_owned()))
        .await;
    assert!(found.is_err(), "it was refused before anything was made");

    let full = request(&path, "full", Isolation::Schema);
    let error = ops.import_tenant(&operator(), &full).await.unwrap_err().to_string();
    assert!(error.contains("small.id would have to hold 32768"), "{error}");
    assert_eq!(world.fleet.objects().await, before);
}
