//! Cursors: opaque places in a list.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use tenantry_core::{Context, TenantId, seal::sha256};

use super::{Code, Problem};

/// How many bytes of the hash stand before the place; enough that no cursor is valid elsewhere by chance.
const TAG_BYTES: usize = 12;

/// Whose list a cursor is for.
pub trait CursorOwner {
    /// What tells this owner from every other one.
    fn bytes(&self) -> &[u8];
}

impl CursorOwner for TenantId {
    fn bytes(&self) -> &[u8] {
        self.as_uuid().as_bytes()
    }
}

impl CursorOwner for Context {
    fn bytes(&self) -> &[u8] {
        self.tenant.bytes()
    }
}

/// Lists of the whole installation.
impl CursorOwner for () {
    fn bytes(&self) -> &[u8] {
        &[]
    }
}

/// Turns the place of a list's last row into an opaque text that is valid for this owner and this list only.
///
/// No secret is needed: what comes back is bound as parameters of a scoped query, so a cursor made by hand shows nothing
/// that another one would not. The tag is there so that a cursor in the wrong place is an error and not a wrong page.
///
/// ```
/// # use tenantry_core::{Actor, Context, Role, TenantId};
/// use tenantry::axum::{decode_cursor, encode_cursor};
///
/// # let tenant = |n| TenantId::from_uuid(uuid::Uuid::from_u128(n));
/// # let context = |n| Context { tenant: tenant(n), actor: Actor::System { reason: String::new() }, role: Role::Viewer };
/// let cursor = encode_cursor(&context(1), "notes -created_at", &(2026, "x"));
/// let place: (i32, String) = decode_cursor(&context(1), "notes -created_at", &cursor).unwrap();
/// assert_eq!(place, (2026, "x".to_owned()));
/// assert!(decode_cursor::<(i32, String)>(&context(2), "notes -created_at", &cursor).is_err());
/// assert!(decode_cursor::<(i32, String)>(&context(1), "notes name", &cursor).is_err());
/// ```
pub fn encode_cursor(owner: &impl CursorOwner, list: &str, place: &impl Serialize) -> String {
    let place = serde_json::to_vec(place).expect("a place is made of texts and numbers");
    let mut bytes = tag(owner, list, &place).to_vec();
    bytes.extend_from_slice(&place);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads what [`encode_cursor`] wrote for the same owner and list.
///
/// # Errors
///
/// `invalid-field` on `/cursor` for everything else.
pub fn decode_cursor<T: DeserializeOwned>(owner: &impl CursorOwner, list: &str, cursor: &str) -> Result<T, Problem> {
    let decode = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (sent, place) = bytes.split_at_checked(TAG_BYTES)?;
        (sent == tag(owner, list, place)).then(|| serde_json::from_slice(place).ok())?
    };
    decode().ok_or_else(|| {
        Problem::field(
            Code::InvalidField,
            "cursor",
            "this cursor is not from this list; start without one",
        )
    })
}

fn tag(owner: &impl CursorOwner, list: &str, place: &[u8]) -> [u8; TAG_BYTES] {
    // The lengths keep the parts apart: nothing can move from one into the next.
    let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
    let (owner, list) = (owner.bytes(), list.as_bytes());
    let hash = sha256(&[&length(owner), owner, &length(list), list, place].concat());
    *hash.first_chunk().expect("a SHA-256 is longer than the tag")
}

#[cfg(test)]
mod tests {
    use tenantry_core::{Actor, Role, TenantId};

    use super::*;

    #[test]
    fn a_changed_cursor_is_refused() {
        let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(1));
        let context = Context {
            tenant,
            actor: Actor::System { reason: String::new() },
            role: Role::Viewer,
        };
        let cursor = encode_cursor(&context, "notes", &"x");
        for position in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                decode_cursor::<String>(&context, "notes", &changed).is_err(),
                "{position}"
            );
        }
        for bad in ["", "AAAA", "../../", "' or 1=1 --", &"A".repeat(100_000)] {
            assert!(decode_cursor::<String>(&context, "notes", bad).is_err(), "{bad:.20}");
        }
    }
}
