//! How a value stands in Redis: with whose it is and what it is called, so that one that was put elsewhere is told.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tenantry_core::TenantId;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    tenant: TenantId,
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// Of all the rest: Redis is not asked to keep bytes apart from other bytes.
    #[serde(borrow)]
    sum: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What is wrong with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bad {
    /// It is another tenant's, or another key's.
    Foreign,
    /// It is not what was written.
    Mangled,
}

/// The value, which is JSON, with whose it is.
pub(super) fn seal(tenant: TenantId, key: &str, value: &str) -> String {
    format!(
        "{{\"tenant\":\"{tenant}\",\"key\":{},\"sum\":\"{}\",\"value\":{value}}}",
        serde_json::Value::from(key),
        sum(tenant, key, value)
    )
}

/// The value, if it is this tenant's and this key's and whole.
pub(super) fn open<'a>(tenant: TenantId, key: &str, text: &'a str) -> Result<&'a str, Bad> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| Bad::Mangled)?;
    let value = envelope.value.get();
    if sum(envelope.tenant, &envelope.key, value) != envelope.sum {
        return Err(Bad::Mangled);
    }
    if envelope.tenant != tenant || envelope.key != key {
        return Err(Bad::Foreign);
    }
    Ok(value)
}

fn sum(tenant: TenantId, key: &str, value: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(tenant.as_uuid().as_bytes());
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(value);
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn a_value_opens_for_its_tenant_and_its_key_only() {
        let text = seal(tenant(1), "a\"key", r#"{"n": 1}"#);
        assert_eq!(open(tenant(1), "a\"key", &text), Ok(r#"{"n": 1}"#));
        assert_eq!(open(tenant(2), "a\"key", &text), Err(Bad::Foreign));
        assert_eq!(open(tenant(1), "another", &text), Err(Bad::Foreign));
    }

    #[test]
    fn one_changed_byte_is_seen() {
        let text = seal(tenant(1), "key", r#"{"n":11}"#);
        for at in 0..text.len() {
            for by in [1_u8, 2, 32] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= by;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(open(tenant(1), "key", &changed).is_err(), "{changed}");
                }
            }
        }
        for cut in 0..text.len() {
            assert_eq!(open(tenant(1), "key", &text[..cut]), Err(Bad::Mangled));
        }
    }
}
