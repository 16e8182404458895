//! Places of a tenant's own, and what is not ours.

use tenantry_core::{TenantDatabaseId, own_schema_name};
use tenantry_engine::home::{self, HomeError, Outcome};
use uuid::Uuid;

use crate::seal_support::{Fixture, in_each_tier, installation, new_tenant, sealed};

in_each_tier! { an_own_schema_is_made_and_dropped }

async fn an_own_schema_is_made_and_dropped(fixture: Fixture) {
    let tenant = new_tenant();
    let create = || home::create_schema(&fixture.client, &fixture.installation, fixture.id, tenant);
    let drop = || home::drop_schema(&fixture.client, &fixture.installation, tenant);
    assert_eq!(drop().await.unwrap(), Outcome::AlreadySo);
    assert_eq!(create().await.unwrap(), Outcome::Done);
    assert_eq!(create().await.unwrap(), Outcome::AlreadySo);
    let row = fixture
        .client
        .query_one(
            "select has_schema_privilege($1, $2, 'usage'), has_schema_privilege($1, $2, 'create')",
            &[&fixture.made.app_role, &own_schema_name(tenant)],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (true, false));
    assert_eq!(drop().await.unwrap(), Outcome::Done);
    assert_eq!(drop().await.unwrap(), Outcome::AlreadySo);
}

/// A schema of thousands of tables would need more locks than the server has.
#[tokio::test]
async fn a_schema_of_many_tables_is_dropped_some_tables_at_a_time() {
    let fixture = sealed().await;
    let tenant = new_tenant();
    let schema = own_schema_name(tenant);
    home::create_schema(&fixture.client, &fixture.installation, fixture.id, tenant)
        .await
        .unwrap();
    fixture
        .client
        .batch_execute(&format!(
            "create table {schema}.parent (id int primary key, at int) ;
             create table {schema}.parts (id int, part int) partition by list (part);
             do $$ begin
               for n in 1..120 loop
                 execute format('create table {schema}.child_%s (id int references {schema}.parent)', n);
                 execute format('create table {schema}.part_%s partition of {schema}.parts for values in (%s)', n, n);
               end loop;
             end $$;
             create view {schema}.seen as select * from {schema}.child_1;
             create materialized view {schema}.kept as select * from {schema}.parts;
             create type {schema}.mood as enum ('fine');
             create table public.dropped (at xid8, tables bigint);
             create function public.note() returns event_trigger language plpgsql as $$ begin
               insert into public.dropped
               select pg_current_xact_id(), count(*) from pg_event_trigger_dropped_objects() where object_type = 'table';
             end $$;
             create event trigger note on sql_drop execute function public.note()"
        ))
        .await
        .unwrap();
    let dropped = home::drop_schema(&fixture.client, &fixture.installation, tenant).await;
    assert_eq!(dropped.unwrap(), Outcome::Done);
    let sql = "select max(tables), sum(tables)::bigint from
                 (select sum(tables)::bigint as tables from public.dropped group by at) as transaction";
    let row = fixture.client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (50, 242));
    let left = "select count(*) from pg_namespace where nspname = $1";
    assert_eq!(
        fixture
            .client
            .query_one(left, &[&schema])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn a_schema_without_our_mark_is_neither_taken_nor_dropped() {
    let fixture = sealed().await;
    let tenant = new_tenant();
    let name = own_schema_name(tenant);
    fixture
        .client
        .batch_execute(&format!("create schema {name}; create table {name}.theirs (id int)"))
        .await
        .unwrap();
    let create = home::create_schema(&fixture.client, &fixture.installation, fixture.id, tenant).await;
    assert!(matches!(create, Err(HomeError::NotOurs { kind: "schema", .. })));
    let drop = home::drop_schema(&fixture.client, &fixture.installation, tenant).await;
    assert!(matches!(drop, Err(HomeError::NotOurs { kind: "schema", .. })));
    // nor one of another installation
    let ours = new_tenant();
    home::create_schema(&fixture.client, &fixture.installation, fixture.id, ours)
        .await
        .unwrap();
    let drop = home::drop_schema(&fixture.client, &installation(), ours).await;
    assert!(matches!(drop, Err(HomeError::NotOurs { .. })));
    fixture
        .client
        .batch_execute(&format!("table {name}.theirs"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_database_that_we_did_not_make_is_neither_taken_nor_dropped() {
    let fixture = sealed().await;
    let theirs = tenantry_testing::database().await;
    let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
    let create = home::create_database(&fixture.admin, &fixture.installation, theirs.name()).await;
    assert!(matches!(create, Err(HomeError::NotOurs { kind: "database", .. })));
    let drop = home::drop_database(&fixture.admin, &fixture.installation, id, theirs.name()).await;
    assert!(matches!(drop, Err(HomeError::NotOurs { kind: "database", .. })));
    // nor one of another installation
    let other = sealed().await;
    let name = tenantry_core::own_database_name(&other.installation, new_tenant());
    home::create_database(&other.admin, &other.installation, &name)
        .await
        .unwrap();
    let drop = home::drop_database(&fixture.admin, &fixture.installation, id, &name).await;
    assert!(matches!(drop, Err(HomeError::NotOurs { .. })));
    let made = home::drop_database(&other.admin, &other.installation, id, &name).await;
    assert_eq!(made.unwrap(), Outcome::Done);
    theirs.connect().await;
}

#[tokio::test]
async fn two_who_make_the_same_database_make_one() {
    let fixture = sealed().await;
    let name = tenantry_core::own_database_name(&fixture.installation, new_tenant());
    let create = || home::create_database(&fixture.admin, &fixture.installation, &name);
    let (one, two) = tokio::join!(create(), create());
    one.unwrap();
    two.unwrap();
    let id = TenantDatabaseId::from_uuid(Uuid::now_v7());
    let drop = home::drop_database(&fixture.admin, &fixture.installation, id, &name).await;
    assert_eq!(drop.unwrap(), Outcome::Done);
}
