//! Processor time of PostgreSQL and of this process, where the system tells it (Linux).
//!
//! It says where the time of a call goes, and it is steadier than a rate while others use the machine.

use std::{fs, ops, time::Duration};

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
        let time = |folder, ids: Vec<u32>| ids.into_iter().filter_map(|id| time(folder, id)).sum();
        Cpu {
            server: time("/proc", self.postmaster.map(children).unwrap_or_default()),
            client: time("/proc/self/task", threads()),
        }
    }
}

/// The threads of this process.
pub(super) fn threads() -> Vec<u32> {
    numbers("/proc/self/task")
}

/// Those of them that are called so.
pub(super) fn threads_called(name: &str) -> Vec<u32> {
    let is_called = |id: &u32| {
        let text = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
        text.is_ok_and(|text| text.trim_end() == name)
    };
    threads().into_iter().filter(is_called).collect()
}

/// The processes below this one.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let mut processes = numbers("/proc");
    processes.retain(|process| parent_of(*process) == Some(parent));
    processes
}

/// The folders there that are called by a number; none where the system has no such place.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The first figure of `schedstat`: nanoseconds on a processor.
fn time(folder: &str, id: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("{folder}/{id}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The second field after the name, which may hold anything.
fn parent_of(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
