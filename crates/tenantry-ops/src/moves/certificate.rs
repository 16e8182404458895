//! What a move proves: how many rows of which tables went, with which checksums, from where to where, up to which positions of the log,
//! and how long the tenant waited. Signed, so that it can be kept elsewhere and shown later.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Map, Value};

use crate::Ops;

/// Why a certificate counts for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It has no signature, or none that can be one.
    #[error("this is no certificate of a move: it has no signature")]
    Unsigned,
    /// It is another installation's, or the installation's master key was replaced.
    #[error("the certificate was not signed by this installation")]
    Foreign,
    /// It was changed after it was signed.
    #[error("the certificate was changed after it was signed")]
    Tampered,
}

/// Signs what a move proves.
pub(crate) fn certify(ops: &Ops, mut certificate: Map<String, Value>) -> Value {
    let pair = ops.certificate_key();
    certificate.insert("signed_by".to_owned(), hex::encode(pair.public_key().as_ref()).into());
    let signature = pair.sign(&message(&certificate));
    certificate.insert("signature".to_owned(), hex::encode(signature.as_ref()).into());
    Value::Object(certificate)
}

impl Ops {
    /// Checks the certificate of a move, as its operation's `progress.certificate` has it.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn verify_certificate(&self, certificate: &Value) -> Result<(), CertificateError> {
        let mut certificate = certificate.as_object().cloned().ok_or(CertificateError::Unsigned)?;
        let signature = certificate.remove("signature");
        let signature = signature
            .as_ref()
            .and_then(Value::as_str)
            .and_then(|text| hex::decode(text).ok());
        let signature = signature.ok_or(CertificateError::Unsigned)?;
        let pair = self.certificate_key();
        let public = pair.public_key().as_ref();
        if certificate.get("signed_by").and_then(Value::as_str) != Some(&*hex::encode(public)) {
            return Err(CertificateError::Foreign);
        }
        UnparsedPublicKey::new(&ED25519, public)
            .verify(&message(&certificate), &signature)
            .map_err(|_| CertificateError::Tampered)
    }

    /// Derived from the master key, so that every process has it and no database does.
    fn certificate_key(&self) -> Ed25519KeyPair {
        let purpose = format!("move certificate {}", self.catalog().installation());
        let seed = self.catalog().derive_key(&purpose);
        Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed")
    }
}

/// What is signed: compact JSON with the keys of every object in their order, as PostgreSQL and others may have changed that.
fn message(certificate: &Map<String, Value>) -> Vec<u8> {
    let mut text = String::from("tenantry move certificate\n");
    write_object(certificate, &mut text);
    text.into_bytes()
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => write_object(object, text),
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

fn write_object(object: &Map<String, Value>, text: &mut String) {
    let mut keys: Vec<_> = object.keys().collect();
    keys.sort();
    text.push('{');
    for (place, key) in keys.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&Value::String(key.clone()).to_string());
        text.push(':');
        write(&object[key], text);
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_signed_depends_on_no_order_of_keys() {
        let value = json!({ "b": [1, { "y": "\"", "x": null }], "a": true });
        let signed = String::from_utf8(message(value.as_object().unwrap())).unwrap();
        assert_eq!(
            signed,
            "tenantry move certificate\n{\"a\":true,\"b\":[1,{\"x\":null,\"y\":\"\\\"\"}]}"
        );
    }
}
