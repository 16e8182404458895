//! Encryption of what leaves for an object store: AES-256-GCM in pieces, so that neither side holds all of it, and none of them can be
//! left out, repeated, reordered or cut off.
//!
//! ```text
//! "TNBACKUP", format, salt        the key of this copy alone: HKDF-SHA-256 of the tenant's key and the salt
//! piece, its tag                  nonce: the piece's number, and whether it is the last
//! …
//! ```

use std::io::{self, Read, Write};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};

const MARK: &[u8; 8] = b"TNBACKUP";
const FORMAT: u8 = 1;
const SALT_LEN: usize = 32;
const HEAD: usize = MARK.len() + 1 + SALT_LEN;
const PIECE: usize = 1 << 16;
const TAG: usize = 16;

/// How long a tenant's key is.
pub const BACKUP_KEY_LEN: usize = 32;

/// A tenant's key for its backups. Whoever loses it loses them all; that is what it is for.
pub struct BackupKey([u8; BACKUP_KEY_LEN]);

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey(..)")
    }
}

impl BackupKey {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; BACKUP_KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// A fresh key from the system's randomness.
    ///
    /// # Panics
    ///
    /// When the operating system gives no randomness.
    pub fn generate() -> Self {
        let mut bytes = [0; BACKUP_KEY_LEN];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
        Self(bytes)
    }

    /// Its bytes, to be stored encrypted.
    pub fn as_bytes(&self) -> &[u8; BACKUP_KEY_LEN] {
        &self.0
    }

    fn of_copy(&self, salt: &[u8]) -> LessSafeKey {
        let prk = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let okm = prk.expand(&[b"tenantry backup"], &AES_256_GCM);
        let key = UnboundKey::from(okm.expect("one key is far below what HKDF gives"));
        LessSafeKey::new(key)
    }
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[NONCE_LEN - 1] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypts what is written to it.
pub struct Sealer<W> {
    to: W,
    key: LessSafeKey,
    number: u64,
    piece: Vec<u8>,
}

impl<W> std::fmt::Debug for Sealer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<W: Write> Sealer<W> {
    /// Begins, with a salt of this copy's own.
    ///
    /// # Errors
    ///
    /// Where the head can't be written.
    ///
    /// # Panics
    ///
    /// When the operating system gives no randomness.
    pub fn new(mut to: W, key: &BackupKey) -> io::Result<Self> {
        let mut salt = [0; SALT_LEN];
        aws_lc_rs::rand::fill(&mut salt).expect("the operating system gives randomness");
        to.write_all(MARK)?;
        to.write_all(&[FORMAT])?;
        to.write_all(&salt)?;
        Ok(Self {
            to,
            key: key.of_copy(&salt),
            number: 0,
            piece: Vec::with_capacity(PIECE + TAG),
        })
    }

    /// Writes the last piece; without it nothing opens.
    ///
    /// # Errors
    ///
    /// Where it can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        self.key
            .seal_in_place_append_tag(nonce(self.number, is_last), Aad::empty(), &mut self.piece)
            .map_err(|_| io::Error::other("a piece could not be encrypted"))?;
        self.number += 1;
        self.to.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full one is sealed once it is known that another follows.
        if self.piece.len() == PIECE && !buffer.is_empty() {
            self.seal(false)?;
        }
        let taken = buffer.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&buffer[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A piece is not sealed before it is full: readers know pieces by their length.
        Ok(())
    }
}

/// Decrypts what is read from it; the end is an error unless all pieces were there.
pub struct Opener<R> {
    from: R,
    key: LessSafeKey,
    number: u64,
    /// Read ahead, to know whether a piece is the last.
    ahead: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Opener<R> {
    /// Begins.
    ///
    /// # Errors
    ///
    /// Where it is no such copy.
    pub fn new(mut from: R, key: &BackupKey) -> io::Result<Self> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)?;
        let (mark, rest) = head.split_at(MARK.len());
        if mark != MARK || rest[0] != FORMAT {
            return Err(changed());
        }
        let key = key.of_copy(&rest[1..]);
        let mut opener = Self {
            from,
            key,
            number: 0,
            ahead: Vec::new(),
            plain: Vec::new(),
            at: 0,
            ended: false,
        };
        opener.ahead = opener.read_piece()?;
        Ok(opener)
    }

    fn read_piece(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE + TAG);
        self.from.by_ref().take((PIECE + TAG) as u64).read_to_end(&mut piece)?;
        Ok(piece)
    }

    fn open_next(&mut self) -> io::Result<()> {
        let next = if self.ahead.len() == PIECE + TAG {
            self.read_piece()?
        } else {
            Vec::new()
        };
        let is_last = next.is_empty();
        let mut piece = std::mem::replace(&mut self.ahead, next);
        let plain = self
            .key
            .open_in_place(nonce(self.number, is_last), Aad::empty(), &mut piece);
        let len = plain.map_err(|_| changed())?.len();
        piece.truncate(len);
        self.number += 1;
        self.ended = is_last;
        self.plain = piece;
        self.at = 0;
        Ok(())
    }
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it does not open: it was changed or cut off, is of another tenant, or its key was erased",
    )
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.open_next()?;
        }
        let given = buffer.len().min(self.plain.len() - self.at);
        buffer[..given].copy_from_slice(&self.plain[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8], key: &BackupKey) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), key).unwrap();
        sealer.write_all(plain).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], key: &BackupKey) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opener::new(sealed, key)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_opens_at_every_length_around_a_piece() {
        let key = BackupKey::generate();
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7] {
            let plain: Vec<u8> = (0..len).map(|number| number as u8).collect();
            assert_eq!(opened(&sealed(&plain, &key), &key).unwrap(), plain, "{len}");
        }
    }

    #[test]
    fn nothing_opens_that_was_changed_cut_reordered_or_is_under_another_key() {
        let key = BackupKey::generate();
        let whole = sealed(&vec![7; 3 * PIECE], &key);
        assert!(opened(&whole, &BackupKey::generate()).is_err());
        for at in [0, 8, 20, HEAD, HEAD + PIECE, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &key).is_err(), "byte {at}");
        }
        let piece = PIECE + TAG;
        for cut in [1, HEAD, HEAD + piece, HEAD + 2 * piece, whole.len() - 1] {
            assert!(opened(&whole[..cut], &key).is_err(), "cut at {cut}");
        }
        let mut swapped = whole.clone();
        swapped[HEAD..HEAD + 2 * piece].rotate_left(piece);
        assert!(opened(&swapped, &key).is_err());
        assert!(opened(&[&whole[..], b"x"].concat(), &key).is_err());
    }
}
