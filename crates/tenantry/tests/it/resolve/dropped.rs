//! Dropping the resolver's futures at every await: whoever asks next gets an answer, and it is about them.

use tenantry::{AccountId, Config, PoolConfig, Resolver, Role, TenantId, Tenantry};

use super::support::{Fixture, Shown, bearer, config};
use crate::dropped::dropped_after;

/// Two people of two tenants, and a resolver that has seen neither.
struct Two {
    fixture: Fixture,
    tenants: [TenantId; 2],
    accounts: [AccountId; 2],
    tokens: [Shown; 2],
}

impl Two {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let tenants = [fixture.tenant("one").await, fixture.tenant("two").await];
        let accounts = [
            fixture.member(tenants[0], "a@one.test", Role::Member).await,
            fixture.member(tenants[1], "b@two.test", Role::Viewer).await,
        ];
        let tokens = [
            bearer(&fixture.token("a@one.test", Some("one")).await),
            bearer(&fixture.token("b@two.test", Some("two")).await),
        ];
        Self {
            fixture,
            tenants,
            accounts,
            tokens,
        }
    }

    /// Drops the work at each of its awaits, each time on a resolver that knows nothing; then both people ask.
    async fn at_every_await<F: Future>(&self, work: impl Fn(Resolver) -> F) {
        for polls in 1..100 {
            let resolver = self.fixture.resolver().await;
            let ended = dropped_after(polls, work(resolver.clone())).await;
            let answers = [
                self.tokens[0].opens(&resolver).await,
                self.tokens[1].opens(&resolver).await,
            ];
            assert_eq!(
                answers,
                [Ok((self.tenants[0], Role::Member)), Ok((self.tenants[1], Role::Viewer))]
            );
            if ended {
                return;
            }
        }
        panic!("the work never came to its end");
    }
}

#[tokio::test]
async fn looking_up_a_caller_can_be_dropped_anywhere() {
    let two = Two::new().await;
    two.at_every_await(|resolver| {
        let token = two.tokens[0].clone();
        async move { token.at(&resolver).await.unwrap() }
    })
    .await;
    two.at_every_await(|resolver| {
        let token = two.tokens[0].clone();
        async move { token.identity_at(&resolver).await.unwrap() }
    })
    .await;
    two.at_every_await(|resolver| {
        let (tenant, account) = (two.tenants[1], two.accounts[0]);
        async move { assert!(!resolver.is_member(tenant, account).await.unwrap()) }
    })
    .await;
    two.at_every_await(|resolver| {
        let (tenant, account) = (two.tenants[1], two.accounts[1]);
        async move { assert_eq!(resolver.role_of(tenant, account).await.unwrap(), Some(Role::Viewer)) }
    })
    .await;
    two.at_every_await(|resolver| {
        let token = two.tokens[1].clone();
        async move { resolver.measure(&token.credentials(), 3).await.unwrap() }
    })
    .await;
}

#[tokio::test]
async fn what_needs_no_caller_can_be_dropped_anywhere() {
    let two = Two::new().await;
    two.at_every_await(|resolver| {
        let page = Shown::default().host("one.example.com");
        async move { resolver.public_tenant(&page.credentials()).await.unwrap().unwrap() }
    })
    .await;
    two.at_every_await(|resolver| async move { resolver.jwks().await.unwrap() })
        .await;
    two.at_every_await(|resolver| async move { resolver.catch_up().await })
        .await;
}

#[tokio::test]
async fn connecting_can_be_dropped_anywhere() {
    let two = Two::new().await;
    let connected = || async {
        let mut to = Config::new(two.fixture.database.url(), two.fixture.master_key.clone());
        to.resolver = config();
        to.pool = PoolConfig::default();
        Tenantry::connect(to).await.unwrap()
    };
    for polls in 1..200 {
        if dropped_after(polls, connected()).await {
            break;
        }
    }
    let tenantry = connected().await;
    let verified = tenantry.resolve(&two.tokens[0].credentials()).await.unwrap();
    assert_eq!(verified.context().tenant, two.tenants[0]);
    for polls in 1..100 {
        let scope = tenantry.scope(tenantry.resolve(&two.tokens[1].credentials()).await.unwrap());
        let asked = scope.is_member(two.accounts[0]);
        if dropped_after(polls, asked).await {
            break;
        }
    }
    let scope = tenantry.scope(tenantry.resolve(&two.tokens[1].credentials()).await.unwrap());
    assert!(!scope.is_member(two.accounts[0]).await.unwrap());
    assert!(scope.is_member(two.accounts[1]).await.unwrap());
}
