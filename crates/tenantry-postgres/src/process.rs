//! Server processes told apart from whatever else may have their number by now.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A running postmaster or one of its children, found by its working folder, which PostgreSQL sets to the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerProcess {
    /// The process's number.
    pub pid: i32,
    /// The data folder it works in.
    pub data_dir: PathBuf,
}

/// All PostgreSQL processes whose data folder is `folder` or stands below it.
///
/// Empty where the system has no `/proc`.
pub fn servers_below(folder: &Path) -> Vec<ServerProcess> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            Some(ServerProcess {
                pid,
                data_dir: working_folder(pid)?,
            })
        })
        .filter(|process| process.data_dir.starts_with(&folder) && is_postgres(process.pid))
        .collect()
}

/// Whether `pid` is a PostgreSQL process that works in `data_dir`, and not a stranger that got the number.
pub(crate) fn is_server_of(pid: i32, data_dir: &Path) -> bool {
    if !is_alive(pid) {
        return false;
    }
    if !Path::new("/proc/self/cwd").exists() {
        return named_on_command_line(pid, data_dir);
    }
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    working_folder(pid).is_some_and(|folder| folder == data_dir) && is_postgres(pid)
}

pub(crate) fn is_alive(pid: i32) -> bool {
    // EPERM says that it lives and is another user's.
    Pid::from_raw(pid).is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Sends a signal; a process that has gone meanwhile is no error, since that is what the caller wants.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until the condition holds; false at the deadline.
pub(crate) fn wait_until(deadline: Instant, mut holds: impl FnMut() -> bool) -> bool {
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn working_folder(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn is_postgres(pid: i32) -> bool {
    // The name, not `exe`: that link is closed to us when an upgrade replaced the file.
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

/// For systems without `/proc`: the postmaster is started with `-D` and its folder.
fn named_on_command_line(pid: i32, data_dir: &Path) -> bool {
    let output = Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.contains("postgres") && line.contains(&*data_dir.to_string_lossy())
    })
}
