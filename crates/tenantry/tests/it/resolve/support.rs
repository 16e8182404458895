//! A catalog per test, one process that changes it and others that resolve.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::{
    AccountId, Credentials, HeaderField, Identity, Network, ResolveError, Resolver, ResolverConfig, Role, TenantId,
    Verified,
};
use tenantry_catalog::{
    Catalog, MasterKey, signing_key,
    tenant::{self, NewTenant},
};
use tenantry_core::Email;
use tenantry_ops::{
    AccountSession, ApiKeyRequest, Authority, IdentityConfig, LoggedIn, Login, NewMember, OperatorKeyRequest, Ops,
    Origin, Password, Profile,
};
use tenantry_testing::TestDatabase;
use uuid::Uuid;

pub(super) const ISSUER: &str = "https://tenantry.test";
pub(super) const AUDIENCE: &str = "tenantry";
const PASSWORD: &str = "correct horse battery";

pub(super) struct Fixture {
    pub(super) ops: Ops,
    pub(super) catalog: Catalog,
    pub(super) master_key: MasterKey,
    // Dropped last: the pools' connections end before their database.
    pub(super) database: TestDatabase,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let database = tenantry_testing::database().await;
        let master_key = MasterKey::generate();
        let catalog = Catalog::connect(&database.url(), &master_key).await.unwrap();
        let ops = Ops::new(catalog.clone(), IdentityConfig::new(ISSUER, AUDIENCE));
        ops.ensure_signing_keys().await.unwrap();
        Self {
            ops,
            catalog,
            master_key,
            database,
        }
    }

    /// Another process's resolver: a catalog connection and memory of its own.
    pub(super) async fn resolver(&self) -> Resolver {
        self.resolver_with(config()).await
    }

    pub(super) async fn resolver_with(&self, config: ResolverConfig) -> Resolver {
        self.resolver_at(&self.database.url(), config).await
    }

    pub(super) async fn resolver_at(&self, url: &str, config: ResolverConfig) -> Resolver {
        let catalog = Catalog::connect(url, &self.master_key).await.unwrap();
        let resolver = Resolver::start(catalog, config).unwrap();
        // Its first connection to the catalog drops what was cached before, which a test that counts would see.
        for _ in 0..20 {
            if resolver.catch_up().await.is_ok() {
                break;
            }
        }
        resolver
    }

    pub(super) async fn tenant(&self, slug: &str) -> TenantId {
        let id = TenantId::from_uuid(Uuid::now_v7());
        let new = NewTenant {
            id,
            slug: &slug.parse().unwrap(),
            name: &slug.parse().unwrap(),
            plan: &"free".parse().unwrap(),
            profile: &Profile::default(),
            settings: &json!({}),
        };
        let client = self.catalog.client().await.unwrap();
        tenant::insert(&client, &new).await.unwrap().unwrap();
        self.set_state(id, "active").await;
        id
    }

    /// Changes the state and tells nobody.
    pub(super) async fn set_state(&self, tenant: TenantId, state: &str) {
        self.run(&format!(
            "update tenant
             set state = '{state}',
                 deleted_at = case when '{state}' = 'deleted' then now() end,
                 purge_after = case when '{state}' = 'deleted' then now() end
             where id = '{tenant}'"
        ))
        .await;
    }

    pub(super) async fn run(&self, sql: &str) {
        self.catalog.client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// Changes the catalog and logs it as `change`, as if the notification had been lost: nobody is woken.
    pub(super) async fn change_unheard(&self, update: &str, change: &str) {
        self.run(&format!(
            "begin; {update}; insert into change (payload) values ('{change}'); commit"
        ))
        .await;
    }

    /// A member with an active membership; a person may be one of several tenants.
    pub(super) async fn member(&self, tenant: TenantId, email: &str, role: Role) -> AccountId {
        let email: Email = email.parse().unwrap();
        let new = NewMember {
            password: Some(Password::new(PASSWORD, &email).unwrap()),
            email,
            name: None,
            role,
        };
        let member = self.ops.add_member(&system(), tenant, &new).await.unwrap();
        let account = member.account;
        self.run(&format!(
            "update membership set status = 'active' where tenant = '{tenant}' and account = '{account}'"
        ))
        .await;
        account
    }

    pub(super) async fn login(&self, email: &str, tenant: Option<&str>) -> LoggedIn {
        let login = Login {
            email,
            password: PASSWORD.into(),
            tenant,
            origin: Origin::default(),
        };
        self.ops.login(&login).await.unwrap()
    }

    /// An access token.
    pub(super) async fn token(&self, email: &str, tenant: Option<&str>) -> String {
        self.login(email, tenant).await.access_token.expose_secret().to_owned()
    }

    pub(super) async fn api_key(&self, tenant: TenantId, role: Role) -> (tenantry_core::ApiKeyId, String) {
        let request = ApiKeyRequest {
            name: Uuid::now_v7().to_string(),
            role,
            expires_at: None,
        };
        let (key, text) = self.ops.create_api_key(&system(), tenant, &request).await.unwrap();
        (key.id, text.expose_secret().to_owned())
    }

    pub(super) async fn operator_key(&self) -> (tenantry_core::OperatorKeyId, String) {
        let request = OperatorKeyRequest {
            name: Uuid::now_v7().to_string(),
            scopes: tenantry_core::OperatorScopes::all(),
            expires_at: None,
        };
        let (key, text) = self.ops.create_operator_key(&system(), &request).await.unwrap();
        (key.id, text.expose_secret().to_owned())
    }

    /// The key that signs now: its id and private half.
    pub(super) async fn signing_key(&self) -> (Uuid, Vec<u8>) {
        let client = self.catalog.client().await.unwrap();
        let (id, sealed) = signing_key::current(&client).await.unwrap().unwrap();
        let private = self.catalog.open(signing_key::private_key_column(id), &sealed).unwrap();
        (id, private)
    }
}

pub(super) fn config() -> ResolverConfig {
    let mut config = ResolverConfig::new(ISSUER, AUDIENCE);
    config.domains = vec!["example.com".to_owned()];
    config.trusted_proxies = vec!["10.0.0.0/8".parse::<Network>().unwrap()];
    config
}

pub(super) fn system() -> Authority {
    Authority::system("test")
}

pub(super) fn session(logged_in: &LoggedIn) -> AccountSession {
    let claims: tenantry_core::AccessClaims =
        jsonwebtoken::dangerous::insecure_decode_claims(logged_in.access_token.expose_secret()).unwrap();
    AccountSession {
        account: claims.sub,
        session: claims.sid,
    }
}

/// What a request shows; each part can be left out.
#[derive(Clone, Default, Debug)]
pub(super) struct Shown {
    authorization: Option<String>,
    host: Option<String>,
    tenant: Option<String>,
    forwarded_host: Option<String>,
    peer: Option<IpAddr>,
}

pub(super) fn bearer(token: &str) -> Shown {
    Shown {
        authorization: Some(format!("Bearer {token}")),
        ..Shown::default()
    }
}

impl Shown {
    pub(super) fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub(super) fn tenant(mut self, tenant: impl ToString) -> Self {
        self.tenant = Some(tenant.to_string());
        self
    }

    pub(super) fn forwarded(mut self, host: &str, peer: &str) -> Self {
        self.forwarded_host = Some(host.to_owned());
        self.peer = Some(peer.parse().unwrap());
        self
    }

    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials {
            authorization: self.authorization.as_deref().into(),
            host: self.host.as_deref().into(),
            tenant: self.tenant.as_deref().into(),
            forwarded_host: HeaderField::from(self.forwarded_host.as_deref()),
            peer: self.peer,
        }
    }

    pub(super) async fn at(&self, resolver: &Resolver) -> Result<Verified, ResolveError> {
        resolver.resolve(&self.credentials()).await
    }

    pub(super) async fn identity_at(&self, resolver: &Resolver) -> Result<Identity, ResolveError> {
        resolver.authenticate(&self.credentials()).await
    }

    /// The tenant and role that it opens.
    pub(super) async fn opens(&self, resolver: &Resolver) -> Result<(TenantId, Role), ResolveError> {
        let verified = self.at(resolver).await?;
        Ok((verified.context().tenant, verified.context().role))
    }

    /// Asks until the answer is this; how long that took.
    pub(super) async fn until(&self, resolver: &Resolver, expected: Result<Role, ResolveError>) -> Duration {
        let started = Instant::now();
        loop {
            let answer = self.opens(resolver).await.map(|(_, role)| role);
            if answer == expected {
                return started.elapsed();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "still {answer:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A token from its parts, signed or not.
pub(super) fn unsigned(header: &Value, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

pub(super) fn signed(header: &Value, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = unsigned(header, claims);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}
