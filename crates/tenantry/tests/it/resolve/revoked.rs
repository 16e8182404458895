//! What is taken away opens nothing within a second, in other processes too.

use std::time::Duration;

use tenantry::{ResolveError, Resolver, Role};
use tenantry_core::{Change, TenantId};

use super::support::{Fixture, Shown, bearer, session, system};

const SECOND: Duration = Duration::from_secs(1);

/// Two processes that have both seen the credential.
async fn two_that_know(fixture: &Fixture, shown: &Shown, role: Role) -> [Resolver; 2] {
    let resolvers = [fixture.resolver().await, fixture.resolver().await];
    for resolver in &resolvers {
        assert_eq!(shown.opens(resolver).await.map(|(_, role)| role), Ok(role));
    }
    resolvers
}

async fn all_answer(resolvers: &[Resolver], shown: &Shown, expected: Result<Role, ResolveError>) {
    for resolver in resolvers {
        let waited = shown.until(resolver, expected).await;
        assert!(waited < SECOND, "{waited:?} until {expected:?}");
    }
}

struct Person {
    fixture: Fixture,
    acme: TenantId,
    shown: Shown,
    logged_in: tenantry_ops::LoggedIn,
    resolvers: [Resolver; 2],
}

async fn person() -> Person {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "owner@example.com", Role::Owner).await;
    fixture.member(acme, "ann@example.com", Role::Admin).await;
    let logged_in = fixture.login("ann@example.com", None).await;
    let shown = bearer(secrecy::ExposeSecret::expose_secret(&logged_in.access_token));
    let resolvers = two_that_know(&fixture, &shown, Role::Admin).await;
    Person {
        fixture,
        acme,
        shown,
        logged_in,
        resolvers,
    }
}

#[tokio::test]
async fn a_membership_that_changes_or_ends_bites_within_a_second() {
    let Person {
        fixture,
        acme,
        shown,
        logged_in,
        resolvers,
    } = person().await;
    let ann = logged_in.account;
    fixture
        .ops
        .set_member_role(&system(), acme, ann, Role::Viewer)
        .await
        .unwrap();
    all_answer(&resolvers, &shown, Ok(Role::Viewer)).await;
    fixture.ops.remove_member(&system(), acme, ann).await.unwrap();
    all_answer(&resolvers, &shown, Err(ResolveError::Forbidden)).await;
}

#[tokio::test]
async fn a_log_out_bites_within_a_second() {
    let Person {
        fixture,
        shown,
        logged_in,
        resolvers,
        ..
    } = person().await;
    fixture.ops.logout(session(&logged_in)).await.unwrap();
    all_answer(&resolvers, &shown, Err(ResolveError::BadToken)).await;
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_access_tokens_too() {
    let Person {
        fixture,
        shown,
        logged_in,
        resolvers,
        ..
    } = person().await;
    let origin = tenantry_ops::Origin::default();
    fixture.ops.refresh(&logged_in.refresh_token, &origin).await.unwrap();
    assert!(fixture.ops.refresh(&logged_in.refresh_token, &origin).await.is_err());
    all_answer(&resolvers, &shown, Err(ResolveError::BadToken)).await;
}

#[tokio::test]
async fn a_removed_signing_key_bites_within_a_second() {
    let Person {
        fixture,
        shown,
        resolvers,
        ..
    } = person().await;
    let (id, _) = fixture.signing_key().await;
    fixture.ops.remove_signing_key(&system(), id).await.unwrap();
    all_answer(&resolvers, &shown, Err(ResolveError::BadToken)).await;
}

#[tokio::test]
async fn a_suspension_and_its_end_reach_every_process_within_a_second() {
    let Person {
        fixture,
        acme,
        shown,
        resolvers,
        ..
    } = person().await;
    for (state, expected) in [
        ("suspended", Err(ResolveError::TenantSuspended)),
        ("active", Ok(Role::Admin)),
        ("deleted", Err(ResolveError::TenantSuspended)),
    ] {
        fixture.set_state(acme, state).await;
        let client = fixture.catalog.client().await.unwrap();
        tenantry_catalog::change::announce(&client, Change::Tenant(acme))
            .await
            .unwrap();
        all_answer(&resolvers, &shown, expected).await;
    }
}

#[tokio::test]
async fn without_the_notification_the_change_log_is_enough() {
    let Person {
        fixture,
        acme,
        shown,
        logged_in,
        resolvers,
    } = person().await;
    let ann = logged_in.account;
    fixture
        .change_unheard(
            &format!("update tenant set state = 'suspended' where id = '{acme}'"),
            &format!("tenant:{acme}"),
        )
        .await;
    all_answer(&resolvers, &shown, Err(ResolveError::TenantSuspended)).await;
    fixture
        .change_unheard(
            &format!("update tenant set state = 'active' where id = '{acme}'"),
            &format!("tenant:{acme}"),
        )
        .await;
    all_answer(&resolvers, &shown, Ok(Role::Admin)).await;
    fixture
        .change_unheard(
            &format!("update account set active = false where id = '{ann}'"),
            &format!("account:{ann}"),
        )
        .await;
    all_answer(&resolvers, &shown, Err(ResolveError::BadToken)).await;
}

#[tokio::test]
async fn a_change_that_commits_after_a_later_one_is_not_missed() {
    let Person {
        fixture,
        acme,
        shown,
        resolvers,
        ..
    } = person().await;
    let mut slow = fixture.catalog.client().await.unwrap();
    let slow = slow.transaction().await.unwrap();
    slow.batch_execute(&format!(
        "insert into change (payload) values ('tenant:{acme}');
         update tenant set state = 'suspended' where id = '{acme}'"
    ))
    .await
    .unwrap();
    // What was numbered later is seen first, and the reader has gone on from there.
    let globex = fixture.tenant("globex").await;
    fixture.member(globex, "bob@example.com", Role::Owner).await;
    let bob = bearer(&fixture.token("bob@example.com", None).await);
    for resolver in &resolvers {
        bob.until(resolver, Ok(Role::Owner)).await;
    }
    fixture
        .change_unheard(
            &format!("update tenant set state = 'suspended' where id = '{globex}'"),
            &format!("tenant:{globex}"),
        )
        .await;
    for resolver in &resolvers {
        bob.until(resolver, Err(ResolveError::TenantSuspended)).await;
    }
    assert_eq!(shown.opens(&resolvers[0]).await.map(|(_, role)| role), Ok(Role::Admin));
    slow.commit().await.unwrap();
    all_answer(&resolvers, &shown, Err(ResolveError::TenantSuspended)).await;
}

#[tokio::test]
async fn an_unknown_change_drops_everything() {
    let Person {
        fixture,
        acme,
        shown,
        resolvers,
        ..
    } = person().await;
    fixture
        .change_unheard(
            &format!("update tenant set state = 'suspended' where id = '{acme}'"),
            "moon:1",
        )
        .await;
    all_answer(&resolvers, &shown, Err(ResolveError::TenantSuspended)).await;
}

#[tokio::test]
async fn a_new_log_in_or_membership_holds_at_once_where_the_account_is_known() {
    let Person { fixture, resolvers, .. } = person().await;
    // No notification can be faster than the next request: the first use of a token looks again.
    let globex = fixture.tenant("globex").await;
    fixture.member(globex, "ann@example.com", Role::Viewer).await;
    for round in 0..10 {
        let token = fixture.token("ann@example.com", Some("globex")).await;
        for resolver in &resolvers {
            assert_eq!(
                bearer(&token).opens(resolver).await,
                Ok((globex, Role::Viewer)),
                "round {round}"
            );
        }
    }
}

#[tokio::test]
async fn who_catches_up_after_a_change_meets_it_at_once() {
    let Person {
        fixture,
        acme,
        shown,
        logged_in,
        resolvers,
    } = person().await;
    for round in 0..20 {
        let role = if round % 2 == 0 { Role::Viewer } else { Role::Admin };
        fixture
            .ops
            .set_member_role(&system(), acme, logged_in.account, role)
            .await
            .unwrap();
        for resolver in &resolvers {
            resolver.catch_up().await.unwrap();
            assert_eq!(shown.opens(resolver).await, Ok((acme, role)), "round {round}");
        }
    }
}
