//! Proof that nothing of a purged tenant is left but the record: looked for everywhere it could be, and signed.

mod certificate;
mod places;

pub use certificate::{Certificate, FoundTrace, LookedAt, Place, Removed};
pub use tenantry_catalog::erasure::Verdict;

use chrono::{DateTime, Utc};
use serde_json::json;
use tenantry_catalog::{
    CatalogError, Transaction,
    erasure::{self, KeptErasure, NewErasure},
    operation::{self, Operation, OperationKind},
    tenant::{self, Tenant},
};
use tenantry_core::{OperatorScope, TenantState};
use uuid::Uuid;

use crate::{
    Authority, CertificateError, Forbidden, Ops, Signed, TenantRef,
    audit::{self, Act},
    certificate::Subject,
};

/// How long a text has to be that is looked for: a shorter one is found by chance.
const TEXT_LEN: std::ops::RangeInclusive<usize> = 6..=500;
/// How many texts are looked for at once.
const TEXTS_MAX: usize = 100;

/// How deep it is looked. [`Default`] is what each purge does by itself.
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct ErasureRequest {
    /// Other texts than the tenant's id that nothing but its own data held: a customer's number, a name. With any, every row is read.
    pub texts: Vec<String>,
    /// Looks into every tenant database of the fleet, not only into those that tenants share.
    pub all_databases: bool,
    /// Reads every column of every row of these, not only those that say whose a row is.
    pub every_row: bool,
    /// Writes the tables that tenants share anew, so that no bytes of dead rows stay in their files; whoever uses one waits meanwhile.
    pub rewrite: bool,
    /// Reads the files of these databases on their servers' disks.
    pub read_files: bool,
}

/// What is left of a purged tenant, signed.
pub type Erasure = Signed<Certificate>;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant.
    #[error("there is no such tenant: name a purged one by its id, or by the slug that it had")]
    NotFound,
    /// It has not been purged.
    #[error(
        "the tenant is {state}, and only what was purged can be shown to be gone: purge it, or name the one that was purged by its id"
    )]
    State {
        /// The state it is in.
        state: TenantState,
    },
    /// Its purge has not ended.
    #[error("the tenant's purge (operation {0}) is still under way: wait for it")]
    Busy(tenantry_core::OperationId),
    /// Nobody has looked yet.
    #[error("nobody has looked for what is left of the tenant yet: tenantry tenant erasure --scan")]
    NoneYet,
    /// A text can't be looked for.
    #[error(
        "a text to look for has 6 to 500 characters, none of them a control character, a quotation mark or a backslash, and there are \
         100 at most"
    )]
    Text,
    /// What is kept in the catalog is no certificate of this installation any more.
    #[error("the certificate that the catalog keeps is not as it was signed: {0}")]
    Certificate(#[from] CertificateError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for ErasureError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Looks for what is left of a purged tenant, keeps what was found as a signed certificate, and gives it. The audit log notes it.
    ///
    /// Tables that tenants share are vacuumed first, so that rows which are only marked as deleted are cleared away.
    ///
    /// # Errors
    /// See [`ErasureError`]. What is left, or can't be looked at, is no error but what the certificate says.
    ///
    /// # Cancel safety
    /// Dropped, no certificate is kept; some tables may have been vacuumed.
    pub async fn certify_erasure(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        request: &ErasureRequest,
    ) -> Result<Erasure, ErasureError> {
        authority.require_operator(OperatorScope::Tenants)?;
        check_texts(&request.texts)?;
        let client = self.catalog().client().await?;
        let tenant = self.find_purged(&client, tenant).await?;
        if let Some(live) = operation::find_live(&client, tenant.id).await? {
            return Err(ErasureError::Busy(live.id));
        }
        let purge = operation::find_latest(&client, tenant.id, OperationKind::Purge).await?;
        drop(client);
        let certificate = self.look_for(authority, &tenant, purge.as_ref(), request).await;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let erasure = self.keep_certificate(&transaction, authority, certificate).await?;
        transaction.commit().await?;
        Ok(erasure)
    }

    /// The latest certificate of a purged tenant.
    ///
    /// # Errors
    /// See [`ErasureError`].
    pub async fn find_erasure(&self, authority: &Authority, tenant: &TenantRef) -> Result<Erasure, ErasureError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        let tenant = self.find_purged(&client, tenant).await?;
        let kept = erasure::find_latest(&client, tenant.id).await?;
        let KeptErasure { jws, .. } = kept.ok_or(ErasureError::NoneYet)?;
        Ok(Signed {
            certificate: self.open_certificate(Subject::Erasure, &jws)?,
            jws,
        })
    }

    /// Reads a certificate of an erasure that somebody shows: as [`Signed::document`] writes it, or only its signed line.
    ///
    /// # Errors
    /// [`CertificateError`] where this installation did not sign it, where it says something else than what was signed, and where it is
    /// about something else.
    pub fn verify_erasure(&self, document: &str) -> Result<Certificate, CertificateError> {
        self.read_certificate(Subject::Erasure, document)
    }

    async fn find_purged(&self, db: &impl tenantry_catalog::Db, tenant: &TenantRef) -> Result<Tenant, ErasureError> {
        let found = match tenant {
            TenantRef::Id(id) => tenant::find(db, *id).await?,
            TenantRef::Slug(slug) => match tenant::find_by_slug(db, slug).await? {
                Some(found) => Some(found),
                None => match erasure::tenant_once_called(db, slug).await? {
                    Some(id) => tenant::find(db, id).await?,
                    None => None,
                },
            },
        };
        let found = found.ok_or(ErasureError::NotFound)?;
        match found.state {
            TenantState::Purged => Ok(found),
            state => Err(ErasureError::State { state }),
        }
    }

    /// Signs and keeps a certificate, and notes it in the audit log with the digest of the signed line. The last thing in a transaction.
    pub(crate) async fn keep_certificate(
        &self,
        transaction: &Transaction<'_>,
        authority: &Authority,
        certificate: Certificate,
    ) -> Result<Erasure, CatalogError> {
        let signed = self.certify(Subject::Erasure, certificate);
        let certificate = &signed.certificate;
        let new = NewErasure {
            id: certificate.id,
            tenant: certificate.tenant,
            slug: &certificate.slug,
            verdict: certificate.verdict,
            jws: &signed.jws,
        };
        erasure::insert(transaction, &new).await?;
        let act = Act {
            action: "tenant.erasure",
            tenant: Some(certificate.tenant),
            target: certificate.tenant.to_string(),
            before: None,
            after: Some(json!({
                "certificate": certificate.id, "verdict": certificate.verdict, "sha256": signed.digest()
            })),
        };
        audit::record(transaction, authority, act).await?;
        Ok(signed)
    }

    /// Looks everywhere; what can't be looked at is noted.
    pub(crate) async fn look_for(
        &self,
        authority: &Authority,
        tenant: &Tenant,
        purge: Option<&Operation>,
        request: &ErasureRequest,
    ) -> Certificate {
        let begun_at = whole_seconds(Utc::now());
        let places = places::look(self, tenant.id, request).await;
        Certificate::new(
            Uuid::now_v7(),
            self.catalog().installation(),
            tenant,
            purge,
            authority.actor(),
            (begun_at, whole_seconds(Utc::now())),
            request,
            places,
        )
    }
}

/// What is printed and read again stays the same.
fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

fn check_texts(texts: &[String]) -> Result<(), ErasureError> {
    let fits = |text: &String| {
        TEXT_LEN.contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
    };
    match texts.len() <= TEXTS_MAX && texts.iter().all(fits) {
        true => Ok(()),
        false => Err(ErasureError::Text),
    }
}
