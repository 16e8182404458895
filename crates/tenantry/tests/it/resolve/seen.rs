//! What was seen before costs no query.

use std::{sync::Arc, time::Duration};

use tenantry::Role;
use tenantry_testing::FaultProxy;

use super::support::{Fixture, bearer, config};

#[tokio::test]
async fn a_credential_seen_before_is_resolved_without_a_query() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let cluster = fixture.database.cluster();
    let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
    let url = fixture
        .database
        .url()
        .replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()));
    let resolver = fixture.resolver_at(&url, config()).await;
    let token = bearer(&fixture.token("ann@example.com", None).await).host("acme.example.com");
    let (_, api_key) = fixture.api_key(acme, Role::Viewer).await;
    let api_key = bearer(&api_key);
    token.opens(&resolver).await.unwrap();
    api_key.opens(&resolver).await.unwrap();
    let lookups = resolver.catalog_lookups();

    // Nothing reaches the catalog now, and still each of these is answered.
    proxy.stall();
    for _ in 0..2000 {
        assert_eq!(token.opens(&resolver).await, Ok((acme, Role::Owner)));
        assert_eq!(api_key.opens(&resolver).await, Ok((acme, Role::Viewer)));
    }
    assert_eq!(resolver.catalog_lookups(), lookups);
    proxy.heal();
}

#[tokio::test]
async fn a_thousand_requests_at_once_with_a_new_token_ask_once_for_each_thing() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    let shown = Arc::new(bearer(&fixture.token("ann@example.com", None).await));
    let requests = (0..1000).map(|_| {
        let (resolver, shown) = (resolver.clone(), Arc::clone(&shown));
        tokio::spawn(async move { shown.opens(&resolver).await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), Ok((acme, Role::Owner)));
    }
    // Signing keys, account, tenant.
    assert_eq!(resolver.catalog_lookups(), 3);
}

#[tokio::test]
async fn the_measurement_counts_no_look_ups() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    let shown = bearer(&fixture.token("ann@example.com", None).await);
    let measured = resolver.measure(&shown.credentials(), 2000).await.unwrap();
    assert_eq!(measured.catalog_lookups, 0);
    assert!(measured.per_call > Duration::ZERO);
}
