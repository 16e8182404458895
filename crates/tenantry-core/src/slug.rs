//! Slugs: the labels of tenants in URLs and commands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tenant's label: 2 to 48 characters of `a-z`, `0-9` and single `-`, beginning with a letter, not reserved.
///
/// A slug is a valid DNS label, so that it can stand before a domain. It can change; what is stored refers to ids, and
/// no schema or database is named after it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

/// Why a text is no slug.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlugError {
    /// Too short or too long.
    #[error("a slug has 2 to 48 characters")]
    Length,
    /// A character outside the alphabet, also a look-alike from another script.
    #[error("a slug has only a-z, 0-9 and single hyphens, begins with a letter and does not end with a hyphen")]
    Characters,
    /// A text that is read as an id wherever an id or a slug may stand.
    #[error("a slug may not have the form of an id")]
    Id,
    /// Kept for the product's own hosts and paths.
    #[error("this slug is reserved")]
    Reserved,
}

/// Hosts, paths and words that a tenant's label must not take over.
const RESERVED: &[&str] = &[
    "about",
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "apps",
    "assets",
    "auth",
    "billing",
    "blog",
    "cdn",
    "console",
    "dashboard",
    "default",
    "dev",
    "docs",
    "ftp",
    "health",
    "help",
    "host",
    "hostmaster",
    "imap",
    "info",
    "internal",
    "localhost",
    "login",
    "logout",
    "mail",
    "me",
    "metrics",
    "ns",
    "ns1",
    "ns2",
    "null",
    "operator",
    "ops",
    "pop",
    "postgres",
    "postmaster",
    "public",
    "root",
    "security",
    "shared",
    "signup",
    "smtp",
    "ssl",
    "staging",
    "static",
    "status",
    "support",
    "sys",
    "system",
    "tenant",
    "tenantry",
    "tenants",
    "test",
    "undefined",
    "webmaster",
    "webmail",
    "well-known",
    "www",
];

impl Slug {
    /// The longest slug, in bytes and in characters.
    pub const LEN_MAX: usize = 48;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The slug with characters folded that people confuse (`0` and `o`, `1`, `i` and `l`, `rn` and `m`, `vv` and `w`).
    /// Two tenants may not have the same skeleton; the catalog's unique index keeps that.
    ///
    /// After the confusables of Unicode Technical Standard 39, section 4, as far as they exist in the slug's alphabet.
    pub fn skeleton(&self) -> String {
        let folded: String = self
            .0
            .chars()
            .map(|c| match c {
                '0' => 'o',
                '1' | 'i' => 'l',
                other => other,
            })
            .collect();
        folded.replace("rn", "m").replace("vv", "w")
    }
}

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(2..=Self::LEN_MAX).contains(&text.len()) {
            return Err(SlugError::Length);
        }
        let alphabet = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let begins = text.as_bytes()[0].is_ascii_lowercase();
        if !alphabet || !begins || text.ends_with('-') || text.contains("--") {
            return Err(SlugError::Characters);
        }
        if Uuid::try_parse(text).is_ok() {
            return Err(SlugError::Id);
        }
        if RESERVED.contains(&text) {
            return Err(SlugError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Slug {
    type Error = SlugError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_dns_labels() {
        for good in ["acme", "a1", "acme-2-eu", &"a".repeat(48)] {
            assert_eq!(good.parse::<Slug>().expect(good).as_str(), good);
        }
    }

    #[test]
    fn what_is_no_slug_is_refused_with_its_reason() {
        for (text, error) in [
            ("", SlugError::Length),
            ("a", SlugError::Length),
            ("Acme", SlugError::Characters),
            ("аcme", SlugError::Characters), // a Cyrillic letter
            ("1acme", SlugError::Characters),
            ("-acme", SlugError::Characters),
            ("acme-", SlugError::Characters),
            ("xn--acme", SlugError::Characters),
            ("acme\n", SlugError::Characters),
            ("e0a5d229-63c2-46bb-82a3-67f63867d2d4", SlugError::Id),
            ("e0a5d22963c246bb82a367f63867d2d4", SlugError::Id),
            ("www", SlugError::Reserved),
            ("app", SlugError::Reserved),
        ] {
            assert_eq!(text.parse::<Slug>(), Err(error), "{text:?}");
        }
        assert_eq!("a".repeat(49).parse::<Slug>(), Err(SlugError::Length));
        assert_eq!("a".repeat(10_000).parse::<Slug>(), Err(SlugError::Length));
    }

    #[test]
    fn look_alikes_share_a_skeleton() {
        let skeleton = |text: &str| text.parse::<Slug>().expect(text).skeleton();
        assert_eq!(skeleton("paypal"), skeleton("paypa1"));
        assert_eq!(skeleton("google"), skeleton("g00gle"));
        assert_eq!(skeleton("modern"), skeleton("modem"));
        assert_ne!(skeleton("acme-2"), skeleton("acme-3"));
    }
}
