use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tenantry_postgres::{Cluster, Progress, servers_below};
use tenantry_testing::test_folder;
use tokio_postgres::NoTls;

use crate::helper::Helper;
use crate::{config, connect, data_is_there, leave_data, options, quick};

#[tokio::test]
async fn after_kill_9_of_the_server_a_restart_recovers_what_was_committed() {
    let folder = test_folder();
    let mut cluster = Cluster::start(options(folder.path())).await.unwrap();
    let client = connect(&config(&cluster)).await.unwrap();
    leave_data(&client).await;
    let port = cluster.port();
    cluster.kill();
    assert!(!cluster.is_running());
    assert!(
        cluster.data_dir().join("postmaster.pid").exists(),
        "the kill left nothing to clear away"
    );
    cluster.restart_blocking().unwrap();
    assert_eq!(cluster.port(), port);
    data_is_there(&cluster).await;
}

#[tokio::test]
async fn after_kill_9_of_us_the_next_start_stops_the_orphan_and_keeps_its_data() {
    let folder = test_folder();
    let mut helper = Helper::start(folder.path());
    let (orphan, url) = helper.serving();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    leave_data(&client).await;
    helper.kill();
    // It goes on without its starter, with a client.
    client.simple_query("select 1").await.unwrap();

    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let mut options = quick(folder.path());
    options.progress = Some(Arc::new(move |step| seen.lock().unwrap().push(step)));
    let cluster = Cluster::start(options).await.unwrap();
    assert_eq!(steps.lock().unwrap()[0], Progress::StoppingOrphan { pid: orphan });
    assert!(connection.await.unwrap().is_err(), "the orphan still served its client");
    data_is_there(&cluster).await;
    assert_eq!(
        cluster.binaries().version(),
        tenantry_testing::default_binaries().version()
    );
}

#[tokio::test]
async fn after_kill_9_of_us_and_of_the_server_the_next_start_works() {
    let folder = test_folder();
    let mut helper = Helper::start(folder.path());
    let (orphan, url) = helper.serving();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    leave_data(&client).await;
    helper.kill();
    kill_9(orphan);
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    data_is_there(&cluster).await;
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_cleared_and_the_stranger_lives_on() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let pid_file = cluster.data_dir().join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    cluster.stop().await.unwrap();
    let mut stranger = Stranger::start(folder.path());
    let own = text.lines().next().unwrap();
    // What a machine finds after a power cut, when the number has gone to another program since.
    fs::write(&pid_file, text.replacen(own, &stranger.0.id().to_string(), 1)).unwrap();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    connect(&config(&cluster)).await.unwrap();
    assert_eq!(stranger.0.try_wait().unwrap(), None);
    drop(cluster);

    // And one whose process is gone altogether.
    let gone = stranger.0.id();
    drop(stranger);
    fs::write(&pid_file, text.replacen(own, &gone.to_string(), 1)).unwrap();
    Cluster::start(quick(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_damaged_pid_file_does_not_keep_the_server_down() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let pid_file = cluster.data_dir().join("postmaster.pid");
    cluster.stop().await.unwrap();
    for content in ["", "not a number\n"] {
        fs::write(&pid_file, content).unwrap();
        Cluster::start(quick(folder.path())).await.unwrap();
    }
}

#[tokio::test]
async fn kill_9_while_the_data_folder_is_made_leaves_nothing_that_hinders_the_next_start() {
    let folder = test_folder();
    let mut helper = Helper::start(folder.path());
    helper.wait_for("Initialising");
    helper.kill();
    assert!(
        !folder.path().join("data").exists(),
        "the data folder was there before it was complete"
    );
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    connect(&config(&cluster)).await.unwrap();
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("init-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn the_socket_folder_of_a_killed_start_is_removed_by_the_next() {
    let base = test_folder();
    let folder = base.path().join("with space");
    let mut helper = Helper::start(&folder);
    helper.serving();
    let socket = fs::read_to_string(folder.join("socket.path")).unwrap();
    assert!(Path::new(&socket).exists());
    helper.kill();
    let cluster = Cluster::start(quick(&folder)).await.unwrap();
    assert!(!Path::new(&socket).exists());
    assert_ne!(cluster.socket_dir(), Path::new(&socket));
    cluster.stop().await.unwrap();
    assert_eq!(servers_below(base.path()), []);
}

fn kill_9(pid: i32) {
    let done = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(done.success());
}

/// A program that has nothing to do with PostgreSQL, even if it works in our folder.
struct Stranger(Child);

impl Stranger {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("cat");
        Self(
            command
                .current_dir(folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
