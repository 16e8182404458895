use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::process::geteuid;
use tenantry_postgres::{Cluster, ClusterOptions, servers_below};
use tenantry_testing::test_folder;
use tokio_postgres::NoTls;

use crate::helper::Helper;
use crate::quick;

#[tokio::test]
async fn started_as_root_the_server_runs_as_another_user_who_owns_the_data_and_nothing_else() {
    if !geteuid().is_root() {
        return;
    }
    let folder = test_folder();
    for run_as in [None, Some("nobody")] {
        let folder = folder.path().join(run_as.unwrap_or("default"));
        let options = ClusterOptions {
            run_as: run_as.map(str::to_owned),
            ..quick(&folder)
        };
        let cluster = Cluster::start(options).await.unwrap();
        let owner = fs::metadata(cluster.data_dir()).unwrap().uid();
        assert_ne!(owner, 0);
        let processes = servers_below(&folder);
        assert!(!processes.is_empty());
        for process in processes {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
            let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            // Real, effective, saved and file system user alike; root's further groups are gone.
            assert_eq!(line("Uid:"), format!("Uid:\t{owner}\t{owner}\t{owner}\t{owner}"));
            assert_eq!(line("Groups:").trim(), "Groups:");
        }
        assert_eq!(fs::metadata(folder.join("password")).unwrap().uid(), 0);
        assert_eq!(fs::metadata(&folder).unwrap().uid(), 0);
    }
}

#[tokio::test]
async fn an_ordinary_user_starts_one_that_root_is_not_needed_for() {
    // When the tests do not run as root, every other test shows this.
    if !geteuid().is_root() {
        return;
    }
    let folder = test_folder();
    let user = 65_534;
    let home = folder.path().join("a home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(user), Some(user)).unwrap();
    // The build folder may be closed to that user.
    let program = folder.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let cluster = home.join(".tenantry/postgres");
    let mut helper = Helper::start_as(user, &program, &cluster);
    let (pid, url) = helper.serving();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), user);
    assert_eq!(fs::metadata(cluster.join("data")).unwrap().uid(), user);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.simple_query("select 1").await.unwrap();

    // Killed and started again, it clears its own orphan away without being root.
    helper.kill();
    let mut again = Helper::start_as(user, &program, &cluster);
    assert_eq!(again.wait_for("StoppingOrphan"), format!("{{ pid: {pid} }}"));
    again.serving();
}
