//! A private PostgreSQL on a real machine: every situation is made, none is pretended.
#![expect(
    clippy::unwrap_used,
    reason = "in a test it is an assertion, also in what tests share"
)]

mod helper;
mod killed;
mod leftovers;
mod refused;
mod started;
mod user;

use std::path::Path;

use secrecy::ExposeSecret;
use tenantry_postgres::{Cluster, ClusterOptions};
use tokio_postgres::{Client, Config, NoTls};

/// Options as `dev` uses them (fsync on), except that `initdb` and the server take the version of the tests.
fn options(folder: &Path) -> ClusterOptions {
    ClusterOptions::new(folder, tenantry_testing::default_binaries())
}

/// Options for tests in which durability plays no part.
fn quick(folder: &Path) -> ClusterOptions {
    ClusterOptions {
        fsync: false,
        ..options(folder)
    }
}

fn config(cluster: &Cluster) -> Config {
    let mut config = Config::new();
    config
        .host(cluster.host())
        .port(cluster.port())
        .dbname("postgres")
        .user(cluster.superuser());
    config.password(cluster.password().expose_secret());
    config
}

async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn show(client: &Client, setting: &str) -> String {
    client
        .query_one("select current_setting($1)", &[&setting])
        .await
        .unwrap()
        .get(0)
}

/// Makes what [`data_is_there`] looks for.
async fn leave_data(client: &Client) {
    client
        .batch_execute("create table kept as select 7 as n")
        .await
        .unwrap();
}

async fn data_is_there(cluster: &Cluster) {
    let client = connect(&config(cluster)).await.unwrap();
    let kept = client.query_one("select n from kept", &[]).await.unwrap();
    assert_eq!(kept.get::<_, i32>(0), 7);
}
