use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret;
use tenantry_postgres::{Cluster, ClusterOptions, Progress};
use tenantry_testing::test_folder;

use crate::{config, connect, data_is_there, leave_data, options, quick, show};

#[tokio::test]
async fn a_new_cluster_keeps_what_it_is_given_and_is_ready_for_logical_replication() {
    let folder = test_folder();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let mut options = options(&folder.path().join("cluster"));
    let seen = Arc::clone(&steps);
    options.progress = Some(Arc::new(move |step| seen.lock().unwrap().push(step)));
    let cluster = Cluster::start(options).await.unwrap();
    let client = connect(&config(&cluster)).await.unwrap();
    for (setting, value) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("wal_level", "logical"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
        ("password_encryption", "scram-sha-256"),
    ] {
        assert_eq!(show(&client, setting).await, value, "{setting}");
    }
    let lower: String = client.query_one("select lower('ÄÉΩ')", &[]).await.unwrap().get(0);
    assert_eq!(lower, "äéω");
    let port = cluster.port();
    cluster.stop().await.unwrap();
    let expected = [
        Progress::Initialising,
        Progress::Starting,
        Progress::Ready { port },
        Progress::Stopping,
    ];
    assert_eq!(*steps.lock().unwrap(), expected);
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let mut without = tokio_postgres::Config::new();
    without.user("postgres").dbname("postgres").port(cluster.port());
    let mut wrong = without.clone();
    wrong.password("postgres");
    for host in [cluster.host(), cluster.socket_dir().to_str().unwrap()] {
        let error = connect(without.clone().host(host)).await.unwrap_err();
        assert!(format!("{error:?}").contains("password missing"), "{host}: {error:?}");
        let error = connect(wrong.clone().host(host)).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "28P01", "{host}");
        connect(config(&cluster).host(host)).await.unwrap();
    }

    let client = connect(&config(&cluster)).await.unwrap();
    let rules = client
        .query("select distinct auth_method from pg_hba_file_rules", &[])
        .await
        .unwrap();
    let methods: Vec<&str> = rules.iter().map(|row| row.get(0)).collect();
    assert_eq!(methods, ["scram-sha-256"]);
    let stored = "select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = 'postgres'";
    assert!(client.query_one(stored, &[]).await.unwrap().get::<_, bool>(0));

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder.path().join("password")), 0o600);
    assert_eq!(mode(&cluster.data_dir()), 0o700);
    assert_eq!(mode(cluster.socket_dir()), 0o700);
    assert_eq!(
        fs::metadata(folder.path().join("password")).unwrap().uid(),
        rustix::process::geteuid().as_raw()
    );
}

#[tokio::test]
async fn data_outlives_a_stop_and_the_password_stays() {
    let folder = test_folder();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    let client = connect(&config(&cluster)).await.unwrap();
    leave_data(&client).await;
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(quick(folder.path())).await.unwrap();
    data_is_there(&cluster).await;
}

#[tokio::test]
async fn folders_with_spaces_quotes_and_long_names_work_and_their_socket_stands_elsewhere() {
    let base = test_folder();
    for name in [
        "with two  spaces",
        "it's \"quoted\", and 100 % ünïcode",
        &"long".repeat(40),
    ] {
        let folder = base.path().join(name);
        let cluster = Cluster::start(quick(&folder)).await.unwrap();
        let socket = cluster.socket_dir().to_owned();
        assert!(!socket.starts_with(&folder), "{}", socket.display());
        assert!(cluster.data_dir().starts_with(&folder));
        connect(config(&cluster).host_path(&socket)).await.unwrap();
        cluster.stop().await.unwrap();
        assert!(!socket.exists(), "{} is left", socket.display());
    }
}

#[tokio::test]
async fn two_clusters_run_at_once_in_different_folders() {
    let folder = test_folder();
    let (one, two) = tokio::join!(
        Cluster::start(quick(&folder.path().join("one"))),
        Cluster::start(quick(&folder.path().join("two"))),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.port(), two.port());
    let identifier = "select system_identifier from pg_control_system()";
    let mut seen = Vec::new();
    for cluster in [&one, &two] {
        let client = connect(&config(cluster)).await.unwrap();
        seen.push(client.query_one(identifier, &[]).await.unwrap().get::<_, i64>(0));
    }
    assert_ne!(seen[0], seen[1]);
    // The password of one opens nothing at the other.
    let mut mixed = config(&two);
    mixed.password(one.password().expose_secret());
    let error = connect(&mixed).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "28P01");
}

#[tokio::test]
async fn the_server_from_npm_runs_too() {
    let folder = test_folder();
    let binaries = tenantry_testing::second_binaries();
    let cluster = Cluster::start(ClusterOptions {
        fsync: false,
        ..ClusterOptions::new(folder.path(), binaries)
    });
    let cluster = cluster.await.unwrap();
    let client = connect(&config(&cluster)).await.unwrap();
    let version: i32 = show(&client, "server_version_num").await.parse().unwrap();
    assert_eq!(
        u32::try_from(version / 10_000).unwrap(),
        cluster.binaries().version().major
    );
}
