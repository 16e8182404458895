use std::time::Duration;

use tenantry::{Actor, ResolveError, Role};

use super::support::{Fixture, bearer, system};

#[tokio::test]
async fn an_api_key_acts_in_its_tenant_until_it_is_revoked_or_expires() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let (resolver, other) = (fixture.resolver().await, fixture.resolver().await);
    let (id, text) = fixture.api_key(acme, Role::Member).await;
    let shown = bearer(&text);
    for resolver in [&resolver, &other] {
        let verified = shown.at(resolver).await.unwrap();
        assert_eq!(verified.context().actor, Actor::ApiKey(id));
        assert_eq!(
            (verified.context().tenant, verified.context().role),
            (acme, Role::Member)
        );
    }
    fixture.ops.revoke_api_key(&system(), acme, id).await.unwrap();
    for resolver in [&resolver, &other] {
        assert!(shown.until(resolver, Err(ResolveError::BadToken)).await < Duration::from_secs(1));
    }

    let (_, text) = fixture.api_key(acme, Role::Member).await;
    fixture
        .run("update api_key set expires_at = now() + interval '1.5 seconds'")
        .await;
    let shown = bearer(&text);
    assert!(shown.opens(&resolver).await.is_ok());
    // Nothing changes in the catalog: the end is checked on each use.
    shown.until(&resolver, Err(ResolveError::BadToken)).await;
}

/// Whatever it names first brings the tenant along.
#[tokio::test]
async fn a_key_or_a_name_that_was_never_seen_is_one_question() {
    let fixture = Fixture::new().await;
    let (acme, other) = (fixture.tenant("acme").await, fixture.tenant("other").await);
    let resolver = fixture.resolver().await;
    let (_, text) = fixture.api_key(acme, Role::Member).await;
    assert_eq!(bearer(&text).opens(&resolver).await, Ok((acme, Role::Member)));
    assert_eq!(resolver.catalog_lookups(), 1);
    // On another tenant's host the key is refused; one more question, where the news of its own tenant's making has come only now.
    let refused = bearer(&text).host("other.example.com").opens(&resolver).await;
    assert_eq!(refused, Err(ResolveError::TenantMismatch), "{other:?}");
    assert!(resolver.catalog_lookups() <= 2);
    // What changes meanwhile is not covered up by what was brought along.
    fixture.run(&format!("update tenant set state = 'suspended' where id = '{acme}'; insert into change (payload) values ('tenant:{acme}')")).await;
    let suspended = bearer(&text).until(&resolver, Err(ResolveError::TenantSuspended)).await;
    assert!(suspended < Duration::from_secs(1));
}

#[tokio::test]
async fn an_operator_key_is_known_until_it_is_revoked() {
    let fixture = Fixture::new().await;
    let resolver = fixture.resolver().await;
    let (id, text) = fixture.operator_key().await;
    let shown = bearer(&text);
    assert!(shown.identity_at(&resolver).await.is_ok());
    assert_eq!(shown.opens(&resolver).await, Err(ResolveError::Forbidden));
    fixture.ops.revoke_operator_key(&system(), id).await.unwrap();
    assert!(shown.until(&resolver, Err(ResolveError::BadToken)).await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_key_that_is_made_after_it_was_guessed_works() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let resolver = fixture.resolver().await;
    let text = format!("tna_{}", "7".repeat(64));
    assert_eq!(bearer(&text).opens(&resolver).await, Err(ResolveError::BadToken));
    let lookups = resolver.catalog_lookups();
    for _ in 0..100 {
        assert_eq!(bearer(&text).opens(&resolver).await, Err(ResolveError::BadToken));
    }
    assert_eq!(
        resolver.catalog_lookups(),
        lookups,
        "what does not exist is remembered too"
    );
    let (id, _) = fixture.api_key(acme, Role::Viewer).await;
    fixture
        .run(&format!(
            "begin;
             update api_key set hash = sha256('{text}') where id = '{id}';
             insert into change (payload) values ('api-key:{id}');
             commit"
        ))
        .await;
    assert!(bearer(&text).until(&resolver, Ok(Role::Viewer)).await < Duration::from_secs(1));
}
