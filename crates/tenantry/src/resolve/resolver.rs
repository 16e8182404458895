//! From credentials to a checked context.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tenantry_catalog::{Catalog, directory};
use tenantry_core::{
    AccountId, Actor, ApiKeyId, CLOCK_LEEWAY_S, Context, CredentialKind, Role, TenantId, TenantState, seal::sha256,
};

use super::{
    AccountIdentity, ApiKeyIdentity, Credentials, HeaderField, Identity, PublicTenant, ResolveError, ResolverConfig,
    cache::Cache,
    directory::Directory,
    host::{HostTenant, host_tenant},
    outside::OutsideIssuers,
    token::{OwnTokens, SeenToken, TOKEN_BYTES_MAX, VerifiedToken, now_s},
};
use crate::Verified;

/// Tokens that were verified, at most.
const TOKENS_MAX: usize = 50_000;

/// Recognises who asks and in which tenant. Cheap to clone.
///
/// What the catalog says about accounts, tenants, log-ins and keys is kept in memory and checked on every request; for a
/// token seen before no database is asked. Changes arrive within a second, and when the catalog can't be reached for
/// some seconds everything is refused.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    config: ResolverConfig,
    directory: Directory,
    own: OwnTokens,
    outside: OutsideIssuers,
    tokens: Cache<[u8; 32], SeenToken>,
}

/// What [`Resolver::measure`] found.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Measured {
    /// The median time of one call.
    pub per_call: Duration,
    /// How often the catalog was asked meanwhile.
    pub catalog_lookups: u64,
}

/// For this long after a token was first seen it may know more than we do, a log-in or a membership of a moment ago:
/// before it is refused, the account is looked up anew. Later the catalog has told, and a refused token costs no query.
const YOUNG: Duration = Duration::from_secs(1);

impl Resolver {
    /// A resolver on this catalog.
    ///
    /// # Errors
    /// When an outside issuer is configured in a way that can't be secure; the text says which and why.
    pub fn start(catalog: Catalog, config: ResolverConfig) -> Result<Self, String> {
        let mut config = config;
        for domain in &mut config.domains {
            *domain = domain.trim_matches('.').to_ascii_lowercase();
        }
        let outside = OutsideIssuers::new(&config.outside_issuers, &config.issuer)?;
        Ok(Self(Arc::new(Inner {
            directory: Directory::start(catalog),
            own: OwnTokens::new(&config.issuer, &config.audience),
            outside,
            tokens: Cache::new(TOKENS_MAX, 16),
            config,
        })))
    }

    /// The context of a request for a tenant's data.
    ///
    /// # Errors
    /// See [`ResolveError`]. Whatever is refused, nothing weaker is tried instead.
    pub async fn resolve(&self, credentials: &Credentials<'_>) -> Result<Verified, ResolveError> {
        let inner = &*self.0;
        inner.directory.require_current()?;
        match inner.recognise(bearer(credentials.authorization)?).await? {
            Recognised::Operator(_) => Err(ResolveError::Forbidden),
            Recognised::ApiKey(key) => {
                let tenant = inner.tenant_of_credential(key.tenant, credentials).await?;
                require_served(tenant.state)?;
                Ok(Verified::new(Context {
                    tenant: key.tenant,
                    actor: Actor::ApiKey(key.id),
                    role: key.role,
                }))
            }
            Recognised::Account { token, account } => {
                let tenant = match token.tenant {
                    Some(tenant) => inner.tenant_of_credential(tenant, credentials).await?,
                    None => inner.chosen_tenant(credentials).await?,
                };
                let role = inner.role(&token, &account, tenant.id).await?;
                require_served(tenant.state)?;
                Ok(token.verified(Context {
                    tenant: tenant.id,
                    actor: Actor::Account(token.account),
                    role,
                }))
            }
        }
    }

    /// Who asks, for routes outside of any one tenant: log-in routes and the control plane.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Identity, ResolveError> {
        let inner = &*self.0;
        inner.directory.require_current()?;
        match inner.recognise(bearer(credentials.authorization)?).await? {
            Recognised::Operator(key) => Ok(Identity::Operator(key.operator.clone())),
            Recognised::ApiKey(key) => {
                inner.tenant_of_credential(key.tenant, credentials).await?;
                Ok(Identity::ApiKey(ApiKeyIdentity {
                    key: key.id,
                    tenant: key.tenant,
                    role: key.role,
                }))
            }
            Recognised::Account { token, .. } => {
                if let Some(tenant) = token.tenant {
                    inner.tenant_of_credential(tenant, credentials).await?;
                }
                Ok(Identity::Account(AccountIdentity {
                    account: token.account,
                    session: token.session,
                    tenant: token.tenant,
                }))
            }
        }
    }

    /// The tenant that the host names, for public pages. Opens nothing.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`], and [`ResolveError::TenantUnresolved`] for hosts that can't be read.
    pub async fn public_tenant(&self, credentials: &Credentials<'_>) -> Result<Option<PublicTenant>, ResolveError> {
        let inner = &*self.0;
        inner.directory.require_current()?;
        let (HostTenant::Slug(slug) | HostTenant::Perhaps(slug)) = inner.host(credentials)? else {
            return Ok(None);
        };
        let tenant = inner.directory.tenant_by_slug(slug.as_str()).await?;
        Ok(tenant
            .filter(|tenant| tenant.state == TenantState::Active)
            .map(|tenant| PublicTenant {
                id: tenant.id,
                slug: tenant.slug.clone(),
                name: tenant.name.clone(),
            }))
    }

    /// Whether the account has a membership in the tenant, accepted or not.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`].
    pub async fn is_member(&self, tenant: TenantId, account: AccountId) -> Result<bool, ResolveError> {
        self.0.directory.require_current()?;
        let account = self.0.directory.account(account).await?;
        Ok(account.is_some_and(|account| account.membership(tenant).is_some()))
    }

    /// The role that the account has in the tenant at this moment; `None` where it is no active member.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`].
    pub async fn role_of(&self, tenant: TenantId, account: AccountId) -> Result<Option<Role>, ResolveError> {
        self.0.directory.require_current()?;
        let account = self.0.directory.account(account).await?;
        Ok(account
            .filter(|account| account.active)
            .and_then(|account| account.active_role(tenant)))
    }

    /// The role that the tenant's API key gives at this moment; `None` where it is revoked or its time is over.
    pub(crate) async fn role_of_key(&self, tenant: TenantId, key: ApiKeyId) -> Result<Option<Role>, ResolveError> {
        self.0.directory.require_current()?;
        let key = self.0.directory.api_key_by_id(tenant, key).await?;
        Ok(key.filter(|key| is_before(key.expires_at)).map(|key| key.role))
    }

    /// The public halves of our signing keys, as a JWK set.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`].
    pub async fn jwks(&self) -> Result<Value, ResolveError> {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let keys = self.0.directory.signing_keys().await?;
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                let x = URL_SAFE_NO_PAD.encode(&key.public_key);
                json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.id, "x": x })
            })
            .collect();
        Ok(json!({ "keys": keys }))
    }

    /// Waits until what was committed to the catalog before this call counts here. For whoever has just made a change
    /// and answers its caller: the caller's next request then meets it, and not the second in which changes travel.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`] when the catalog does not tell within half a second; changes still arrive.
    pub async fn catch_up(&self) -> Result<(), ResolveError> {
        self.0.directory.catch_up().await
    }

    /// Whether the catalog's changes are known, as readiness checks want to know.
    pub fn is_current(&self) -> bool {
        self.0.directory.require_current().is_ok()
    }

    /// How often the catalog was asked because something was not in memory.
    pub fn catalog_lookups(&self) -> u64 {
        self.0.directory.lookups()
    }

    /// Resolves the same request `rounds` times, for benchmarks: the median of a hundred stretches.
    ///
    /// # Errors
    /// When the request can't be resolved.
    pub async fn measure(&self, credentials: &Credentials<'_>, rounds: u32) -> Result<Measured, ResolveError> {
        const STRETCHES: u32 = 100;
        self.resolve(credentials).await?;
        let lookups = self.catalog_lookups();
        let per_stretch = rounds.div_ceil(STRETCHES).max(1);
        let mut stretches = Vec::new();
        for _ in 0..STRETCHES {
            let started = Instant::now();
            for _ in 0..per_stretch {
                std::hint::black_box(self.resolve(std::hint::black_box(credentials)).await?);
            }
            stretches.push(started.elapsed() / per_stretch);
        }
        stretches.sort_unstable();
        Ok(Measured {
            per_call: stretches[stretches.len() / 2],
            catalog_lookups: self.catalog_lookups() - lookups,
        })
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        self.0.directory.catalog()
    }
}

enum Recognised {
    Operator(Arc<directory::OperatorKey>),
    ApiKey(Arc<directory::ApiKey>),
    Account {
        token: Arc<SeenToken>,
        account: Arc<directory::Account>,
    },
}

impl Inner {
    /// Who shows this credential.
    async fn recognise(&self, token: &str) -> Result<Recognised, ResolveError> {
        match CredentialKind::of(token) {
            Some(CredentialKind::OperatorKey) => self.operator_key(token).await.map(Recognised::Operator),
            Some(CredentialKind::ApiKey) => self.api_key(token).await.map(Recognised::ApiKey),
            // Good for being exchanged, not for being shown.
            Some(CredentialKind::RefreshToken | CredentialKind::PasswordReset) => Err(ResolveError::BadToken),
            None => self.account(token).await,
        }
    }

    async fn operator_key(&self, text: &str) -> Result<Arc<directory::OperatorKey>, ResolveError> {
        if !CredentialKind::OperatorKey.fits(text) {
            return Err(ResolveError::BadToken);
        }
        let key = self.directory.operator_key(&sha256(text.as_bytes())).await?;
        key.filter(|key| is_before(key.expires_at))
            .ok_or(ResolveError::BadToken)
    }

    async fn api_key(&self, text: &str) -> Result<Arc<directory::ApiKey>, ResolveError> {
        if !CredentialKind::ApiKey.fits(text) {
            return Err(ResolveError::BadToken);
        }
        let key = self.directory.api_key(&sha256(text.as_bytes())).await?;
        key.filter(|key| is_before(key.expires_at))
            .ok_or(ResolveError::BadToken)
    }

    async fn account(&self, text: &str) -> Result<Recognised, ResolveError> {
        let token = self.token(text).await?;
        let mut account = self.directory.account(token.account).await?;
        if !account.as_ref().is_some_and(|account| is_live(account, &token)) && is_young(&token) {
            account = self.directory.refreshed_account(token.account).await?;
        }
        match account {
            Some(account) if is_live(&account, &token) => Ok(Recognised::Account { token, account }),
            _ => Err(ResolveError::BadToken),
        }
    }

    /// The token, verified now or before.
    async fn token(&self, text: &str) -> Result<Arc<SeenToken>, ResolveError> {
        let hash = sha256(text.as_bytes());
        let keys_version = self.directory.signing_keys_version();
        if let Some(Some(token)) = self.tokens.get(&hash)
            && token.keys_version == keys_version
        {
            return if now_s() < token.unusable_at {
                Ok(token)
            } else {
                Err(ResolveError::BadToken)
            };
        }
        let token = Arc::new(SeenToken::from(self.verify(text, keys_version).await?));
        self.tokens
            .keep(self.tokens.ticket(&hash), &hash, Some(Arc::clone(&token)));
        Ok(token)
    }

    async fn verify(&self, text: &str, keys_version: u64) -> Result<VerifiedToken, ResolveError> {
        let issuer = claimed_issuer(text).ok_or(ResolveError::BadToken)?;
        if issuer != self.own.issuer() {
            return self.outside.verify(&issuer, text, &self.directory, keys_version).await;
        }
        let keys = self.directory.signing_keys().await?;
        let claims = self.own.verify(text, &keys).ok_or(ResolveError::BadToken)?;
        let leeway_s = i64::try_from(CLOCK_LEEWAY_S).unwrap_or(0);
        Ok(VerifiedToken {
            account: claims.sub,
            session: Some(claims.sid),
            tenant: claims.tenant,
            unusable_at: claims.exp.saturating_add(leeway_s),
            first_seen: Instant::now(),
            keys_version,
        })
    }

    /// What the membership allows.
    async fn role(
        &self,
        token: &VerifiedToken,
        account: &directory::Account,
        tenant: TenantId,
    ) -> Result<Role, ResolveError> {
        if let Some(role) = account.active_role(tenant) {
            return Ok(role);
        }
        if is_young(token)
            && let Some(account) = self.directory.refreshed_account(token.account).await?
            && is_live(&account, token)
            && let Some(role) = account.active_role(tenant)
        {
            return Ok(role);
        }
        Err(ResolveError::Forbidden)
    }

    /// The tenant that the credential names, unless host or header name another.
    async fn tenant_of_credential(
        &self,
        tenant: TenantId,
        credentials: &Credentials<'_>,
    ) -> Result<Arc<directory::Tenant>, ResolveError> {
        let tenant = self.directory.tenant(tenant).await?.ok_or(ResolveError::Forbidden)?;
        self.require_host_of(&tenant, credentials).await?;
        match credentials.tenant {
            HeaderField::Absent => Ok(tenant),
            HeaderField::Once(named) if is_named(&tenant, named) => Ok(tenant),
            HeaderField::Once(_) | HeaderField::Unusable => Err(ResolveError::TenantMismatch),
        }
    }

    /// The tenant that the header chooses, for a token that names none. Whether the account is its member is for the
    /// caller to check; a tenant that is not there is answered like one that is another's.
    async fn chosen_tenant(&self, credentials: &Credentials<'_>) -> Result<Arc<directory::Tenant>, ResolveError> {
        let HeaderField::Once(named) = credentials.tenant else {
            return Err(ResolveError::TenantUnresolved);
        };
        let tenant = self.find(named).await?.ok_or(ResolveError::Forbidden)?;
        self.require_host_of(&tenant, credentials).await?;
        Ok(tenant)
    }

    /// A tenant by slug or id.
    async fn find(&self, named: &str) -> Result<Option<Arc<directory::Tenant>>, ResolveError> {
        find_tenant(&self.directory, named).await
    }

    async fn require_host_of(
        &self,
        tenant: &directory::Tenant,
        credentials: &Credentials<'_>,
    ) -> Result<(), ResolveError> {
        match self.host(credentials)? {
            HostTenant::None => Ok(()),
            HostTenant::Slug(slug) | HostTenant::Perhaps(slug) if slug.as_str() == tenant.slug => Ok(()),
            HostTenant::Perhaps(slug) if self.directory.tenant_by_slug(slug.as_str()).await?.is_none() => Ok(()),
            HostTenant::Slug(_) | HostTenant::Perhaps(_) | HostTenant::Nobody => Err(ResolveError::TenantMismatch),
        }
    }

    /// What the host says; the forwarded one counts where a trusted proxy sent it.
    fn host(&self, credentials: &Credentials<'_>) -> Result<HostTenant, ResolveError> {
        if self.config.domains.is_empty() {
            return Ok(HostTenant::None);
        }
        let forwarded = self.is_trusted(credentials.peer) && credentials.forwarded_host != HeaderField::Absent;
        let host = if forwarded {
            credentials.forwarded_host
        } else {
            credentials.host
        };
        match host {
            HeaderField::Absent => Ok(HostTenant::None),
            HeaderField::Once(host) => Ok(host_tenant(host, &self.config.domains)),
            HeaderField::Unusable => Err(ResolveError::TenantUnresolved),
        }
    }

    fn is_trusted(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| self.config.trusted_proxies.iter().any(|network| network.contains(peer)))
    }
}

/// A tenant by slug or id.
pub(super) async fn find_tenant(
    directory: &Directory,
    named: &str,
) -> Result<Option<Arc<directory::Tenant>>, ResolveError> {
    if let Ok(id) = named.parse::<TenantId>() {
        return directory.tenant(id).await;
    }
    match named.parse::<tenantry_core::Slug>() {
        Ok(slug) => directory.tenant_by_slug(slug.as_str()).await,
        Err(_) => Ok(None),
    }
}

fn is_named(tenant: &directory::Tenant, named: &str) -> bool {
    tenant.slug == named || named.parse() == Ok(tenant.id)
}

fn is_young(token: &VerifiedToken) -> bool {
    token.first_seen.elapsed() < YOUNG
}

/// Whether the token's account and log-in still open anything.
fn is_live(account: &directory::Account, token: &VerifiedToken) -> bool {
    account.active && token.session.is_none_or(|session| account.sessions.contains(&session))
}

fn is_before(end: Option<chrono::DateTime<chrono::Utc>>) -> bool {
    end.is_none_or(|end| now_s() < end.timestamp())
}

fn require_served(state: TenantState) -> Result<(), ResolveError> {
    match state {
        TenantState::Active => Ok(()),
        TenantState::Suspended | TenantState::Deleted => Err(ResolveError::TenantSuspended),
        TenantState::Provisioning => Err(ResolveError::TenantNotReady),
        TenantState::Purged => Err(ResolveError::Forbidden),
    }
}

/// The credential of an `Authorization` header.
fn bearer(authorization: HeaderField<'_>) -> Result<&str, ResolveError> {
    let text = match authorization {
        HeaderField::Absent => return Err(ResolveError::Unauthenticated),
        HeaderField::Once(text) => text,
        HeaderField::Unusable => return Err(ResolveError::BadToken),
    };
    match text.split_once(' ') {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer")
                && (1..=TOKEN_BYTES_MAX).contains(&token.len())
                && token.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(token)
        }
        _ => Err(ResolveError::BadToken),
    }
}

/// Whose token it claims to be; only chooses by whose keys it is checked.
fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode::<Claimed>(token)
        .ok()
        .map(|data| data.claims.iss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_credential_is_read() {
        let read = |text| bearer(HeaderField::Once(text));
        assert_eq!(read("Bearer abc"), Ok("abc"));
        assert_eq!(read("bearer abc"), Ok("abc"));
        assert_eq!(bearer(HeaderField::Absent), Err(ResolveError::Unauthenticated));
        assert_eq!(bearer(HeaderField::Unusable), Err(ResolveError::BadToken));
        let long = format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX + 1));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic abc",
            "abc",
            "Bearer a b",
            "Bearer  a",
            "Bearer a\u{e9}",
            &long,
        ] {
            assert_eq!(read(bad), Err(ResolveError::BadToken), "{bad}");
        }
    }
}
