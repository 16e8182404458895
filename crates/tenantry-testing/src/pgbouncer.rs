//! A real PgBouncer in transaction mode: the distribution's own, or its package unpacked into a folder of ours.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::{TestCluster, TestFolder, package, test_folder};

const PACKAGES: [&str; 3] = ["pgbouncer", "libevent-2.1-7", "libc-ares2"];

/// A PgBouncer before a test's server. Ends with this value.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TestFolder,
}

/// Starts one that lends `pool_size` connections of each role to a database, for a transaction at a time.
///
/// # Errors
///
/// Why there is none on this machine: a test that needs it says so, loudly, and ends.
pub async fn pgbouncer(
    cluster: &TestCluster,
    role: &str,
    password: &str,
    pool_size: usize,
) -> Result<PgBouncer, String> {
    let program = package::find("pgbouncer", "usr/sbin", &PACKAGES)?;
    let folder = test_folder();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())?
        .port();
    let users = folder.path().join("users.txt");
    let settings = format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {pool_size}\n\
         server_reset_query_always = 1\nmax_client_conn = 500\n",
        cluster.host(),
        cluster.port(),
        users.display()
    );
    let ini = folder.path().join("pgbouncer.ini");
    for (file, text) in [(&ini, settings), (&users, format!("\"{role}\" \"{password}\"\n"))] {
        fs::write(file, text).map_err(|error| error.to_string())?;
        // It gives up root's rights before it reads them again.
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).map_err(|error| error.to_string())?;
    }
    let mut command = program.command(program.path());
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    let child = command
        .arg(&ini)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut started = PgBouncer {
        child,
        port,
        _folder: folder,
    };
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if let Ok(Some(status)) = started.child.try_wait() {
            return Err(format!("pgbouncer has ended: {status}"));
        }
        if since.elapsed() > Duration::from_secs(20) {
            return Err("pgbouncer does not listen".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started)
}

impl PgBouncer {
    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
