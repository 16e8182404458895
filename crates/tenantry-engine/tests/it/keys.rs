//! Rotation.

use tenantry_core::seal::Key;
use tenantry_engine::keys;

use crate::seal_support::{Fixture, Session, in_each_tier, refusal};

in_each_tier! { tokens_of_two_keys_are_accepted_until_the_old_one_is_retired }

async fn accepted(session: &mut Session, key: &Key, fixture: &Fixture) -> Result<(), String> {
    let signed = key.sign(&session.token(fixture.a));
    session.try_enter(&signed).await.map_err(|error| refusal(&error).0)
}

async fn tokens_of_two_keys_are_accepted_until_the_old_one_is_retired(fixture: Fixture) {
    let old = fixture.made.key.clone();
    let mut session = fixture.session().await;
    let live = keys::ids(&fixture.client).await.unwrap();
    assert_eq!(live, [old.id()]);
    let new = keys::generate(&live);
    assert_eq!(accepted(&mut session, &new, &fixture).await, Err("28000".to_owned()));
    keys::add(&fixture.client, &new).await.unwrap();
    keys::add(&fixture.client, &new).await.unwrap();
    assert_eq!(keys::ids(&fixture.client).await.unwrap(), [old.id(), new.id()]);
    for key in [&old, &new, &old, &new] {
        accepted(&mut session, key, &fixture).await.unwrap();
    }
    // a third one waits
    let third = keys::generate(&[old.id(), new.id()]);
    assert_eq!(
        keys::add(&fixture.client, &third).await.unwrap_err().code(),
        Some("55000")
    );
    // another key with a live id does not slip in
    let impostor = Key::new(new.id(), [9; 32]);
    assert!(keys::add(&fixture.client, &impostor).await.is_err());

    assert!(keys::retire(&fixture.client, old.id()).await.unwrap());
    assert!(!keys::retire(&fixture.client, old.id()).await.unwrap());
    assert_eq!(accepted(&mut session, &old, &fixture).await, Err("28000".to_owned()));
    // a session that was bound by the new key goes on
    assert_eq!(session.key.id(), old.id());
    session.key = new.clone();
    accepted(&mut session, &new, &fixture).await.unwrap();
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
    keys::add(&fixture.client, &third).await.unwrap();
}
