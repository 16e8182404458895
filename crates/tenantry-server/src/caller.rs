//! Who asks: from the request's credentials to the authority that the use cases want.

use axum::{extract::FromRequestParts, http::request::Parts};
use tenantry::{
    Identity, ResolveError,
    axum::{Code, Problem, RequestLog, credentials},
};
use tenantry_core::{AccountId, TenantId};
use tenantry_ops::{AccountSession, Authority, Origin};

use crate::Services;

/// Whoever shows a valid credential: an operator, or a member or API key in a tenant.
pub(crate) struct Caller(pub(crate) Authority);

/// A person with an access token of ours, whether or not it names a tenant.
pub(crate) struct Person {
    pub(crate) session: AccountSession,
    pub(crate) tenant: Option<TenantId>,
}

/// A person with an access token, ours or another issuer's.
pub(crate) struct Invited {
    pub(crate) account: AccountId,
    /// The log-in; none where it is at another issuer.
    pub(crate) session: Option<AccountSession>,
    /// The tenant that the token names.
    pub(crate) tenant: Option<TenantId>,
}

/// The tenant whose page this is, by the host alone: it opens nothing.
pub(crate) struct Page(pub(crate) Option<TenantId>);

impl FromRequestParts<Services> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        match services.tenantry.resolver()?.public_tenant(&credentials(parts)).await {
            Ok(tenant) => Ok(Self(tenant.map(|tenant| tenant.id))),
            // A host that can't be read is no tenant's.
            Err(ResolveError::TenantUnresolved) => Ok(Self(None)),
            Err(error) => Err(error.into()),
        }
    }
}

impl FromRequestParts<Services> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let origin = parts.extensions.get::<Origin>().cloned().unwrap_or_default();
        let resolver = services.tenantry.resolver()?;
        let credentials = credentials(parts);
        let log = parts.extensions.get::<RequestLog>();
        if let Identity::Operator(operator) = resolver.authenticate(&credentials).await? {
            if let Some(log) = log {
                log.note("operator.id", operator.key);
            }
            return Ok(Self(Authority::Operator { operator, origin }));
        }
        let verified = resolver.resolve(&credentials).await?;
        if let Some(log) = log {
            log.note_context(verified.context());
        }
        Ok(Self(Authority::Member {
            context: verified.context().clone(),
            origin,
        }))
    }
}

impl FromRequestParts<Services> for Invited {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let identity = services.tenantry.resolver()?.authenticate(&credentials(parts)).await?;
        let Identity::Account(person) = identity else {
            return Err(Problem::new(
                Code::Forbidden,
                "Only a person with an access token can do this.",
            ));
        };
        let account = person.account;
        if let Some(log) = parts.extensions.get::<RequestLog>() {
            log.note("account.id", account);
            if let Some(tenant) = person.tenant {
                log.note("tenant.id", tenant);
            }
        }
        let session = person.session.map(|session| AccountSession { account, session });
        Ok(Self {
            account,
            session,
            tenant: person.tenant,
        })
    }
}

impl FromRequestParts<Services> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let Invited { session, tenant, .. } = Invited::from_request_parts(parts, services).await?;
        let Some(session) = session else {
            return Err(Problem::new(
                Code::Forbidden,
                "This token's log-in is at its own issuer; do it there.",
            ));
        };
        Ok(Self { session, tenant })
    }
}
