//! Writing an archive: a zstd-compressed tar whose last frame is the signature.
//!
//! ```text
//! zstd frame      tar entries: data/<table>/<number>.copy, csv/<table>/<number>.csv
//! zstd frame      tar entries: manifest.json, the end of the tar
//! skippable frame "TENANTRY", format, where the second frame begins, who signed, their signature
//! ```
//!
//! `zstd -d` and `tar --zstd` skip the last one. The signature is over the SHA-256 of all bytes before it, and over what stands in it.

use std::io::Write;

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{ArchiveError, ArchiveKey, FORMAT, Manifest};

/// How much of a table is gathered before it is written: with the channel, the encoder and what the driver holds, this bounds the
/// memory that an export takes.
pub(super) const PART_BYTES: usize = 1 << 20;
/// Parts that wait for the encoder.
const WAITING_MAX: usize = 4;
/// zstd's own default: about as fast as the server gives rows.
const LEVEL: i32 = 3;

/// The skippable frame: its head, and what stands in it.
pub(super) const FRAME_HEAD: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, PAYLOAD as u8, 0, 0, 0];
pub(super) const MARK: &[u8; 8] = b"TENANTRY";
pub(super) const PAYLOAD: usize = 8 + 2 + 8 + 32 + 64;
pub(super) const TRAILER: usize = FRAME_HEAD.len() + PAYLOAD;
pub(super) const MANIFEST: &str = "manifest.json";

enum Piece {
    File { path: String, data: Vec<u8> },
    Manifest(Box<Manifest>),
}

/// Takes an archive's parts, and writes them in a thread of its own.
#[derive(Debug)]
pub struct Packer<W> {
    sender: mpsc::Sender<Piece>,
    thread: JoinHandle<Result<(W, Packed), ArchiveError>>,
}

/// A finished archive.
#[derive(Clone, Debug)]
pub struct Packed {
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of what the signature covers, in hex: what the archive is known by.
    pub digest: String,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Piece(..)")
    }
}

impl<W: Write + Send + 'static> Packer<W> {
    /// Begins an archive.
    pub fn new(to: W, key: ArchiveKey) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let thread = tokio::task::spawn_blocking(move || write(receiver, to, &key));
        Self { sender, thread }
    }

    pub(super) async fn file(&self, path: String, data: Vec<u8>) -> Result<(), ArchiveError> {
        self.send(Piece::File { path, data }).await
    }

    async fn send(&self, piece: Piece) -> Result<(), ArchiveError> {
        // The thread ends early only where it failed, which `finish` tells.
        self.sender.send(piece).await.map_err(|_| ArchiveError::Ended)
    }

    /// Ends the archive, and gives back what it was written to.
    pub(super) async fn finish(self, manifest: &Manifest) -> Result<(W, Packed), ArchiveError> {
        // Told below.
        let _ = self.send(Piece::Manifest(Box::new(manifest.clone()))).await;
        self.why().await
    }

    /// Why the thread ended.
    pub(super) async fn why(self) -> Result<(W, Packed), ArchiveError> {
        drop(self.sender);
        match self.thread.await {
            Ok(outcome) => outcome,
            Err(error) => Err(ArchiveError::writing(std::io::Error::other(error))),
        }
    }
}

fn write<W: Write>(mut pieces: mpsc::Receiver<Piece>, to: W, key: &ArchiveKey) -> Result<(W, Packed), ArchiveError> {
    let mut counted = Counted::new(to);
    let mut encoder = zstd::stream::write::Encoder::new(&mut counted, LEVEL).map_err(ArchiveError::writing)?;
    let manifest = loop {
        match pieces.blocking_recv() {
            Some(Piece::File { path, data }) => entry(&mut encoder, &path, &data)?,
            Some(Piece::Manifest(manifest)) => break manifest,
            // Whoever reads the rows failed: what was written is no archive.
            None => return Err(ArchiveError::Ended),
        }
    };
    encoder.finish().map_err(ArchiveError::writing)?;
    let manifest_at = counted.bytes;
    let mut encoder = zstd::stream::write::Encoder::new(&mut counted, LEVEL).map_err(ArchiveError::writing)?;
    let text = serde_json::to_vec_pretty(&manifest).map_err(ArchiveError::malformed)?;
    entry(&mut encoder, MANIFEST, &text)?;
    encoder.write_all(&[0; 1024]).map_err(ArchiveError::writing)?;
    encoder.finish().map_err(ArchiveError::writing)?;
    let digest = counted.digest.clone().finalize();
    let trailer = trailer(key, manifest_at, digest.as_slice());
    counted.write_all(&trailer).map_err(ArchiveError::writing)?;
    counted.flush().map_err(ArchiveError::writing)?;
    let packed = Packed {
        bytes: counted.bytes,
        digest: hex::encode(digest),
    };
    Ok((counted.to, packed))
}

fn entry(to: &mut impl Write, path: &str, data: &[u8]) -> Result<(), ArchiveError> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).map_err(ArchiveError::writing)?;
    header.set_size(data.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    let padding = (512 - data.len() % 512) % 512;
    to.write_all(header.as_bytes())
        .and_then(|()| to.write_all(data))
        .and_then(|()| to.write_all(&[0; 512][..padding]))
        .map_err(ArchiveError::writing)
}

fn trailer(key: &ArchiveKey, manifest_at: u64, digest: &[u8]) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(TRAILER);
    trailer.extend_from_slice(&FRAME_HEAD);
    trailer.extend_from_slice(MARK);
    trailer.extend_from_slice(&FORMAT.to_le_bytes());
    trailer.extend_from_slice(&manifest_at.to_le_bytes());
    trailer.extend_from_slice(&key.signer().0);
    let signature = key.sign(&signed(digest, &trailer));
    trailer.extend_from_slice(&signature);
    trailer
}

/// What is signed: what it is, all bytes before the trailer, and the trailer up to the signature.
pub(super) fn signed(digest: &[u8], trailer: &[u8]) -> Vec<u8> {
    [b"tenantry archive\0", digest, trailer].concat()
}

/// Counts and digests what goes through.
struct Counted<W> {
    to: W,
    bytes: u64,
    digest: Sha256,
}

impl<W> Counted<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            bytes: 0,
            digest: Sha256::new(),
        }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(buffer)?;
        self.bytes += written as u64;
        self.digest.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
