//! A process of our own that another test kills: this test program once more.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tenantry_postgres::{Cluster, Progress};

const FOLDER: &str = "TENANTRY_TEST_HELPER_FOLDER";

/// Not a test by itself: starts a cluster in the folder it is told, tells each step, and waits to be ended.
#[test]
#[ignore = "started by other tests, in a process of its own"]
fn hold_a_cluster() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut options = crate::quick(Path::new(&folder));
    options.progress = Some(std::sync::Arc::new(|step: Progress| println!("\nhelper: {step:?}")));
    match Cluster::start_blocking(options) {
        Ok(cluster) => {
            println!(
                "\nhelper: serving {} {}",
                cluster.pid().unwrap(),
                cluster.admin_url("postgres")
            );
            // Until the other side closes its end or kills us.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        Err(error) => println!("\nhelper: refused {}", error.to_string().replace('\n', " ")),
    }
}

/// The process that runs it; killed when dropped.
pub(crate) struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::spawn(&mut Command::new(std::env::current_exe().unwrap()), folder)
    }

    /// As another user. `program` is a copy of this test program that the user can reach.
    pub(crate) fn start_as(user: u32, program: &Path, folder: &Path) -> Self {
        Self::spawn(Command::new(program).uid(user).gid(user), folder)
    }

    fn spawn(command: &mut Command, folder: &Path) -> Self {
        command.args(["--exact", "helper::hold_a_cluster", "--ignored", "--nocapture"]);
        command
            .env(FOLDER, folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says next that begins so; without that beginning.
    pub(crate) fn wait_for(&mut self, beginning: &str) -> String {
        let beginning = format!("helper: {beginning}");
        let mut said = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix(&beginning) {
                return rest.trim().to_owned();
            }
            said.push(line);
        }
        panic!("the helper ended without `{beginning}`: {said:#?}");
    }

    /// Its server's process and URL.
    pub(crate) fn serving(&mut self) -> (i32, String) {
        let line = self.wait_for("serving ");
        let (pid, url) = line.split_once(' ').unwrap();
        (pid.parse().unwrap(), url.to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
