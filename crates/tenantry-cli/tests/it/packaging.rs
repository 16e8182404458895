//! What is packaged: the script that makes an installation ready, and the files of containers.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tenantry_testing::{cluster, database};

use crate::support::Folder;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

/// Runs `setup.sh` for the catalog, with keys in the folder.
fn set_up(folder: &Folder, catalog_url: &str, admin_url: &str) -> Output {
    let ours = folder.command();
    let mut script = Command::new("sh");
    script.arg(packaging().join("setup.sh")).current_dir(folder.path());
    script.env("TENANTRY", ours.get_program()).env("ADMIN_URL", admin_url);
    script.env("TENANTRY_CATALOG_URL", catalog_url);
    script.env("TENANTRY_MASTER_KEY_FILE", folder.path().join("master.key"));
    script.output().unwrap()
}

#[tokio::test]
async fn an_installation_is_set_up_once_whatever_interrupts_it() {
    let (folder, catalog) = (Folder::new(), database().await);
    let catalog_url = catalog.url();
    let admin_url = cluster().await.admin_url("postgres");

    // The server does not answer: the next run goes on.
    let failed = set_up(&folder, &catalog_url, "postgres://postgres@127.0.0.1:1/postgres");
    assert!(!failed.status.success(), "{failed:?}");
    assert!(!folder.path().join("operator.key").exists());
    let master_key = std::fs::read_to_string(folder.path().join("master.key")).unwrap();
    assert!(master_key.len() == 64 && master_key.bytes().all(|byte| byte.is_ascii_hexdigit()));

    for _ in 0..2 {
        let done = set_up(&folder, &catalog_url, &admin_url);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("master.key")).unwrap(),
            master_key
        );
    }
    let operator_key = std::fs::read_to_string(folder.path().join("operator.key")).unwrap();
    assert!(operator_key.starts_with("tno_"), "{operator_key}");
    for name in ["master.key", "operator.key"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let environment = [
        ("TENANTRY_CATALOG_URL", catalog_url.as_str()),
        ("TENANTRY_MASTER_KEY", master_key.as_str()),
    ];
    for (list, count) in [("server", 1), ("token", 1)] {
        let listed = folder.run_with([list, "list", "--json"], &environment).json();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(count), "{listed}");
    }
}

/// A server that answers as `/health/ready` does, and one that does not.
#[test]
fn readiness_is_asked_without_any_tool() {
    use std::io::{Read as _, Write as _};
    for (status, ready) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A script writes line by line: the whole head is read before it is answered.
            let (mut request, mut piece) = (Vec::new(), [0; 512]);
            while !request.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "the request ended early");
                request.extend_from_slice(&piece[..read]);
            }
            write!(stream, "HTTP/1.0 {status}\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let script = packaging().join("ready.sh");
        let asked = Command::new("bash")
            .arg(script)
            .args(["127.0.0.1", &port])
            .output()
            .unwrap();
        assert_eq!(asked.status.success(), ready, "{asked:?}");
        assert!(server.join().unwrap().starts_with("GET /health/ready "));
    }
}

#[test]
fn the_service_can_write_where_the_guide_puts_files_and_backups() {
    let read = |file: &str| std::fs::read_to_string(packaging().join(file)).unwrap();
    let unit = read("tenantry.service");
    assert!(unit.lines().any(|line| line == "ProtectSystem=strict"));
    // What makes `/var/lib/tenantry`, and the only hole in the line above.
    assert!(unit.lines().any(|line| line == "StateDirectory=tenantry"), "{unit}");
    let guide = read("../docs/operations/install.md");
    let folders: Vec<&str> = guide
        .lines()
        .map(str::trim)
        .filter_map(|line| {
            line.strip_prefix("files = \"")
                .or_else(|| line.strip_prefix("backups = \""))
        })
        .collect();
    assert_eq!(folders.len(), 2, "{folders:?}");
    assert!(
        folders.iter().all(|folder| folder.starts_with("/var/lib/tenantry/")),
        "{folders:?}"
    );
}

/// What `systemd-analyze verify` says against a unit, or nothing where it is not there to say it.
fn verified(folder: &Folder, unit: &str) -> Option<String> {
    let path = folder.write("tenantry.service", unit);
    let mut verify = Command::new("systemd-analyze");
    let verified = verify.args(["verify", "--man=no"]).arg(path).output().ok()?;
    // It ends well where it ignores a line, and names other units of the machine too.
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("tenantry.service")).collect();
    Some(ours.join("\n"))
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = Folder::new();
    let unit = std::fs::read_to_string(packaging().join("tenantry.service")).unwrap();
    // It looks for the program that is started, which is installed nowhere here.
    let ours = folder.command();
    let program = ours.get_program().to_str().unwrap();
    let unit = unit.replace("/usr/local/bin/tenantry", program);
    assert!(unit.contains(&format!("ExecStart={program} serve")), "{unit}");
    let Some(said) = verified(&folder, &unit) else {
        eprintln!("SKIPPED: packaging/tenantry.service was not verified, there is no `systemd-analyze` here");
        return;
    };
    assert_eq!(said, "", "packaging/tenantry.service");
    // Else it would say nothing of anything.
    let spoilt = unit.replace("ProtectSystem=", "ProtectSytem=");
    let said = verified(&folder, &spoilt).unwrap();
    assert!(said.contains("ProtectSytem"), "{said}");
}

#[test]
fn the_packaged_redis_evicts_nothing() {
    // A deletion's mark that is evicted makes an old value stay: docs/cache.md.
    let compose = std::fs::read_to_string(packaging().join("compose.yaml")).unwrap();
    assert!(compose.contains("--maxmemory-policy, noeviction]"), "{compose}");
}

#[test]
fn compose_accepts_its_file() {
    let compose = |arguments: &[&str]| Command::new("docker").arg("compose").args(arguments).output();
    if !compose(&["version"]).is_ok_and(|version| version.status.success()) {
        eprintln!("SKIPPED: packaging/compose.yaml was not checked, there is no `docker compose` here");
        return;
    }
    let file = packaging().join("compose.yaml");
    for profile in ["shared", "schema", "database"] {
        let checked = compose(&[
            "--file",
            file.to_str().unwrap(),
            "--profile",
            profile,
            "config",
            "--quiet",
        ])
        .unwrap();
        assert!(checked.status.success(), "{profile}: {checked:?}");
    }
}
