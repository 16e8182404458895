//! The message that seals a session: tenant, counter, flags, expiry, backend, account and role, signed with HMAC-SHA256.
//!
//! `tenantry.enter(message, mac)` in a tenant database checks it. The layout is fixed-length so that no two readings of
//! one message exist:
//!
//! | bytes | holds |
//! |---|---|
//! | 0..16 | tenant |
//! | 16..24 | counter, big endian, grows per backend |
//! | 24 | flags: bit 0 fresh backend, bit 1 raw lane, bit 2 a worker's, bits 4 and 5 the role |
//! | 25..33 | accepted until, microseconds since 2000-01-01, big endian |
//! | 33..37 | backend pid, big endian |
//! | 37 | key id |
//! | 38..54 | account, zero for none |
//! | 54..58 | the epoch's low 32 bits, big endian |
//!
//! The first 25 bytes in hex are the **seal**: the carrier's value and the expectation that every later call sends.
//!
//! What is signed ends with where the backend runs ([`Place`]): nothing on a primary, 8 bytes on a standby.
//!
//! A worker's token names no tenant, so it binds nothing: it proves to the functions that hand out jobs that whoever calls
//! holds the key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::{AccountId, Epoch, Role, TenantId};

/// The length of a message in bytes.
pub const MESSAGE_LEN: usize = 58;
/// How many leading bytes of the message make the seal.
pub const SEAL_LEN: usize = 25;
/// The length of a sealed position in bytes.
pub const POSITION_LEN: usize = 25;
/// How long a token is accepted, in microseconds: it is used in the round trip it was made for.
pub const TOKEN_TTL_US: i64 = 30_000_000;
/// Microseconds between 1970-01-01 and 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

const FLAG_FRESH: u8 = 1;
const FLAG_RAW: u8 = 2;
const FLAG_WORKER: u8 = 4;
const ROLE_SHIFT: u8 = 4;

/// What a token says. Signed by [`Key::sign`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Whose rows the session may touch.
    pub tenant: TenantId,
    /// Larger than in any token this backend has seen.
    pub counter: u64,
    /// The backend has no binding yet: new, or just after `DISCARD ALL`.
    pub fresh: bool,
    /// The connection runs SQL from outside the application's own code.
    pub raw: bool,
    /// What the actor may do in the tenant.
    pub role: Role,
    /// The time of signing, microseconds since 1970-01-01.
    pub now_us: i64,
    /// The backend the token is for.
    pub backend_pid: i32,
    /// The account that acts, if a person does.
    pub account: Option<AccountId>,
    /// The placement the signer believes in.
    pub epoch: Epoch,
}

/// Where a backend runs, as a part of what is signed for it and not of the message.
///
/// A standby has its primary's keys and may have a backend of the same number: a token for one is worth nothing at the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Place(Option<[u8; 8]>);

impl Place {
    /// On a primary.
    pub const PRIMARY: Self = Self(None);

    /// On the standby whose server started then, as `timestamptz_send` writes it: another start is another place.
    pub fn standby(started: [u8; 8]) -> Self {
        Self(Some(started))
    }
}

/// A database's key with its id: two live at a time while they rotate.
#[derive(Clone)]
pub struct Key {
    id: u8,
    secret: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A signed token: the two parameters of `tenantry.enter`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The message.
    pub message: [u8; MESSAGE_LEN],
    /// Its HMAC-SHA256.
    pub mac: [u8; 32],
}

impl Key {
    /// A key from its id and 32 random bytes.
    pub fn new(id: u8, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// The id that stands in each message.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The secret, to be stored encrypted and to be turned into the database's blocks; nowhere else.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The key XORed with HMAC's inner and outer pad (RFC 2104), as the database stores it to spare itself the work.
    pub fn blocks(&self) -> ([u8; 64], [u8; 64]) {
        let mut inner = [0x36_u8; 64];
        let mut outer = [0x5c_u8; 64];
        for (position, byte) in self.secret.iter().enumerate() {
            inner[position] ^= byte;
            outer[position] ^= byte;
        }
        (inner, outer)
    }

    /// Signs a token for a primary.
    pub fn sign(&self, token: &Token) -> Signed {
        self.sign_at(token, Place::PRIMARY)
    }

    /// Signs a token for where its backend runs.
    pub fn sign_at(&self, token: &Token, place: Place) -> Signed {
        self.sign_message(token.message(self.id), place)
    }

    /// Signs what lets this backend take jobs of every tenant of the database, and nothing else.
    pub fn sign_worker(&self, backend_pid: i32, now_us: i64) -> Signed {
        self.sign_worker_at(backend_pid, now_us, Place::PRIMARY)
    }

    /// The same for where the backend runs: at a standby it says only how far that is.
    pub fn sign_worker_at(&self, backend_pid: i32, now_us: i64, place: Place) -> Signed {
        let mut message = [0; MESSAGE_LEN];
        message[24] = FLAG_WORKER;
        message[25..33].copy_from_slice(&accept_until(now_us).to_be_bytes());
        message[33..37].copy_from_slice(&backend_pid.to_be_bytes());
        message[37] = self.id;
        self.sign_message(message, place)
    }

    fn sign_message(&self, message: [u8; MESSAGE_LEN], place: Place) -> Signed {
        let mut mac = self.hmac();
        mac.update(&message);
        if let Place(Some(started)) = place {
            mac.update(&started);
        }
        Signed {
            message,
            mac: mac.finalize().into_bytes().into(),
        }
    }

    /// A position in a server's log as a text that tells nobody what it is, and that nobody else can make: how busy a server is
    /// is not a tenant's to know. `nonce` is random.
    pub fn seal_position(&self, position: u64, nonce: [u8; 8]) -> [u8; POSITION_LEN] {
        let mut sealed = [0; POSITION_LEN];
        sealed[0] = self.id;
        sealed[1..9].copy_from_slice(&nonce);
        sealed[9..17].copy_from_slice(
            &(position ^ u64::from_be_bytes(self.derive(b"tenantry.position.pad", &nonce))).to_be_bytes(),
        );
        let tag = self.derive(b"tenantry.position.tag", &sealed[..17]);
        sealed[17..].copy_from_slice(&tag);
        sealed
    }

    /// The position; `None` where another key made the text, or nobody did.
    pub fn open_position(&self, sealed: &[u8; POSITION_LEN]) -> Option<u64> {
        let tag = self.derive(b"tenantry.position.tag", &sealed[..17]);
        // Nothing is gained by guessing it: a position says only how long a read of the tenant's own rows waits.
        if sealed[0] != self.id || sealed[17..] != tag {
            return None;
        }
        let hidden = u64::from_be_bytes(sealed[9..17].try_into().ok()?);
        Some(hidden ^ u64::from_be_bytes(self.derive(b"tenantry.position.pad", &sealed[1..9])))
    }

    fn derive(&self, purpose: &[u8; 21], of: &[u8]) -> [u8; 8] {
        let mut mac = self.hmac();
        mac.update(purpose);
        mac.update(of);
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|byte| mac[byte])
    }

    fn hmac(&self) -> Hmac<Sha256> {
        <Hmac<Sha256> as KeyInit>::new_from_slice(&self.secret).expect("HMAC takes keys of any length")
    }
}

impl Token {
    fn flags(&self) -> u8 {
        (u8::from(self.fresh) * FLAG_FRESH) | (u8::from(self.raw) * FLAG_RAW) | ((self.role as u8) << ROLE_SHIFT)
    }

    fn message(&self, key_id: u8) -> [u8; MESSAGE_LEN] {
        let mut message = [0; MESSAGE_LEN];
        message[0..16].copy_from_slice(self.tenant.as_uuid().as_bytes());
        message[16..24].copy_from_slice(&self.counter.to_be_bytes());
        message[24] = self.flags();
        message[25..33].copy_from_slice(&accept_until(self.now_us).to_be_bytes());
        message[33..37].copy_from_slice(&self.backend_pid.to_be_bytes());
        message[37] = key_id;
        if let Some(account) = self.account {
            message[38..54].copy_from_slice(account.as_uuid().as_bytes());
        }
        // The low half is enough: a process is behind by a few placements, not by four billion.
        message[54..58].copy_from_slice(&((self.epoch.0 & 0xffff_ffff) as u32).to_be_bytes());
        message
    }
}

/// As the database compares it: microseconds since 2000.
fn accept_until(now_us: i64) -> i64 {
    now_us - POSTGRES_EPOCH_US + TOKEN_TTL_US
}

impl Signed {
    /// The seal: what the carrier holds after `enter`, and the expectation of every later call. 50 hex digits.
    pub fn seal(&self) -> String {
        let mut seal = String::with_capacity(2 * SEAL_LEN);
        for byte in &self.message[..SEAL_LEN] {
            seal.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
            seal.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
        }
        seal
    }
}

/// SHA-256, for what is stored hashed (API keys, refresh tokens, operator keys): the input is random, so no salt is needed.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(0xaa)),
            counter: 7,
            fresh: true,
            raw: false,
            role: Role::Owner,
            now_us: POSTGRES_EPOCH_US,
            backend_pid: 42,
            account: None,
            epoch: Epoch(3),
        }
    }

    #[test]
    fn the_layout_is_what_the_database_reads() {
        let signed = Key::new(9, [1; 32]).sign(&token());
        assert_eq!(signed.message[15], 0xaa);
        assert_eq!(signed.message[23], 7);
        assert_eq!(signed.message[24], 0x31);
        assert_eq!(signed.message[25..33], TOKEN_TTL_US.to_be_bytes());
        assert_eq!(signed.message[36], 42);
        assert_eq!(signed.message[37], 9);
        assert_eq!(signed.message[57], 3);
        assert_eq!(signed.seal(), format!("{:030x}aa{:016x}31", 0, 7));
    }

    #[test]
    fn a_token_for_another_place_has_another_mac() {
        let key = Key::new(9, [1; 32]);
        let macs =
            [Place::PRIMARY, Place::standby([0; 8]), Place::standby([1; 8])].map(|place| key.sign_at(&token(), place));
        assert!(macs[0].mac != macs[1].mac && macs[0].mac != macs[2].mac && macs[1].mac != macs[2].mac);
        assert_eq!(macs[0], key.sign(&token()));
        assert_eq!(macs[0].message, macs[1].message);
    }

    #[test]
    fn a_position_opens_with_its_key_only() {
        let key = Key::new(9, [1; 32]);
        let sealed = key.seal_position(0x1_0000_0018, [5; 8]);
        assert_eq!(key.open_position(&sealed), Some(0x1_0000_0018));
        assert_ne!(sealed, key.seal_position(0x1_0000_0018, [6; 8]));
        assert_eq!(Key::new(9, [2; 32]).open_position(&sealed), None);
        assert_eq!(Key::new(8, [1; 32]).open_position(&sealed), None);
        for byte in 0..POSITION_LEN {
            let mut other = sealed;
            other[byte] ^= 1;
            assert_eq!(key.open_position(&other), None, "{byte}");
        }
    }

    #[test]
    fn a_workers_token_names_no_tenant() {
        let signed = Key::new(9, [1; 32]).sign_worker(42, POSTGRES_EPOCH_US);
        assert_eq!(signed.message[..24], [0; 24]);
        assert_eq!(signed.message[24], 4);
        assert_eq!(signed.message[25..33], TOKEN_TTL_US.to_be_bytes());
        assert_eq!(signed.message[36..38], [42, 9]);
        assert_eq!(signed.message[38..], [0; 20]);
    }

    #[test]
    fn the_blocks_give_the_same_mac() {
        let key = Key::new(0, [0x5a; 32]);
        let signed = key.sign(&token());
        let (inner, outer) = key.blocks();
        let inside = sha256(&[inner.as_slice(), &signed.message].concat());
        assert_eq!(sha256(&[outer.as_slice(), &inside].concat()), signed.mac);
    }
}
