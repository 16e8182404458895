//! A server for one test, which may kill and restart it.

use std::path::Path;

use tenantry_postgres::{Binaries, Cluster, ClusterOptions};
use tokio_postgres::Client;

use crate::binaries::default_binaries;
use crate::cluster::{TestCluster, fast_settings};
use crate::watchdog::{TestFolder, test_folder};

/// What the test's own server is to be.
#[derive(Clone, Debug, Default)]
pub struct OwnClusterOptions {
    /// The programs; else those of the default server.
    pub binaries: Option<Binaries>,
    /// Further server settings.
    pub settings: Vec<(String, String)>,
    /// Whether it keeps what it is given over a power cut, too: what was committed outlives a `kill -9` without it.
    pub fsync: bool,
}

/// A server that only this test uses. Dropping it stops it and removes its folder.
#[derive(Debug)]
pub struct OwnCluster {
    cluster: TestCluster,
    // Before the folder, so that it stops in order.
    server: Cluster,
    _folder: TestFolder,
}

/// Starts a server for one test. It has its own system identifier.
pub async fn own_cluster(options: OwnClusterOptions) -> OwnCluster {
    let done = tokio::task::spawn_blocking(move || start(options)).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn start(own: OwnClusterOptions) -> OwnCluster {
    start_in(test_folder(), own)
}

fn start_in(folder: TestFolder, own: OwnClusterOptions) -> OwnCluster {
    let mut options = ClusterOptions::new(folder.path(), own.binaries.unwrap_or_else(default_binaries));
    fast_settings(&mut options);
    options.fsync = own.fsync;
    options.settings.extend(own.settings);
    let server = Cluster::start_blocking(options).unwrap_or_else(|error| panic!("no server for this test: {error}"));
    OwnCluster {
        cluster: TestCluster::of(&server, folder.path().to_owned()),
        server,
        _folder: folder,
    }
}

impl OwnCluster {
    /// Where it is and who may do everything there.
    pub fn cluster(&self) -> &TestCluster {
        &self.cluster
    }

    /// Connects as the superuser.
    pub async fn connect(&self, database: &str) -> Client {
        self.cluster.connect(database).await
    }

    /// Kills the server with all its processes, without a chance to clean up.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port, stopping it first if it still runs. Blocks for as long as that takes.
    pub fn restart(&mut self) {
        self.server
            .restart_blocking()
            .unwrap_or_else(|error| panic!("the test's server does not start again: {error}"));
    }

    /// Stops it in order; [`OwnCluster::restart`] brings it back.
    pub fn stop(&mut self) {
        self.server
            .halt_blocking()
            .unwrap_or_else(|error| panic!("the test's server does not stop: {error}"));
    }

    /// A copy of all its files, running beside it as another server: what `pg_basebackup` or a snapshot of the disk gives.
    /// It has the same superuser, databases, oids and system identifier. Stops this server for as long as copying takes.
    pub fn copy(&mut self, options: OwnClusterOptions) -> OwnCluster {
        let folder = self.copy_files();
        start_in(folder, options)
    }

    /// A standby that streams what happens here from now on and can be read from. Stops this server for as long as copying takes.
    pub fn standby(&mut self, binaries: Option<Binaries>) -> OwnCluster {
        let folder = self.copy_files();
        let (signal, version) = (
            folder.path().join("data/standby.signal"),
            folder.path().join("data/PG_VERSION"),
        );
        // With the owner that the server runs as, who removes it on promotion.
        let made = std::process::Command::new("cp")
            .arg("-p")
            .arg(&version)
            .arg(&signal)
            .status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "`standby.signal` can't be made"
        );
        let primary = &self.cluster;
        let conninfo = format!(
            "host={} port={} user={} password={} application_name=standby",
            primary.host(),
            primary.port(),
            primary.superuser(),
            primary.password()
        );
        let settings = [
            ("primary_conninfo", conninfo.as_str()),
            // A primary that was started again is found at once.
            ("wal_retrieve_retry_interval", "50ms"),
        ];
        start_in(
            folder,
            OwnClusterOptions {
                binaries,
                settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                fsync: false,
            },
        )
    }

    /// Waits until this standby shows everything that the primary has committed by now.
    pub async fn until_it_shows(&self, primary: &OwnCluster) {
        let sql = "select pg_current_wal_flush_lsn()::text";
        let written: String = primary
            .connect("postgres")
            .await
            .query_one(sql, &[])
            .await
            .expect("a position")
            .get(0);
        let client = self.connect("postgres").await;
        let sql = format!("select coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
        for _ in 0..2000 {
            if client.query_one(&sql, &[]).await.expect("a position").get(0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the standby does not catch up");
    }

    fn copy_files(&mut self) -> TestFolder {
        self.stop();
        let folder = test_folder();
        for name in ["data", "password"] {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .arg(self.folder().join(name))
                .arg(folder.path())
                .status();
            assert!(copied.is_ok_and(|status| status.success()), "`{name}` can't be copied");
        }
        self.restart();
        folder
    }

    /// Its folder, removed with it.
    pub fn folder(&self) -> &Path {
        self.cluster.folder()
    }
}
