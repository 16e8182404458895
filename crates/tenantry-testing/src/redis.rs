//! A real Redis for one test: the distribution's own, or its package unpacked into a folder of ours.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::{TestFolder, package, test_folder};

/// The server stands in the tools; these are what it links to.
const PACKAGES: [&str; 4] = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1"];

/// Says the server's number, and ends it when the test's end of the pipe is closed, also by `kill -9`: the shell waits for its
/// child, so that the number can't be another's meanwhile.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
"$@" </dev/null >/dev/null 2>&1 &
pid=$!
echo "$pid"
read -r _
kill -9 "$pid"
wait "$pid"
"#;

/// A Redis that only this test uses. Ends with this value.
#[derive(Debug)]
pub struct Redis {
    shell: Child,
    pid: Pid,
    port: u16,
    password: String,
    _folder: TestFolder,
}

/// Starts one that keeps nothing over its end; `None`, said loudly, where there is none on this machine. Where `CI` is `true` it has to
/// be there.
///
/// # Panics
///
/// When it can't be had although it has to be, or does not start.
pub async fn redis() -> Option<Redis> {
    let program = match package::find("redis-server", "usr/bin", &PACKAGES) {
        Ok(program) => program,
        Err(reason) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "there is no Redis here: {reason}"
            );
            eprintln!("\n*** SKIPPED, NOTHING IS SHOWN: there is no Redis on this machine: {reason} ***\n");
            return None;
        }
    };
    let folder = test_folder();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port();
    let password = crate::random_hex();
    let mut shell = program
        .command("sh")
        .args(["-c", SCRIPT, "tenantry-test-redis"])
        .arg(program.path())
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--requirepass", &password, "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Not in the group that ctrl-C, or nextest at a time-out, ends.
        .process_group(0)
        .spawn()
        .expect("`sh` runs");
    let mut said = String::new();
    BufReader::new(shell.stdout.take().expect("it is piped"))
        .read_line(&mut said)
        .expect("the shell says the server's number");
    let number = said.trim().parse().expect("a number");
    let redis = Redis {
        shell,
        pid: Pid::from_raw(number).expect("a process"),
        port,
        password,
        _folder: folder,
    };
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(20), "Redis does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Some(redis)
}

impl Redis {
    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address by way of a proxy, or any other port.
    pub fn url_by(&self, port: u16) -> String {
        format!("redis://:{}@127.0.0.1:{port}/", self.password)
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.url_by(self.port)
    }

    /// Ends it without a chance to say anything.
    pub fn kill(&self) {
        // Its shell has not waited for it yet, so the number is its own.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The shell reads the end, and ends it.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
