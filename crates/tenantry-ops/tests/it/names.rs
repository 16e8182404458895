//! What is no slug, no name, no server is refused clearly, and changes nothing.

use futures_util::future::join_all;
use serde_json::json;
use tenantry_core::{Isolation, OperatorScope, OperatorScopes, Slug, TenantName};
use tenantry_ops::{Authority, TenantError, TenantPatch, TenantRef};

use crate::fleet::{Fleet, operator, request};

#[test]
fn reserved_and_endless_slugs_and_names_never_become_a_request() {
    for bad in [
        "www", "api", "admin", "tenantry", "a", "-a", "a_b", "A", "acme.", "xn--acme", "аcme",
    ] {
        assert!(bad.parse::<Slug>().is_err(), "{bad}");
    }
    for len in [49, 63, 64, 10_000] {
        assert!("a".repeat(len).parse::<Slug>().is_err(), "{len}");
    }
    for len in [201, 10_000] {
        assert!("ä".repeat(len).parse::<TenantName>().is_err(), "{len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_make_a_tenant_of_each_isolation() {
    let fleet = Fleet::start().await;
    for (isolation, first) in Isolation::ALL.into_iter().zip(["a", "b", "c"]) {
        let slug = first.repeat(48);
        let mut request = request(&slug, isolation);
        // 800 bytes: nothing in a database is named after it.
        request.name = "😀".repeat(200).parse().unwrap();
        let tenant = fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_is_taken_once_and_so_is_what_looks_like_it() {
    let fleet = Fleet::start().await;
    fleet.create("paypal", Isolation::Shared).await.unwrap();
    assert!(matches!(
        fleet.create("paypal", Isolation::Schema).await,
        Err(TenantError::SlugTaken)
    ));
    assert!(matches!(
        fleet.create("paypa1", Isolation::Shared).await,
        Err(TenantError::SlugLooksLike)
    ));
    let other = fleet.create("modern", Isolation::Shared).await.unwrap();
    let patch = TenantPatch {
        slug: Some("paypal".parse().unwrap()),
        ..TenantPatch::default()
    };
    let clash = fleet.ops.update_tenant(&operator(), &other.id.into(), &patch).await;
    assert!(matches!(clash, Err(TenantError::SlugTaken)));
    let patch = TenantPatch {
        slug: Some("modem".parse().unwrap()),
        ..TenantPatch::default()
    };
    let renamed = fleet
        .ops
        .update_tenant(&operator(), &other.id.into(), &patch)
        .await
        .unwrap();
    assert_eq!(renamed.slug.as_str(), "modem");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_concurrent_creations_with_one_slug_exactly_one_succeeds() {
    let fleet = Fleet::start().await;
    let attempts = (0..12).map(|number| {
        let isolation = Isolation::ALL[number % 3];
        fleet.create("acme", isolation)
    });
    let outcomes = join_all(attempts).await;
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, TenantError::SlugTaken)),
        "{outcomes:?}"
    );
    let tenants = fleet
        .ops
        .list_tenants(&operator(), &Default::default(), 10)
        .await
        .unwrap();
    assert_eq!(tenants.len(), 1);
    let server = &fleet.ops.list_servers(&operator()).await.unwrap()[0];
    assert_eq!(server.tenants, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_profiles_are_bounded() {
    let fleet = Fleet::start().await;
    for settings in [
        json!([]),
        json!("x"),
        json!({ "a": "x".repeat(70_000) }),
        json!({ "a": "\u{0}" }),
    ] {
        let mut request = request("acme", Isolation::Shared);
        request.settings = Some(settings);
        let outcome = fleet.ops.create_tenant(&operator(), &request, None).await;
        assert!(matches!(outcome, Err(TenantError::Settings)));
    }
    let mut request = request("acme", Isolation::Shared);
    request.profile.phone = "1".repeat(10_000);
    let outcome = fleet.ops.create_tenant(&operator(), &request, None).await;
    assert!(matches!(outcome, Err(TenantError::Profile { field: "phone", .. })));
    request.profile.phone = "+49 30 1".to_owned();
    request.settings = Some(json!({ "theme": { "dark": true } }));
    let tenant = fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
    assert_eq!(tenant.settings, json!({ "theme": { "dark": true } }));
    assert_eq!(tenant.profile.phone, "+49 30 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_operator_for_tenants_is_refused() {
    let fleet = Fleet::start().await;
    let reader = Authority::Operator {
        operator: tenantry_core::Operator {
            key: tenantry_core::OperatorKeyId::from_uuid(uuid::Uuid::nil()),
            name: "reader".to_owned(),
            scopes: [OperatorScope::Read].into_iter().collect::<OperatorScopes>(),
        },
        origin: tenantry_ops::Origin::default(),
    };
    let outcome = fleet
        .ops
        .create_tenant(&reader, &request("acme", Isolation::Shared), None)
        .await;
    assert!(matches!(outcome, Err(TenantError::Forbidden(_))));
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    let name = TenantRef::Id(tenant.id);
    assert!(matches!(
        fleet.ops.suspend_tenant(&reader, &name).await,
        Err(TenantError::Forbidden(_))
    ));
    assert!(matches!(
        fleet.ops.delete_tenant(&reader, &name).await,
        Err(TenantError::Forbidden(_))
    ));
    assert!(matches!(
        fleet.ops.purge_tenant(&reader, &name).await,
        Err(TenantError::Forbidden(_))
    ));
    assert!(fleet.ops.get_tenant(&reader, &name).await.is_ok());
}
