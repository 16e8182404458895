//! Starting the server and waiting until it serves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::folder::{self, SocketFolder};
use super::pidfile::PidFile;
use super::{ClusterOptions, HOST, Progress, Server, StartError, init, log, pidfile};
use crate::account::Account;
use crate::process;

/// Another program can take a port between our choosing it and the server's binding it.
const PORT_ATTEMPTS: u32 = 8;

/// For the children of a killed postmaster, which notice it within a moment.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(3);

/// The log of the last run but one is kept; a log never grows over many runs.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) fn start(options: ClusterOptions) -> Result<(Server, File), StartError> {
    let account = Account::choose(options.run_as.as_deref())?;
    account.check_reaches(&options.binaries.bin_dir().join("postgres"))?;
    let folder = folder::prepare(&options.folder, &account)?;
    let lock = folder::lock(&folder)?;
    clear_orphan(&options, &folder.join("data"))?;
    let password = init::ensure(&options, &folder, &account)?;
    let socket = Some(SocketFolder::make(&folder, &account)?);
    let mut server = Server {
        port: options.port,
        options,
        folder,
        account,
        socket,
        password,
        child: None,
    };
    server.launch_on_some_port()?;
    Ok((server, lock))
}

impl Server {
    /// Starts the server once more, on the port it had.
    pub(super) fn launch_again(&mut self) -> Result<(), StartError> {
        clear_orphan(&self.options, &self.data_dir())?;
        self.launch()
    }

    fn launch_on_some_port(&mut self) -> Result<(), StartError> {
        if self.port != 0 {
            return self.launch();
        }
        let mut last = StartError::PortTaken { port: 0 };
        for _ in 0..PORT_ATTEMPTS {
            self.port = free_port()?;
            match self.launch() {
                Err(taken @ StartError::PortTaken { .. }) => last = taken,
                other => return other,
            }
        }
        Err(last)
    }

    fn launch(&mut self) -> Result<(), StartError> {
        self.options.tell(Progress::Starting);
        let log = self.open_log()?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let mut command = self.server_command();
        command.stderr(log).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|source| StartError::Run {
            program: self.options.binaries.bin_dir().join("postgres"),
            source,
        })?;
        let pid = child.id();
        self.child = Some(child);
        self.wait_until_ready(pid, log_start)?;
        tracing::debug!(port = self.port, pid, folder = %self.folder.display(), "a private PostgreSQL is ready");
        self.options.tell(Progress::Ready { port: self.port });
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut command = self.options.binaries.command("postgres");
        command.arg("-D").arg(self.data_dir());
        let socket = self
            .socket
            .as_ref()
            .map(|socket| socket.path().display().to_string())
            .unwrap_or_default();
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let fixed = [
            ("listen_addresses", HOST.to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", socket),
            ("unix_socket_permissions", "0700".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("fsync", on_off(self.options.fsync)),
            ("full_page_writes", on_off(self.options.fsync)),
            ("wal_level", "logical".to_owned()),
            ("max_connections", self.options.max_connections.to_string()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            // Our reading of the log relies on the language.
            ("lc_messages", "C".to_owned()),
        ];
        let chosen = self
            .options
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in fixed.into_iter().chain(chosen) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.account.apply(&mut command);
        // In a group of its own, ctrl-C on the terminal reaches us and not the server, which we then stop in order.
        command.process_group(0).current_dir(&self.folder).env("LC_ALL", "C");
        command
    }

    fn open_log(&self) -> Result<File, StartError> {
        let path = self.log_file();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            let _ = fs::rename(&path, self.folder.join("server.log.1"));
        }
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        opened.map_err(|source| StartError::Folder {
            doing: "write",
            path,
            source,
        })
    }

    fn wait_until_ready(&mut self, pid: u32, log_start: u64) -> Result<(), StartError> {
        let deadline = Instant::now() + self.options.start_timeout;
        let data_dir = self.data_dir();
        let mut ended = None;
        let in_time = process::wait_until(deadline, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                ended = Some(status.to_string());
                return true;
            }
            pidfile::read(&data_dir).is_some_and(|file| u32::try_from(file.pid) == Ok(pid) && file.ready)
        });
        let log = self.log_file();
        if let Some(status) = ended {
            self.child = None;
            let said = log::since(&log, log_start);
            if said.contains("could not bind") && said.contains("in use") {
                return Err(StartError::PortTaken { port: self.port });
            }
            return Err(StartError::Ended {
                status,
                tail: log::last_lines(&said),
                log,
            });
        }
        if !in_time {
            let _ = self.stop();
            return Err(StartError::TooSlow {
                waited: self.options.start_timeout,
                tail: log::tail(&log),
                log,
            });
        }
        Ok(())
    }
}

/// Ends what a killed predecessor left running on the data folder, and removes a pid file that would keep the new
/// server from starting. The caller holds the folder's lock, so no server of a living process is hit.
fn clear_orphan(options: &ClusterOptions, data_dir: &Path) -> Result<(), StartError> {
    if let Some(PidFile { pid, .. }) = pidfile::read(data_dir)
        && process::is_server_of(pid, data_dir)
    {
        options.tell(Progress::StoppingOrphan { pid });
        tracing::info!(pid, "stopping the PostgreSQL that a killed process left behind");
        let find = || {
            process::is_server_of(pid, data_dir)
                .then_some(pid)
                .into_iter()
                .collect()
        };
        end(
            &[Some(Signal::INT), Some(Signal::QUIT), Some(Signal::KILL)],
            options.stop_timeout,
            data_dir,
            find,
        )?;
    }
    // The children of a killed postmaster end by themselves; until they have, their shared memory blocks a new start.
    // They get no polite signal: some take it for an order to work.
    let find = || {
        process::servers_below(data_dir)
            .iter()
            .map(|process| process.pid)
            .collect()
    };
    end(
        &[None, Some(Signal::QUIT), Some(Signal::KILL)],
        CHILDREN_PATIENCE,
        data_dir,
        find,
    )?;
    // Nobody serves the folder; the number in a file that is left may be anybody's by now, which PostgreSQL can't tell,
    // and it refuses a damaged one.
    let stale = data_dir.join("postmaster.pid");
    match fs::remove_file(&stale) {
        Ok(()) => tracing::debug!("removed a stale postmaster.pid"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(StartError::Folder {
                doing: "remove",
                path: stale,
                source,
            });
        }
    }
    Ok(())
}

/// Waits until nothing is found any more, and asks what is found to end, ever less politely.
fn end(
    signals: &[Option<Signal>],
    patience: Duration,
    data_dir: &Path,
    find: impl Fn() -> Vec<i32>,
) -> Result<(), StartError> {
    for signal in signals {
        let found = find();
        if let Some(signal) = signal {
            found.iter().for_each(|pid| process::signal(*pid, *signal));
        }
        if found.is_empty() || process::wait_until(Instant::now() + patience, || find().is_empty()) {
            return Ok(());
        }
    }
    match find().first() {
        Some(pid) => Err(StartError::Orphan {
            pid: *pid,
            data_dir: data_dir.to_owned(),
        }),
        None => Ok(()),
    }
}

fn free_port() -> Result<u16, StartError> {
    let listener = TcpListener::bind((HOST, 0)).and_then(|listener| listener.local_addr());
    // Without any free port the system is out of them; the number 0 says "any" in the message.
    listener
        .map(|address| address.port())
        .map_err(|_| StartError::PortTaken { port: 0 })
}
