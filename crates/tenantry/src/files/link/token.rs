//! A link as text: everything it says, and the signature over all of it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tenantry_core::{AccountId, ApiKeyId, Context, Role, TenantId};
use uuid::Uuid;

use super::LinkKeys;
use crate::files::FilePath;

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LinkVerb {
    /// To read the file.
    Download,
    /// To write it.
    Upload,
}

/// Who signed a link, and so whose end is the link's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signer {
    /// The application itself.
    Application,
    /// A person.
    Account(AccountId),
    /// A program.
    ApiKey(ApiKeyId),
}

/// What a link says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claims {
    pub(super) tenant: TenantId,
    pub(super) signer: Signer,
    pub(super) role: Role,
    pub(super) verb: LinkVerb,
    pub(super) ends_at_s: u64,
    pub(super) bytes_max: u64,
    pub(super) path: FilePath,
}

/// Begins what is signed, so that no other signature of these keys is ever one of a link.
const FORMAT: &[u8; 16] = b"tenantry file 1\0";
const SIGNATURE_LEN: usize = 32;
/// Before the path: format, key, verb, role, what kind of signer, its id, tenant, end, bytes.
const HEAD_LEN: usize = 16 + 4 + 16 + 16 + 8 + 8;
/// No link is longer.
const TEXT_LEN_MAX: usize = (HEAD_LEN + 1024 + SIGNATURE_LEN).div_ceil(3) * 4;

impl Signer {
    pub(super) fn of(context: &Context) -> Self {
        match (context.account(), context.api_key()) {
            (Some(account), _) => Self::Account(account),
            (None, Some(key)) => Self::ApiKey(key),
            (None, None) => Self::Application,
        }
    }

    /// As it stands in a link. A program from before links of API keys takes the key for an account that is no member.
    fn parts(self) -> (u8, Uuid) {
        match self {
            Self::Application => (0, Uuid::nil()),
            Self::Account(account) => (1, *account.as_uuid()),
            Self::ApiKey(key) => (2, *key.as_uuid()),
        }
    }

    fn from_parts(kind: u8, id: Uuid) -> Option<Self> {
        match kind {
            0 => Some(Self::Application),
            1 => Some(Self::Account(AccountId::from_uuid(id))),
            2 => Some(Self::ApiKey(ApiKeyId::from_uuid(id))),
            _ => None,
        }
    }
}

impl Claims {
    pub(super) fn sign(&self, keys: &LinkKeys) -> String {
        let verb = match self.verb {
            LinkVerb::Download => 1,
            LinkVerb::Upload => 2,
        };
        let (kind, id) = self.signer.parts();
        let mut text = Vec::with_capacity(HEAD_LEN + self.path.as_str().len() + SIGNATURE_LEN);
        text.extend(FORMAT);
        text.extend([keys.current(), verb, self.role as u8, kind]);
        text.extend(id.as_bytes());
        text.extend(self.tenant.as_uuid().as_bytes());
        text.extend(self.ends_at_s.to_be_bytes());
        text.extend(self.bytes_max.to_be_bytes());
        // All before has a fixed length, so the rest is the path and nothing else.
        text.extend(self.path.as_str().as_bytes());
        let signature = keys.sign(&text);
        text.extend(signature);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// What the link says, if it is signed; nothing of it is looked at before but the key's number.
    pub(super) fn open(link: &str, keys: &LinkKeys) -> Option<Self> {
        if link.len() > TEXT_LEN_MAX {
            return None;
        }
        let text = URL_SAFE_NO_PAD.decode(link).ok()?;
        let (message, signature) = text.split_at_checked(text.len().checked_sub(SIGNATURE_LEN)?)?;
        let (head, path) = message.split_at_checked(HEAD_LEN)?;
        if !keys.is_signed(head[16], message, signature) {
            return None;
        }
        let rest = head.strip_prefix(FORMAT)?;
        let uuid = |at: usize| Uuid::from_slice(&rest[at..at + 16]).ok();
        let number = |at: usize| rest[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self {
            verb: match rest[1] {
                1 => LinkVerb::Download,
                2 => LinkVerb::Upload,
                _ => return None,
            },
            role: Role::ALL.into_iter().find(|role| *role as u8 == rest[2])?,
            signer: Signer::from_parts(rest[3], uuid(4)?)?,
            tenant: TenantId::from_uuid(uuid(20)?),
            ends_at_s: number(36)?,
            bytes_max: number(44)?,
            path: FilePath::parse(std::str::from_utf8(path).ok()?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::LinkKey;

    fn keys(current: u8, former: &[u8]) -> LinkKeys {
        let key = |number: u8| LinkKey::from_bytes(number, &[number; 32]);
        LinkKeys::new(key(current), former.iter().map(|number| key(*number)).collect())
    }

    fn claims() -> Claims {
        Claims {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            signer: Signer::Account(AccountId::from_uuid(Uuid::from_u128(2))),
            role: Role::Viewer,
            verb: LinkVerb::Download,
            ends_at_s: 1_000_000,
            bytes_max: 77,
            path: FilePath::parse("letters/ada.txt").expect("a path"),
        }
    }

    #[test]
    fn a_link_says_what_was_signed() {
        let keys = keys(1, &[]);
        for claims in [
            claims(),
            Claims {
                signer: Signer::Application,
                verb: LinkVerb::Upload,
                role: Role::Member,
                ..claims()
            },
            Claims {
                signer: Signer::ApiKey(ApiKeyId::from_uuid(Uuid::from_u128(2))),
                ..claims()
            },
        ] {
            assert_eq!(Claims::open(&claims.sign(&keys), &keys), Some(claims));
        }
        let longest = Claims {
            path: FilePath::parse(&["x".repeat(255), "x".repeat(255), "x".repeat(255), "x".repeat(255)].join("/"))
                .expect("a path"),
            ..claims()
        };
        assert!(Claims::open(&longest.sign(&keys), &keys).is_some());
    }

    #[test]
    fn one_changed_bit_or_a_piece_less_is_no_link() {
        let keys = keys(1, &[2]);
        let bytes = URL_SAFE_NO_PAD.decode(claims().sign(&keys)).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Claims::open(&URL_SAFE_NO_PAD.encode(&changed), &keys), None, "{bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(
                Claims::open(&URL_SAFE_NO_PAD.encode(&bytes[..len]), &keys),
                None,
                "{len}"
            );
            assert_eq!(
                Claims::open(&URL_SAFE_NO_PAD.encode(&bytes[len + 1..]), &keys),
                None,
                "{len}"
            );
        }
        for strange in ["", "=", "ä", &"A".repeat(100_000)] {
            assert_eq!(Claims::open(strange, &keys), None);
        }
    }

    #[test]
    fn a_former_key_is_believed_until_it_is_taken_away() {
        let link = claims().sign(&keys(1, &[]));
        assert!(Claims::open(&link, &keys(2, &[1])).is_some());
        assert!(Claims::open(&link, &keys(2, &[])).is_none());
        // Another key of the same number.
        let other = LinkKeys::new(LinkKey::from_bytes(1, &[9; 32]), Vec::new());
        assert!(Claims::open(&link, &other).is_none());
        assert!(!format!("{other:?}").contains('9'));
    }
}
