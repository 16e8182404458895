use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tenantry_postgres::{Cluster, ClusterOptions, StartError, servers_below};
use tenantry_testing::test_folder;

use crate::helper::Helper;
use crate::{config, connect, quick};

#[tokio::test]
async fn a_second_start_in_the_same_folder_is_refused_and_the_first_goes_on() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let error = Cluster::start(quick(folder.path())).await.unwrap_err();
    assert!(
        matches!(error, StartError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    connect(&config(&cluster)).await.unwrap();
    cluster.stop().await.unwrap();
    Cluster::start(quick(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_by_the_number_of_the_first() {
    let folder = test_folder();
    let mut first = Helper::start(folder.path());
    first.serving();
    let mut second = Helper::start(folder.path());
    let refusal = second.wait_for("refused ");
    let expected = format!(
        "is already in use by process {}: stop that one first, or choose another folder",
        first.id()
    );
    assert!(refusal.contains(&expected), "{refusal}");
}

#[tokio::test]
async fn two_starts_at_the_same_moment_give_one_server_and_one_refusal() {
    let folder = test_folder();
    let (one, two) = tokio::join!(
        Cluster::start(quick(folder.path())),
        Cluster::start(quick(folder.path()))
    );
    let (cluster, error) = match (one, two) {
        (Ok(cluster), Err(error)) | (Err(error), Ok(cluster)) => (cluster, error),
        other => panic!("{other:?}"),
    };
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    connect(&config(&cluster)).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let folder = test_folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Cluster::start(ClusterOptions {
        port,
        ..quick(folder.path())
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(
        error.starts_with(&format!("port {port} on 127.0.0.1 is taken by another program: choose")),
        "{error}"
    );
    drop(listener);
    let cluster = Cluster::start(ClusterOptions {
        port,
        ..quick(folder.path())
    })
    .await
    .unwrap();
    assert_eq!(cluster.port(), port);
}

#[tokio::test]
async fn a_server_that_ends_at_once_shows_the_end_of_its_log() {
    let folder = test_folder();
    let mut options = quick(folder.path());
    options.settings.push(("no_such_setting".into(), "1".into()));
    let error = Cluster::start(options).await.unwrap_err().to_string();
    assert!(error.contains("PostgreSQL did not start (exit status: 1)"), "{error}");
    assert!(
        error.contains("unrecognized configuration parameter \"no_such_setting\""),
        "{error}"
    );
    assert!(error.contains("server.log"), "{error}");
    assert_eq!(servers_below(folder.path()), []);
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_stopped_and_can_be_repeated() {
    let folder = test_folder();
    let error = Cluster::start(ClusterOptions {
        start_timeout: Duration::ZERO,
        ..quick(folder.path())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, StartError::TooSlow { .. }), "{error}");
    assert_eq!(servers_below(folder.path()), []);
    Cluster::start(quick(folder.path())).await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_refused_and_untouched() {
    let folder = test_folder();
    Cluster::start(quick(folder.path()))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let version = folder.path().join("data/PG_VERSION");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, "13\n").unwrap();
    let error = Cluster::start(quick(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("is of PostgreSQL 13, and this is PostgreSQL"), "{error}");
    assert!(error.contains("start over with a new folder"), "{error}");
    fs::write(&version, text).unwrap();
    Cluster::start(quick(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_lost_password_file_is_said_and_nothing_is_made_anew() {
    let folder = test_folder();
    Cluster::start(quick(folder.path()))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    fs::remove_file(folder.path().join("password")).unwrap();
    let error = Cluster::start(quick(folder.path())).await.unwrap_err();
    assert!(matches!(error, StartError::PasswordLost { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_named() {
    let folder = test_folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Cluster::start(quick(&file.join("below")))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("can't make {}", file.join("below").display())),
        "{error}"
    );
}

#[tokio::test]
async fn as_root_a_folder_that_the_servers_user_can_not_reach_is_refused_with_the_mend() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = test_folder();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = Cluster::start(quick(&closed.join("cluster")))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("who may not enter {}: run `chmod o+x", closed.display())),
        "{error}"
    );
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
    Cluster::start(quick(&closed.join("cluster"))).await.unwrap();
}
