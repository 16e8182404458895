use tenantry_core::Role;
use tenantry_ops::{LoginError, Password};

use super::support::{Fixture, PASSWORD, origin, session};

#[tokio::test]
async fn a_changed_password_ends_every_other_log_in() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let own = fixture.login("ann@example.com", None).await.unwrap();
    let other = fixture.login("ann@example.com", None).await.unwrap();
    let new = Password::new("a quite new password", &"ann@example.com".parse().unwrap()).unwrap();

    let refused = fixture
        .ops
        .change_password(session(&own), &"wrong password".into(), &new, &origin())
        .await;
    assert!(matches!(refused, Err(LoginError::BadCredentials)), "{refused:?}");
    fixture
        .ops
        .change_password(session(&own), &PASSWORD.into(), &new, &origin())
        .await
        .unwrap();

    assert!(matches!(
        fixture.login("ann@example.com", None).await,
        Err(LoginError::BadCredentials)
    ));
    fixture
        .login_with("ann@example.com", "a quite new password", None)
        .await
        .unwrap();
    assert!(matches!(
        fixture.refresh(&other.refresh_token).await,
        Err(LoginError::Ended)
    ));
    fixture
        .refresh(&own.refresh_token)
        .await
        .expect("the own log-in goes on");
}

#[tokio::test]
async fn a_hash_of_an_older_cost_is_made_anew_at_log_in() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let client = fixture.catalog.client().await.unwrap();
    let weak = {
        use argon2::{Argon2, Params, PasswordHasher as _};
        let argon2 = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            Params::new(64, 1, 1, None).unwrap(),
        );
        argon2.hash_password(PASSWORD.as_bytes()).unwrap().to_string()
    };
    client
        .execute("update account set password_hash = $1", &[&weak])
        .await
        .unwrap();
    fixture.login("ann@example.com", None).await.unwrap();
    let stored: String = client
        .query_one("select password_hash from account", &[])
        .await
        .unwrap()
        .get(0);
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    fixture.login("ann@example.com", None).await.unwrap();
}
