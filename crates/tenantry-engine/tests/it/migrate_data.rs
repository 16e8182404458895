//! Data in migrations: for each tenant, over all of them, and for those to come.

use tenantry_engine::{
    admin::ServerAdmin,
    isolate::{Derived, derive},
    migrate::{ByAdministrator, Files, Patience, seed},
};

use tenantry_testing::database;

use crate::support::{World, derived, files, refused, tenant};

const TABLES: (&str, &str) = (
    "0001_tables.sql",
    "create table t (id int primary key, n int default 0); create table kinds (name text primary key);",
);

async fn filled() -> World {
    let world = World::new().await;
    world.migrate(&[TABLES]).await;
    for number in [1, 2] {
        world
            .as_tenant(tenant(number), "insert into t (id) values (1), (2)")
            .await
            .expect("fills");
    }
    world
}

#[tokio::test]
async fn each_tenant_runs_in_each_context_once() {
    let world = filled().await;
    let all = derived(&files(&[
        TABLES,
        (
            "0002_data.sql",
            "-- tenantry: each tenant
             update t set n = n + (select count(*) from t);
             insert into t (id, n) select 100, sum(n) from t;",
        ),
    ]))
    .await
    .expect("derives");
    let tenants = [tenant(1), tenant(2), tenant(3)];
    world.apply_for(&all, &tenants).await.expect("applies");
    world.apply_for(&all, &tenants).await.expect("changes nothing");
    for number in [1, 2] {
        assert_eq!(world.ask(tenant(number), "select n from t where id = 100").await, "4");
    }
    assert_eq!(world.ask(tenant(3), "select count(*) from t").await, "1");
}

#[tokio::test]
async fn each_tenant_goes_on_behind_the_tenants_that_have_it() {
    let world = filled().await;
    world
        .as_tenant(tenant(2), "insert into t (id) values (100)")
        .await
        .expect("is in the way");
    let all = derived(&files(&[
        TABLES,
        (
            "0002_data.sql",
            "-- tenantry: each tenant\nupdate t set n = n + 1;\ninsert into t (id) values (100);",
        ),
    ]))
    .await
    .expect("derives");
    let tenants = [tenant(1), tenant(2)];
    let error = world.apply_for(&all, &tenants).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_data.sql:3: "), "{error}");
    world
        .as_tenant(tenant(2), "delete from t where id = 100")
        .await
        .expect("mends");
    world.apply_for(&all, &tenants).await.expect("goes on");
    for number in [1, 2] {
        assert_eq!(
            world.ask(tenant(number), "select max(n) from t").await,
            "1",
            "once each"
        );
    }
}

#[tokio::test]
async fn data_that_some_tenants_have_is_not_edited_for_the_others() {
    let world = filled().await;
    world
        .as_tenant(tenant(2), "insert into t (id) values (100)")
        .await
        .expect("is in the way");
    let with = async |n: i32| {
        let text = format!("-- tenantry: each tenant\nupdate t set n = {n};\ninsert into t (id) values (100);");
        derived(&files(&[TABLES, ("0002_data.sql", text.as_str())]))
            .await
            .expect("derives")
    };
    let tenants = [tenant(1), tenant(2)];
    // Nobody has it yet: it may become another one.
    let error = world
        .apply_for(&with(7).await, &[tenant(2)])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("0002_data.sql:3: "), "{error}");
    let all = with(8).await;
    let error = world.apply_for(&all, &tenants).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_data.sql:3: "), "{error}");
    world
        .as_tenant(tenant(2), "delete from t where id = 100")
        .await
        .expect("mends");
    let error = world.apply_for(&with(9).await, &tenants).await.unwrap_err().to_string();
    assert!(
        error.contains("0002_data.sql") && error.contains("undo the change"),
        "{error}"
    );
    world.apply_for(&all, &tenants).await.expect("goes on");
    assert_eq!(world.all("select count(*) from app.t where n = 8").await, "4");
    assert_eq!(
        world.all("select count(*) from tenantry_private.migration_step").await,
        "0"
    );
}

#[tokio::test]
async fn all_tenants_runs_once_over_every_row() {
    let world = filled().await;
    let all = derived(&files(&[
        TABLES,
        (
            "0002_data.sql",
            "-- tenantry: all tenants
             update t set n = 7;
             insert into kinds (tenant_id, name) select distinct tenant_id, 'default' from t;",
        ),
    ]))
    .await
    .expect("derives");
    world.apply_for(&all, &[tenant(1), tenant(2)]).await.expect("applies");
    assert_eq!(world.all("select sum(n) from app.t").await, "28");
    assert_eq!(world.ask(tenant(1), "select count(*) from kinds").await, "1");
}

#[tokio::test]
async fn an_insert_for_all_tenants_names_whose_row_it_makes() {
    let refusals = refused("-- tenantry: all tenants\ninsert into t (id) values (1);").await;
    assert_eq!(refusals[0].line, 2);
    assert!(refusals[0].mend.contains("tenant_id"), "{refusals:?}");
}

#[tokio::test]
async fn definitions_and_data_do_not_share_a_file() {
    let refusals = refused("-- tenantry: each tenant\ncreate table x (id int);").await;
    assert!(refusals[0].reason.contains("definitions"), "{refusals:?}");
}

#[tokio::test]
async fn seeds_reach_the_tenants_there_are_and_those_that_come() {
    let world = filled().await;
    let all = derived(&files(&[
        TABLES,
        (
            "0002_seed.sql",
            "-- tenantry: seed\ninsert into kinds (name) values ('a'), ('b');",
        ),
    ]))
    .await
    .expect("derives");
    world.apply_for(&all, &[tenant(1), tenant(2)]).await.expect("applies");
    assert_eq!(world.ask(tenant(2), "select count(*) from kinds").await, "2");
    for _ in 0..2 {
        seed(
            &world.admin,
            &world.target("app"),
            &all,
            tenant(3),
            &ByAdministrator,
            &Patience::default(),
        )
        .await
        .expect("seeds");
    }
    assert_eq!(world.ask(tenant(3), "select count(*) from kinds").await, "2");
}

#[tokio::test]
async fn a_data_statement_that_does_not_fit_the_tables_is_refused_when_derived() {
    let error = derived(&files(&[
        TABLES,
        ("0002_data.sql", "-- tenantry: each tenant\nupdate t\nset nope = 1;"),
    ]))
    .await
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("0002_data.sql:3: "), "{error}");
}

#[tokio::test]
async fn suspended_tenants_and_those_not_open_yet_get_their_data_and_stay_closed() {
    let world = filled().await;
    for (number, state) in [(1, "open"), (2, "suspended"), (3, "not open yet")] {
        let register = if state == "not open yet" { 4 } else { 0 };
        let id = tenant(number);
        world
            .run(&format!("select tenantry.fence_register('{id}', 1, {register}::int2)"))
            .await;
        if state == "suspended" {
            world
                .run(&format!("select tenantry.fence_close('{id}', 1, 3::int2)"))
                .await;
        }
    }
    let body = "select prosrc || pg_get_functiondef(oid) from pg_proc where oid = 'tenantry.tenant_id()'::regprocedure";
    let before = world.all(body).await;
    assert!(
        before.contains(&tenant(2).as_uuid().simple().to_string()),
        "compiled: {before}"
    );
    let all = derived(&files(&[
        TABLES,
        (
            "0002_data.sql",
            "-- tenantry: each tenant\ninsert into kinds (name) values ('x');",
        ),
    ]))
    .await
    .expect("derives");
    world
        .apply_for(&all, &[tenant(1), tenant(2), tenant(3)])
        .await
        .expect("applies");
    assert_eq!(world.all("select count(distinct tenant_id) from app.kinds").await, "3");
    assert_eq!(world.all(body).await, before, "the fence is as it was");
    assert_eq!(
        world
            .all("select string_agg(state::text, ',' order by tenant) from tenantry_private.fence")
            .await,
        "0,3,4"
    );
}

#[tokio::test]
async fn a_tenant_that_is_moving_is_not_migrated_here() {
    let world = filled().await;
    let id = tenant(2);
    world
        .run(&format!("select tenantry.fence_register('{id}', 1, 0::int2)"))
        .await;
    world
        .run(&format!("select tenantry.fence_close('{id}', 1, 1::int2)"))
        .await;
    let all = derived(&files(&[
        TABLES,
        ("0002_data.sql", "-- tenantry: each tenant\nupdate t set n = 9;"),
    ]))
    .await
    .expect("derives");
    let error = world.apply_for(&all, &[tenant(1), id]).await.unwrap_err().to_string();
    assert!(error.contains("moving"), "{error}");
    assert_eq!(
        world.ask(tenant(1), "select max(n) from t").await,
        "9",
        "the others have it"
    );
}

#[tokio::test]
async fn a_seed_that_later_files_outdate_is_replaced_for_tenants_to_come() {
    let seed_a = (
        "0002_seed.sql",
        "-- tenantry: seed\ninsert into kinds (name) values ('a');",
    );
    let change = ("0003_change.sql", "alter table kinds rename column name to label;");
    let outdated = derived(&files(&[TABLES, seed_a, change]))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        outdated.starts_with("0002_seed.sql:2: ") && outdated.contains("seed instead of 2"),
        "{outdated}"
    );
    let world = filled().await;
    let all = derived(&files(&[
        TABLES,
        seed_a,
        change,
        (
            "0004_seed.sql",
            "-- tenantry: seed instead of 2\ninsert into kinds (label) values ('b');",
        ),
    ]))
    .await
    .expect("derives");
    world.apply_for(&all, &[tenant(1)]).await.expect("applies");
    seed(
        &world.admin,
        &world.target("app"),
        &all,
        tenant(3),
        &ByAdministrator,
        &Patience::default(),
    )
    .await
    .expect("seeds");
    assert_eq!(
        world.ask(tenant(1), "select string_agg(label, ',') from kinds").await,
        "a"
    );
    assert_eq!(
        world.ask(tenant(3), "select string_agg(label, ',') from kinds").await,
        "b"
    );
}

#[tokio::test]
async fn an_administrator_without_superuser_migrates_data_too() {
    let database = database().await;
    let restricted = database.restricted_admin().await;
    let server = ServerAdmin::new(restricted.config().clone()).expect("needs no TLS");
    let applier = server.connect(database.name()).await.expect("connects");
    let world = World::by(database, &server).await;
    let first = derive_as(&server, &world, &files(&[TABLES])).await;
    world.apply_on(&applier, &first).await.expect("applies");
    for number in [1, 2] {
        world
            .as_tenant(tenant(number), "insert into t (id) values (1), (2)")
            .await
            .expect("fills");
    }
    let all = derived(&files(&[
        TABLES,
        ("0002_each.sql", "-- tenantry: each tenant\nupdate t set n = n + (select count(*) from t);"),
        ("0003_all.sql", "-- tenantry: all tenants\nupdate t set n = n * 10;\ninsert into kinds (tenant_id, name) select distinct tenant_id, 'x' from t;"),
        ("0004_seed.sql", "-- tenantry: seed\ninsert into kinds (name) values ('y');"),
        ("0005_index.sql", "-- tenantry: no transaction\ncreate index concurrently t_n on t (n);\nalter table t add column m int;"),
        ("0006_key.sql", "alter table t add column kind text references kinds;"),
    ]))
    .await
    .expect("derives");
    let tenants = [tenant(1), tenant(2)];
    if let Err(error) = world
        .apply_patiently(&applier, &all, &tenants, &Patience::default())
        .await
    {
        panic!("{error}");
    }
    assert_eq!(world.ask(tenant(1), "select sum(n) from t").await, "40");
    assert_eq!(
        world
            .ask(tenant(2), "select string_agg(name, ',' order by name) from kinds")
            .await,
        "x,y"
    );
    assert_eq!(
        world.all("select count(*) from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r' and not relforcerowsecurity").await,
        "0"
    );
}

/// In a scratch database that this administrator owns.
async fn derive_as(server: &ServerAdmin, world: &World, files: &Files) -> Derived {
    let scratch = database().await;
    let name = server.config().get_user().expect("has a name");
    world
        .run(&format!("alter database {} owner to {name}", scratch.name()))
        .await;
    let client = server.connect(scratch.name()).await.expect("connects");
    let owner = world.target("app").owner;
    derive(&client, owner.as_str(), files)
        .await
        .expect("derives without superuser")
}
