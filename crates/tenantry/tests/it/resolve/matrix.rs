//! Credential by host by header by forwarded host: who opens what.

use tenantry::{Credentials, HeaderField, ResolveError, Role};

use super::support::{Fixture, Shown, bearer};

use ResolveError::{
    BadToken, Forbidden, TenantMismatch, TenantNotReady, TenantSuspended, TenantUnresolved, Unauthenticated,
};

#[tokio::test]
async fn a_token_that_names_a_tenant_opens_that_one_or_nothing() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(globex, "ann@example.com", Role::Viewer).await;
    let resolver = fixture.resolver().await;
    let token = bearer(&fixture.token("ann@example.com", Some("acme")).await);
    let (_, api_key) = fixture.api_key(acme, Role::Owner).await;
    for shown in [token, bearer(&api_key)] {
        let opens = Ok((acme, Role::Owner));
        for (shown, expected) in [
            (shown.clone(), opens),
            (shown.clone().host("acme.example.com"), opens),
            (shown.clone().host("ACME.example.com.:443"), opens),
            (shown.clone().host("www.example.com"), opens),
            (shown.clone().host("example.com"), opens),
            (shown.clone().host("10.1.2.3:8080"), opens),
            (shown.clone().host("globex.example.com"), Err(TenantMismatch)),
            (shown.clone().host("nobody.example.com"), Err(TenantMismatch)),
            (shown.clone().host("x.acme.example.com"), Err(TenantMismatch)),
            (shown.clone().host("user@acme.example.com"), Err(TenantMismatch)),
            (shown.clone().tenant("acme"), opens),
            (shown.clone().tenant(acme), opens),
            (shown.clone().tenant("globex"), Err(TenantMismatch)),
            (shown.clone().tenant(globex), Err(TenantMismatch)),
            (shown.clone().tenant("nobody"), Err(TenantMismatch)),
            (shown.clone().tenant("Acme"), Err(TenantMismatch)),
            (shown.clone().tenant("аcme"), Err(TenantMismatch)),
            (shown.clone().tenant(""), Err(TenantMismatch)),
            (shown.clone().tenant("acme,globex"), Err(TenantMismatch)),
            (
                shown.clone().host("acme.example.com").tenant("globex"),
                Err(TenantMismatch),
            ),
            (
                shown.clone().host("globex.example.com").tenant("acme"),
                Err(TenantMismatch),
            ),
            // Only a configured proxy says which host was meant.
            (
                shown
                    .clone()
                    .host("acme.example.com")
                    .forwarded("globex.example.com", "192.0.2.1"),
                opens,
            ),
            (
                shown
                    .clone()
                    .host("globex.example.com")
                    .forwarded("acme.example.com", "192.0.2.1"),
                Err(TenantMismatch),
            ),
            (
                shown
                    .clone()
                    .host("inner.local")
                    .forwarded("globex.example.com", "10.0.0.1"),
                Err(TenantMismatch),
            ),
            (
                shown
                    .clone()
                    .host("globex.example.com")
                    .forwarded("acme.example.com", "10.0.0.1"),
                opens,
            ),
        ] {
            // Twice: from the catalog and from memory.
            for _ in 0..2 {
                assert_eq!(shown.opens(&resolver).await, expected, "{shown:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_names_none_opens_what_the_header_chooses_among_its_memberships() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let other = fixture.tenant("other").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(globex, "ann@example.com", Role::Viewer).await;
    let resolver = fixture.resolver().await;
    let shown = bearer(&fixture.token("ann@example.com", None).await);
    for (shown, expected) in [
        (shown.clone(), Err(TenantUnresolved)),
        // The host alone opens nothing.
        (shown.clone().host("acme.example.com"), Err(TenantUnresolved)),
        (
            shown.clone().forwarded("acme.example.com", "10.0.0.1"),
            Err(TenantUnresolved),
        ),
        (shown.clone().tenant("acme"), Ok((acme, Role::Owner))),
        (shown.clone().tenant(globex), Ok((globex, Role::Viewer))),
        (
            shown.clone().host("globex.example.com").tenant("globex"),
            Ok((globex, Role::Viewer)),
        ),
        (
            shown.clone().host("acme.example.com").tenant("globex"),
            Err(TenantMismatch),
        ),
        (shown.clone().tenant("other"), Err(Forbidden)),
        (shown.clone().tenant(other), Err(Forbidden)),
        (shown.clone().tenant("nobody"), Err(Forbidden)),
        (shown.clone().tenant("' or 1=1"), Err(Forbidden)),
        (shown.clone().tenant(""), Err(Forbidden)),
    ] {
        for _ in 0..2 {
            assert_eq!(shown.opens(&resolver).await, expected, "{shown:?}");
        }
    }
    assert!(shown.identity_at(&resolver).await.is_ok(), "it opens the log-in routes");
}

#[tokio::test]
async fn no_credential_opens_nothing_whatever_else_is_said() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    let nothing = Shown::default();
    for shown in [
        nothing.clone(),
        nothing.clone().host("acme.example.com"),
        nothing.clone().tenant("acme"),
        nothing.clone().host("acme.example.com").tenant(acme),
        nothing.forwarded("acme.example.com", "10.0.0.1"),
    ] {
        assert_eq!(shown.opens(&resolver).await, Err(Unauthenticated), "{shown:?}");
    }
    // A bad credential is not passed over in favour of what else is said.
    let refresh_token = fixture.login("ann@example.com", None).await.refresh_token;
    let refresh_token = secrecy::ExposeSecret::expose_secret(&refresh_token).to_owned();
    for bad in [
        "x",
        "tna_",
        "tno_",
        &format!("tna_{}", "0".repeat(64)),
        &format!("tno_{}", "0".repeat(64)),
        &refresh_token,
    ] {
        let shown = bearer(bad).host("acme.example.com").tenant("acme");
        assert_eq!(shown.opens(&resolver).await, Err(BadToken), "{shown:?}");
    }
}

#[tokio::test]
async fn headers_that_come_twice_are_not_read() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    let token = format!("Bearer {}", fixture.token("ann@example.com", None).await);
    let shown = Credentials {
        authorization: HeaderField::Once(&token),
        ..Credentials::default()
    };
    let answer = async |credentials: Credentials<'_>| resolver.resolve(&credentials).await.map(drop);
    assert_eq!(answer(shown).await, Ok(()));
    let twice = HeaderField::Unusable;
    assert_eq!(
        answer(Credentials {
            authorization: twice,
            ..shown
        })
        .await,
        Err(BadToken)
    );
    assert_eq!(
        answer(Credentials { tenant: twice, ..shown }).await,
        Err(TenantMismatch)
    );
    assert_eq!(
        answer(Credentials { host: twice, ..shown }).await,
        Err(TenantUnresolved)
    );
}

#[tokio::test]
async fn an_operator_key_opens_no_tenant() {
    let fixture = Fixture::new().await;
    fixture.tenant("acme").await;
    let resolver = fixture.resolver().await;
    let (id, text) = fixture.operator_key().await;
    for shown in [
        bearer(&text),
        bearer(&text).tenant("acme"),
        bearer(&text).host("acme.example.com"),
    ] {
        assert_eq!(shown.opens(&resolver).await, Err(Forbidden));
        let tenantry::Identity::Operator(operator) = shown.identity_at(&resolver).await.unwrap() else {
            panic!()
        };
        assert_eq!(operator.key, id);
    }
}

#[tokio::test]
async fn a_tenant_that_is_not_served_is_refused_with_its_reason() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let token = bearer(&fixture.token("ann@example.com", None).await);
    let (_, api_key) = fixture.api_key(acme, Role::Viewer).await;
    for (state, expected) in [
        ("provisioning", TenantNotReady),
        ("suspended", TenantSuspended),
        ("deleted", TenantSuspended),
        ("purged", Forbidden),
    ] {
        fixture.set_state(acme, state).await;
        let resolver = fixture.resolver().await;
        for shown in [&token, &bearer(&api_key)] {
            assert_eq!(shown.opens(&resolver).await, Err(expected), "{state}");
        }
    }
}

#[tokio::test]
async fn the_host_names_the_tenant_of_a_public_page() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let resolver = fixture.resolver().await;
    let public = async |host: &str| {
        let shown = Shown::default().host(host);
        let tenant = resolver.public_tenant(&shown.credentials()).await.unwrap();
        tenant.map(|tenant| (tenant.id, tenant.slug))
    };
    assert_eq!(public("acme.example.com").await, Some((acme, "acme".to_owned())));
    for none in [
        "globex.example.com",
        "www.example.com",
        "example.com",
        "acme.example.org",
        "localhost",
    ] {
        assert_eq!(public(none).await, None, "{none}");
    }
}

#[tokio::test]
async fn a_slug_follows_its_tenant() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    fixture.member(globex, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    let shown = bearer(&fixture.token("ann@example.com", None).await);
    for (slug, expected) in [("acme", Ok(acme)), ("newname", Err(Forbidden))] {
        assert_eq!(
            shown.clone().tenant(slug).opens(&resolver).await.map(|(id, _)| id),
            expected
        );
    }
    // acme is renamed, and another takes the old name.
    fixture
        .run(&format!(
            "begin;
             update tenant set slug = 'newname' where id = '{acme}';
             update tenant set slug = 'acme' where id = '{globex}';
             insert into change (payload) values ('tenant:{acme}'), ('tenant:{globex}');
             notify tenantry_changes, 'tenant:{acme}';
             commit"
        ))
        .await;
    let renamed = shown.clone().tenant("newname");
    renamed.until(&resolver, Ok(Role::Owner)).await;
    assert_eq!(renamed.opens(&resolver).await.map(|(id, _)| id), Ok(acme));
    assert_eq!(
        shown.tenant("acme").opens(&resolver).await.map(|(id, _)| id),
        Ok(globex)
    );
}

#[tokio::test]
async fn membership_counts_for_assignments_before_it_is_accepted() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    let resolver = fixture.resolver().await;
    assert_eq!(resolver.is_member(acme, ann).await, Ok(true));
    assert_eq!(resolver.is_member(globex, ann).await, Ok(false));
    fixture
        .run(&format!(
            "update membership set status = 'invited' where tenant = '{acme}'"
        ))
        .await;
    assert_eq!(fixture.resolver().await.is_member(acme, ann).await, Ok(true));
}

#[tokio::test]
async fn with_any_domain_only_a_tenants_own_slug_contradicts() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.tenant("globex").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let mut config = super::support::config();
    config.domains = vec!["*".to_owned()];
    let resolver = fixture.resolver_with(config).await;
    let shown = bearer(&fixture.token("ann@example.com", None).await);
    for (host, expected) in [
        ("acme.localhost:8080", Ok((acme, Role::Owner))),
        ("globex.localhost:8080", Err(TenantMismatch)),
        ("globex.anything.example.org", Err(TenantMismatch)),
        ("nobody.localhost", Ok((acme, Role::Owner))),
        ("localhost:8080", Ok((acme, Role::Owner))),
        ("127.0.0.1:8080", Ok((acme, Role::Owner))),
    ] {
        assert_eq!(shown.clone().host(host).opens(&resolver).await, expected, "{host}");
    }
    let public = Shown::default().host("globex.localhost");
    assert!(resolver.public_tenant(&public.credentials()).await.unwrap().is_some());
}
