//! What `doctor` warns about, made on a real server with limits that are low enough.

use tenantry_core::Isolation;
use tenantry_ops::{Figures, Limits};
use tenantry_testing::cluster;

use crate::fleet::{Fleet, operator};

async fn figures(fleet: &Fleet) -> Figures {
    let mut loads = fleet.ops.server_loads(&operator()).await.unwrap();
    assert_eq!(loads.len(), 1);
    loads.remove(0).found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_near_its_limits_is_told_with_what_is_there() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let before = figures(&fleet).await;
    fleet.create("second", Isolation::Schema).await.unwrap();
    let open = cluster().await.connect("postgres").await;
    open.batch_execute("begin; select 1").await.unwrap();
    let found = figures(&fleet).await;
    // Two tables of the application in each schema, and in the shared one.
    let (name, tables) = &found.tables[0];
    assert_eq!(*tables, before.tables[0].1 + 2, "{name}");
    assert!(found.load.connections >= 2 && found.load.connections <= found.load.connections_max);
    assert!(found.load.databases >= 2 && found.load.freeze_max_age > 0);

    let told = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        // A cluster of tests is anything but empty: only what is asked about.
        limits.databases_per_server = i64::MAX;
        limits.connections_used = 1.0;
        limits.freeze_ages = f64::MAX;
        limits.transaction_s = f64::MAX;
        change(&mut limits);
        let strains = found.strains(&limits).into_iter().map(|strain| strain.found);
        strains.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(told(|_| {}), "");
    assert!(told(|limits| limits.tables_per_database = 5).contains(&format!("{name} has {tables} tables")));
    assert!(told(|limits| limits.databases_per_server = 1).contains("databases, more than 1"));
    assert!(told(|limits| limits.connections_used = 0.0).contains("connections are in use"));
    assert!(told(|limits| limits.freeze_ages = -1.0).contains("transactions old"));
    assert!(told(|limits| limits.transaction_s = 0.0).contains("a transaction of "));
    open.batch_execute("rollback").await.unwrap();
}
