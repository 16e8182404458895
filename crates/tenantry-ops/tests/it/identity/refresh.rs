use secrecy::ExposeSecret as _;
use tenantry_core::Role;
use tenantry_ops::LoginError;

use super::support::{Fixture, claims, operator, session};

async fn logged_in() -> (Fixture, tenantry_ops::LoggedIn) {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let logged_in = fixture.login("ann@example.com", None).await.unwrap();
    (fixture, logged_in)
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_another_of_the_same_log_in() {
    let (fixture, first) = logged_in().await;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    let third = fixture.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(claims(&third).sid, claims(&first).sid);
    assert_eq!(claims(&third).tenant, claims(&first).tenant);
    assert_ne!(claims(&third).jti, claims(&first).jti);
    assert_ne!(third.refresh_token.expose_secret(), first.refresh_token.expose_secret());
}

#[tokio::test]
async fn using_a_refresh_token_again_ends_the_whole_log_in() {
    let (fixture, first) = logged_in().await;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();

    assert!(matches!(
        fixture.refresh(&first.refresh_token).await,
        Err(LoginError::Ended)
    ));

    assert!(matches!(
        fixture.refresh(&second.refresh_token).await,
        Err(LoginError::Ended)
    ));
    let ended = "select count(*) from session where ended_because = 'refresh-reused'";
    assert_eq!(fixture.count(ended).await, 1);
    let audited = "select count(*) from audit_log where action = 'session.refresh-reused' and origin = '192.0.2.1'";
    assert_eq!(fixture.count(audited).await, 1);
    let refused = fixture.ops.switch(session(&first), "acme").await;
    assert!(matches!(refused, Err(LoginError::Ended)), "{refused:?}");
}

#[tokio::test]
async fn of_many_uses_at_once_at_most_one_succeeds_and_the_log_in_ends() {
    let (fixture, first) = logged_in().await;
    let uses = (0..12).map(|_| fixture.refresh(&first.refresh_token));
    let outcomes = futures_util::future::join_all(uses).await;
    let succeeded: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(succeeded.len(), 1);
    assert!(matches!(
        fixture.refresh(&succeeded[0].refresh_token).await,
        Err(LoginError::Ended)
    ));
    assert_eq!(
        fixture
            .count("select count(*) from session where ended_at is null")
            .await,
        0
    );
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused() {
    let (fixture, first) = logged_in().await;
    let made_up = tenantry_core::CredentialKind::RefreshToken.make([7; 32]);
    for bad in [
        "",
        "tnr_",
        first.access_token.expose_secret(),
        &made_up,
        &"x".repeat(100_000),
    ] {
        let refused = fixture.refresh(&bad.into()).await;
        assert!(matches!(refused, Err(LoginError::Ended)), "{bad}");
    }
    fixture
        .refresh(&first.refresh_token)
        .await
        .expect("none of that ended the log-in");
}

#[tokio::test]
async fn a_stored_refresh_token_is_only_a_hash() {
    let (fixture, first) = logged_in().await;
    let client = fixture.catalog.client().await.unwrap();
    let stored: Vec<u8> = client
        .query_one("select hash from refresh_token", &[])
        .await
        .unwrap()
        .get(0);
    let text = first.refresh_token.expose_secret();
    assert_eq!(stored, tenantry_core::seal::sha256(text.as_bytes()));
}

#[tokio::test]
async fn an_expired_refresh_token_or_log_in_is_refused() {
    let (fixture, first) = logged_in().await;
    let client = fixture.catalog.client().await.unwrap();
    client
        .batch_execute("update refresh_token set expires_at = now() - interval '1 second'")
        .await
        .unwrap();
    assert!(matches!(
        fixture.refresh(&first.refresh_token).await,
        Err(LoginError::Ended)
    ));
    client
        .batch_execute(
            "update refresh_token set expires_at = now() + interval '1 day';
             update session set expires_at = now() - interval '1 second'",
        )
        .await
        .unwrap();
    assert!(matches!(
        fixture.refresh(&first.refresh_token).await,
        Err(LoginError::Ended)
    ));
}

#[tokio::test]
async fn after_a_switch_the_next_refresh_names_the_new_tenant_with_either_token() {
    for use_old in [false, true] {
        let fixture = Fixture::new().await;
        let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
        fixture.member(acme, "ann@example.com", Role::Owner).await;
        fixture.add(globex, "ann@example.com", Role::Viewer).await.unwrap();
        let first = fixture.login("ann@example.com", None).await.unwrap();
        let refused = fixture.ops.switch(session(&first), "globex").await;
        assert!(
            matches!(refused, Err(LoginError::NotAMember)),
            "not accepted yet: {refused:?}"
        );
        fixture
            .ops
            .accept(session(&first), "globex", &super::support::origin())
            .await
            .unwrap();

        let switched = fixture.ops.switch(session(&first), "globex").await.unwrap();

        assert_eq!(claims(&switched).tenant, Some(globex));
        assert_eq!(claims(&switched).role, Some(Role::Viewer));
        let (used, other) = if use_old {
            (&first, &switched)
        } else {
            (&switched, &first)
        };
        let refreshed = fixture.refresh(&used.refresh_token).await.unwrap();
        assert_eq!(claims(&refreshed).tenant, Some(globex));
        assert!(matches!(
            fixture.refresh(&other.refresh_token).await,
            Err(LoginError::Ended)
        ));
        assert!(matches!(
            fixture.refresh(&refreshed.refresh_token).await,
            Err(LoginError::Ended)
        ));
    }
}

#[tokio::test]
async fn a_refresh_after_the_membership_ended_names_no_tenant() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "own@example.com", Role::Owner).await;
    let ann = fixture.member(acme, "ann@example.com", Role::Member).await;
    let first = fixture.login("ann@example.com", Some("acme")).await.unwrap();
    fixture.ops.remove_member(&operator(), acme, ann).await.unwrap();
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    assert_eq!((claims(&second).tenant, claims(&second).role), (None, None));
    assert!(second.memberships.is_empty());
}

#[tokio::test]
async fn log_out_ends_the_log_in_and_no_other() {
    let (fixture, first) = logged_in().await;
    let other = fixture.login("ann@example.com", None).await.unwrap();
    fixture.ops.logout(session(&first)).await.unwrap();
    assert!(matches!(
        fixture.refresh(&first.refresh_token).await,
        Err(LoginError::Ended)
    ));
    fixture
        .refresh(&other.refresh_token)
        .await
        .expect("the other one lives");
}
