//! The keys that sign access tokens: made, rotated, published.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tenantry_catalog::{
    CatalogError, Db, change,
    signing_key::{self, SigningKeyState},
};
use tenantry_core::{ACCESS_TOKEN_TYPE, AccessClaims, CLOCK_LEEWAY_S, Change, OperatorScope};
use uuid::Uuid;

use crate::{
    Authority, Forbidden, Ops,
    audit::{self, Act},
};

/// Why signing keys were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such key.
    #[error("there is no such signing key: `tenantry signing-key list` shows those there are")]
    NotFound,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for SigningKeyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Makes the first signing keys if there are none. Any number of processes may do so at once.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn ensure_signing_keys(&self) -> Result<(), CatalogError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        signing_key::lock(&transaction).await?;
        let has = |keys: &[signing_key::PublicKey], state| keys.iter().any(|key| key.state == state);
        let keys = signing_key::list(&transaction).await?;
        if !has(&keys, SigningKeyState::Current) {
            if !has(&keys, SigningKeyState::Next) {
                self.insert_next_key(&transaction).await?;
            }
            signing_key::advance(&transaction).await?;
            self.insert_next_key(&transaction).await?;
            change::announce(&transaction, Change::SigningKeys).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Lets the next key sign from now on and makes another next one. What the old one signed stays valid until it
    /// expires; keys whose tokens have all expired are removed.
    ///
    /// # Errors
    /// See [`SigningKeyError`].
    pub async fn rotate_signing_keys(&self, authority: &Authority) -> Result<(), SigningKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        signing_key::lock(&transaction).await?;
        if !signing_key::advance(&transaction).await? {
            // Only where somebody removed the next key by hand.
            self.insert_next_key(&transaction).await?;
            signing_key::advance(&transaction).await?;
        }
        self.insert_next_key(&transaction).await?;
        let lived = self.identity().access_ttl + Duration::from_secs(2 * CLOCK_LEEWAY_S);
        signing_key::delete_retired(&transaction, lived).await?;
        change::announce(&transaction, Change::SigningKeys).await?;
        let act = Act {
            action: "signing-key.rotate",
            tenant: None,
            target: String::new(),
            before: None,
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The keys whose tokens are accepted, and the one that signs next.
    ///
    /// # Errors
    /// See [`SigningKeyError`].
    pub async fn list_signing_keys(
        &self,
        authority: &Authority,
    ) -> Result<Vec<signing_key::PublicKey>, SigningKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        Ok(signing_key::list(&self.catalog().client().await?).await?)
    }

    /// Removes a signing key that leaked: every token it signed stops being valid within a second.
    ///
    /// # Errors
    /// See [`SigningKeyError`].
    pub async fn remove_signing_key(&self, authority: &Authority, id: Uuid) -> Result<(), SigningKeyError> {
        authority.require_operator(OperatorScope::Keys)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        signing_key::lock(&transaction).await?;
        if !signing_key::delete(&transaction, id).await? {
            return Err(SigningKeyError::NotFound);
        }
        change::announce(&transaction, Change::SigningKeys).await?;
        let act = Act {
            action: "signing-key.remove",
            tenant: None,
            target: id.to_string(),
            before: None,
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        drop(client);
        self.ensure_signing_keys().await?;
        Ok(())
    }

    /// The public halves of all keys, as a JWK set (RFC 7517, RFC 8037): of those that sign tokens, and last of the one that signs
    /// certificates.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn jwks(&self) -> Result<Value, CatalogError> {
        let client = self.catalog().client().await?;
        let keys = signing_key::list(&client).await?;
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "alg": "EdDSA",
                    "use": "sig",
                    "kid": key.id,
                    "x": URL_SAFE_NO_PAD.encode(&key.public_key),
                })
            })
            .chain([self.certificate_jwk()])
            .collect();
        Ok(json!({ "keys": keys }))
    }

    /// Signs an access token with the current key.
    pub(crate) async fn sign(&self, db: &impl Db, claims: &AccessClaims) -> Result<String, CatalogError> {
        let Some((id, sealed)) = signing_key::current(db).await? else {
            return Err(CatalogError::Unknown {
                column: "signing_key.state",
            });
        };
        let pkcs8 = self.catalog().open(signing_key::private_key_column(id), &sealed)?;
        let header = Header {
            typ: Some(ACCESS_TOKEN_TYPE.to_owned()),
            kid: Some(id.to_string()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&pkcs8)).map_err(|_| CatalogError::Unknown {
            column: "signing_key.private_key_sealed",
        })
    }

    async fn insert_next_key(&self, db: &impl Db) -> Result<(), CatalogError> {
        let pair = Ed25519KeyPair::generate().expect("the operating system gives randomness");
        let pkcs8 = pair.to_pkcs8v1().expect("a fresh key can be written down");
        let id = Uuid::now_v7();
        let sealed = self.catalog().seal(signing_key::private_key_column(id), pkcs8.as_ref());
        signing_key::insert_next(db, id, pair.public_key().as_ref(), &sealed).await
    }
}
