//! Files: a tenant's own, whole or not there, within their bounds, and gone when they should be.

#[cfg(feature = "s3")]
mod bucket;
mod folder;
mod links;
mod quota;
mod transfer;
mod usage;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tenantry::{
    Scope,
    files::{FileError, Files, FilesConfig, LinkKey, LinkKeys, MIGRATION, ScopedFiles, StoredFile},
};
use tenantry_testing::{TestFolder, test_folder};

use crate::world::{self, World};

/// A fleet in small whose tenants have files in a folder.
struct Filed {
    world: World,
    folder: TestFolder,
}

fn config() -> FilesConfig {
    let mut config = FilesConfig::default();
    // Small, so that small files have several parts.
    config.part_bytes = 10_000;
    config.link_keys = Some(LinkKeys::new(LinkKey::from_bytes(1, &[1; 32]), Vec::new()));
    config
}

impl Filed {
    async fn new() -> Self {
        Self::with(config()).await
    }

    async fn with(config: FilesConfig) -> Self {
        let mut world = World::new().await;
        world
            .migrate_all(&[("0001_first.sql", world::MIGRATION), ("0002_files.sql", MIGRATION)])
            .await;
        let folder = test_folder();
        let mut filed = Self { world, folder };
        filed.configure(config);
        filed
    }

    fn configure(&mut self, config: FilesConfig) {
        let files = Files::in_folder(self.folder.path(), config).unwrap();
        self.world.tenantry = self.world.tenantry.clone().with_files(files);
    }

    async fn scope(&self, n: usize) -> Scope {
        self.world.scope(n).await
    }

    async fn files(&self, n: usize) -> ScopedFiles {
        self.scope(n).await.files().unwrap()
    }

    fn place(&self, n: usize) -> PathBuf {
        self.folder.path().join("t").join(self.world.tenants[n].to_string())
    }

    /// What stands in the tenant's folder, with what is being written.
    fn there(&self, n: usize) -> BTreeSet<String> {
        match std::fs::read_dir(self.place(n)) {
            Ok(entries) => entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect(),
            Err(_) => BTreeSet::new(),
        }
    }

    /// What was begun in the background is over: the store holds so many files of the tenant, and the count says so many bytes.
    async fn settles(&self, n: usize, files: usize, bytes: u64) {
        let since = Instant::now();
        loop {
            let (there, used) = (self.there(n), self.files(n).await.used().await.unwrap());
            if (there.len(), used) == (files, bytes) {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{there:?}, {used} bytes, not {files}, {bytes}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A text in pieces.
fn pieces(data: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    let pieces: Vec<_> = data
        .chunks(size)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces)
}

async fn put(files: &ScopedFiles, path: &str, data: &[u8]) -> Result<StoredFile, FileError> {
    files.upload(path, "text/plain", pieces(data, 3000)).await
}

async fn read(files: &ScopedFiles, path: &str) -> Result<Vec<u8>, FileError> {
    let mut download = files.download(path).await?;
    let mut data = Vec::new();
    while let Some(piece) = download.next().await? {
        data.extend_from_slice(&piece);
    }
    Ok(data)
}
