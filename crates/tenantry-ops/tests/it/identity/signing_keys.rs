use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;
use tenantry_core::{OperatorScope, Role};
use tenantry_ops::{LoggedIn, SigningKeyError};

use super::support::{Fixture, operator, operator_with};

fn kid(logged_in: &LoggedIn) -> String {
    let header = jsonwebtoken::decode_header(logged_in.access_token.expose_secret()).unwrap();
    assert_eq!(header.alg, jsonwebtoken::Algorithm::EdDSA);
    header.kid.unwrap()
}

async fn published(fixture: &Fixture) -> BTreeSet<String> {
    let jwks = fixture.ops.jwks().await.unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| key["d"].is_null()), "no private half");
    // The key of certificates is another matter, and stays.
    let kids = keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned());
    let (certificates, tokens): (BTreeSet<_>, _) = kids.partition(|kid| kid.starts_with("certificate-"));
    assert_eq!(certificates.len(), 1);
    tokens
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_current_and_one_next_key() {
    let fixture = Fixture::new().await;
    let client = fixture.catalog.client().await.unwrap();
    client.batch_execute("delete from signing_key").await.unwrap();
    let starts = (0..8).map(|_| fixture.ops.ensure_signing_keys());
    for outcome in futures_util::future::join_all(starts).await {
        outcome.unwrap();
    }
    let states: Vec<String> = client
        .query("select state from signing_key order by state", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(states, ["current", "next"]);
}

#[tokio::test]
async fn a_rotation_signs_with_the_next_key_and_still_publishes_the_old_one() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let before = published(&fixture).await;
    let old = fixture.login("ann@example.com", None).await.unwrap();
    assert!(before.contains(&kid(&old)));

    fixture.ops.rotate_signing_keys(&operator()).await.unwrap();

    let new = fixture.login("ann@example.com", None).await.unwrap();
    assert_ne!(kid(&new), kid(&old));
    assert!(
        before.contains(&kid(&new)),
        "verifiers knew the next key before it signed"
    );
    let after = published(&fixture).await;
    assert!(after.is_superset(&before) && after.len() == 3, "{after:?}");
    let private = "select count(*) from signing_key where state = 'retired' and private_key_sealed is not null";
    assert_eq!(fixture.count(private).await, 0, "a retired key can sign nothing");
}

#[tokio::test]
async fn keys_whose_tokens_have_expired_are_removed_by_the_next_rotation() {
    let fixture = Fixture::new().await;
    fixture.ops.rotate_signing_keys(&operator()).await.unwrap();
    let client = fixture.catalog.client().await.unwrap();
    client
        .batch_execute("update signing_key set retired_at = now() - interval '1 hour' where state = 'retired'")
        .await
        .unwrap();
    fixture.ops.rotate_signing_keys(&operator()).await.unwrap();
    assert_eq!(fixture.count("select count(*) from signing_key").await, 3);
}

#[tokio::test]
async fn a_leaked_key_is_removed_at_once_and_another_takes_its_place() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let leaked = kid(&fixture.login("ann@example.com", None).await.unwrap());
    let id = leaked.parse().unwrap();
    fixture.ops.remove_signing_key(&operator(), id).await.unwrap();
    assert!(!published(&fixture).await.contains(&leaked));
    assert_ne!(kid(&fixture.login("ann@example.com", None).await.unwrap()), leaked);
    let again = fixture.ops.remove_signing_key(&operator(), id).await;
    assert!(matches!(again, Err(SigningKeyError::NotFound)), "{again:?}");
}

#[tokio::test]
async fn only_keepers_of_keys_rotate() {
    let fixture = Fixture::new().await;
    let stranger = operator_with([OperatorScope::Read, OperatorScope::Tenants]);
    let refused = fixture.ops.rotate_signing_keys(&stranger).await;
    assert!(matches!(refused, Err(SigningKeyError::Forbidden(_))), "{refused:?}");
}
