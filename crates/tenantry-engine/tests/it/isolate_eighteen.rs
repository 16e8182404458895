//! What PostgreSQL 18 adds, and the usual on it.

use tenantry_testing::{TestCluster, database_on, second_cluster};

use crate::support::{World, derived_in, files, tenant};

async fn eighteen() -> Option<&'static TestCluster> {
    let cluster = second_cluster().await;
    if cluster.major() < 18 {
        eprintln!("SKIPPED: the second server is PostgreSQL {}, not 18", cluster.major());
        return None;
    }
    Some(cluster)
}

async fn migrated(cluster: &TestCluster, sql: &[(&str, &str)]) -> World {
    let all = match derived_in(database_on(cluster).await, &files(sql)).await {
        Ok(all) => all,
        Err(error) => panic!("{error}"),
    };
    let world = World::of(database_on(cluster).await).await;
    if let Err(error) = world.apply(&all).await {
        panic!("{error}\n{all:#?}");
    }
    world
}

#[tokio::test]
async fn temporal_keys_hold_within_a_tenant() {
    let Some(cluster) = eighteen().await else { return };
    let world = migrated(
        cluster,
        &[(
            "0001_a.sql",
            "create extension btree_gist;
             create table prices (product int, valid daterange, amount int, primary key (product, valid without overlaps));
             create table orders (id int primary key, product int, during daterange,
               foreign key (product, period during) references prices (product, period valid));",
        )],
    )
    .await;
    assert_eq!(
        world.constraint("prices_pkey").await,
        "PRIMARY KEY (tenant_id, product, valid WITHOUT OVERLAPS)"
    );
    let insert = "insert into prices values (1, '[2025-01-01, 2026-01-01)', 5)";
    world.as_tenant(tenant(1), insert).await.expect("first");
    world.as_tenant(tenant(2), insert).await.expect("another tenant");
    let refused = world.as_tenant(tenant(1), insert).await.unwrap_err();
    assert!(refused.starts_with("23P01"), "{refused}");
    let order = "insert into orders values (1, 1, '[2025-02-01, 2025-03-01)')";
    world.as_tenant(tenant(1), order).await.expect("within the price");
    let refused = world.as_tenant(tenant(3), order).await.unwrap_err();
    assert!(refused.starts_with("23503"), "{refused}");
}

#[tokio::test]
async fn later_migrations_work_on_eighteen_too() {
    let Some(cluster) = eighteen().await else { return };
    let world = migrated(
        cluster,
        &[
            (
                "0001_a.sql",
                "create table p (id int generated always as identity primary key, name text, note text constraint named not null);
                 create table c (id serial primary key, p_id int references p on delete set null, n int, m int, twice int generated always as (n * 2),
                   constraint positive check (n > 0) not enforced);
                 create view v as select id, p_id, n, twice from c;",
            ),
            (
                "0002_b.sql",
                "alter table p drop constraint p_pkey cascade; alter table p add constraint p_key primary key (name);
                 alter table p add unique (id); alter table c add foreign key (p_id) references p (id) not enforced;
                 alter table c alter column m type bigint using m::bigint;
                 alter table p drop constraint named; alter table p rename to parents;",
            ),
        ],
    )
    .await;
    assert_eq!(world.constraint("p_key").await, "PRIMARY KEY (tenant_id, name)");
    let one = tenant(1);
    world
        .as_tenant(
            one,
            "insert into parents (name) values ('x'); insert into c (p_id, n) values (77, -2)",
        )
        .await
        .expect("not enforced");
    assert_eq!(world.ask(one, "select twice from v").await, "-4");
    assert_eq!(world.ask(tenant(2), "select count(*) from v").await, "0");
}
