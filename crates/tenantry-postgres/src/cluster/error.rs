//! What can go wrong, each with the next step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::AccountError;

/// Why a private PostgreSQL did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is nobody to run it as, or that user can't get there.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A file or folder of the cluster can't be used.
    #[error("can't {doing} {}: {source}; check who owns it and whether the disk is full", .path.display())]
    Folder {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process of ours runs this cluster.
    #[error("the PostgreSQL in {} is already in use{}: stop that one first, or choose another folder", .folder.display(), holder(.pid))]
    InUse {
        /// The cluster's folder.
        folder: PathBuf,
        /// The process that uses it, if it left its number.
        pid: Option<u32>,
    },
    /// The data folder is of another major version.
    #[error("the data in {} is of PostgreSQL {found}, and this is PostgreSQL {have}: use version {found} (TENANTRY_PG_BIN), or start over with a new folder", .folder.display())]
    OtherVersion {
        /// The cluster's folder.
        folder: PathBuf,
        /// The version that wrote the data.
        found: String,
        /// The version of the binaries.
        have: u32,
    },
    /// The folder holds data but not the password we made for it.
    #[error("{} holds a data folder but no password file: put the file `password` back, or start over with a new folder", .folder.display())]
    PasswordLost {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// `initdb` failed.
    #[error("PostgreSQL could not make its data folder in {} (initdb): {output}", .folder.display())]
    Init {
        /// The cluster's folder.
        folder: PathBuf,
        /// The end of what it said.
        output: String,
    },
    /// One of the programs can't be run.
    #[error("can't run {}: {source}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The port is taken.
    #[error("port {port} on 127.0.0.1 is taken by another program: choose another one, or 0 for any free one")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The server ended instead of serving.
    #[error("PostgreSQL did not start ({status}). Its log {} ends with:\n{tail}", .log.display())]
    Ended {
        /// How its process ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server did not become ready in time.
    #[error("PostgreSQL was not ready after {} s and was stopped: try again (recovery goes on where it was), or allow more time. Its log {} ends with:\n{tail}", .waited.as_secs(), .log.display())]
    TooSlow {
        /// How long we waited.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// What a predecessor left running could not be stopped.
    #[error("process {pid} still runs PostgreSQL on {} and does not stop: end it (kill -9 {pid}) and start again", .data_dir.display())]
    Orphan {
        /// The process.
        pid: i32,
        /// Its data folder.
        data_dir: PathBuf,
    },
    /// Before a restart, the running server could not be stopped.
    #[error(transparent)]
    Stop(StopError),
}

/// Why a private PostgreSQL could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The process does not end, not even killed: the system holds it.
    #[error("PostgreSQL (process {pid}) does not end, not even when killed: it hangs in the system, often on a disk")]
    Hangs {
        /// The process.
        pid: u32,
    },
    /// Its end can't be awaited.
    #[error("can't wait for PostgreSQL (process {pid}) to end: {source}")]
    Wait {
        /// The process.
        pid: u32,
        /// The system's reason.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
