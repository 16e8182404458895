//! Administrative connections to a server that speaks TLS.

use std::{path::Path, process::Command};

use tenantry_engine::admin::{AdminError, ServerAdmin};
use tenantry_testing::{OwnCluster, OwnClusterOptions, own_cluster};

/// A certificate for 127.0.0.1, which is its own root, and its key, both readable by the server.
fn certificate(folder: &Path) {
    let done = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .current_dir(folder)
        .output()
        .expect("openssl is needed to make a certificate");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Gives the key to who runs the server, and leads there.
fn hand_over(folder: &Path, data: &Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let server = std::fs::metadata(data).unwrap();
    let key = folder.join("server.key");
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    chown(&key, Some(server.uid()), Some(server.gid())).unwrap();
}

async fn tls_server(folder: &Path) -> OwnCluster {
    certificate(folder);
    let mut own = own_cluster(OwnClusterOptions::default()).await;
    let client = own.connect("postgres").await;
    let data: String = client.query_one("show data_directory", &[]).await.unwrap().get(0);
    hand_over(folder, Path::new(&data));
    for (name, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
        let file = folder.join(file);
        client
            .batch_execute(&format!("alter system set {name} = '{}'", file.display()))
            .await
            .unwrap();
    }
    client.batch_execute("alter system set ssl = on").await.unwrap();
    drop(client);
    tokio::task::block_in_place(|| own.restart());
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_verified_or_not_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    let own = tls_server(folder.path()).await;
    let root = folder.path().join("server.crt");
    let url = own.cluster().admin_url("postgres");
    let with = |options: &str| ServerAdmin::from_url(&format!("{url}?{options}"));
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

    for mode in ["require", "verify-ca", "verify-full"] {
        let admin = with(&format!("sslmode={mode}&sslrootcert={}", root.display())).unwrap();
        let client = admin.connect("postgres").await.unwrap();
        assert!(
            client.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0),
            "{mode}"
        );
        // The system's roots do not know it.
        let refused = with(&format!("sslmode={mode}")).unwrap().connect("postgres").await;
        assert!(matches!(refused, Err(AdminError::Connect { .. })), "{mode}");
    }
    // The name has to be the certificate's.
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let admin = ServerAdmin::from_url(&format!(
        "{elsewhere}?sslmode=verify-full&sslrootcert={}",
        root.display()
    ));
    assert!(admin.unwrap().connect("postgres").await.is_err());
    // Where nothing is asked for, as on a loopback.
    let client = with("sslmode=disable").unwrap().connect("postgres").await.unwrap();
    assert!(!client.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0));
}
