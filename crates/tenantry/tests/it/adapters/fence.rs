//! What the fence says to other drivers, as errors of the library.

use diesel_async::RunQueryDsl;
use tenantry::{Error, ErrorKind};
use tenantry_core::Epoch;
use tenantry_engine::fence::{self, Closed};

use super::small;
use crate::world::World;

const READ: &str = "select name from contact";

async fn by_sqlx(world: &World, n: usize) -> Result<(), Error> {
    let read = sqlx::query(READ).fetch_all(&world.scope(n).await).await;
    Ok(read.map(|_| ())?)
}

async fn by_diesel(world: &World, n: usize) -> Result<(), Error> {
    let scope = world.scope(n).await;
    scope
        .transaction_diesel(async |tx| Ok(diesel::sql_query(READ).execute(tx).await.map(|_| ())?))
        .await
}

#[tokio::test]
async fn a_closed_fence_refuses_other_drivers_in_every_isolation() {
    let world = World::with(small(2)).await;
    let database = |n: usize| if n < 4 { 0 } else { n - 3 };
    for (n, why, kind) in [
        (0, Closed::Moving, ErrorKind::TenantMoving),
        (2, Closed::Gone, ErrorKind::TenantMoving),
        (3, Closed::Suspended, ErrorKind::TenantSuspended),
        (4, Closed::Suspended, ErrorKind::TenantSuspended),
    ] {
        // Bound before, so that the compiled fence is what refuses.
        by_sqlx(&world, n).await.unwrap();
        by_diesel(&world, n).await.unwrap();
        let admin = &world.databases[database(n)].admin;
        fence::close(admin, world.tenants[n], Epoch::FIRST, why).await.unwrap();
        for result in [by_sqlx(&world, n).await, by_diesel(&world, n).await] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), kind, "{n} {why:?}: {error}");
        }
    }
    // Others on the same connections are not troubled.
    by_sqlx(&world, 1).await.unwrap();
    by_diesel(&world, 1).await.unwrap();
}

#[tokio::test]
async fn a_fence_that_closes_under_a_connection_is_seen_by_its_next_transaction() {
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    // An older transaction goes on, for the mover waits for it.
    let mut older = scope.begin_sqlx().await.unwrap();
    sqlx::query(READ).execute(&mut older).await.unwrap();
    let admin = &world.databases[0].admin;
    fence::close(admin, world.tenants[0], Epoch::FIRST, Closed::Suspended)
        .await
        .unwrap();
    older.commit().await.unwrap();
    let error = by_sqlx(&world, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantSuspended, "{error}");
    by_sqlx(&world, 1).await.unwrap();
}

#[tokio::test]
async fn other_drivers_go_to_the_new_home() {
    let world = World::new().await;
    by_sqlx(&world, 0).await.unwrap();
    by_diesel(&world, 0).await.unwrap();
    // Tenant 0 moves in with tenant 4; nobody is told but the fence.
    let tenant = world.tenants[0];
    let next = Epoch(Epoch::FIRST.0 + 1);
    let (from, to) = (&world.databases[0].admin, &world.databases[1].admin);
    fence::close(from, tenant, Epoch::FIRST, Closed::Gone).await.unwrap();
    fence::register(to, tenant, next, true).await.unwrap();
    let mut home = world.source.homes.lock()[&world.tenants[4]].clone();
    home.placement.tenant = tenant;
    home.placement.epoch = next;
    world.source.homes.lock().insert(tenant, home);
    let scope = world.scope(0).await;
    sqlx::query("insert into contact (id, name) values (5, 'by sqlx')")
        .execute(&scope)
        .await
        .unwrap();
    let done: Result<usize, Error> = scope
        .transaction_diesel(async |tx| {
            Ok(
                diesel::sql_query("insert into contact (id, name) values (6, 'by diesel')")
                    .execute(tx)
                    .await?,
            )
        })
        .await;
    assert_eq!(done.unwrap(), 1);
    assert_eq!(world.names(0).await, ["by sqlx", "by diesel"]);
    assert_eq!(world.names(4).await, ["contact of 4"]);
}
