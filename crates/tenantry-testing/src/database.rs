//! A database per test.

use std::thread;

use tokio_postgres::{Client, Config};

use crate::cluster::{TestCluster, connect};
use crate::random_hex;
use crate::shared::cluster;

/// A fresh database on the shared default server, dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    cluster: TestCluster,
    name: String,
}

/// Makes an empty database on the default server.
pub async fn database() -> TestDatabase {
    database_on(cluster().await).await
}

/// Makes an empty database on a server of choice.
pub async fn database_on(cluster: &TestCluster) -> TestDatabase {
    let name = format!("test_{}", random_hex());
    let client = cluster.connect("postgres").await;
    let made = client
        .batch_execute(&format!("create database {name} template template0"))
        .await;
    made.unwrap_or_else(|error| panic!("can't make a test database: {error:?}"));
    TestDatabase {
        cluster: cluster.clone(),
        name,
    }
}

impl TestDatabase {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's URL for it.
    pub fn url(&self) -> String {
        self.cluster.admin_url(&self.name)
    }

    /// How the superuser connects to it.
    pub fn config(&self) -> Config {
        self.cluster.admin_config(&self.name)
    }

    /// Connects to it as the superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.config()).await
    }

    /// The server it stands on.
    pub fn cluster(&self) -> &TestCluster {
        &self.cluster
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let config = self.cluster.admin_config("postgres");
        let slots = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}' and not active",
            self.name
        );
        // `force` ends sessions only once it has the database's lock, which an open transaction of the test may hold.
        let sessions = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            self.name
        );
        let drop = format!("drop database if exists {} with (force)", self.name);
        // The test's runtime may be shutting down, so this needs one of its own; a server that a test has stopped is
        // no reason to fail it.
        let _ = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (client, connection) = config
                    .connect(tokio_postgres::NoTls)
                    .await
                    .map_err(std::io::Error::other)?;
                tokio::spawn(connection);
                // A slot would keep the database; in statements of their own, since a drop can't be in a transaction.
                let _ = client.batch_execute(&slots).await;
                let _ = client.batch_execute(&sessions).await;
                client.batch_execute(&drop).await.map_err(std::io::Error::other)
            })
        })
        .join();
    }
}
