//! Who wrote an archive: a signature over every byte of it.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::ArchiveError;

/// What an installation signs its archives with.
#[derive(Debug)]
pub struct ArchiveKey(Ed25519KeyPair);

/// Who signed: the public half of an [`ArchiveKey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer(pub(super) [u8; 32]);

impl ArchiveKey {
    /// The key that 32 random bytes make.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed"))
    }

    /// Its public half.
    pub fn signer(&self) -> Signer {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.public_key().as_ref());
        Signer(public)
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl Signer {
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ArchiveError> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .map_err(|_| ArchiveError::Tampered)
    }
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::str::FromStr for Signer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut public = [0; 32];
        hex::decode_to_slice(text, &mut public)
            .map_err(|_| "a signer is named by 64 hex digits, as `tenant export` prints them".to_owned())?;
        Ok(Self(public))
    }
}
