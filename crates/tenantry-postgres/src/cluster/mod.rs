//! One PostgreSQL server with a folder of its own.
//!
//! The folder holds `data` (PostgreSQL's), `lock` (held as long as we run), `password` (0600), `server.log` and, where
//! its path is short enough for a socket, `socket`.

mod error;
mod folder;
mod init;
mod log;
mod pidfile;
mod start;
mod stop;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use error::{StartError, StopError};

use crate::account::Account;
use crate::binaries::Binaries;
use folder::SocketFolder;

/// What `initdb` names the superuser.
const SUPERUSER: &str = "postgres";

/// The address a private server listens on; never another.
const HOST: &str = "127.0.0.1";

/// A step of starting or stopping, for a progress display.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A server that a killed process of ours left behind is stopped.
    StoppingOrphan {
        /// Its postmaster's process.
        pid: i32,
    },
    /// A new data folder is made.
    Initialising,
    /// The server process starts, and recovers first if it was killed.
    Starting,
    /// It answers.
    Ready {
        /// The port it listens on.
        port: u16,
    },
    /// It is asked to stop.
    Stopping,
}

/// How to start a cluster.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The cluster's folder; it is made if it does not exist.
    pub folder: PathBuf,
    /// PostgreSQL's programs.
    pub binaries: Binaries,
    /// The port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// Whether what is committed outlives a power cut. Off only in tests.
    pub fsync: bool,
    /// The user to run as, when we are root; else `postgres`, else `nobody`.
    pub run_as: Option<String>,
    /// The upper bound of connections.
    pub max_connections: u16,
    /// Further server settings; the last one wins.
    pub settings: Vec<(String, String)>,
    /// How long the start may take, recovery included.
    pub start_timeout: Duration,
    /// How long a fast stop may take before the server is stopped at once (it then recovers at the next start).
    pub stop_timeout: Duration,
    /// Is told each step.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl ClusterOptions {
    /// Options for a server that keeps what it is given: fsync on, a free port, bounds that fit one machine.
    pub fn new(folder: impl Into<PathBuf>, binaries: Binaries) -> Self {
        Self {
            folder: folder.into(),
            binaries,
            port: 0,
            fsync: true,
            run_as: None,
            // A tenant database's pool, the catalog's and the operations of a development machine; a connection that
            // is not open costs a few hundred bytes.
            max_connections: 200,
            settings: Vec::new(),
            start_timeout: Duration::from_secs(120),
            stop_timeout: Duration::from_secs(20),
            progress: None,
        }
    }

    fn tell(&self, step: Progress) {
        if let Some(progress) = &self.progress {
            progress(step);
        }
    }
}

/// A running server, stopped when this value is dropped.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    // Dropped after the server has stopped: the folder is ours until then.
    _lock: File,
}

/// What is known of the server; apart from the lock so that a restart keeps the folder.
struct Server {
    options: ClusterOptions,
    folder: PathBuf,
    account: Account,
    port: u16,
    socket: Option<SocketFolder>,
    password: SecretString,
    child: Option<Child>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pid = self.child.as_ref().map(Child::id);
        f.debug_struct("Server")
            .field("folder", &self.folder)
            .field("port", &self.port)
            .field("pid", &pid)
            .finish()
    }
}

impl Cluster {
    /// Starts the cluster in `options.folder`, making it first if it is new. What a killed predecessor left (a server,
    /// a pid file, a half-made data folder) is cleared away.
    ///
    /// # Errors
    ///
    /// When the folder is in use or can't be used, or PostgreSQL does not start; then nothing is left running.
    ///
    /// # Cancel safety
    ///
    /// A start that is no longer awaited goes on and stops the server at once when it is up.
    pub async fn start(options: ClusterOptions) -> Result<Self, StartError> {
        match tokio::task::spawn_blocking(move || Self::start_blocking(options)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// [`Cluster::start`] for callers without a runtime.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_blocking(options: ClusterOptions) -> Result<Self, StartError> {
        let (server, lock) = start::start(options)?;
        Ok(Self { server, _lock: lock })
    }

    /// Stops the server: fast, and at once when that takes too long.
    ///
    /// # Errors
    ///
    /// When it can't be stopped at all.
    ///
    /// # Cancel safety
    ///
    /// The stop goes on when it is no longer awaited.
    pub async fn stop(self) -> Result<(), StopError> {
        match tokio::task::spawn_blocking(move || self.stop_blocking()).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// [`Cluster::stop`] for callers without a runtime.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop`].
    pub fn stop_blocking(mut self) -> Result<(), StopError> {
        self.server.stop()
    }

    /// Stops the server if it still runs, and starts it again on the same port.
    ///
    /// # Errors
    ///
    /// When it can't be stopped or does not start.
    pub fn restart_blocking(&mut self) -> Result<(), StartError> {
        self.server.stop().map_err(StartError::Stop)?;
        self.server.launch_again()
    }

    /// Stops the server and keeps the folder, so that [`Cluster::restart_blocking`] can bring it back.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop`].
    pub fn halt_blocking(&mut self) -> Result<(), StopError> {
        self.server.stop()
    }

    /// Kills the server with all its processes, without a chance to clean up, as a power cut would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Whether the server's process runs.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// A URL of the superuser for one of its databases, over loopback. It holds the password.
    pub fn admin_url(&self, database: &str) -> String {
        let password = self.server.password.expose_secret();
        format!(
            "postgresql://{SUPERUSER}:{password}@{HOST}:{}/{}",
            self.server.port,
            percent_encoded(database)
        )
    }

    /// The address it listens on.
    pub fn host(&self) -> &str {
        HOST
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// The superuser's password.
    pub fn password(&self) -> &SecretString {
        &self.server.password
    }

    /// The folder of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.server.socket.as_ref().map_or(Path::new(""), SocketFolder::path)
    }

    /// PostgreSQL's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.server.data_dir()
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.server.log_file()
    }

    /// The programs it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.server.options.binaries
    }

    /// The postmaster's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.child.as_ref().map(Child::id)
    }
}

impl Server {
    fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(error = %error, "the private PostgreSQL could not be stopped");
        }
    }
}

fn percent_encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_database_name_fits_into_the_url() {
        assert_eq!(percent_encoded("t_0a-b.c~"), "t_0a-b.c~");
        assert_eq!(percent_encoded("a b/ä?"), "a%20b%2F%C3%A4%3F");
    }
}
