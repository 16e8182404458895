//! Verification of our own access tokens.

use std::{
    ops::Deref,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use parking_lot::Mutex;
use tenantry_catalog::signing_key::{PublicKey, SigningKeyState};
use tenantry_core::{
    ACCESS_TOKEN_LIFE_MAX_S, ACCESS_TOKEN_TYPE, AccessClaims, AccountId, CLOCK_LEEWAY_S, Context, SessionId, TenantId,
};

use crate::Verified;

/// Longer credentials are refused unread; ours have some 700 bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8192;

/// What is remembered of a token that was verified: whatever can change is checked on every use.
#[derive(Clone, Copy, Debug)]
pub(super) struct VerifiedToken {
    pub(super) account: AccountId,
    pub(super) session: Option<SessionId>,
    pub(super) tenant: Option<TenantId>,
    /// Seconds since 1970, leeway included: not to be used then or later.
    pub(super) unusable_at: i64,
    pub(super) first_seen: Instant,
    /// The version of the keys that it was verified with.
    pub(super) keys_version: u64,
}

/// A token that is remembered, and the context that it last stood for.
pub(super) struct SeenToken {
    token: VerifiedToken,
    last: Mutex<Option<Verified>>,
}

impl SeenToken {
    /// This context, as it was made for an earlier request if it is the same still: so that the next query need not look up
    /// where the tenant lives.
    pub(super) fn verified(&self, context: Context) -> Verified {
        let mut last = self.last.lock();
        match &*last {
            Some(verified) if *verified.context() == context => verified.clone(),
            _ => last.insert(Verified::new(context)).clone(),
        }
    }
}

impl From<VerifiedToken> for SeenToken {
    fn from(token: VerifiedToken) -> Self {
        Self {
            token,
            last: Mutex::default(),
        }
    }
}

impl Deref for SeenToken {
    type Target = VerifiedToken;

    fn deref(&self) -> &VerifiedToken {
        &self.token
    }
}

/// Checks our own tokens.
pub(super) struct OwnTokens {
    issuer: String,
    validation: Validation,
}

impl OwnTokens {
    pub(super) fn new(issuer: &str, audience: &str) -> Self {
        // An application may have switched on a second provider in its own build; then none is chosen by itself.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = CLOCK_LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Self {
            issuer: issuer.to_owned(),
            validation,
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The claims of a token that is ours, and valid now.
    pub(super) fn verify(&self, token: &str, keys: &[PublicKey]) -> Option<AccessClaims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if header.typ.as_deref() != Some(ACCESS_TOKEN_TYPE) || !is_plain(&header) {
            return None;
        }
        let kid = header.kid?;
        let key = keys.iter().find(|key| key.id.to_string() == kid)?;
        let decoding_key = DecodingKey::from_ed_der(&key.public_key);
        let claims = jsonwebtoken::decode::<AccessClaims>(token, &decoding_key, &self.validation)
            .ok()?
            .claims;
        (has_our_times(&claims) && could_sign(key, &claims)).then_some(claims)
    }
}

/// We never sign with a header that names keys, encrypts or compresses; and none of that is ever followed.
pub(super) fn is_plain(header: &Header) -> bool {
    header.jku.is_none()
        && header.jwk.is_none()
        && header.x5u.is_none()
        && header.x5c.is_none()
        && header.x5t.is_none()
        && header.x5t_s256.is_none()
        && header.crit.is_none()
        && header.enc.is_none()
        && header.zip.is_none()
}

/// No token of ours comes from the future or lives longer than any of ours may, so that an overflow or a forgotten end
/// opens nothing.
fn has_our_times(claims: &AccessClaims) -> bool {
    let leeway_s = i64::try_from(CLOCK_LEEWAY_S).unwrap_or(0);
    let lives_s = claims.exp.checked_sub(claims.iat);
    claims.iat <= now_s() + leeway_s && lives_s.is_some_and(|s| (0..=ACCESS_TOKEN_LIFE_MAX_S).contains(&s))
}

/// A retired key signs nothing new: what it signed since then was signed by a thief.
fn could_sign(key: &PublicKey, claims: &AccessClaims) -> bool {
    let leeway_s = i64::try_from(CLOCK_LEEWAY_S).unwrap_or(0);
    match (key.state, key.retired_at) {
        (SigningKeyState::Next | SigningKeyState::Current, _) => true,
        (SigningKeyState::Retired, Some(retired_at)) => claims.iat <= retired_at.timestamp() + leeway_s,
        (SigningKeyState::Retired, None) => false,
    }
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
