//! Encryption of single columns with AES-256-GCM, bound to their place: a secret copied into another row does not open.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::MasterKey;

/// The first byte of every sealed secret, for the day when the format changes.
const FORMAT: u8 = 1;

/// Which column of which row a secret stands in.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's id.
    pub id: Uuid,
}

/// A stored secret can't be opened: another master key, or it was changed or moved.
#[derive(Debug, thiserror::Error)]
#[error("the secret in {table}.{column} can't be decrypted: it was changed, or encrypted with another master key")]
pub struct SecretError {
    table: &'static str,
    column: &'static str,
}

/// The master key, ready for use.
pub(crate) struct Cipher {
    key: LessSafeKey,
    derived: Prk,
}

/// The length of a derived key.
struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl Cipher {
    pub(crate) fn new(key: &MasterKey) -> Self {
        let derived = Salt::new(HKDF_SHA256, b"tenantry").extract(key.bytes());
        let key = UnboundKey::new(&AES_256_GCM, key.bytes()).expect("a master key has the cipher's length");
        Self {
            key: LessSafeKey::new(key),
            derived,
        }
    }

    /// A key for one purpose, from which neither the master key nor that of another purpose can be told.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.derived
            .expand(&[purpose.as_bytes()], Bytes32)
            .and_then(|key| key.fill(&mut bytes))
            .expect("32 bytes are far below what HKDF gives");
        bytes
    }

    /// Encrypts under a random nonce: 96 random bits are safe for far more secrets than a catalog ever holds.
    pub(crate) fn seal(&self, column: Column, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the operating system gives randomness");
        let mut text = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), column.aad(), &mut text)
            .expect("a secret is far shorter than the cipher's limit");
        [&[FORMAT], nonce.as_slice(), &text].concat()
    }

    pub(crate) fn open(&self, column: Column, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
        self.try_open(column, sealed).ok_or(SecretError {
            table: column.table,
            column: column.column,
        })
    }

    fn try_open(&self, column: Column, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.strip_prefix(&[FORMAT])?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let len = self.key.open_in_place(nonce, column.aad(), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }

    pub(crate) fn seal_text(&self, column: Column, plain: &SecretString) -> Vec<u8> {
        self.seal(column, plain.expose_secret().as_bytes())
    }

    pub(crate) fn open_text(&self, column: Column, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let bytes = self.open(column, sealed)?;
        let text = String::from_utf8(bytes).map_err(|_| SecretError {
            table: column.table,
            column: column.column,
        })?;
        Ok(text.into())
    }
}

impl Column {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(
            [
                self.table.as_bytes(),
                &[0],
                self.column.as_bytes(),
                &[0],
                self.id.as_bytes(),
            ]
            .concat(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Column = Column {
        table: "server",
        column: "admin_url_sealed",
        id: Uuid::from_u128(1),
    };

    #[test]
    fn a_secret_opens_only_in_its_own_place_and_with_its_own_key() {
        let cipher = Cipher::new(&MasterKey::generate());
        let sealed = cipher.seal(PLACE, b"hunter2");
        assert_eq!(cipher.open(PLACE, &sealed).expect("opens"), b"hunter2");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert!(
            cipher
                .open(
                    Column {
                        id: Uuid::from_u128(2),
                        ..PLACE
                    },
                    &sealed
                )
                .is_err()
        );
        assert!(
            cipher
                .open(
                    Column {
                        table: "tenant",
                        ..PLACE
                    },
                    &sealed
                )
                .is_err()
        );
        assert!(
            cipher
                .open(
                    Column {
                        column: "name",
                        ..PLACE
                    },
                    &sealed
                )
                .is_err()
        );
        assert!(Cipher::new(&MasterKey::generate()).open(PLACE, &sealed).is_err());
    }

    #[test]
    fn each_purpose_and_each_master_key_has_a_key_of_its_own() {
        let (key, other) = (MasterKey::generate(), Cipher::new(&MasterKey::generate()));
        let cipher = Cipher::new(&key);
        assert_eq!(cipher.derive("a"), Cipher::new(&key).derive("a"));
        assert_ne!(cipher.derive("a"), cipher.derive("b"));
        assert_ne!(cipher.derive("a"), other.derive("a"));
        assert_ne!(&cipher.derive("a"), key.bytes());
    }

    #[test]
    fn a_changed_or_truncated_secret_does_not_open() {
        let cipher = Cipher::new(&MasterKey::generate());
        let sealed = cipher.seal(PLACE, b"hunter2");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(cipher.open(PLACE, &changed).is_err(), "byte {position}");
            assert!(cipher.open(PLACE, &sealed[..position]).is_err(), "{position} bytes");
        }
    }
}
