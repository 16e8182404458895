//! Copies of tenant databases: none is opened by what its original's key signs.

use std::sync::Arc;

use tenantry::{ErrorKind, Home, PoolConfig};
use tenantry_engine::{
    admin::ServerAdmin,
    bootstrap::{self, DatabaseRequest},
};
use tenantry_testing::{OwnClusterOptions, own_cluster};
use tenantry_wire::{Address, Endpoint};
use uuid::Uuid;

use crate::world::World;

/// Sends a tenant's calls elsewhere, as a catalog that errs would, or a name service after a restore.
async fn lead(world: &World, n: usize, change: impl FnOnce(&mut Endpoint)) -> Home {
    let tenant = world.tenants[n];
    let mut home = world.source.homes.lock()[&tenant].clone();
    let mut endpoint = Endpoint::clone(&home.endpoint);
    change(&mut endpoint);
    home.endpoint = Arc::new(endpoint);
    let before = world.source.homes.lock().insert(tenant, home).unwrap();
    world.tenantry.forget_placements();
    before
}

async fn is_refused_in_both_lanes(world: &World, n: usize) {
    let scope = world.scope(n).await;
    for error in [
        scope.query("select name from contact", &[]).await.unwrap_err(),
        scope.raw().query("select name from contact", &[]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("is a copy or was restored"), "{error}");
    }
}

#[tokio::test]
async fn a_clone_of_a_database_is_refused_at_connect() {
    let world = World::with(PoolConfig::default()).await;
    let original = world.databases[1].test.name().to_owned();
    let clone = format!("clone_{}", Uuid::now_v7().simple());
    let maintenance = world.databases[0].test.cluster().connect("postgres").await;
    let others = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1";
    maintenance.execute(others, &[&original]).await.unwrap();
    maintenance
        .batch_execute(&format!("create database {clone} template {original}"))
        .await
        .unwrap();
    let right = lead(&world, 4, |endpoint| endpoint.database = clone.clone()).await;
    is_refused_in_both_lanes(&world, 4).await;
    world.source.homes.lock().insert(world.tenants[4], right);
    world.tenantry.forget_placements();
    assert_eq!(world.names(4).await, ["contact of 4"]);
    maintenance
        .batch_execute(&format!("drop database {clone} with (force)"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_same_database_restored_on_another_server_is_refused_at_connect() {
    let world = World::with(PoolConfig::default()).await;
    // Nothing but the system identifier tells them apart: the same name and, as luck may have it, the same oid.
    let incarnation = {
        let mut homes = world.source.homes.lock();
        let home = homes.get_mut(&world.tenants[4]).unwrap();
        let incarnation = home.incarnation.as_mut().unwrap();
        incarnation.system_identifier += 1;
        *incarnation
    };
    world.tenantry.forget_placements();
    is_refused_in_both_lanes(&world, 4).await;
    world
        .source
        .homes
        .lock()
        .get_mut(&world.tenants[4])
        .unwrap()
        .incarnation = Some(tenantry::Incarnation {
        system_identifier: incarnation.system_identifier - 1,
        ..incarnation
    });
    world.tenantry.forget_placements();
    assert_eq!(world.names(4).await, ["contact of 4"]);
}

/// What `pg_basebackup` makes has the same system identifier, oids and names: nothing in it says that it is a copy. So its
/// keys are renewed before it serves, and from then on neither opens for the other's tokens.
#[tokio::test]
async fn a_copy_of_a_whole_server_gets_new_keys_by_starting_over() {
    let mut own = own_cluster(OwnClusterOptions::default()).await;
    let world = World::on(own.cluster(), PoolConfig::default()).await;
    assert_eq!(world.names(4).await, ["contact of 4"]);
    let (copy, _own) = tokio::task::spawn_blocking(move || (own.copy(OwnClusterOptions::default()), own))
        .await
        .unwrap();
    // Connections did not outlive the stop.
    world.tenantry.forget_placements();
    let port = copy.cluster().port();
    let to_copy = |endpoint: &mut Endpoint| {
        endpoint.address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        };
    };
    let right = lead(&world, 4, to_copy).await;
    // The limit that is documented: until its keys are renewed it can't be told from its original.
    assert_eq!(world.names(4).await, ["contact of 4"]);

    let database = &world.databases[1];
    let admin = ServerAdmin::new(copy.cluster().admin_config(database.test.name())).unwrap();
    let request = DatabaseRequest {
        installation: &world.installation,
        database: database.id,
        name: database.test.name(),
        credentials: None,
        force_signed: false,
    };
    let renewed = bootstrap::database(&admin, &request).await.unwrap();
    assert!(
        !renewed.was_copy,
        "if it can be told apart by now, the documentation is out of date"
    );
    assert_ne!(renewed.key.blocks(), right.key.blocks());
    // The old password is no longer accepted there; with the new one, the original's key still opens nothing.
    world.tenantry.forget_placements();
    let password = renewed.app_password.clone();
    lead(&world, 4, |endpoint| endpoint.password = password).await;
    let error = world
        .scope(4)
        .await
        .query("select name from contact", &[])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Context, "{error}");

    world.source.homes.lock().insert(world.tenants[4], right);
    world.tenantry.forget_placements();
    assert_eq!(world.names(4).await, ["contact of 4"]);
}
