//! Tenants that come while their data is migrated.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tenantry_core::TenantId;
use tenantry_engine::{
    isolate::Derived,
    migrate::{
        ApplyError, ByAdministrator, ListTenants, Listing, Patience, apply_where_tenants_come, arrive, note_loaded,
        seed,
    },
};
use tokio_postgres::Client;

use crate::support::{World, derived, files, tenant};

const TABLES: (&str, &str) = (
    "0001_tables.sql",
    "create table kinds (name text primary key, n int default 0);",
);
const SEED: (&str, &str) = (
    "0002_seed.sql",
    "-- tenantry: seed\ninsert into kinds (name) values ('a');",
);
const EACH: (&str, &str) = ("0003_each.sql", "-- tenantry: each tenant\nupdate kinds set n = n + 1;");

/// Lists one after the other; the last one again and again.
struct Lists(Mutex<VecDeque<Vec<TenantId>>>);

impl Lists {
    fn of(lists: &[&[TenantId]]) -> Self {
        Self(Mutex::new(lists.iter().map(|list| list.to_vec()).collect()))
    }
}

impl ListTenants for Lists {
    fn list(&self) -> Listing<'_> {
        let mut lists = self.0.lock().unwrap();
        let list = match lists.len() {
            1 => lists[0].clone(),
            _ => lists.pop_front().unwrap(),
        };
        Box::pin(async move { Ok(list) })
    }
}

async fn of(sql: &[(&str, &str)]) -> Derived {
    derived(&files(sql)).await.expect("derives")
}

async fn roll_out(world: &World, client: &Client, all: &Derived, tenants: &Lists) -> Result<Vec<i64>, ApplyError> {
    let (target, patience) = (world.target("app"), Patience::default());
    let applied = apply_where_tenants_come(client, &target, all, tenants, &ByAdministrator, &patience).await?;
    Ok(applied.versions)
}

async fn seeded(world: &World, client: &Client, all: &Derived, tenant: TenantId) {
    let (target, patience) = (world.target("app"), Patience::default());
    let seeded = seed(client, &target, all, tenant, &ByAdministrator, &patience).await;
    seeded.expect("seeds");
}

const KINDS: &str = "select string_agg(name || n, ',' order by name) from kinds";

#[tokio::test]
async fn whoever_is_listed_before_the_end_has_it() {
    let world = World::new().await;
    world.migrate(&[TABLES]).await;
    let (a, b) = (tenant(1), tenant(2));
    let tenants = Lists::of(&[&[a], &[a, b]]);
    let applied = roll_out(&world, &world.admin, &of(&[TABLES, SEED]).await, &tenants).await;
    assert_eq!(applied.expect("applies"), [2]);
    for tenant in [a, b] {
        assert_eq!(world.ask(tenant, KINDS).await, "a0");
    }
}

#[tokio::test]
async fn whoever_has_read_the_ledger_is_listed_before_it_is_written() {
    let world = World::new().await;
    let before = world.migrate(&[TABLES]).await;
    let (a, b) = (tenant(1), tenant(2));
    let (maker, applier) = (world.connect().await, world.connect().await);
    let patience = Patience::default();
    arrive(&maker, &world.target("app"), patience.turn_timeout)
        .await
        .expect("arrives");
    seeded(&world, &maker, &before, b).await;
    let tenants = Lists::of(&[&[a]]);
    let all = of(&[TABLES, SEED]).await;
    let listed = async {
        // It has done what it listed, and can't end.
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                        and database = (select oid from pg_database where datname = current_database())";
        while world.all(waits).await == "0" {}
        assert_eq!(
            world.all("select max(version) from tenantry_private.migration").await,
            "1"
        );
        *tenants.0.lock().unwrap() = VecDeque::from([vec![a, b]]);
        drop(maker);
    };
    let (applied, ()) = tokio::join!(roll_out(&world, &applier, &all, &tenants), listed);
    assert_eq!(applied.expect("applies"), [2]);
    assert_eq!(world.ask(b, KINDS).await, "a0");
}

#[tokio::test]
async fn tenants_are_made_while_a_migration_waits_for_one_that_does_not_get_done() {
    let world = World::new().await;
    world.migrate(&[TABLES]).await;
    let (hanging, other, applier) = (world.connect().await, world.connect().await, world.connect().await);
    let (target, patience) = (world.target("app"), Duration::from_secs(10));
    arrive(&hanging, &target, patience).await.expect("arrives");
    let (tenants, all) = (Lists::of(&[&[tenant(1)]]), of(&[TABLES, SEED]).await);
    let meanwhile = async {
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                        and database = (select oid from pg_database where datname = current_database())";
        while world.all(waits).await == "0" {}
        let arrived = arrive(&other, &target, patience).await;
        arrived.expect("it does not wait for who waits for another");
        drop((hanging, other));
    };
    let (applied, ()) = tokio::join!(roll_out(&world, &applier, &all, &tenants), meanwhile);
    assert_eq!(applied.expect("applies"), [2]);
}

#[tokio::test]
async fn a_tenant_that_is_being_made_gets_what_is_recorded_meanwhile() {
    let world = World::new().await;
    let first = world.migrate(&[TABLES, SEED]).await;
    let (a, b, c) = (tenant(1), tenant(2), tenant(3));
    seeded(&world, &world.admin, &first, b).await;
    let later = (
        "0004_seed.sql",
        "-- tenantry: seed\ninsert into kinds (name) values ('b');",
    );
    let all = of(&[TABLES, SEED, EACH, later]).await;
    let applied = roll_out(&world, &world.admin, &all, &Lists::of(&[&[a]])).await;
    assert_eq!(applied.expect("applies"), [3, 4]);
    for _ in 0..2 {
        for tenant in [b, c] {
            seeded(&world, &world.admin, &all, tenant).await;
        }
    }
    assert_eq!(
        world.ask(b, KINDS).await,
        "a1,b0",
        "its rows were there before the third file"
    );
    assert_eq!(world.ask(c, KINDS).await, "a0,b0", "its rows came after it");
}

#[tokio::test]
async fn a_seed_that_replaces_one_is_not_given_to_whoever_has_that_one() {
    let world = World::new().await;
    let first = world.migrate(&[TABLES, SEED]).await;
    let (b, c) = (tenant(2), tenant(3));
    seeded(&world, &world.admin, &first, b).await;
    let later = [
        TABLES,
        SEED,
        (
            "0003_seed.sql",
            "-- tenantry: seed instead of 2\ninsert into kinds (name) values ('b');",
        ),
        (
            "0004_seed.sql",
            "-- tenantry: seed instead of 3\ninsert into kinds (name) values ('c');",
        ),
    ];
    let all = of(&later).await;
    let applied = roll_out(&world, &world.admin, &all, &Lists::of(&[&[]])).await;
    assert_eq!(applied.expect("applies"), [3, 4]);
    for tenant in [b, c] {
        seeded(&world, &world.admin, &all, tenant).await;
    }
    assert_eq!(world.ask(b, KINDS).await, "a0");
    assert_eq!(world.ask(c, KINDS).await, "c0");
}

#[tokio::test]
async fn a_tenant_that_came_with_its_rows_gets_what_is_recorded_afterwards_and_nothing_before() {
    let each = ("0002_each.sql", "-- tenantry: each tenant\nupdate kinds set n = n + 1;");
    let seed = (
        "0003_seed.sql",
        "-- tenantry: seed\ninsert into kinds (name) values ('b');",
    );
    let world = World::new().await;
    world.migrate(&[TABLES]).await;
    let (b, c) = (tenant(2), tenant(3));
    let all = of(&[TABLES, each, seed]).await;
    let load = async |tenant: TenantId| {
        let noted = note_loaded(&world.admin, &world.target("app"), tenant).await;
        noted.expect("notes");
        let rows = "insert into kinds (name) values ('mine')";
        world.as_tenant(tenant, rows).await.expect("loads");
    };
    load(b).await;
    let applied = roll_out(&world, &world.admin, &all, &Lists::of(&[&[]])).await;
    assert_eq!(applied.expect("applies"), [2, 3]);
    load(c).await;
    for tenant in [b, c] {
        seeded(&world, &world.admin, &all, tenant).await;
    }
    assert_eq!(world.ask(b, KINDS).await, "b0,mine1");
    assert_eq!(world.ask(c, KINDS).await, "mine0");
}
