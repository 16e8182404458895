//! A server that speaks TLS, and who signed its certificate.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::{OwnCluster, OwnClusterOptions, TestFolder, own_cluster, test_folder};

/// Somebody who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
}

/// A certificate and its key.
pub struct Certified {
    /// The certificate in PEM.
    pub pem: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Its key in PEM.
    pub key_pem: String,
    /// Its key in PKCS#8.
    pub key_der: Vec<u8>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, whom nobody knows.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let root_pem = params.self_signed(&key).expect("a root signs itself").pem();
        Self {
            issuer: Issuer::new(params, key),
            root_pem,
        }
    }

    /// Its own certificate, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Signs a certificate for 127.0.0.1, changed before.
    pub fn certify(&self, change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate can be signed");
        Certified {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }
}

/// A server of the test's own that speaks TLS, with a certificate for 127.0.0.1 and not for `localhost`.
pub struct TlsCluster {
    own: OwnCluster,
    authority: Authority,
    root: PathBuf,
    _folder: TestFolder,
}

/// Starts a server that speaks TLS, to whoever asks for it.
pub async fn tls_cluster() -> TlsCluster {
    let authority = Authority::new();
    let certified = authority.certify(|_| {});
    let folder = test_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our folder's mode can be changed");
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [
        ("server.crt", certified.pem.as_str()),
        ("server.key", &certified.key_pem),
        ("root.crt", authority.root_pem()),
    ] {
        fs::write(path(name), text).expect("our folder can be written");
    }

    let own = own_cluster(OwnClusterOptions::default()).await;
    let client = own.connect("postgres").await;
    let shown = client.query_one("show data_directory", &[]).await;
    let data: String = shown.expect("the server answers").get(0);
    hand_over(&path("server.key"), Path::new(&data));
    for (name, value) in [
        ("ssl_cert_file", path("server.crt").display().to_string()),
        ("ssl_key_file", path("server.key").display().to_string()),
        ("ssl", "on".to_owned()),
    ] {
        let set = client
            .batch_execute(&format!("alter system set {name} = '{value}'"))
            .await;
        set.expect("the superuser may set it");
    }
    let reloaded = client.batch_execute("select pg_reload_conf()").await;
    reloaded.expect("the superuser may reload");
    let root = path("root.crt");
    let cluster = TlsCluster {
        own,
        authority,
        root,
        _folder: folder,
    };
    cluster.speaks_tls().await;
    cluster
}

/// Gives the key to who runs the server.
fn hand_over(key: &Path, data: &Path) {
    let server = fs::metadata(data).expect("the server has a folder");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("our file's mode can be changed");
    chown(key, Some(server.uid()), Some(server.gid())).expect("our file can be given away");
}

impl TlsCluster {
    /// The server.
    pub fn own(&self) -> &OwnCluster {
        &self.own
    }

    /// Who signed its certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The file with the authority's certificate.
    pub fn root(&self) -> &Path {
        &self.root
    }

    async fn speaks_tls(&self) {
        for _ in 0..500 {
            let client = self.own.connect("postgres").await;
            let shown = client.query_one("show ssl", &[]).await;
            if shown.is_ok_and(|row| row.get::<_, String>(0) == "on") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!(
            "the server does not speak TLS; its log says why: {}",
            self.own.cluster().log_file().display()
        );
    }
}
