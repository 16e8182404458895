//! The seal as the pool uses it.

use tenantry_core::{Epoch, Role};

use crate::seal_support::{Session, expect, refusal, sealed};

#[tokio::test]
async fn a_bound_session_sees_its_tenant_and_nothing_else() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    session.enter(fixture.a).await;
    assert_eq!(
        session.notes_as(fixture.a).await.unwrap(),
        [format!("of {}", fixture.a)]
    );
    session.enter(fixture.b).await;
    assert_eq!(
        session.notes_as(fixture.b).await.unwrap(),
        [format!("of {}", fixture.b)]
    );
}

#[tokio::test]
async fn without_an_expectation_a_bound_session_sees_nothing_and_writes_nothing() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    assert!(session.notes().await.unwrap().is_empty());
    session.enter(fixture.a).await;
    for expectation in [None, Some("")] {
        session.client.batch_execute("begin").await.unwrap();
        if let Some(expectation) = expectation {
            expect(&session.client, expectation).await.unwrap();
        }
        assert!(session.notes().await.unwrap().is_empty());
        assert_eq!(
            session
                .client
                .execute("update app.note set body = 'x'", &[])
                .await
                .unwrap(),
            0
        );
        assert_eq!(session.client.execute("delete from app.note", &[]).await.unwrap(), 0);
        let insert = session
            .client
            .execute(
                "insert into app.note (tenant_id, id) values ($1, 9)",
                &[fixture.a.as_uuid()],
            )
            .await
            .unwrap_err();
        assert_eq!(refusal(&insert).0, "42501");
        session.client.batch_execute("rollback").await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_expectation_is_an_error_that_says_so() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    let first = session.enter(fixture.a).await.seal();
    session.enter(fixture.a).await;
    let other = fixture.session().await.key.sign(&session.token(fixture.b)).seal();
    // another tenant's seal; this tenant's older binding; anything else
    for expectation in [other.as_str(), &first, "-", &"z".repeat(50)] {
        session.client.batch_execute("begin").await.unwrap();
        expect(&session.client, expectation).await.unwrap();
        let (code, message) = refusal(&session.notes().await.unwrap_err());
        assert_eq!(code, "22P02");
        assert!(
            message.contains("tenantry: the session is not bound as this call expects"),
            "{message}"
        );
        session.client.batch_execute("rollback").await.unwrap();
    }
}

/// The functions cut the tenant out of the carrier by the expectation, which the session may write (ADR 0032): so each piece
/// of what they cut, sentence included, is tried.
#[tokio::test]
async fn no_piece_of_the_carrier_is_an_expectation_that_shows_another_tenant() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    let seal = session.enter(fixture.a).await.seal();
    let carrier = tenantry_engine::seal::CARRIER;
    let rows = session
        .client
        .query("select current_setting($1)", &[&carrier])
        .await
        .unwrap();
    let held: String = rows[0].get(0);
    assert_eq!(held, tenantry_engine::seal::carried(&seal));
    let whole = format!("{held} tenantry: the session is not bound as this call expects");
    let set = session
        .client
        .prepare("select set_config('tenantry.expect', $1, false)")
        .await
        .unwrap();
    let read = session.client.prepare("select tenantry.tenant_id()").await.unwrap();
    let (mut own, mut refused) = (0, 0);
    for start in 0..whole.len() {
        for end in start + 1..=whole.len() {
            session.client.execute(&set, &[&&whole[start..end]]).await.unwrap();
            match session.client.query_one(&read, &[]).await {
                Ok(row) => {
                    assert_eq!(
                        row.get::<_, uuid::Uuid>(0),
                        *fixture.a.as_uuid(),
                        "{}",
                        &whole[start..end]
                    );
                    own += 1;
                }
                Err(error) => {
                    assert_eq!(refusal(&error).0, "22P02");
                    refused += 1;
                }
            }
        }
    }
    // Those that begin right behind the tenant and stand nowhere before: longer than the tenant, with which the carrier begins.
    assert!((70..=74).contains(&own) && refused > 9_000, "{own} {refused}");
}

/// What a session held that the version before had bound: its counter and the raw lane's mark are not where they are looked for.
#[tokio::test]
async fn what_an_older_version_bound_is_refused() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    let seal = session.enter(fixture.a).await.seal();
    let superuser = fixture.superuser().await;
    superuser
        .batch_execute(&format!(
            "create function tenantry.as_before() returns text language sql security definer
               as $$ select set_config('{carrier}', '{seal}', false) $$;
             grant execute on function tenantry.as_before() to public",
            carrier = tenantry_engine::seal::CARRIER
        ))
        .await
        .unwrap();
    session
        .client
        .batch_execute("select tenantry.as_before()")
        .await
        .unwrap();
    session.client.batch_execute("begin").await.unwrap();
    expect(&session.client, &seal).await.unwrap();
    assert_eq!(refusal(&session.notes().await.unwrap_err()).0, "22P02");
    session.client.batch_execute("rollback").await.unwrap();
    let token = session.key.sign(&session.token(fixture.a));
    assert_eq!(refusal(&session.try_enter(&token).await.unwrap_err()).0, "28000");
}

#[tokio::test]
async fn a_role_reads_and_writes_as_it_may() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    for role in Role::ALL {
        let mut token = session.token(fixture.a);
        token.role = role;
        token.account = Some(Session::account());
        session.enter_with(token).await;
        session.begin(fixture.a).await;
        assert_eq!(session.notes().await.unwrap().len(), 1);
        for asked in Role::ALL {
            let row = session
                .client
                .query_one("select tenantry.has_role($1)", &[&asked.as_str()])
                .await
                .unwrap();
            assert_eq!(row.get::<_, bool>(0), role >= asked, "{role} {asked}");
        }
        let row = session
            .client
            .query_one("select tenantry.has_role('king')", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, Option<bool>>(0), None);
        session.client.batch_execute("rollback").await.unwrap();
        for write in [
            "insert into app.note (id) values (2)",
            "update app.note set body = body",
            "delete from app.note where id = 2",
        ] {
            session.client.batch_execute("begin").await.unwrap();
            session.open(fixture.a).await.unwrap();
            let done = session.client.execute(write, &[]).await;
            session.client.batch_execute("rollback").await.unwrap();
            if role.may_write() {
                done.unwrap();
            } else if !write.starts_with("delete") {
                let (code, message) = refusal(&done.unwrap_err());
                assert_eq!(code, "22P02");
                assert!(message.contains("tenantry: the role viewer may not write"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn a_viewers_delete_is_refused() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    let mut token = session.token(fixture.a);
    token.role = Role::Viewer;
    session.enter_with(token).await;
    let (code, message) = refusal(&session.write_as(fixture.a, "delete from app.note").await.unwrap_err());
    assert_eq!(code, "22P02");
    assert!(message.contains("the role viewer may not write"), "{message}");
}

#[tokio::test]
async fn the_account_is_read_in_the_transaction_that_entered() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    session.client.batch_execute("begin").await.unwrap();
    let mut token = session.token(fixture.a);
    token.account = Some(Session::account());
    session.enter_with(token).await;
    let account = "select tenantry.account_id()";
    let row = session.client.query_one(account, &[]).await.unwrap();
    assert_eq!(row.get::<_, uuid::Uuid>(0), *Session::account().as_uuid());
    session.client.batch_execute("commit").await.unwrap();
    let row = session.client.query_one(account, &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<uuid::Uuid>>(0), None);
}

#[tokio::test]
async fn an_old_placement_is_told_to_look_again() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    let mut token = session.token(fixture.a);
    token.epoch = Epoch(2);
    let signed = session.key.sign(&token);
    let (code, message) = refusal(&session.try_enter(&signed).await.unwrap_err());
    assert_eq!(code, "TN001");
    assert!(message.starts_with("tenantry: "), "{message}");
}
