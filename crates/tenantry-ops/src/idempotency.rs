//! The same key from the same caller is the same request.

use serde_json::Value;
use tenantry_catalog::{
    CatalogError, Db,
    idempotency::{self, Claim, Request},
};
use tenantry_core::{OperationId, TenantId, seal::sha256};

use crate::Authority;

/// The longest key, in bytes.
const KEY_LEN_MAX: usize = 255;

/// A request that may come again, if it brought a key.
pub(crate) struct Keyed<'a> {
    key: Option<&'a str>,
    caller: String,
    hash: [u8; 32],
}

/// The request came before, and this is what it made.
pub(crate) struct Again {
    pub(crate) tenant: TenantId,
    /// None where nothing goes on.
    pub(crate) operation: Option<OperationId>,
}

/// Why a key can't be used.
#[derive(Debug)]
pub(crate) enum KeyError {
    /// It has no usable form.
    Malformed,
    /// It came with another request before.
    Reused,
    Catalog(CatalogError),
}

impl From<CatalogError> for KeyError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

impl<'a> Keyed<'a> {
    /// `request` is what makes two requests the same; no passwords: a fast hash of one would help to guess it.
    pub(crate) fn new(authority: &Authority, key: Option<&'a str>, request: &Value) -> Result<Self, KeyError> {
        if key.is_some_and(|key| key.is_empty() || key.len() > KEY_LEN_MAX) {
            return Err(KeyError::Malformed);
        }
        Ok(Self {
            key,
            caller: authority.actor(),
            hash: sha256(request.to_string().as_bytes()),
        })
    }

    /// Asked first in the transaction that does it. The same request at the same time waits here until that ends.
    pub(crate) async fn claim(&self, db: &impl Db) -> Result<Option<Again>, KeyError> {
        let Some(request) = self.request() else { return Ok(None) };
        match idempotency::claim(db, request).await? {
            Claim::New => Ok(None),
            Claim::Repeated {
                tenant: Some(tenant),
                operation,
            } => Ok(Some(Again { tenant, operation })),
            Claim::Repeated { tenant: None, .. } | Claim::Mismatch => Err(KeyError::Reused),
        }
    }

    /// Said in the same transaction, when it is known what was made.
    pub(crate) async fn record(
        &self,
        db: &impl Db,
        tenant: TenantId,
        operation: Option<OperationId>,
    ) -> Result<(), CatalogError> {
        match self.request() {
            Some(request) => idempotency::record(db, request, tenant, operation).await,
            None => Ok(()),
        }
    }

    fn request(&self) -> Option<Request<'_>> {
        self.key.map(|key| Request {
            caller: &self.caller,
            key,
            hash: &self.hash,
        })
    }
}
