//! A real server, as tests see it.

use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tenantry_postgres::{Cluster, ClusterOptions};
use tokio_postgres::{Client, Config, NoTls};

/// A running PostgreSQL server and its superuser.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestCluster {
    host: String,
    port: u16,
    superuser: String,
    password: String,
    major: u32,
    folder: PathBuf,
}

impl TestCluster {
    pub(crate) fn of(cluster: &Cluster, folder: PathBuf) -> Self {
        Self {
            host: cluster.host().to_owned(),
            port: cluster.port(),
            superuser: cluster.superuser().to_owned(),
            password: cluster.password().expose_secret().to_owned(),
            major: cluster.binaries().version().major,
            folder,
        }
    }

    /// How the superuser connects to one of the databases.
    pub fn admin_config(&self, database: &str) -> Config {
        self.config(self.port, database, &self.superuser, &self.password)
    }

    /// The same through another port of this machine: that of a [`crate::FaultProxy`].
    pub fn admin_config_through(&self, port: u16, database: &str) -> Config {
        self.config(port, database, &self.superuser, &self.password)
    }

    /// How any role connects.
    pub fn config_for(&self, database: &str, role: &str, password: &str) -> Config {
        self.config(self.port, database, role, password)
    }

    /// The superuser's URL for one of the databases, whose name has to be plain.
    pub fn admin_url(&self, database: &str) -> String {
        let Self {
            host,
            port,
            superuser,
            password,
            ..
        } = self;
        format!("postgresql://{superuser}:{password}@{host}:{port}/{database}")
    }

    /// Connects as the superuser.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.admin_config(database)).await
    }

    /// The address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The server's log, to look into when a test fails.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The server's folder.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    fn config(&self, port: u16, database: &str, role: &str, password: &str) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(port)
            .dbname(database)
            .user(role)
            .password(password);
        config
    }
}

/// Connects and drives the connection on the current runtime.
pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .unwrap_or_else(|error| panic!("can't connect to the test server: {error:?}"));
    // Ends with the client; what went wrong, the client's calls tell.
    tokio::spawn(connection);
    client
}

/// Fast, since nothing in a test has to outlive a power cut. Commits stay synchronous: without fsync they cost nothing,
/// and what was committed then outlives a `kill -9` of the server.
pub(crate) fn fast_settings(options: &mut ClusterOptions) {
    options.fsync = false;
    options.max_connections = 300;
    let settings = [
        ("max_wal_size", "2GB"),
        ("checkpoint_timeout", "1h"),
        ("max_wal_senders", "20"),
        ("max_replication_slots", "20"),
        ("max_prepared_transactions", "20"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
    ];
    options
        .settings
        .extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
}
