//! The servers that all tests of a build folder share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tenantry_postgres::{Binaries, Cluster, ClusterOptions, servers_below};
use tokio::sync::OnceCell;

use crate::binaries::{default_binaries, second_binaries};
use crate::cluster::{TestCluster, fast_settings};
use crate::watchdog::{self, Seat, TestFolder, test_folder};

/// The default server: PostgreSQL 15 where it can be had. Started on first use, shared with every other test.
pub async fn cluster() -> &'static TestCluster {
    static CLUSTER: OnceCell<Shared> = OnceCell::const_new();
    &CLUSTER
        .get_or_init(|| obtain("first", default_binaries, &[]))
        .await
        .cluster
}

/// Another real server beside it: PostgreSQL 18 where it can be had.
pub async fn second_cluster() -> &'static TestCluster {
    static CLUSTER: OnceCell<Shared> = OnceCell::const_new();
    &CLUSTER
        .get_or_init(|| obtain("second", second_binaries, &[]))
        .await
        .cluster
}

/// A server like [`cluster`] whose log can be decoded into changes. A server of its own, because making a slot waits for every
/// transaction that writes anywhere on the server, and other tests leave some open.
pub async fn logical_cluster() -> &'static TestCluster {
    static CLUSTER: OnceCell<Shared> = OnceCell::const_new();
    &CLUSTER
        .get_or_init(|| obtain("logical", default_binaries, LOGICAL))
        .await
        .cluster
}

/// A server like [`second_cluster`] whose log can be decoded into changes.
pub async fn second_logical_cluster() -> &'static TestCluster {
    static CLUSTER: OnceCell<Shared> = OnceCell::const_new();
    &CLUSTER
        .get_or_init(|| obtain("second-logical", second_binaries, LOGICAL))
        .await
        .cluster
}

const LOGICAL: Settings = &[
    ("wal_level", "logical"),
    ("max_replication_slots", "40"),
    ("max_wal_senders", "40"),
];

/// Server settings beside those of every test server.
type Settings = &'static [(&'static str, &'static str)];

/// Kept for as long as the process lives; never dropped, the watchdog ends the server.
struct Shared {
    cluster: TestCluster,
    _share: Share,
}

#[expect(dead_code, reason = "held, not read: the server goes when they are closed")]
enum Share {
    Started { server: Box<Cluster>, folder: TestFolder },
    Joined(Seat),
}

/// What the process that started a server tells the others.
#[derive(Serialize, Deserialize)]
struct Notice {
    cluster: TestCluster,
    folder: PathBuf,
    watchdog: u32,
}

async fn obtain(which: &'static str, binaries: fn() -> Binaries, settings: Settings) -> Shared {
    let done = tokio::task::spawn_blocking(move || join_or_start(which, binaries, settings)).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn join_or_start(which: &str, binaries: fn() -> Binaries, settings: Settings) -> Shared {
    let base = meeting_place();
    // One process at a time looks or starts; the lock goes with the file, also when we are killed.
    let lock = File::create(base.join(format!("tenantry-test-{which}.lock"))).expect("the build folder can be written");
    lock.lock().expect("the lock can be awaited");
    let path = base.join(format!("tenantry-test-{which}.json"));
    if let Some(notice) = read(&path) {
        if let Some(seat) = watchdog::join(&notice.folder) {
            return Shared {
                cluster: notice.cluster,
                _share: Share::Joined(seat),
            };
        }
        sweep(&notice);
    }
    start(&path, binaries(), settings)
}

/// By `initdb`: unsynced it takes half a second, and each server gets a system identifier of its own, which a copy of a
/// template folder would not.
fn start(path: &Path, binaries: Binaries, settings: Settings) -> Shared {
    let folder = test_folder();
    let mut options = ClusterOptions::new(folder.path(), binaries);
    fast_settings(&mut options);
    let settings = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    options.settings.extend(settings);
    let server = Cluster::start_blocking(options).unwrap_or_else(|error| panic!("no server for the tests: {error}"));
    let cluster = TestCluster::of(&server, folder.path().to_owned());
    let notice = Notice {
        cluster: cluster.clone(),
        folder: folder.path().to_owned(),
        watchdog: folder.watchdog_pid(),
    };
    let text = serde_json::to_vec(&notice).expect("a notice is plain data");
    write_private(path, &text);
    Shared {
        cluster,
        _share: Share::Started {
            server: Box::new(server),
            folder,
        },
    }
}

/// Beside the test programs: the tests of one build folder meet there, and nothing is left in the temp dir.
fn meeting_place() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its path");
    program.parent().expect("a program stands in a folder").to_owned()
}

fn read(path: &Path) -> Option<Notice> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A superuser's password is in it, if only of a throw-away server.
fn write_private(path: &Path, text: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let _ = fs::remove_file(path);
    let opened = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    opened
        .and_then(|mut file| file.write_all(text))
        .expect("the build folder can be written");
}

/// Where even the watchdog was killed, the next user of the tests cleans up after it.
fn sweep(notice: &Notice) {
    if watchdog::is_watched(&notice.folder, notice.watchdog) {
        return;
    }
    for process in servers_below(&notice.folder) {
        if let Some(pid) = rustix::process::Pid::from_raw(process.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = fs::remove_dir_all(&notice.folder);
}
