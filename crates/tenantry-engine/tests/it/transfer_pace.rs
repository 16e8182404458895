//! Copies rest now and then where others work on their server, and only there.

use std::time::Duration;

use tenantry_engine::transfer::Pace;
use tenantry_sql::Identifier;
use tenantry_testing::{OwnClusterOptions, own_cluster};
use tokio_postgres::NoTls;

#[tokio::test]
async fn a_copy_is_gentle_while_others_work_on_the_server() {
    let own = own_cluster(OwnClusterOptions::default()).await;
    let admin = own.connect("postgres").await;
    admin
        .batch_execute("create role mover login password 'secret'; create role app login password 'secret'")
        .await
        .unwrap();
    let mover = Identifier::new("mover").unwrap();
    let mut others = Vec::new();
    for (role, expected) in [("mover", Pace::Full), ("app", Pace::Gentle)] {
        let config = own.cluster().config_for("postgres", role, "secret");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("select 1").await.unwrap();
        // It rests, but was at work a moment ago.
        assert_eq!(Pace::beside_others(&admin, &mover).await.unwrap(), expected, "{role}");
        others.push(client);
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(
        Pace::beside_others(&admin, &mover).await.unwrap(),
        Pace::Full,
        "connected only"
    );
}
