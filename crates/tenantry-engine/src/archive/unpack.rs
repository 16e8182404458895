//! Reading an archive: nothing of it is believed, or even decompressed, before its signature was verified.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    ArchiveError, FORMAT, Manifest, Signer, Tally,
    copy_text::Lines,
    pack::{FRAME_HEAD, MANIFEST, MARK, TRAILER, signed},
};

/// Parts that wait for the database.
const WAITING_MAX: usize = 4;
/// Every zstd frame begins so.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// More than any manifest has.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// An archive whose signature was verified.
#[derive(Debug)]
pub struct Unpacker {
    file: File,
    manifest: Manifest,
    manifest_at: u64,
    signer: Signer,
    digest: String,
}

/// A part of a table's rows: whole lines of COPY's text format.
#[derive(Debug)]
pub struct Chunk {
    /// The table, by its number in the manifest.
    pub table: usize,
    /// The rows.
    pub rows: Vec<u8>,
}

impl Unpacker {
    /// Verifies an archive and reads its manifest. Blocks for as long as reading the file takes.
    ///
    /// # Errors
    ///
    /// Where it is no archive, is cut off, changed, of a later format, or signed by nobody among `trusted`.
    pub fn open(mut file: File, trusted: &[Signer]) -> Result<Self, ArchiveError> {
        let len = file.seek(SeekFrom::End(0)).map_err(ArchiveError::reading)?;
        let (signer, digest, manifest_at) = verify(&mut file, len, trusted)?;
        let manifest = read_manifest(&mut file, manifest_at, len)?;
        Ok(Self {
            file,
            manifest,
            manifest_at,
            signer,
            digest: hex::encode(digest),
        })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Who signed it.
    pub fn signer(&self) -> Signer {
        self.signer
    }

    /// What it is known by: SHA-256 of what the signature covers, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Reads all of it, and compares it with its own counts and checksums.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Miscounted`], or where it can't be read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by it.
    pub async fn check(&self) -> Result<(), ArchiveError> {
        let mut reading = self.chunks()?;
        let mut counted = vec![(Lines::default(), Tally::default()); self.manifest.tables.len()];
        while let Some(chunk) = reading.chunks.recv().await {
            let (lines, tally) = &mut counted[chunk.table];
            lines.feed(&chunk.rows, |line| {
                tally.add(line);
                Ok::<_, ArchiveError>(())
            })?;
        }
        reading.end().await?;
        for (table, (lines, tally)) in self.manifest.tables.iter().zip(&counted) {
            if !lines.is_whole() || !table.is(tally) || table.sha256 != tally.sha256() {
                return Err(ArchiveError::Miscounted {
                    table: table.head.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Reads the rows, table after table, in a thread of its own; the receiver ends early where that fails, and the handle says why.
    pub(super) fn chunks(&self) -> Result<Reading, ArchiveError> {
        let mut file = self.file.try_clone().map_err(ArchiveError::reading)?;
        file.seek(SeekFrom::Start(0)).map_err(ArchiveError::reading)?;
        let rows = file.take(self.manifest_at);
        let folders: Vec<String> = self.manifest.tables.iter().map(|table| table.folder.clone()).collect();
        let (sender, chunks) = mpsc::channel(WAITING_MAX);
        let thread = tokio::task::spawn_blocking(move || read(rows, &folders, &sender));
        Ok(Reading { chunks, thread })
    }
}

/// The rows of an archive, as they are read.
pub(super) struct Reading {
    pub(super) chunks: mpsc::Receiver<Chunk>,
    thread: JoinHandle<Result<(), ArchiveError>>,
}

impl Reading {
    /// Whether all was read.
    pub(super) async fn end(self) -> Result<(), ArchiveError> {
        drop(self.chunks);
        match self.thread.await {
            Ok(outcome) => outcome,
            Err(error) => Err(ArchiveError::reading(std::io::Error::other(error))),
        }
    }
}

fn verify(file: &mut File, len: u64, trusted: &[Signer]) -> Result<(Signer, Vec<u8>, u64), ArchiveError> {
    let mut start = [0; 4];
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::reading)?;
    let begins = len >= 4 && file.read_exact(&mut start).is_ok() && start == ZSTD;
    let Some(covered) = len.checked_sub(TRAILER as u64).filter(|_| begins) else {
        return Err(ArchiveError::NotAnArchive);
    };
    let mut trailer = [0; TRAILER];
    file.seek(SeekFrom::Start(covered)).map_err(ArchiveError::reading)?;
    file.read_exact(&mut trailer).map_err(ArchiveError::reading)?;
    let (frame, payload) = trailer.split_at(FRAME_HEAD.len());
    let (mark, payload) = payload.split_at(MARK.len());
    if frame != FRAME_HEAD || mark != MARK {
        return Err(ArchiveError::CutOff);
    }
    let (format, payload) = payload.split_at(2);
    let (manifest_at, payload) = payload.split_at(8);
    let (public, signature) = payload.split_at(32);
    let format = u16::from_le_bytes([format[0], format[1]]);
    if format > FORMAT {
        return Err(ArchiveError::Newer { found: format });
    }
    let mut signer = Signer([0; 32]);
    signer.0.copy_from_slice(public);
    if !trusted.contains(&signer) {
        return Err(ArchiveError::UnknownSigner {
            signer: signer.to_string(),
        });
    }
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::reading)?;
    let digest = digest(file.take(covered))?;
    let unsigned = &trailer[..TRAILER - signature.len()];
    signer.verify(&signed(&digest, unsigned), signature)?;
    let mut at = [0; 8];
    at.copy_from_slice(manifest_at);
    Ok((signer, digest, u64::from_le_bytes(at)))
}

fn digest(mut bytes: impl Read) -> Result<Vec<u8>, ArchiveError> {
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().to_vec()),
            Ok(read) => digest.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::reading(error)),
        }
    }
}

fn read_manifest(file: &mut File, at: u64, len: u64) -> Result<Manifest, ArchiveError> {
    file.seek(SeekFrom::Start(at)).map_err(ArchiveError::reading)?;
    let frame = file.take(len.saturating_sub(at + TRAILER as u64));
    let plain = zstd::stream::read::Decoder::new(frame).map_err(ArchiveError::reading)?;
    let mut tar = tar::Archive::new(plain.take(MANIFEST_BYTES_MAX));
    let entry = tar.entries().map_err(ArchiveError::reading)?.next();
    let entry = entry.ok_or_else(|| ArchiveError::malformed("it has no manifest"))?;
    let entry = entry.map_err(ArchiveError::reading)?;
    if entry.path_bytes().as_ref() != MANIFEST.as_bytes() {
        return Err(ArchiveError::malformed("its manifest is not where it should be"));
    }
    serde_json::from_reader(BufReader::new(entry)).map_err(ArchiveError::malformed)
}

fn read(rows: impl Read, folders: &[String], sender: &mpsc::Sender<Chunk>) -> Result<(), ArchiveError> {
    let plain = zstd::stream::read::Decoder::new(rows).map_err(ArchiveError::reading)?;
    let mut tar = tar::Archive::new(plain);
    for entry in tar.entries().map_err(ArchiveError::reading)? {
        let mut entry = entry.map_err(ArchiveError::reading)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // What is there for people is read by nobody else.
        let Some(folder) = path.strip_prefix("data/").and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        let table = folders.iter().position(|known| known == folder);
        let table = table.ok_or_else(|| ArchiveError::malformed(format!("{path} is of no table in the manifest")))?;
        let mut rows = Vec::new();
        entry.read_to_end(&mut rows).map_err(ArchiveError::reading)?;
        if sender.blocking_send(Chunk { table, rows }).is_err() {
            return Err(ArchiveError::Ended);
        }
    }
    Ok(())
}
