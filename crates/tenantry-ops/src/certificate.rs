//! Certificates: what an operation has shown, signed, so that it can be kept elsewhere and checked years later.
//!
//! One form for all of them, a JWS (RFC 7515) by EdDSA whose type says what it is about, and one key, which is derived from the master key: the
//! keys of tokens go when their tokens have expired.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Ops;

/// What a certificate is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// That nothing is left of a purged tenant.
    Erasure,
    /// That a tenant's rows are the same in its new home.
    Move,
}

impl Subject {
    const ALL: [Self; 2] = [Self::Erasure, Self::Move];

    /// The type in the header: no verifier of tokens takes it for one.
    const fn typ(self) -> &'static str {
        match self {
            Self::Erasure => "tenantry-erasure+jwt",
            Self::Move => "tenantry-move+jwt",
        }
    }

    /// For sentences.
    const fn words(self) -> &'static str {
        match self {
            Self::Erasure => "an erasure",
            Self::Move => "a move",
        }
    }

    /// Which command checks it.
    const fn checked_by(self) -> &'static str {
        match self {
            Self::Erasure => "tenantry tenant erasure --verify",
            Self::Move => "tenantry operation certificate --verify",
        }
    }
}

/// A certificate, and the same with its signature.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Signed<T> {
    /// What it says.
    pub certificate: T,
    /// The same, signed: header, certificate and signature in one line, as RFC 7515 writes them.
    pub jws: String,
}

impl<T: Serialize> Signed<T> {
    /// For people and programs: the certificate, and the line with its signature.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({ "certificate": self.certificate, "jws": self.jws })
    }

    /// By which the audit log knows the signed line.
    pub(crate) fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.jws))
    }
}

/// Why what somebody shows counts for nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It has not the form of one.
    #[error(
        "this is no certificate: give the JSON that shows one, with its field `jws`, or only the signed line itself, all of it"
    )]
    Malformed,
    /// It is signed, and about something else.
    #[error("this is no certificate of {wanted}, but one of {found}: `{checked_by} <file>` checks that")]
    OtherSubject {
        /// What it should be about.
        wanted: &'static str,
        /// What its header says that it is about.
        found: &'static str,
        /// The command that checks what it is.
        checked_by: &'static str,
    },
    /// Another key has signed it.
    #[error(
        "the certificate was not signed by this installation with its present master key: ask the installation that it names, whose \
         /.well-known/jwks.json has the key `{kid}`"
    )]
    Foreign {
        /// The id of the key that it names.
        kid: String,
    },
    /// It names this installation's key, and the signature is not by it.
    #[error("the certificate was changed after it was signed: ask for it again where it comes from")]
    Tampered,
    /// The readable part is not what was signed.
    #[error(
        "what stands beside the signed line differs from it, so only the line counts: give that by itself to read what was signed"
    )]
    Differs,
}

impl Ops {
    /// Derived from the master key, so that every process has it and no database does.
    fn certificate_key(&self) -> Ed25519KeyPair {
        let purpose = format!("certificate {}", self.catalog().installation());
        Ed25519KeyPair::from_seed_unchecked(&self.catalog().derive_key(&purpose)).expect("any 32 bytes are a seed")
    }

    /// Its public half, as `/.well-known/jwks.json` shows it beside the keys of tokens.
    pub(crate) fn certificate_jwk(&self) -> Value {
        let key = self.certificate_key();
        let public = key.public_key().as_ref();
        json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid(public), "x": URL_SAFE_NO_PAD.encode(public)
        })
    }

    pub(crate) fn certify<T: Serialize>(&self, subject: Subject, certificate: T) -> Signed<T> {
        let key = self.certificate_key();
        let header = Header {
            typ: Some(subject.typ().to_owned()),
            kid: Some(kid(key.public_key().as_ref())),
            ..Header::new(Algorithm::EdDSA)
        };
        let pkcs8 = key.to_pkcs8v1().expect("a key can be written down");
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        let jws = jsonwebtoken::encode(&header, &certificate, &key)
            .expect("a certificate is plain JSON, and the key one of Ed25519");
        Signed { certificate, jws }
    }

    /// Reads what somebody shows: as [`Signed::document`] writes it, or only the signed line.
    pub(crate) fn read_certificate<T: Serialize + DeserializeOwned>(
        &self,
        subject: Subject,
        document: &str,
    ) -> Result<T, CertificateError> {
        let document = document.trim();
        let Ok(shown) = serde_json::from_str::<Value>(document) else {
            return self.open_certificate(subject, document);
        };
        let jws = shown["jws"].as_str().ok_or(CertificateError::Malformed)?;
        let certificate: T = self.open_certificate(subject, jws)?;
        match shown["certificate"] == json!(certificate) {
            true => Ok(certificate),
            false => Err(CertificateError::Differs),
        }
    }

    /// What the signed line says.
    pub(crate) fn open_certificate<T: DeserializeOwned>(
        &self,
        subject: Subject,
        jws: &str,
    ) -> Result<T, CertificateError> {
        let header = jsonwebtoken::decode_header(jws).map_err(|_| CertificateError::Malformed)?;
        let found = Subject::ALL
            .into_iter()
            .find(|subject| header.typ.as_deref() == Some(subject.typ()));
        match found {
            None => return Err(CertificateError::Malformed),
            Some(found) if found != subject => {
                return Err(CertificateError::OtherSubject {
                    wanted: subject.words(),
                    found: found.words(),
                    checked_by: found.checked_by(),
                });
            }
            Some(_) => {}
        }
        let key = self.certificate_key();
        let public = key.public_key().as_ref();
        let named = header.kid.unwrap_or_default();
        if named != kid(public) {
            return Err(CertificateError::Foreign { kid: named });
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        // A certificate is no token: it has no audience and does not expire.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let opened = jsonwebtoken::decode::<T>(jws, &DecodingKey::from_ed_der(public), &validation);
        match opened {
            Ok(opened) => Ok(opened.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => CertificateError::Tampered,
                // Cut off, or of a form that a later version writes.
                _ => CertificateError::Malformed,
            }),
        }
    }
}

fn kid(public: &[u8]) -> String {
    format!("certificate-{}", &hex::encode(Sha256::digest(public))[..16])
}
