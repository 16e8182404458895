//! The clean-up that happens however a test process ends: a shell that outlives it.
//!
//! Every process that uses a server holds the writing end of a FIFO in the server's folder. The kernel closes it with
//! the process, also after `kill -9`; when the last one has closed it, the shell reads the end of the file, stops each
//! server below the folder by the number in its pid file (after checking that this process works in that data folder)
//! and removes the folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::{random_hex, test_base};

const SCRIPT: &str = r#"
trap '' HUP INT TERM
dir=$1

# Every user says its name and gets a file as the answer, so it knows that this loop still ran when it came.
while read -r user; do : > "$dir/joined.$user"; done < "$dir/users"

serves() {
    if [ -e /proc/self/cwd ]; then
        [ "$(readlink "/proc/$1/cwd")" = "$2" ]
    else
        ps -o command= -p "$1" | grep -qF -- "$2"
    fi
}
servers() {
    find "$dir" -maxdepth 6 -name postmaster.pid 2>/dev/null | while IFS= read -r file; do
        read -r pid < "$file" && serves "$pid" "${file%/postmaster.pid}" && echo "$pid"
    done
}
stop() {
    for pid in $(servers); do kill "$1" "$pid"; done
    n=0
    while [ -n "$(servers)" ] && [ $n -lt 500 ]; do sleep 0.02; n=$((n + 1)); done
}
stop -QUIT
stop -KILL

find "$dir" -maxdepth 6 -name socket.path 2>/dev/null | while IFS= read -r file; do rm -rf "$(cat "$file")"; done
# Children of a killed server may still write while it goes.
n=0
while [ -e "$dir" ] && [ $n -lt 250 ]; do rm -rf "$dir" 2>/dev/null || sleep 0.02; n=$((n + 1)); done
"#;

/// How long the shell may take to answer on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// This process's share in keeping a server up. Closing the file is what ends it.
#[derive(Debug)]
pub(crate) struct Seat {
    _fifo: File,
}

/// The shell, of the process that started it.
#[derive(Debug)]
struct Watchdog {
    folder: PathBuf,
    shell: Child,
    seat: Option<Seat>,
}

impl Watchdog {
    /// Starts the shell for a server that will be made in `folder`.
    fn start(folder: &Path) -> Self {
        let fifo = folder.join("users");
        let made = Command::new("mkfifo").arg("-m").arg("600").arg(&fifo).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "can't make the FIFO {}",
            fifo.display()
        );
        // Opened for both, it does not wait for the reader, and the reader finds a writer.
        let seat = Seat {
            _fifo: OpenOptions::new()
                .read(true)
                .write(true)
                .open(&fifo)
                .expect("our FIFO opens"),
        };
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "tenantry-test-watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the group that ctrl-C, or nextest at a time-out, ends.
            .process_group(0)
            .spawn()
            .expect("`sh` runs");
        Self {
            folder: folder.to_owned(),
            shell,
            seat: Some(seat),
        }
    }
}

impl Drop for Watchdog {
    /// Gives up our seat and waits for the shell to have cleaned up.
    fn drop(&mut self) {
        // A shell that opens the FIFO when nobody holds it any more would wait for ever: its answer shows that it has.
        drop(join(&self.folder));
        self.seat = None;
        let _ = self.shell.wait();
    }
}

/// Takes a seat at a server that another process started. `None`: it is going down or gone.
pub(crate) fn join(folder: &Path) -> Option<Seat> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag of open(2) is an int");
    // Without a reader this fails at once.
    let mut fifo = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(folder.join("users"))
        .ok()?;
    let name = random_hex();
    fifo.write_all(format!("{name}\n").as_bytes()).ok()?;
    let answer = folder.join(format!("joined.{name}"));
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if answer.exists() {
            let _ = fs::remove_file(answer);
            return Some(Seat { _fifo: fifo });
        }
        if !folder.exists() {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Whether that process is still the shell of this folder.
pub(crate) fn is_watched(folder: &Path, shell: u32) -> bool {
    let Ok(line) = fs::read(format!("/proc/{shell}/cmdline")) else {
        return false;
    };
    line.split(|byte| *byte == 0)
        .any(|word| word == folder.as_os_str().as_encoded_bytes())
}

/// A folder in the temp dir that goes with this value, or with the process: with everything in it, and with every
/// private PostgreSQL that runs below it (up to four folders deep).
#[derive(Debug)]
pub struct TestFolder {
    path: PathBuf,
    watchdog: Watchdog,
}

/// Makes a folder that does not outlive the test, however it ends. Any user may enter it, also the one that
/// PostgreSQL runs as.
pub fn test_folder() -> TestFolder {
    let made = tempfile::Builder::new()
        .prefix("tenantry-test-")
        .tempdir_in(test_base())
        .expect("the tests' folder can be written");
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o711)).expect("our folder's mode can be changed");
    let path = made.keep();
    let watchdog = Watchdog::start(&path);
    TestFolder { path, watchdog }
}

impl TestFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that cleans up.
    pub(crate) fn watchdog_pid(&self) -> u32 {
        self.watchdog.shell.id()
    }
}
