//! A real PgBouncer in transaction mode: the distribution's own, or its package unpacked into a folder of ours.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::{TestCluster, TestFolder, test_folder};

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
    let programs = find()?;
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
    let mut command = Command::new(&programs.program);
    if let Some(libraries) = &programs.libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
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

struct Programs {
    program: PathBuf,
    libraries: Option<PathBuf>,
}

/// On the path, unpacked before, or unpacked now from the distribution's package, which needs no rights.
fn find() -> Result<Programs, String> {
    for folder in ["/usr/sbin", "/usr/bin", "/usr/local/bin"] {
        let program = Path::new(folder).join("pgbouncer");
        if program.exists() {
            return Ok(Programs {
                program,
                libraries: None,
            });
        }
    }
    let cache = std::env::var_os("TENANTRY_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/tenantry")))
        .ok_or("neither TENANTRY_CACHE nor HOME is set")?;
    let unpacked = cache.join("pgbouncer");
    if !unpacked.join("usr/sbin/pgbouncer").exists() {
        unpack(&cache, &unpacked)?;
    }
    let libraries = fs::read_dir(unpacked.join("usr/lib"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .ok_or("the packages hold no libraries")?;
    Ok(Programs {
        program: unpacked.join("usr/sbin/pgbouncer"),
        libraries: Some(libraries),
    })
}

/// Into a folder beside, which takes its place whole: tests run side by side.
fn unpack(cache: &Path, unpacked: &Path) -> Result<(), String> {
    let own = cache.join(format!("pgbouncer-{}", crate::random_hex()));
    fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let done = run(Command::new("apt-get").arg("download").args(PACKAGES).current_dir(&own)).and_then(|()| {
        let packages = fs::read_dir(&own).map_err(|error| error.to_string())?;
        for package in packages.filter_map(Result::ok) {
            let path = package.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&own))?;
            }
        }
        Ok(())
    });
    let moved = done.and_then(|()| match fs::rename(&own, unpacked) {
        // Another test was faster.
        Err(_) if unpacked.join("usr/sbin/pgbouncer").exists() => Ok(()),
        other => other.map_err(|error| error.to_string()),
    });
    let _ = fs::remove_dir_all(&own);
    moved
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
