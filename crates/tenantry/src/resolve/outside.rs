//! Tokens of other issuers, verified with the keys they publish.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tenantry_core::{CLOCK_LEEWAY_S, Email, TenantId};

use super::{
    OutsideIssuer, ResolveError, TenantRule,
    directory::Directory,
    fetch::Fetcher,
    resolver::find_tenant,
    token::{VerifiedToken, is_plain, now_s},
};

/// Published keys are fetched anew after this long, so that a withdrawn key stops counting.
const KEYS_FRESH: Duration = Duration::from_secs(3600);
/// While the issuer can't be reached its last keys count for this long at most.
const KEYS_USABLE: Duration = Duration::from_secs(24 * 3600);
/// Two fetches are at least this far apart: tokens with made-up key ids don't turn us against the issuer.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Keys of one issuer at most.
const KEYS_MAX: usize = 64;
/// A verified token is verified again after this long, with the keys of then.
const REVERIFY_S: i64 = 300;

/// The configured issuers.
pub(super) struct OutsideIssuers(Vec<Issuer>);

struct Issuer {
    config: OutsideIssuer,
    algorithms: Vec<Algorithm>,
    fetcher: Fetcher,
    keys: Mutex<Option<Fetched>>,
    // One fetch at a time; holds when the last one was tried.
    fetching: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<Vec<Jwk>>,
    at: Instant,
}

/// What a token of another issuer says, once it is known to be that issuer's.
struct Said {
    email: Email,
    tenant: Option<String>,
    expires_at: i64,
}

impl OutsideIssuers {
    /// Checks the configuration; its errors say what can't be secure about it.
    pub(super) fn new(configs: &[OutsideIssuer], own_issuer: &str) -> Result<Self, String> {
        let mut issuers: Vec<Issuer> = Vec::new();
        for config in configs {
            let name = &config.issuer;
            if name == own_issuer || issuers.iter().any(|issuer| issuer.config.issuer == *name) {
                return Err(format!(
                    "the issuer {name} is configured twice: each has one set of keys"
                ));
            }
            if config.audience.is_empty() {
                return Err(format!(
                    "the issuer {name} needs an audience: its tokens for others must not count here"
                ));
            }
            let algorithms = algorithms(config)?;
            let fetcher = Fetcher::new(&config.jwks_url).map_err(|why| format!("the issuer {name}: {why}"))?;
            issuers.push(Issuer {
                config: config.clone(),
                algorithms,
                fetcher,
                keys: Mutex::new(None),
                fetching: tokio::sync::Mutex::new(None),
            });
        }
        Ok(Self(issuers))
    }

    /// Verifies a token that claims to be `issuer`'s and finds its account and tenant.
    pub(super) async fn verify(
        &self,
        issuer: &str,
        token: &str,
        directory: &Directory,
        keys_version: u64,
    ) -> Result<VerifiedToken, ResolveError> {
        let issuer = self
            .0
            .iter()
            .find(|known| known.config.issuer == issuer)
            .ok_or(ResolveError::BadToken)?;
        let said = issuer.verify(token).await?;
        let account = directory.account_by_email(said.email.as_str()).await?;
        let tenant = match &said.tenant {
            Some(named) => Some(issuer.tenant(named, directory).await?),
            None => None,
        };
        let account = account.ok_or(ResolveError::Forbidden)?;
        // Who logs in elsewhere has no log-in here that would tell.
        directory.note_arrival(account, tenant).await;
        let leeway_s = i64::try_from(CLOCK_LEEWAY_S).unwrap_or(0);
        Ok(VerifiedToken {
            account,
            session: None,
            tenant,
            unusable_at: said.expires_at.saturating_add(leeway_s).min(now_s() + REVERIFY_S),
            first_seen: Instant::now(),
            keys_version,
        })
    }
}

fn algorithms(config: &OutsideIssuer) -> Result<Vec<Algorithm>, String> {
    let name = &config.issuer;
    let algorithms = config
        .algorithms
        .iter()
        .map(|text| match text.parse() {
            Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => Err(format!(
                "the issuer {name}: the algorithm {text} is none that signs with a private key"
            )),
            Ok(algorithm) => Ok(algorithm),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if algorithms.is_empty() {
        return Err(format!("the issuer {name} needs at least one algorithm"));
    }
    Ok(algorithms)
}

impl Issuer {
    async fn verify(&self, token: &str) -> Result<Said, ResolveError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| ResolveError::BadToken)?;
        if !self.algorithms.contains(&header.alg) || !is_plain(&header) {
            return Err(ResolveError::BadToken);
        }
        let key = self.key(&header).await?.ok_or(ResolveError::BadToken)?;
        let decoding_key = DecodingKey::from_jwk(&key).map_err(|_| ResolveError::BadToken)?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = CLOCK_LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &decoding_key, &validation)
            .map_err(|_| ResolveError::BadToken)?
            .claims;
        self.read(&claims).ok_or(ResolveError::BadToken)
    }

    /// The claims that count, each with its type.
    fn read(&self, claims: &Map<String, Value>) -> Option<Said> {
        let expires_at = claims.get("exp")?.as_i64()?;
        let whole = |name: &str| claims.get(name).is_none_or(Value::is_i64);
        if !whole("nbf") || !whole("iat") || claims.get("iss")?.as_str()? != self.config.issuer {
            return None;
        }
        // These stand in ID tokens only: they tell a client who logged in, and open nothing.
        if ["nonce", "at_hash", "c_hash"]
            .iter()
            .any(|name| claims.contains_key(*name))
        {
            return None;
        }
        let email: Email = claims.get(&self.config.email_claim)?.as_str()?.parse().ok()?;
        let is_verified = claims.get("email_verified") == Some(&Value::Bool(true));
        if !(is_verified || self.config.trust_unverified_email) {
            return None;
        }
        let tenant = match &self.config.tenant {
            TenantRule::Fixed(tenant) => Some(tenant.clone()),
            TenantRule::Claim { name, .. } | TenantRule::AnyClaim { name } => match claims.get(name) {
                None | Some(Value::Null) => None,
                Some(Value::String(tenant)) => Some(tenant.clone()),
                Some(_) => return None,
            },
        };
        // An issuer that speaks for some tenants only says nothing about a person in general.
        if tenant.is_none() && !matches!(self.config.tenant, TenantRule::AnyClaim { .. }) {
            return None;
        }
        Some(Said {
            email,
            tenant,
            expires_at,
        })
    }

    /// The tenant that the token names, if the issuer may speak for it.
    async fn tenant(&self, named: &str, directory: &Directory) -> Result<TenantId, ResolveError> {
        let tenant = find_tenant(directory, named).await?.ok_or(ResolveError::Forbidden)?;
        if let TenantRule::Claim { allowed, .. } = &self.config.tenant {
            let is_allowed = allowed
                .iter()
                .any(|allowed| *allowed == tenant.slug || allowed.parse() == Ok(tenant.id));
            if !is_allowed {
                return Err(ResolveError::BadToken);
            }
        }
        Ok(tenant.id)
    }

    /// The published key that the header names, fetched anew where it is not known yet.
    async fn key(&self, header: &Header) -> Result<Option<Jwk>, ResolveError> {
        let Some(kid) = &header.kid else { return Ok(None) };
        let known = self.keys.lock().clone();
        let find = |fetched: &Fetched| fetched.keys.iter().find(|key| fits(key, kid, header.alg)).cloned();
        if let Some(fetched) = &known
            && fetched.at.elapsed() < KEYS_FRESH
            && let Some(key) = find(fetched)
        {
            return Ok(Some(key));
        }
        let fetched = self.fetch(known.map(|known| known.at)).await;
        match fetched.filter(|fetched| fetched.at.elapsed() < KEYS_USABLE) {
            Some(fetched) => Ok(find(&fetched)),
            None => Err(ResolveError::Unavailable),
        }
    }

    /// The keys as published now, unless somebody fetched them since `seen`, or a moment ago.
    async fn fetch(&self, seen: Option<Instant>) -> Option<Fetched> {
        let mut tried_at = self.fetching.lock().await;
        let known = self.keys.lock().clone();
        let fetched_meanwhile = known.as_ref().map(|known| known.at) != seen;
        let tried_just_now = tried_at.is_some_and(|at| at.elapsed() < FETCH_INTERVAL);
        if fetched_meanwhile || tried_just_now {
            return known;
        }
        *tried_at = Some(Instant::now());
        match self.fetcher.fetch().await {
            Ok(document) => {
                let fetched = Fetched {
                    keys: Arc::new(keys(&document)),
                    at: Instant::now(),
                };
                *self.keys.lock() = Some(fetched.clone());
                Some(fetched)
            }
            Err(why) => {
                tracing::warn!(
                    issuer = self.config.issuer,
                    error = why,
                    "an issuer's keys can't be fetched"
                );
                known
            }
        }
    }
}

/// The keys of a JWK set that can be read; those of kinds we don't know are passed over.
fn keys(document: &Value) -> Vec<Jwk> {
    let keys = document.get("keys").and_then(Value::as_array);
    keys.into_iter()
        .flatten()
        .take(KEYS_MAX)
        .filter_map(|key| serde_json::from_value(key.clone()).ok())
        .collect()
}

/// Whether this is the public key that a token's header names: for signatures, and of the algorithm's kind.
fn fits(key: &Jwk, kid: &str, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let is_for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_of_algorithm = common
        .key_algorithm
        .as_ref()
        .is_none_or(|stated| is_same(stated, algorithm));
    let is_public = !matches!(
        key.algorithm,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)
    );
    common.key_id.as_deref() == Some(kid) && is_for_signatures && is_of_algorithm && is_public
}

fn is_same(stated: &KeyAlgorithm, algorithm: Algorithm) -> bool {
    serde_json::to_value(stated).ok() == serde_json::to_value(algorithm).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(tenant: TenantRule) -> OutsideIssuer {
        OutsideIssuer::new(
            "https://idp.example.com",
            "https://idp.example.com/jwks",
            "tenantry",
            tenant,
        )
    }

    #[test]
    fn what_can_not_be_secure_is_refused_at_start() {
        let fixed = || issuer(TenantRule::Fixed("acme".to_owned()));
        let refuses = |config: OutsideIssuer| OutsideIssuers::new(&[config], "https://own.example.com").is_err();
        assert!(!refuses(fixed()));
        let mut symmetric = fixed();
        symmetric.algorithms = vec!["HS256".to_owned()];
        assert!(refuses(symmetric));
        let mut none = fixed();
        none.algorithms = vec!["none".to_owned()];
        assert!(refuses(none));
        let mut plain = fixed();
        plain.jwks_url = "http://idp.example.com/jwks".to_owned();
        assert!(refuses(plain));
        let mut everybody = fixed();
        everybody.audience = String::new();
        assert!(refuses(everybody));
        assert!(OutsideIssuers::new(&[fixed(), fixed()], "https://own.example.com").is_err());
        assert!(OutsideIssuers::new(&[fixed()], "https://idp.example.com").is_err());
    }

    #[test]
    fn keys_of_unknown_kinds_are_passed_over() {
        let document = serde_json::json!({ "keys": [
            { "kty": "moon", "kid": "1" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "2", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
            { "kty": "oct", "kid": "3", "k": "c2VjcmV0" },
        ] });
        let keys = keys(&document);
        let usable = |kid| keys.iter().any(|key| fits(key, kid, Algorithm::EdDSA));
        assert!(usable("2"));
        assert!(!usable("1"));
        assert!(!usable("3"));
    }
}
