//! However test processes end, nothing of theirs stays.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tenantry_testing::{OwnClusterOptions, cluster, own_cluster, test_folder};
use tokio_postgres::NoTls;

const TASK: &str = "TENANTRY_TEST_HELPER_TASK";

/// Not a test by itself: uses a server and waits to be ended.
#[tokio::test]
#[ignore = "started by other tests, in a process of its own"]
async fn use_a_server() {
    let own;
    let used = match std::env::var(TASK).as_deref() {
        Ok("shared") => cluster().await,
        Ok("own") => {
            own = own_cluster(OwnClusterOptions::default()).await;
            own.cluster()
        }
        _ => return,
    };
    used.connect("postgres").await.simple_query("select 1").await.unwrap();
    println!("\nhelper: {} {}", used.admin_url("postgres"), used.folder().display());
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A copy of this test program in a folder of its own: the processes that share a server are those of one folder.
fn program_in(folder: &Path) -> PathBuf {
    let program = folder.join("it");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    program
}

struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    fn start(program: &Path, task: &str) -> Self {
        let mut command = Command::new(program);
        command
            .args(["--exact", "ended::use_a_server", "--ignored", "--nocapture"])
            .env(TASK, task);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                // Another test's process was begun while the copy was written, and has that file open until it has begun.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    thread::sleep(Duration::from_millis(5));
                }
                begun => break begun.unwrap(),
            }
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Its server's URL and folder.
    fn server(&mut self) -> (String, PathBuf) {
        let line = self
            .lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("helper: ")?.to_owned()));
        let line = line.expect("the helper uses a server");
        let (url, folder) = line.split_once(' ').unwrap();
        (url.to_owned(), PathBuf::from(folder))
    }

    /// Ends as a test process does.
    fn finish(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(&mut self) {
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

fn wait_until_gone(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while folder.exists() || !tenantry_postgres::servers_below(folder).is_empty() {
        assert!(Instant::now() < deadline, "{} is left", folder.display());
        thread::sleep(Duration::from_millis(10));
    }
}

async fn answers(url: &str) -> bool {
    let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await else {
        return false;
    };
    tokio::spawn(connection);
    client.simple_query("select 1").await.is_ok()
}

#[tokio::test]
async fn processes_share_a_server_that_goes_with_the_last_of_them() {
    let place = test_folder();
    let program = program_in(place.path());
    let mut first = Helper::start(&program, "shared");
    let (url, folder) = first.server();
    let mut second = Helper::start(&program, "shared");
    assert_eq!(second.server(), (url.clone(), folder.clone()));
    first.finish();
    assert!(answers(&url).await, "the server went with the process that started it");
    let mut third = Helper::start(&program, "shared");
    assert_eq!(third.server().0, url);
    third.kill();
    assert!(answers(&url).await);
    second.finish();
    wait_until_gone(&folder);
    let mut next = Helper::start(&program, "shared");
    let (_, next_folder) = next.server();
    assert_ne!(next_folder, folder);
    next.kill();
    wait_until_gone(&next_folder);
}

#[tokio::test]
async fn processes_that_begin_at_once_share_one_server() {
    let place = test_folder();
    let program = program_in(place.path());
    let mut helpers: Vec<Helper> = (0..4).map(|_| Helper::start(&program, "shared")).collect();
    let servers: Vec<_> = helpers.iter_mut().map(Helper::server).collect();
    assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
    helpers.iter_mut().for_each(Helper::kill);
    wait_until_gone(&servers[0].1);
}

#[tokio::test]
async fn a_killed_test_leaves_nothing_of_its_own_server() {
    let program = std::env::current_exe().unwrap();
    let mut helper = Helper::start(&program, "own");
    let (url, folder) = helper.server();
    assert!(answers(&url).await);
    helper.kill();
    wait_until_gone(&folder);
}

#[tokio::test]
async fn where_even_the_watchdog_was_killed_the_next_process_cleans_up() {
    let place = test_folder();
    let program = program_in(place.path());
    let mut helper = Helper::start(&program, "shared");
    let (url, folder) = helper.server();
    let notice = fs::read_to_string(place.path().join("tenantry-test-first.json")).unwrap();
    let (_, rest) = notice.split_once("\"watchdog\":").unwrap();
    let watchdog = rest.trim_end_matches('}');
    assert!(Command::new("kill").args(["-9", watchdog]).status().unwrap().success());
    helper.kill();
    assert!(answers(&url).await, "somebody else stopped the server");
    let mut next = Helper::start(&program, "shared");
    let (_, next_folder) = next.server();
    assert!(!folder.exists());
    assert_eq!(tenantry_postgres::servers_below(&folder), []);
    next.finish();
    wait_until_gone(&next_folder);
}
