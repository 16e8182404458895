//! Whose tokens are accepted, and which hosts and proxies are believed.

use super::Network;

/// Whose tokens are accepted, and which hosts and proxies are believed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolverConfig {
    /// The `iss` of our own access tokens.
    pub issuer: String,
    /// The `aud` of our own access tokens.
    pub audience: String,
    /// Domains below which a label is a tenant's slug, for example `example.com`.
    pub domains: Vec<String>,
    /// Proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Other issuers whose tokens are accepted.
    pub outside_issuers: Vec<OutsideIssuer>,
}

/// Another issuer whose access tokens are accepted, with keys published as a JWK set.
///
/// Its tokens name persons by e-mail. What a person may do comes from the membership in the catalog, never from the
/// token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutsideIssuer {
    /// The exact `iss`.
    pub issuer: String,
    /// Where its keys are published: `https`, or `http` on this machine.
    pub jwks_url: String,
    /// The `aud` that its tokens for us carry.
    pub audience: String,
    /// The algorithms it signs with; `RS256`, `PS256`, `ES256`, `EdDSA` and their longer kin. Never a symmetric one.
    pub algorithms: Vec<String>,
    /// The claim with the person's e-mail, `email` if nothing else is said.
    pub email_claim: String,
    /// Accept e-mails that the issuer does not call verified. Only for an issuer that gives out the addresses itself.
    pub trust_unverified_email: bool,
    /// Which tenant its tokens open.
    pub tenant: TenantRule,
}

/// Which tenant the tokens of another issuer open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TenantRule {
    /// Always this one, by slug or id: a tenant's own identity provider.
    Fixed(String),
    /// What this claim names, by slug or id, among these: an issuer speaks for no tenant that is not its own.
    Claim {
        /// The claim.
        name: String,
        /// The tenants, by slug or id, that the issuer may name.
        allowed: Vec<String>,
    },
    /// What this claim names, whichever tenant: only for an issuer that is trusted for all of them.
    AnyClaim {
        /// The claim.
        name: String,
    },
}

impl ResolverConfig {
    /// Accepts our own tokens only; hosts name no tenants, no proxy is believed.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            domains: Vec::new(),
            trusted_proxies: Vec::new(),
            outside_issuers: Vec::new(),
        }
    }
}

impl OutsideIssuer {
    /// An issuer whose tokens carry a verified `email` and are signed with RS256, ES256 or EdDSA.
    pub fn new(
        issuer: impl Into<String>,
        jwks_url: impl Into<String>,
        audience: impl Into<String>,
        tenant: TenantRule,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            jwks_url: jwks_url.into(),
            audience: audience.into(),
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).into(),
            email_claim: "email".to_owned(),
            trust_unverified_email: false,
            tenant,
        }
    }
}
