//! Processor time of PostgreSQL and of this process, where the system tells it (Linux).
//!
//! It says where the time of a call goes, and it is steadier than a rate while others use the machine.

use std::{fs, ops, path::PathBuf, time::Duration};

/// Processor time used.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cpu {
    /// By PostgreSQL's processes.
    pub(crate) server: Duration,
    /// By this process.
    pub(crate) client: Duration,
}

impl ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            server: self.server + other.server,
            client: self.client + other.client,
        }
    }
}

impl ops::Sub for Cpu {
    type Output = Self;

    /// A process that ended meanwhile takes its time along: never below zero.
    fn sub(self, other: Self) -> Self {
        Self {
            server: self.server.saturating_sub(other.server),
            client: self.client.saturating_sub(other.client),
        }
    }
}

/// Reads processor time.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    postmaster: Option<u32>,
}

impl CpuMeter {
    /// Of this process and of the server processes below this postmaster.
    pub(crate) const fn new(postmaster: Option<u32>) -> Self {
        Self { postmaster }
    }

    /// What was used since the processes began; zero where the system does not tell.
    pub(crate) fn read(&self) -> Cpu {
        Cpu {
            server: self.postmaster.map(children_time).unwrap_or_default(),
            client: threads_time(),
        }
    }
}

fn threads_time() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    tasks.flatten().filter_map(|task| time(task.path())).sum()
}

fn children_time(parent: u32) -> Duration {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter(|entry| parent_of(entry.path()) == Some(parent))
        .filter_map(|entry| time(entry.path()))
        .sum()
}

/// The first figure of `schedstat`: nanoseconds on a processor.
fn time(process: PathBuf) -> Option<Duration> {
    let text = fs::read_to_string(process.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The second field after the name, which may hold anything.
fn parent_of(process: PathBuf) -> Option<u32> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
