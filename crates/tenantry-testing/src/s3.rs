//! A server of S3 in the test's process: it checks signatures, and keeps its objects in a folder of ours.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::{TestFolder, test_folder};

const BUCKET: &str = "tenantry";
const REGION: &str = "eu-test-1";

/// A server of S3 with one bucket that only this test uses. Ends with this value.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    key: String,
    secret: String,
    acceptor: JoinHandle<()>,
    folder: TestFolder,
}

/// Starts one, on a free port of 127.0.0.1.
///
/// # Panics
///
/// When it can't be started.
pub async fn s3() -> S3 {
    let folder = test_folder();
    fs::create_dir(folder.path().join(BUCKET)).expect("the folder is ours");
    let (key, secret) = (crate::random_hex(), crate::random_hex());
    let objects = FileSystem::new(folder.path()).expect("the folder is there");
    let mut builder = S3ServiceBuilder::new(objects);
    builder.set_auth(SimpleAuth::from_single(key.clone(), secret.clone()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    S3 {
        port,
        key,
        secret,
        acceptor: tokio::spawn(accept(listener, builder.build())),
        folder,
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        connections.spawn(async move {
            // Whoever breaks off means to.
            let _ = connection.await;
        });
    }
}

impl S3 {
    /// A place in its bucket, as configurations name it.
    pub fn place(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What the environment of a process says that may enter.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
        ]
    }

    /// The same with another secret: that of somebody who is not let in.
    pub fn settings_of_a_stranger(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.settings();
        settings.push(("AWS_SECRET_ACCESS_KEY", crate::random_hex()));
        settings
    }

    /// The keys of the objects in the bucket.
    pub fn objects(&self) -> BTreeSet<String> {
        let bucket = self.folder.path().join(BUCKET);
        let (mut folders, mut objects) = (vec![bucket.clone()], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(key) = path.strip_prefix(&bucket).ok().and_then(Path::to_str) {
                    objects.insert(key.to_owned());
                }
            }
        }
        objects
    }

    /// The file that an object's bytes stand in.
    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// What it holds of uploads of several parts that are not completed: the uploads themselves, and their parts.
    pub fn unfinished(&self) -> usize {
        let is_of_an_upload = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(".upload"))
        };
        entries(self.folder.path())
            .iter()
            .filter(|path| is_of_an_upload(path))
            .count()
    }
}

/// None of a folder that is gone meanwhile.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}
