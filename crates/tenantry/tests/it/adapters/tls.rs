//! Other drivers over an encrypted and verified connection.

use diesel_async::RunQueryDsl;
use tenantry::{Error, ErrorKind};
use tenantry_testing::{Authority, tls_cluster};
use tenantry_wire::Tls;

use super::small;
use crate::world::World;

/// Fails where the session is not encrypted.
const ENCRYPTED: &str = "select 1 / ssl::int as one from pg_stat_ssl where pid = pg_backend_pid()";

async fn by_sqlx(world: &World, n: usize) -> Result<(), Error> {
    let done = sqlx::query(ENCRYPTED).fetch_one(&world.scope(n).await).await;
    Ok(done.map(|_| ())?)
}

async fn by_diesel(world: &World, n: usize) -> Result<(), Error> {
    let scope = world.scope(n).await;
    scope
        .transaction_diesel(async |tx| Ok(diesel::sql_query(ENCRYPTED).execute(tx).await.map(|_| ())?))
        .await
}

/// From now on tenants are reached so.
fn reach(world: &World, roots_pem: &str) {
    for home in world.source.homes.lock().values_mut() {
        let mut endpoint = (*home.endpoint).clone();
        endpoint.tls = Tls::Verified {
            roots_pem: roots_pem.to_owned(),
        };
        home.endpoint = endpoint.into();
    }
    world.tenantry.forget_placements();
}

#[tokio::test]
async fn other_drivers_verify_the_server_or_do_not_talk_to_it() {
    let server = tls_cluster().await;
    let world = World::on(server.own().cluster(), small(1)).await;
    assert_eq!(
        by_sqlx(&world, 0).await.unwrap_err().database().unwrap().code(),
        "22012"
    );
    reach(&world, server.authority().root_pem());
    // A hardened database shows nobody how a session is connected; there the wrong authority below tells.
    for n in [0, 2] {
        by_sqlx(&world, n).await.unwrap();
        by_diesel(&world, n).await.unwrap();
    }
    assert_eq!(world.names(4).await, ["contact of 4"]);
    reach(&world, Authority::new().root_pem());
    for n in [0, 2, 4] {
        for result in [by_sqlx(&world, n).await, by_diesel(&world, n).await] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable, "{n}");
        }
    }
}
