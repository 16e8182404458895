use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret as _;
use tenantry_core::{ApiKeyId, CredentialKind, OperatorKeyId, OperatorScope, OperatorScopes, Role, seal::sha256};
use tenantry_ops::{ApiKeyError, ApiKeyRequest, Authority, OperatorKeyError, OperatorKeyRequest};
use uuid::Uuid;

use super::support::{Fixture, account, api_key, operator, operator_with};

fn request(name: &str, role: Role) -> ApiKeyRequest {
    ApiKeyRequest {
        name: name.to_owned(),
        role,
        expires_at: None,
    }
}

fn operator_request(name: &str, scopes: OperatorScopes) -> OperatorKeyRequest {
    OperatorKeyRequest {
        name: name.to_owned(),
        scopes,
        expires_at: None,
    }
}

#[tokio::test]
async fn an_api_key_is_shown_once_and_stored_as_a_hash() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let (key, text) = fixture
        .ops
        .create_api_key(&operator(), acme, &request("billing", Role::Member))
        .await
        .unwrap();
    let text = text.expose_secret();
    assert!(CredentialKind::ApiKey.fits(text));
    let client = fixture.catalog.client().await.unwrap();
    let row = client
        .query_one("select hash, api_key::text from api_key", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &[u8]>(0), sha256(text.as_bytes()));
    assert!(!row.get::<_, &str>(1).contains(&text[4..]));
    let listed = fixture.ops.list_api_keys(&operator(), acme, None, 10).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&key));

    fixture.ops.revoke_api_key(&operator(), acme, key.id).await.unwrap();

    assert!(
        fixture
            .ops
            .list_api_keys(&operator(), acme, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let again = fixture.ops.revoke_api_key(&operator(), acme, key.id).await;
    assert!(matches!(again, Err(ApiKeyError::NotFound)), "{again:?}");
}

#[tokio::test]
async fn an_api_key_has_no_more_rights_than_its_maker_and_makes_no_others() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let admin = fixture.member(acme, "admin@example.com", Role::Admin).await;
    let as_admin = account(acme, admin, Role::Admin);
    let create = async |authority: &Authority, tenant, role| {
        fixture
            .ops
            .create_api_key(authority, tenant, &request("key", role))
            .await
            .map(drop)
    };
    let refused = create(&as_admin, acme, Role::Owner).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let refused = create(&account(acme, admin, Role::Member), acme, Role::Viewer).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let refused = create(&api_key(acme, Role::Owner), acme, Role::Viewer).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let refused = create(&as_admin, globex, Role::Viewer).await;
    assert!(matches!(refused, Err(ApiKeyError::NotFound)), "{refused:?}");
    create(&as_admin, acme, Role::Admin).await.unwrap();

    let (owners, _) = fixture
        .ops
        .create_api_key(&operator(), acme, &request("owners", Role::Owner))
        .await
        .unwrap();
    let refused = fixture.ops.revoke_api_key(&as_admin, acme, owners.id).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let (foreign, _) = fixture
        .ops
        .create_api_key(&operator(), globex, &request("key", Role::Viewer))
        .await
        .unwrap();
    for id in [foreign.id, ApiKeyId::from_uuid(Uuid::now_v7())] {
        let refused = fixture.ops.revoke_api_key(&as_admin, acme, id).await;
        assert!(matches!(refused, Err(ApiKeyError::NotFound)), "{refused:?}");
    }
}

/// What a process knows of a member can be a second old; the one row that counts is read under the lock.
#[tokio::test]
async fn who_was_demoted_a_moment_ago_makes_and_revokes_no_api_key() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let admin = fixture.member(acme, "admin@example.com", Role::Admin).await;
    let as_admin = account(acme, admin, Role::Admin);
    let wanted = request("mine", Role::Admin);
    let (key, _) = fixture.ops.create_api_key(&as_admin, acme, &wanted).await.unwrap();
    let demoted = fixture
        .ops
        .set_member_role(&operator(), acme, admin, Role::Member)
        .await;
    demoted.unwrap();
    let wanted = request("another", Role::Viewer);
    let refused = fixture.ops.create_api_key(&as_admin, acme, &wanted).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let refused = fixture.ops.revoke_api_key(&as_admin, acme, key.id).await;
    assert!(matches!(refused, Err(ApiKeyError::Forbidden(_))), "{refused:?}");
    let listed = fixture.ops.list_api_keys(&operator(), acme, None, 10).await.unwrap();
    assert_eq!(listed, [key]);
}

#[tokio::test]
async fn impossible_api_keys_are_refused_with_their_reason() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let create = async |request: &ApiKeyRequest| fixture.ops.create_api_key(&operator(), acme, request).await;
    for name in ["", " ", "a\nb", &"x".repeat(101), &"x".repeat(10_000)] {
        let refused = create(&request(name, Role::Viewer)).await;
        assert!(matches!(refused, Err(ApiKeyError::Name)), "{name:?}: {refused:?}");
    }
    // RFC 3339 has years of four digits: a later one could be stored and not be shown.
    for end in [Utc::now() - TimeDelta::seconds(1), DateTime::<Utc>::MAX_UTC] {
        let impossible = ApiKeyRequest {
            expires_at: Some(end),
            ..request("key", Role::Viewer)
        };
        assert!(
            matches!(create(&impossible).await, Err(ApiKeyError::ExpiresAt)),
            "{end}"
        );
    }
    create(&request("key", Role::Viewer)).await.unwrap();
    assert!(matches!(
        create(&request("key", Role::Viewer)).await,
        Err(ApiKeyError::NameTaken)
    ));
    let nowhere = tenantry_core::TenantId::from_uuid(Uuid::now_v7());
    let refused = fixture
        .ops
        .create_api_key(&operator(), nowhere, &request("key", Role::Viewer))
        .await;
    assert!(matches!(refused, Err(ApiKeyError::NotFound)), "{refused:?}");
}

#[tokio::test]
async fn operator_keys_are_named_scoped_and_revocable() {
    let fixture = Fixture::new().await;
    let ops = &fixture.ops;
    let system = Authority::system("init");
    let (key, text) = ops
        .create_operator_key(&system, &operator_request("first", OperatorScopes::all()))
        .await
        .unwrap();
    assert!(CredentialKind::OperatorKey.fits(text.expose_secret()));
    let taken = ops
        .create_operator_key(&system, &operator_request("first", OperatorScopes::all()))
        .await;
    assert!(matches!(taken, Err(OperatorKeyError::NameTaken)), "{taken:?}");

    ops.revoke_operator_key(&operator(), key.id).await.unwrap();

    let again = ops.revoke_operator_key(&operator(), key.id).await;
    assert!(matches!(again, Err(OperatorKeyError::NotFound)), "{again:?}");
    ops.create_operator_key(&system, &operator_request("first", OperatorScopes::all()))
        .await
        .expect("a revoked key's name is free");
    let listed = ops.list_operator_keys(&operator()).await.unwrap();
    let revoked: Vec<_> = listed.iter().map(|key| key.revoked_at.is_some()).collect();
    assert_eq!(revoked, [false, true]);
}

#[tokio::test]
async fn an_operator_hands_out_no_scope_that_the_own_key_lacks() {
    let fixture = Fixture::new().await;
    let ops = &fixture.ops;
    let keeper = operator_with([OperatorScope::Keys, OperatorScope::Read]);
    let only = |scope| OperatorScopes::from_iter([scope]);
    let refused = ops
        .create_operator_key(&keeper, &operator_request("k", only(OperatorScope::Tenants)))
        .await;
    assert!(matches!(refused, Err(OperatorKeyError::Forbidden(_))), "{refused:?}");
    ops.create_operator_key(&keeper, &operator_request("k", only(OperatorScope::Read)))
        .await
        .unwrap();
    let refused = ops
        .create_operator_key(&keeper, &operator_request("none", OperatorScopes::from_iter([])))
        .await;
    assert!(matches!(refused, Err(OperatorKeyError::NoScope)), "{refused:?}");
    let acme = fixture.tenant("acme").await;
    for stranger in [operator_with([OperatorScope::Tenants]), api_key(acme, Role::Owner)] {
        let request = operator_request("x", only(OperatorScope::Read));
        let refused = ops.create_operator_key(&stranger, &request).await;
        assert!(matches!(refused, Err(OperatorKeyError::Forbidden(_))), "{refused:?}");
        let refused = ops.list_operator_keys(&stranger).await;
        assert!(matches!(refused, Err(OperatorKeyError::Forbidden(_))), "{refused:?}");
        let refused = ops
            .revoke_operator_key(&stranger, OperatorKeyId::from_uuid(Uuid::now_v7()))
            .await;
        assert!(matches!(refused, Err(OperatorKeyError::Forbidden(_))), "{refused:?}");
    }
}
