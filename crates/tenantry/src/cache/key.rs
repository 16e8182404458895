//! What an application calls a value, and how Redis knows it.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use tenantry_core::TenantId;

/// Keys that are longer stand as their hash: they are held once for each value, here and in Redis.
const LEN_MAX: usize = 512;
/// Begins a key made of parts. No plain key has a control character.
const PARTS: char = '\u{1e}';
/// Begins the hash of a key that is too long, or has a control character.
const HASHED: char = '\u{1f}';

/// Names a value within its tenant. Two different texts, or lists of parts, are never the same key.
///
/// ```
/// use tenantry::cache::CacheKey;
///
/// assert_ne!(CacheKey::of(&["a:b", "c"]), CacheKey::of(&["a", "b:c"]));
/// assert_ne!(CacheKey::of(&["a"]), CacheKey::from("a"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CacheKey<'a>(Cow<'a, str>);

impl CacheKey<'_> {
    /// A key of several parts, each with its length before it.
    pub fn of(parts: &[&str]) -> Self {
        let mut text = String::from(PARTS);
        for part in parts {
            text += &format!("{}:{part}", part.len());
        }
        if text.len() > LEN_MAX {
            text = hashed(&text);
        }
        Self(Cow::Owned(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for CacheKey<'a> {
    fn from(text: &'a str) -> Self {
        if text.len() > LEN_MAX || text.chars().any(char::is_control) {
            return Self(Cow::Owned(hashed(text)));
        }
        Self(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for CacheKey<'a> {
    fn from(text: &'a String) -> Self {
        Self::from(text.as_str())
    }
}

fn hashed(text: &str) -> String {
    let mut key = String::from(HASHED);
    for byte in Sha256::digest(text) {
        key += &format!("{byte:02x}");
    }
    key
}

/// The name of a value in Redis. A tenant's id has always the same length and no colon, so that no key of one tenant can be
/// read as another's, whatever stands in it.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only Redis has names"))]
pub(super) fn name(tenant: TenantId, key: &str) -> String {
    format!("t:{tenant}:{key}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn the_name_is_the_one_that_is_relied_on() {
        let id = tenant(1);
        let key = CacheKey::from("contacts");
        assert_eq!(
            name(id, key.as_str()),
            "t:00000000-0000-0000-0000-000000000001:contacts"
        );
        let crafted = CacheKey::from("x:t:00000000-0000-0000-0000-000000000002:contacts");
        assert!(name(id, crafted.as_str()).starts_with("t:00000000-0000-0000-0000-000000000001:x:"));
    }

    #[test]
    fn a_text_never_passes_for_parts_or_for_a_hash() {
        let parts = CacheKey::of(&["a", "b"]);
        assert_ne!(CacheKey::from(parts.as_str()), parts);
        let long = "x".repeat(1000);
        let hash = CacheKey::from(long.as_str());
        assert_ne!(CacheKey::from(hash.as_str()), hash);
        assert!(hash.as_str().len() < 100);
    }

    proptest! {
        #[test]
        fn different_keys_have_different_names(
            keys in prop::collection::vec((0_u128..3, prop::collection::vec("[a:\\\\0-9\u{1e}]{0,3}", 1..4), any::<bool>()), 2..40)
        ) {
            let mut seen: HashMap<String, (u128, Vec<String>, bool)> = HashMap::new();
            for (id, parts, plain) in keys {
                let parts = if plain { vec![parts.concat()] } else { parts };
                let texts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let key = if plain { CacheKey::from(texts[0]) } else { CacheKey::of(&texts) };
                let meant = (id, parts.clone(), plain);
                let other = seen.entry(name(tenant(id), key.as_str())).or_insert_with(|| meant.clone());
                prop_assert_eq!(&*other, &meant);
            }
        }
    }
}
