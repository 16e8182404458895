//! Who says it: a signature that can be checked for as long as the installation has its master key.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Certificate, ErasureError};
use crate::Ops;

/// The type in the header: no verifier of tokens takes it for one.
const TYPE: &str = "tenantry-erasure+jwt";

impl Ops {
    /// Derived from the master key: the keys of tokens go when their tokens have expired, and a certificate is read years later.
    fn certificate_key(&self) -> Ed25519KeyPair {
        let purpose = format!("erasure certificate {}", self.catalog().installation());
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

    pub(super) fn sign_certificate(&self, certificate: &Certificate) -> String {
        let key = self.certificate_key();
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(kid(key.public_key().as_ref())),
            ..Header::new(Algorithm::EdDSA)
        };
        let pkcs8 = key.to_pkcs8v1().expect("a key can be written down");
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        jsonwebtoken::encode(&header, certificate, &key)
            .expect("a certificate is plain JSON, and the key one of Ed25519")
    }

    pub(super) fn open_certificate(&self, jws: &str) -> Result<Certificate, ErasureError> {
        let header =
            jsonwebtoken::decode_header(jws).map_err(|_| ErasureError::Untrue("it has not the form of one"))?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(ErasureError::Untrue("what was signed is something else"));
        }
        let key = self.certificate_key();
        let key = DecodingKey::from_ed_der(key.public_key().as_ref());
        let mut validation = Validation::new(Algorithm::EdDSA);
        // A certificate is no token: it has no audience and does not expire.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let opened = jsonwebtoken::decode::<Certificate>(jws, &key, &validation);
        let opened = opened.map_err(|_| ErasureError::Untrue("the signature is not this installation's"))?;
        Ok(opened.claims)
    }
}

fn kid(public: &[u8]) -> String {
    format!("erasure-{}", &hex::encode(Sha256::digest(public))[..16])
}

/// By which the audit log knows a signed line.
pub(super) fn digest(jws: &str) -> String {
    hex::encode(Sha256::digest(jws))
}
