//! Faults of other systems that nothing else here looks at; `docs/mistakes.md` lists them all.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tenantry::{Error, PoolConfig, Scope, Transaction};
use tenantry_core::own_schema_name;

use crate::world::World;

async fn backend(transaction: &mut Transaction) -> Result<i32, Error> {
    let (pid,) = transaction
        .query_one_as::<(i32,)>("select pg_backend_pid()", &[])
        .await?;
    Ok(pid)
}

/// A second connection taken while one is held starves a pool as soon as everybody holds one.
#[tokio::test]
async fn a_transaction_runs_on_one_connection_and_takes_no_second_one() {
    let world = World::with(PoolConfig {
        connections_max: 1,
        wait_timeout: Duration::from_secs(20),
        ..PoolConfig::default()
    })
    .await;
    let mut running = tokio::task::JoinSet::new();
    for round in 0..4 {
        for n in 0..6 {
            let scope = world.scope(n).await;
            running.spawn(async move {
                let work: Result<HashSet<i32>, Error> = scope
                    .transaction(async |tx| {
                        let before = backend(tx).await?;
                        tx.execute("insert into project (id, name) values ($1, 'more')", &[&(10 + round)])
                            .await?;
                        tx.savepoint(async |tx| tx.execute("update project set name = 'most' where id > 9", &[]).await)
                            .await?;
                        Ok(HashSet::from([before, backend(tx).await?]))
                    })
                    .await;
                assert_eq!(work.unwrap().len(), 1, "{n}");
            });
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

/// What stands in `public` is everybody's: a search path that ends there shows it to a tenant whose own table is gone.
#[tokio::test]
async fn nothing_is_found_in_public() {
    let world = World::new().await;
    for database in &world.databases {
        let role = &database.target.application;
        database
            .admin
            .batch_execute(&format!(
                "create table public.contact (id int, name text, secret text);
                 create table public.everybodys (id int);
                 grant usage on schema public to {role};
                 grant all on all tables in schema public to {role}"
            ))
            .await
            .unwrap();
    }
    for n in 0..6 {
        let scope = world.scope(n).await;
        let refused = scope.query("select * from everybodys", &[]).await.unwrap_err();
        assert_eq!(refused.database().unwrap().code(), "42P01", "{n}");
        let refused = scope.query("select secret from contact", &[]).await.unwrap_err();
        assert_eq!(refused.database().unwrap().code(), "42703", "{n}");
    }
    world.databases[0]
        .admin
        .batch_execute(&format!("drop table \"{}\".contact", own_schema_name(world.tenants[2])))
        .await
        .unwrap();
    let refused = world
        .scope(2)
        .await
        .query("select * from contact", &[])
        .await
        .unwrap_err();
    assert_eq!(refused.database().unwrap().code(), "42P01");
}

/// A map of clients that is filled once keeps the password of its first day.
#[tokio::test]
async fn changed_credentials_are_used_from_the_next_look_on() {
    let world = World::new().await;
    let ping = async |scope: Scope| scope.query("select 1", &[]).await.map(|_| ());
    ping(world.scope(4).await).await.unwrap();
    let database = &world.databases[1];
    let role = &database.target.application;
    database
        .admin
        .batch_execute(&format!("alter role {role} password 'another'"))
        .await
        .unwrap();
    // The connections of the old password go.
    database
        .admin
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
            &[&role.as_str()],
        )
        .await
        .unwrap();
    assert!(ping(world.scope(4).await).await.is_err(), "the old password is refused");
    {
        let mut homes = world.source.homes.lock();
        let home = homes.get_mut(&world.tenants[4]).unwrap();
        let mut endpoint = (*home.endpoint).clone();
        endpoint.password = "another".to_owned().into();
        home.endpoint = Arc::new(endpoint);
    }
    world.tenantry.forget_placement(world.tenants[4]).await;
    ping(world.scope(4).await).await.unwrap();
}
