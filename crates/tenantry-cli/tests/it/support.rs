//! Running `tenantry` in a folder of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// A folder that PostgreSQL's user may enter, also when the tests run as root. It is left empty of processes.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self::named("tenantry-cli-")
    }

    pub(crate) fn named(prefix: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(tenantry_testing::test_base())
            .unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Run {
        let output = self
            .command()
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        Run {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        for (name, _) in std::env::vars() {
            // Where PostgreSQL is, the tests inherit; the rest would configure the command under test.
            if name.starts_with("TENANTRY_") && name != "TENANTRY_PG_BIN" {
                command.env_remove(name);
            }
        }
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn dev_json(&self) -> PathBuf {
        self.path().join(".tenantry/dev.json")
    }

    /// `kill -9` of every PostgreSQL process below this folder.
    pub(crate) fn kill_servers(&self) {
        for server in tenantry_postgres::servers_below(self.path()) {
            let _ = Pid::from_raw(server.pid).map(|pid| rustix::process::kill_process(pid, Signal::KILL));
        }
    }

    /// PostgreSQL processes that work below this folder.
    pub(crate) fn servers(&self) -> usize {
        tenantry_postgres::servers_below(self.path()).len()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that failed half-way must not leave a server behind.
        self.kill_servers();
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The JSON answer of a command that succeeded.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code and that there is nothing on stderr but one line, and gives it.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        let error = self.stderr.trim_end();
        assert_eq!(error.lines().count(), 1, "one line: {self:?}");
        error
    }
}

/// A running `tenantry dev`, killed at the latest when dropped.
pub(crate) struct Dev {
    child: Child,
    pub(crate) json: Value,
    pub(crate) greeting: String,
}

impl Dev {
    /// Starts it and waits until it says that it runs.
    #[track_caller]
    pub(crate) fn start(folder: &Folder, arguments: &[&str]) -> Self {
        Self::start_in(folder, folder.path(), arguments)
    }

    /// The same in a folder below.
    #[track_caller]
    pub(crate) fn start_in(folder: &Folder, place: &Path, arguments: &[&str]) -> Self {
        let mut command = folder.command();
        command.current_dir(place).args(["dev", "--port", "0"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C stops") {
            if stdout.read_line(&mut greeting).unwrap() == 0 {
                let mut said = String::new();
                child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("dev ended: {greeting}{said}");
            }
        }
        let text = std::fs::read_to_string(place.join(".tenantry/dev.json")).unwrap();
        Self {
            child,
            json: serde_json::from_str(&text).unwrap(),
            greeting,
        }
    }

    pub(crate) fn http(&self) -> &str {
        self.json["http"].as_str().unwrap()
    }

    pub(crate) fn tenants(&self) -> &[Value] {
        self.json["tenants"].as_array().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ctrl-C, and the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::INT);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("it ended by itself");
            }
            assert!(Instant::now() < deadline, "dev does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
