//! The key that encrypts the catalog's secrets: kept outside of the catalog, 32 bytes.

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The environment variable that holds the key itself.
pub(crate) const ENV_KEY: &str = "TENANTRY_MASTER_KEY";
/// The environment variable that names a file with the key.
pub(crate) const ENV_FILE: &str = "TENANTRY_MASTER_KEY_FILE";

/// 32 bytes that encrypt the catalog's secrets. Never printed.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// Neither variable is set.
    #[error("no master key: set TENANTRY_MASTER_KEY (64 hex digits or base64 of 32 bytes) or TENANTRY_MASTER_KEY_FILE")]
    Missing,
    /// The text is not 32 bytes in hex or base64.
    #[error("the master key is not 32 bytes in hex (64 digits) or base64 (44 characters)")]
    Malformed,
    /// The file can't be read.
    #[error("the master key file {path} can't be read")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl MasterKey {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh key from the system's randomness.
    ///
    /// # Panics
    /// When the operating system gives no randomness.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
        Self(bytes)
    }

    /// Reads 64 hex digits or the base64 of 32 bytes; surrounding blanks are ignored.
    ///
    /// # Errors
    /// [`MasterKeyError::Malformed`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        let bytes = if text.len() == 64 {
            hex::decode(text).ok()
        } else {
            STANDARD.decode(text).ok()
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(MasterKeyError::Malformed)
    }

    /// Reads the key from a file.
    ///
    /// # Errors
    /// When the file can't be read or holds no key.
    pub fn from_file(path: &Path) -> Result<Self, MasterKeyError> {
        let text = std::fs::read_to_string(path).map_err(|source| MasterKeyError::File {
            path: path.display().to_string(),
            source,
        })?;
        let key = Self::parse(&text)?;
        warn_once_of_readers(path);
        Ok(key)
    }

    /// Reads the key from `TENANTRY_MASTER_KEY`, or from the file that `TENANTRY_MASTER_KEY_FILE` names.
    ///
    /// # Errors
    /// When neither is set or what they hold is no key.
    pub fn from_env() -> Result<Self, MasterKeyError> {
        if let Ok(text) = std::env::var(ENV_KEY) {
            return Self::parse(&text);
        }
        match std::env::var_os(ENV_FILE) {
            Some(path) => Self::from_file(Path::new(&path)),
            None => Err(MasterKeyError::Missing),
        }
    }

    /// The key in hex, to be written into a file that only its owner reads.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whoever reads the key opens every secret in the catalog. A warning and no refusal: what mounts secrets into a container
/// often gives them to a group. Once a process, however often the key is read.
#[cfg(unix)]
fn warn_once_of_readers(path: &Path) {
    use std::{os::unix::fs::PermissionsExt as _, sync::Once};
    static WARNED: Once = Once::new();
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        WARNED.call_once(|| {
            tracing::warn!(
                path = %path.display(),
                mode = %format_args!("{mode:04o}"),
                "others than its owner may read the master key file: chmod 600 it"
            );
        });
    }
}

#[cfg(not(unix))]
fn warn_once_of_readers(_: &Path) {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_base64_name_the_same_key() {
        let key = MasterKey::generate();
        let hex = MasterKey::parse(&format!(" {}\n", key.to_hex())).expect("hex");
        let base64 = MasterKey::parse(&STANDARD.encode(key.bytes())).expect("base64");
        assert_eq!((hex.bytes(), base64.bytes()), (key.bytes(), key.bytes()));
    }

    #[test]
    fn what_is_no_key_is_refused_and_a_key_is_never_printed() {
        for bad in ["", "secret", &"0".repeat(63), &"g".repeat(64), &"0".repeat(10_000)] {
            assert!(matches!(MasterKey::parse(bad), Err(MasterKeyError::Malformed)), "{bad}");
        }
        let key = MasterKey::generate();
        assert!(!format!("{key:?}").contains(&key.to_hex()));
    }
}
