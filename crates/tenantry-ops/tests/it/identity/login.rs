use std::time::{Duration, Instant};

use tenantry_core::Role;
use tenantry_ops::{IdentityConfig, LoginBudget, LoginError};

use super::support::{Fixture, claims};

#[tokio::test]
async fn the_right_password_gives_a_token_that_names_the_only_tenant() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let ann = fixture.member(acme, "ann@example.com", Role::Admin).await;

    let logged_in = fixture.login("Ann@Example.com", None).await.unwrap();

    let claims = claims(&logged_in);
    assert_eq!(
        (claims.sub, claims.tenant, claims.role),
        (ann, Some(acme), Some(Role::Admin))
    );
    assert_eq!(
        (claims.iss.as_str(), claims.aud.as_str()),
        ("https://tenantry.test", "tenantry")
    );
    assert_eq!(claims.exp - claims.iat, 600);
    assert_eq!(logged_in.expires_in, Duration::from_secs(600));
    assert_eq!(logged_in.tenant.unwrap().slug, "acme");
    assert_eq!(
        fixture
            .count("select count(*) from account where last_login_at is not null")
            .await,
        1
    );
}

#[tokio::test]
async fn with_several_tenants_and_none_named_the_token_names_none() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.add(globex, "ann@example.com", Role::Viewer).await.unwrap();
    let first = fixture.login("ann@example.com", None).await.unwrap();
    assert_eq!(claims(&first).tenant, Some(acme), "an invitation is no membership yet");
    assert_eq!(first.memberships.len(), 2);
    fixture
        .ops
        .accept(super::support::session(&first), "globex", &super::support::origin())
        .await
        .unwrap();

    assert_eq!(
        claims(&fixture.login("ann@example.com", None).await.unwrap()).tenant,
        None
    );
    for named in ["globex".to_owned(), globex.to_string()] {
        let logged_in = fixture.login("ann@example.com", Some(&named)).await.unwrap();
        assert_eq!(claims(&logged_in).tenant, Some(globex));
        assert_eq!(claims(&logged_in).role, Some(Role::Viewer));
    }
}

#[tokio::test]
async fn a_tenant_that_is_not_ones_own_is_refused_like_one_that_is_not_there() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.tenant("globex").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    for named in ["globex", "nowhere", "", "ACME"] {
        let refused = fixture.login("ann@example.com", Some(named)).await;
        assert!(matches!(refused, Err(LoginError::NotAMember)), "{named}: {refused:?}");
    }
    fixture.set_state(acme, "suspended").await;
    let refused = fixture.login("ann@example.com", Some("acme")).await;
    assert!(matches!(refused, Err(LoginError::TenantSuspended)), "{refused:?}");
    fixture.set_state(acme, "deleted").await;
    let refused = fixture.login("ann@example.com", Some("acme")).await;
    assert!(matches!(refused, Err(LoginError::NotAMember)), "{refused:?}");
    assert_eq!(
        fixture.count("select count(*) from session").await,
        0,
        "no refused log-in leaves one"
    );
}

#[tokio::test]
async fn unknown_accounts_wrong_passwords_and_closed_accounts_look_the_same_and_take_as_long() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..9 {
        for (kind, email) in ["ann@example.com", "nobody@example.com"].into_iter().enumerate() {
            let started = Instant::now();
            let refused = fixture.login_with(email, "wrong password", None).await.unwrap_err();
            if round > 0 {
                times[kind].push(started.elapsed());
            }
            assert_eq!(refused.to_string(), "e-mail or password is wrong");
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    // Without a hash for unknown accounts the ratio is some 1:20.
    assert!(
        unknown > known / 2 && known > unknown / 2,
        "{known:?} against {unknown:?}"
    );

    for bad in [
        "",
        "ann",
        "ann@example.com' or '1'='1",
        "a\0b@example.com",
        &"x".repeat(100_000),
    ] {
        let refused = fixture.login_with(bad, "wrong password", None).await;
        assert!(matches!(refused, Err(LoginError::BadCredentials)), "{refused:?}");
    }
    let refused = fixture
        .login_with("ann@example.com", &"x".repeat(1_000_000), None)
        .await;
    assert!(matches!(refused, Err(LoginError::BadCredentials)));

    let client = fixture.catalog.client().await.unwrap();
    tenantry_catalog::account::set_active(&client, ann, false)
        .await
        .unwrap();
    let refused = fixture.login("ann@example.com", None).await;
    assert!(matches!(refused, Err(LoginError::BadCredentials)), "{refused:?}");
}

#[tokio::test]
async fn failures_are_counted_per_account_and_address_and_successes_are_not() {
    let mut identity = IdentityConfig::new("https://tenantry.test", "tenantry");
    identity.login_budget = LoginBudget {
        window: Duration::from_secs(3600),
        per_account_and_address: 3,
        per_account: 100,
        per_address: 100,
    };
    let fixture = Fixture::with(identity).await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(acme, "bob@example.com", Role::Owner).await;
    for _ in 0..5 {
        fixture.login("ann@example.com", None).await.unwrap();
    }
    let tries = (0..10).map(|_| fixture.login_with("ann@example.com", "wrong password", None));
    let refused = futures_util::future::join_all(tries).await;
    let checked = refused
        .iter()
        .filter(|refused| matches!(refused, Err(LoginError::BadCredentials)))
        .count();
    assert_eq!(checked, 3, "also when they come at once");
    let refused = fixture.login("ann@example.com", None).await;
    let Err(LoginError::RateLimited { retry_after }) = refused else {
        panic!("{refused:?}")
    };
    assert!(retry_after > Duration::from_secs(3500), "{retry_after:?}");

    fixture.login("bob@example.com", None).await.unwrap();
    let elsewhere = tenantry_ops::Login {
        email: "ann@example.com",
        password: super::support::PASSWORD.into(),
        tenant: None,
        origin: tenantry_ops::Origin {
            address: Some("198.51.100.7".parse().unwrap()),
            request_id: None,
        },
    };
    fixture
        .ops
        .login(&elsewhere)
        .await
        .expect("nobody is locked out everywhere by one address");
}

#[tokio::test]
async fn an_account_keeps_its_newest_log_ins_only() {
    let mut identity = IdentityConfig::new("https://tenantry.test", "tenantry");
    identity.sessions_max = 2;
    let fixture = Fixture::with(identity).await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let first = fixture.login("ann@example.com", None).await.unwrap();
    for _ in 0..2 {
        fixture.login("ann@example.com", None).await.unwrap();
    }
    assert_eq!(
        fixture
            .count("select count(*) from session where ended_at is null")
            .await,
        2
    );
    let refused = fixture.refresh(&first.refresh_token).await;
    assert!(matches!(refused, Err(LoginError::Ended)), "{refused:?}");
}

#[tokio::test]
async fn tokens_are_not_printed() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let logged_in = fixture.login("ann@example.com", None).await.unwrap();
    let printed = format!("{logged_in:?}");
    assert!(!printed.contains("eyJ") && !printed.contains("tnr_"), "{printed}");
}
