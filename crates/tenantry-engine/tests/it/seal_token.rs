//! Tokens that must not be accepted, in both tiers.

use tenantry_core::{Epoch, Role, TenantId, seal::Signed};

use crate::seal_support::{Fixture, Session, enter, in_each_tier, now_us, refusal};

in_each_tier! {
    a_token_is_used_once
    a_token_is_for_one_backend
    no_byte_of_a_token_can_be_changed
    a_token_of_another_length_or_none_is_rejected
    a_token_is_accepted_for_a_short_time_only
    another_databases_key_signs_nothing_here
    after_a_reset_only_a_fresh_token_binds
    the_raw_lane_is_left_by_discard_only
    a_tenant_that_does_not_live_here_is_told_so_to_the_signer_only
    tokens_without_a_backend_are_off_until_allowed
}

/// It was rejected, and the session is in no context.
async fn rejected(session: &mut Session, signed: &Signed) {
    let (code, message) = refusal(&session.try_enter(signed).await.unwrap_err());
    assert_eq!((code.as_str(), message.as_str()), ("28000", "tenantry: token rejected"));
}

/// What the session may see after all that was tried: its own tenant's row and no more.
async fn sees_only(session: &mut Session, tenant: TenantId) {
    assert_eq!(session.notes_as(tenant).await.unwrap(), [format!("of {tenant}")]);
}

async fn a_token_is_used_once(fixture: Fixture) {
    let mut session = fixture.session().await;
    let of_b = session.enter(fixture.b).await;
    let of_a = session.enter(fixture.a).await;
    rejected(&mut session, &of_b).await;
    rejected(&mut session, &of_a).await;
    sees_only(&mut session, fixture.a).await;
}

async fn a_token_is_for_one_backend(fixture: Fixture) {
    let mut session = fixture.session().await;
    let other = fixture.session().await;
    let of_other = other.key.sign(&other.token(fixture.b));
    rejected(&mut session, &of_other).await;
    assert!(session.notes().await.unwrap().is_empty());
    session.enter(fixture.a).await;
    rejected(&mut session, &of_other).await;
    sees_only(&mut session, fixture.a).await;
}

async fn no_byte_of_a_token_can_be_changed(fixture: Fixture) {
    let mut session = fixture.session().await;
    let signed = session.key.sign(&session.token(fixture.a));
    for position in 0..signed.message.len() + signed.mac.len() {
        for flip in [1_u8, 0x80] {
            let mut mutated = signed.clone();
            match position.checked_sub(signed.message.len()) {
                None => mutated.message[position] ^= flip,
                Some(position) => mutated.mac[position] ^= flip,
            }
            rejected(&mut session, &mutated).await;
        }
    }
    // and the one that was not changed is still good
    session.try_enter(&signed).await.unwrap();
    sees_only(&mut session, fixture.a).await;
}

async fn a_token_of_another_length_or_none_is_rejected(fixture: Fixture) {
    let session = fixture.session().await;
    let signed = session.key.sign(&session.token(fixture.a));
    let (message, mac) = (signed.message.to_vec(), signed.mac.to_vec());
    let longer: Vec<u8> = message.iter().copied().chain([0]).collect();
    for function in ["enter", "enter_pooled"] {
        for (message, mac) in [
            (Some(&message[..57]), Some(&mac[..])),
            (Some(&longer[..]), Some(&mac[..])),
            (Some(&message[..0]), Some(&mac[..0])),
            (Some(&message[..]), Some(&mac[..31])),
            (Some(&message[..]), Some(&mac[..0])),
            (Some(&message[..]), None),
            (None, Some(&mac[..])),
            (None, None),
        ] {
            let error = session
                .client
                .execute(&format!("select tenantry.{function}($1, $2)"), &[&message, &mac])
                .await
                .unwrap_err();
            assert_eq!(refusal(&error).0, "28000");
        }
    }
    assert!(session.notes().await.unwrap().is_empty());
}

async fn a_token_is_accepted_for_a_short_time_only(fixture: Fixture) {
    let mut session = fixture.session().await;
    let hour_us = 3_600_000_000;
    // expired a second ago; good for an hour; good for a minute and a half
    for shift_us in [-31_000_000, hour_us, 60_000_000] {
        let mut token = session.token(fixture.a);
        token.now_us = now_us() + shift_us;
        let signed = session.key.sign(&token);
        rejected(&mut session, &signed).await;
    }
}

async fn another_databases_key_signs_nothing_here(fixture: Fixture) {
    let mut session = fixture.session().await;
    let secret = [7; 32];
    for id in 0..=3 {
        let forger = tenantry_core::seal::Key::new(id, secret);
        let signed = forger.sign(&session.token(fixture.a));
        rejected(&mut session, &signed).await;
    }
}

async fn after_a_reset_only_a_fresh_token_binds(fixture: Fixture) {
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    for reset in ["reset all", "discard all"] {
        session.client.batch_execute(reset).await.unwrap();
        assert!(session.notes().await.unwrap().is_empty());
        let token = session.token(fixture.a);
        let signed = session.key.sign(&token);
        rejected(&mut session, &signed).await;
        let mut fresh = session.token(fixture.a);
        fresh.fresh = true;
        session.enter_with(fresh).await;
        sees_only(&mut session, fixture.a).await;
    }
}

async fn the_raw_lane_is_left_by_discard_only(fixture: Fixture) {
    let mut session = fixture.session().await;
    let mut token = session.token(fixture.a);
    token.raw = true;
    session.enter_with(token).await;
    for raw in [false, true] {
        let mut token = session.token(fixture.b);
        token.raw = raw;
        let signed = session.key.sign(&token);
        rejected(&mut session, &signed).await;
    }
    session.client.batch_execute("discard all").await.unwrap();
    let mut fresh = session.token(fixture.b);
    fresh.fresh = true;
    session.enter_with(fresh).await;
    sees_only(&mut session, fixture.b).await;
}

async fn a_tenant_that_does_not_live_here_is_told_so_to_the_signer_only(fixture: Fixture) {
    let mut session = fixture.session().await;
    let elsewhere = crate::seal_support::new_tenant();
    let mut token = session.token(elsewhere);
    token.role = Role::Owner;
    let signed = session.key.sign(&token);
    assert_eq!(refusal(&session.try_enter(&signed).await.unwrap_err()).0, "TN001");
    let forger = tenantry_core::seal::Key::new(session.key.id(), [1; 32]);
    rejected(&mut session, &forger.sign(&token)).await;
    let mut stale = session.token(fixture.a);
    stale.epoch = Epoch(7);
    assert_eq!(
        refusal(&enter(&session.client, &session.key.sign(&stale)).await.unwrap_err()).0,
        "TN001"
    );
    rejected(&mut session, &forger.sign(&stale)).await;
}

async fn tokens_without_a_backend_are_off_until_allowed(fixture: Fixture) {
    let session = fixture.session().await;
    let pooled = |tenant| {
        let mut token = session.token(tenant);
        token.backend_pid = 0;
        session.key.sign(&token)
    };
    let enter_pooled = async |signed: &Signed| {
        session
            .client
            .execute(
                "select tenantry.enter_pooled($1, $2)",
                &[&signed.message.as_slice(), &signed.mac.as_slice()],
            )
            .await
    };
    assert_eq!(refusal(&enter_pooled(&pooled(fixture.a)).await.unwrap_err()).0, "28000");
    tenantry_engine::keys::allow_pooled(&fixture.client, true)
        .await
        .unwrap();

    // the context ends with the transaction, and there is one in each
    session.client.batch_execute("begin").await.unwrap();
    enter_pooled(&pooled(fixture.a)).await.unwrap();
    assert_eq!(session.notes().await.unwrap(), [format!("of {}", fixture.a)]);
    assert_eq!(refusal(&enter_pooled(&pooled(fixture.b)).await.unwrap_err()).0, "28000");
    session.client.batch_execute("rollback").await.unwrap();
    assert!(session.notes().await.unwrap().is_empty());

    // a token for a backend is none for the pooled form, and the other way round
    let bound = session.key.sign(&session.token(fixture.a));
    assert_eq!(refusal(&enter_pooled(&bound).await.unwrap_err()).0, "28000");
    assert_eq!(
        refusal(&enter(&session.client, &pooled(fixture.a)).await.unwrap_err()).0,
        "28000"
    );
}
