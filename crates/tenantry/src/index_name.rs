//! Names for indexes outside of PostgreSQL.

use sha2::{Digest, Sha256};

use crate::Scope;

/// The longest prefix of the application's name that stands in an index's name.
const READABLE_MAX: usize = 40;

/// The name of a tenant's own index in a search engine, for what the application calls `name`: `t-<tenant>-<name>-<hash>`.
///
/// It has at most 100 characters of `a-z`, `0-9` and `-`, begins with a letter and has nothing that means something in a
/// pattern, so that it can be an index or an alias in Elasticsearch, OpenSearch, Meilisearch, Typesense or Solr. Two
/// tenants, or two different names, never have the same: the id has a fixed length, and the hash is of the whole name.
/// `t-<tenant>-*` matches the indexes of one tenant and of no other.
///
/// ```no_run
/// # fn example(scope: &tenantry::Scope) {
/// let index = tenantry::index_name(scope, "contacts");
/// assert!(index.starts_with("t-") && index.len() <= 100);
/// # }
/// ```
pub fn index_name(scope: &Scope, name: &str) -> String {
    of(&scope.context().tenant.as_uuid().simple().to_string(), name)
}

fn of(tenant: &str, name: &str) -> String {
    let readable: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' => char::from(byte),
            b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
            _ => '-',
        })
        .take(READABLE_MAX)
        .collect();
    // 88 bits: a tenant would need some 2^44 names before two of them are likely to meet.
    let hash: String = Sha256::digest(name)
        .iter()
        .take(11)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t-{tenant}-{readable}-{hash}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn name_of(tenant: u128, name: &str) -> String {
        of(&Uuid::from_u128(tenant).simple().to_string(), name)
    }

    #[test]
    fn a_name_is_readable_and_stays_the_same() {
        assert_eq!(
            name_of(1, "contacts"),
            format!(
                "t-{:032x}-contacts-{}",
                1,
                &hex(Sha256::digest("contacts").as_slice())[..22]
            )
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn names_are_valid_everywhere_and_never_meet(
            all in prop::collection::vec((0_u128..4, "[aAbB./*_ -]{0,4}|\\PC{0,80}|[a-z]{36,48}"), 1..60)
        ) {
            let mut seen = HashMap::new();
            for (tenant, name) in all {
                let index = name_of(tenant, &name);
                prop_assert!(index.len() <= 100, "{}", index);
                prop_assert!(index.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", index);
                let own = format!("t-{}-", Uuid::from_u128(tenant).simple());
                prop_assert!(index.starts_with(&own));
                let meant = (tenant, name);
                let other = seen.entry(index).or_insert_with(|| meant.clone());
                prop_assert_eq!(&*other, &meant);
            }
        }
    }
}
