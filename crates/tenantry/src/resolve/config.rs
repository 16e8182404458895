//! Whose tokens are accepted, and which hosts and proxies are believed.

use serde::Deserialize;

use super::Network;

/// Whose tokens are accepted, and which hosts and proxies are believed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolverConfig {
    /// The `iss` of our own access tokens.
    pub issuer: String,
    /// The `aud` of our own access tokens.
    pub audience: String,
    /// Domains below which a label is a tenant's slug, for example `example.com`. `*` stands for every other domain: a
    /// host's first label then names the tenant with that slug, if there is one. That is for trying things out, since
    /// whoever takes the slug `crm` would take over `crm.example.com`.
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
///
/// In a configuration file, for a provider that speaks for two tenants:
///
/// ```toml
/// [[outside_issuers]]
/// issuer = "https://idp.example.com"
/// jwks_url = "https://idp.example.com/.well-known/jwks.json"
/// audience = "our-api"
/// tenant_claim = "org"
/// tenants = ["acme", "globex"]   # or all_tenants = true; or tenant = "acme" instead of these two
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
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

/// An [`OutsideIssuer`] as a configuration file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    issuer: String,
    jwks_url: String,
    audience: String,
    algorithms: Option<Vec<String>>,
    email_claim: Option<String>,
    #[serde(default)]
    trust_unverified_email: bool,
    tenant: Option<String>,
    tenant_claim: Option<String>,
    tenants: Option<Vec<String>>,
    #[serde(default)]
    all_tenants: bool,
}

impl TryFrom<Written> for OutsideIssuer {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let tenant = match (
            written.tenant,
            written.tenant_claim,
            written.tenants,
            written.all_tenants,
        ) {
            (Some(tenant), None, None, false) => TenantRule::Fixed(tenant),
            (None, Some(name), Some(allowed), false) => TenantRule::Claim { name, allowed },
            (None, Some(name), None, true) => TenantRule::AnyClaim { name },
            _ => {
                return Err(
                    "say which tenants the issuer speaks for: tenant = \"slug\", or tenant_claim = \"claim\" with \
                     tenants = [\"slug\"] or with all_tenants = true",
                );
            }
        };
        let mut issuer = Self::new(written.issuer, written.jwks_url, written.audience, tenant);
        issuer.algorithms = written.algorithms.unwrap_or(issuer.algorithms);
        issuer.email_claim = written.email_claim.unwrap_or(issuer.email_claim);
        issuer.trust_unverified_email = written.trust_unverified_email;
        Ok(issuer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_written_issuer_says_for_which_tenants_it_speaks() {
        let read = |extra: serde_json::Value| {
            let mut written = json!({ "issuer": "https://a", "jwks_url": "https://a/k", "audience": "us" });
            let fields = extra.as_object().expect("an object").clone();
            written.as_object_mut().expect("an object").extend(fields);
            serde_json::from_value::<OutsideIssuer>(written).map(|issuer| issuer.tenant)
        };
        let name = || "org".to_owned();
        let allowed = vec!["acme".to_owned()];
        assert_eq!(
            read(json!({ "tenant": "acme" })).expect("valid"),
            TenantRule::Fixed("acme".to_owned())
        );
        assert_eq!(
            read(json!({ "tenant_claim": "org", "tenants": ["acme"] })).expect("valid"),
            TenantRule::Claim { name: name(), allowed }
        );
        assert_eq!(
            read(json!({ "tenant_claim": "org", "all_tenants": true })).expect("valid"),
            TenantRule::AnyClaim { name: name() }
        );
        for bad in [
            json!({}),
            json!({ "tenant_claim": "org" }),
            json!({ "tenants": ["acme"] }),
            json!({ "tenant": "acme", "tenant_claim": "org" }),
            json!({ "tenant_claim": "org", "tenants": ["acme"], "all_tenants": true }),
            json!({ "tenant": "acme", "tennant": "globex" }),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
