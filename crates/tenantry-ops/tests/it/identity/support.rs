//! A catalog of its own per test, with tenants that need no tenant database.

use secrecy::SecretString;
use tenantry_catalog::{
    Catalog, MasterKey,
    tenant::{self, NewTenant},
};
use tenantry_core::{
    AccountId, Actor, ApiKeyId, Context, Email, Operator, OperatorKeyId, OperatorScope, Role, TenantId,
};
use tenantry_ops::{
    AccountSession, Authority, IdentityConfig, LoggedIn, Login, LoginError, Member, MemberError, NewMember, Ops,
    Origin, Password, Profile,
};
use tenantry_testing::TestDatabase;
use uuid::Uuid;

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) struct Fixture {
    pub(super) ops: Ops,
    pub(super) catalog: Catalog,
    // Dropped last: the pool's connections end before their database.
    _database: TestDatabase,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(IdentityConfig::new("https://tenantry.test", "tenantry")).await
    }

    pub(super) async fn with(identity: IdentityConfig) -> Self {
        let database = tenantry_testing::database().await;
        let catalog = Catalog::connect(&database.url(), &MasterKey::generate())
            .await
            .expect("an empty catalog");
        let ops = Ops::new(catalog.clone(), identity);
        ops.ensure_signing_keys().await.expect("signing keys");
        Self {
            ops,
            catalog,
            _database: database,
        }
    }

    /// An active tenant.
    pub(super) async fn tenant(&self, slug: &str) -> TenantId {
        let id = TenantId::from_uuid(Uuid::now_v7());
        let client = self.catalog.client().await.expect("a connection");
        let new = NewTenant {
            id,
            slug: &slug.parse().expect("a slug"),
            name: &slug.parse().expect("a name"),
            plan: &"free".parse().expect("a plan"),
            profile: &Profile::default(),
            settings: &serde_json::json!({}),
        };
        tenant::insert(&client, &new).await.expect("inserted").expect("free");
        self.set_state(id, "active").await;
        id
    }

    pub(super) async fn set_state(&self, tenant: TenantId, state: &str) {
        let client = self.catalog.client().await.expect("a connection");
        client
            .execute(
                "update tenant
                 set state = $2,
                     deleted_at = case when $2 = 'deleted' then now() end,
                     purge_after = case when $2 = 'deleted' then now() end
                 where id = $1",
                &[tenant.as_uuid(), &state],
            )
            .await
            .expect("a state");
    }

    /// Invites or makes a member, with [`PASSWORD`].
    pub(super) async fn add(&self, tenant: TenantId, email: &str, role: Role) -> Result<Member, MemberError> {
        self.ops.add_member(&operator(), tenant, &new_member(email, role)).await
    }

    /// A new account that is an active member.
    pub(super) async fn member(&self, tenant: TenantId, email: &str, role: Role) -> AccountId {
        self.add(tenant, email, role).await.expect("a new member").account
    }

    pub(super) async fn login(&self, email: &str, tenant: Option<&str>) -> Result<LoggedIn, LoginError> {
        self.login_with(email, PASSWORD, tenant).await
    }

    pub(super) async fn login_with(
        &self,
        email: &str,
        password: &str,
        tenant: Option<&str>,
    ) -> Result<LoggedIn, LoginError> {
        let login = Login {
            email,
            password: password.into(),
            tenant,
            origin: origin(),
        };
        self.ops.login(&login).await
    }

    pub(super) async fn refresh(&self, token: &SecretString) -> Result<LoggedIn, LoginError> {
        self.ops.refresh(token, &origin()).await
    }

    /// A number that a query gives, in the catalog.
    pub(super) async fn count(&self, sql: &str) -> i64 {
        let client = self.catalog.client().await.expect("a connection");
        client.query_one(sql, &[]).await.expect("a number").get(0)
    }
}

pub(super) fn origin() -> Origin {
    Origin {
        address: Some("192.0.2.1".parse().expect("an address")),
        request_id: Some("req-1".to_owned()),
    }
}

pub(super) fn new_member(email: &str, role: Role) -> NewMember {
    let email: Email = email.parse().expect("an e-mail");
    NewMember {
        password: Some(Password::new(PASSWORD, &email).expect("a password")),
        email,
        name: Some("Given Name".parse().expect("a name")),
        role,
    }
}

/// An operator who may do everything.
pub(super) fn operator() -> Authority {
    operator_with(OperatorScope::ALL)
}

pub(super) fn operator_with(scopes: impl IntoIterator<Item = OperatorScope>) -> Authority {
    Authority::Operator {
        operator: Operator {
            key: OperatorKeyId::from_uuid(Uuid::nil()),
            name: "test".to_owned(),
            scopes: scopes.into_iter().collect(),
        },
        origin: origin(),
    }
}

pub(super) fn account(tenant: TenantId, account: AccountId, role: Role) -> Authority {
    Authority::Member {
        context: Context {
            tenant,
            actor: Actor::Account(account),
            role,
        },
        origin: origin(),
    }
}

pub(super) fn api_key(tenant: TenantId, role: Role) -> Authority {
    Authority::Member {
        context: Context {
            tenant,
            actor: Actor::ApiKey(ApiKeyId::from_uuid(Uuid::nil())),
            role,
        },
        origin: origin(),
    }
}

/// The claims of an access token, unverified.
pub(super) fn claims(logged_in: &LoggedIn) -> tenantry_core::AccessClaims {
    use secrecy::ExposeSecret as _;
    jsonwebtoken::dangerous::insecure_decode(logged_in.access_token.expose_secret())
        .expect("a token")
        .claims
}

pub(super) fn session(logged_in: &LoggedIn) -> AccountSession {
    AccountSession {
        account: logged_in.account,
        session: claims(logged_in).sid,
    }
}
