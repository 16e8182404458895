//! What only the signed tier has to withstand: its statement stands in a setting that anybody may read and write.

use tenantry_core::Epoch;
use tenantry_engine::fence::{self, Closed};
use tokio_postgres::SimpleQueryMessage;

use crate::seal_support::{Fixture, Session, refusal};

const SETTINGS: &str =
    "select current_setting('tenantry.signed'), current_setting('tenantry.expect'), current_setting('tenantry.last')";

async fn fixtures() -> [Fixture; 2] {
    [
        Fixture::signed_on(tenantry_testing::cluster().await).await,
        Fixture::signed_on(tenantry_testing::second_cluster().await).await,
    ]
}

/// What an attacker keeps of a transaction in a tenant's context.
async fn keep(session: &Session) -> [String; 3] {
    let row = session.client.query_one(SETTINGS, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

async fn put_back(session: &Session, kept: &[String; 3], local: bool) {
    session
        .client
        .execute(
            "select set_config('tenantry.signed', $1, $4), set_config('tenantry.expect', $2, $4), set_config('tenantry.last', $3, $4)",
            &[&kept[0], &kept[1], &kept[2], &local],
        )
        .await
        .unwrap();
}

async fn sees_nothing(session: &Session) {
    let (code, message) = refusal(&session.notes().await.unwrap_err());
    assert_eq!(code, "22P02");
    assert!(message.contains("not bound as this call expects"), "{message}");
}

#[tokio::test]
async fn what_was_kept_of_a_transaction_is_worth_nothing_in_the_next() {
    for fixture in fixtures().await {
        let mut session = fixture.session().await;
        session.begin(fixture.a).await;
        assert_eq!(session.notes().await.unwrap().len(), 1);
        let kept = keep(&session).await;
        session.client.batch_execute("commit").await.unwrap();
        session.client.batch_execute("begin").await.unwrap();
        put_back(&session, &kept, true).await;
        sees_nothing(&session).await;
        session.client.batch_execute("rollback").await.unwrap();
        put_back(&session, &kept, false).await;
        sees_nothing(&session).await;
        // nor while another tenant is served
        session.begin(fixture.b).await;
        put_back(&session, &kept, true).await;
        sees_nothing(&session).await;
        session.client.batch_execute("rollback").await.unwrap();
    }
}

/// Two backends never start a transaction in the same microsecond when a test wants it, so the statement is made up here.
#[tokio::test]
async fn what_another_backend_signed_at_the_same_moment_is_worth_nothing() {
    for fixture in fixtures().await {
        let superuser = fixture.superuser().await;
        let thief = fixture.session().await;
        let victim = fixture.session().await;
        let seal = thief.key.sign(&thief.token(fixture.a)).seal();
        thief.client.batch_execute("begin").await.unwrap();
        let moment = "select encode(timestamptz_send(transaction_timestamp()), 'hex')";
        let moment: String = thief.client.query_one(moment, &[]).await.unwrap().get(0);
        for (pid, is_its_own) in [(victim.pid, false), (thief.pid, true)] {
            let payload = format!("{seal}{:02x}{pid:08x}{moment}", thief.key.id());
            let signed: String = superuser
                .query_one(
                    "select tenantry_private.sign_signed(decode($1, 'hex'), $2)",
                    &[&payload, &i32::from(thief.key.id())],
                )
                .await
                .unwrap()
                .get(0);
            thief.client.batch_execute("savepoint s").await.unwrap();
            put_back(&thief, &[signed, seal.clone(), String::new()], true).await;
            if is_its_own {
                assert_eq!(thief.notes().await.unwrap(), [format!("of {}", fixture.a)]);
            } else {
                sees_nothing(&thief).await;
            }
            thief.client.batch_execute("rollback to savepoint s").await.unwrap();
        }
    }
}

#[tokio::test]
async fn no_digit_of_the_statement_can_be_changed() {
    for fixture in fixtures().await {
        let mut session = fixture.session().await;
        session.begin(fixture.a).await;
        let kept = keep(&session).await;
        let signed = &kept[0];
        for position in 0..signed.len() {
            let digit = if &signed[position..=position] == "0" { "1" } else { "0" };
            let mut changed = kept.clone();
            changed[0].replace_range(position..=position, digit);
            // The seal that it would be is expected too.
            changed[1] = changed[0][..50].to_owned();
            session.client.batch_execute("savepoint s").await.unwrap();
            put_back(&session, &changed, true).await;
            sees_nothing(&session).await;
            session.client.batch_execute("rollback to savepoint s").await.unwrap();
        }
        for other in [
            "",
            "0",
            "zz",
            &signed[..signed.len() - 2],
            &format!("{signed}00"),
            &signed.to_uppercase(),
        ] {
            session.client.batch_execute("savepoint s").await.unwrap();
            put_back(&session, &[other.to_owned(), kept[1].clone(), kept[2].clone()], true).await;
            if other != signed {
                sees_nothing(&session).await;
            }
            session.client.batch_execute("rollback to savepoint s").await.unwrap();
        }
        assert_eq!(session.notes().await.unwrap(), [format!("of {}", fixture.a)]);
    }
}

/// The mark of the last counter is another statement of the same key: none can be used as the other.
#[tokio::test]
async fn the_mark_of_the_counter_is_no_context() {
    for fixture in fixtures().await {
        let mut session = fixture.session().await;
        // Committed: an undone transaction undoes the mark as well.
        session.enter(fixture.a).await;
        session.begin(fixture.a).await;
        let kept = keep(&session).await;
        put_back(&session, &[kept[2].clone(), kept[1].clone(), kept[0].clone()], true).await;
        sees_nothing(&session).await;
        session.client.batch_execute("rollback").await.unwrap();
        // A forged mark does not let a used token in.
        let used = session.enter(fixture.a).await;
        for forged in ["0".repeat(92), "f".repeat(92), kept[0].clone(), "x".to_owned()] {
            session
                .client
                .execute("select set_config('tenantry.last', $1, false)", &[&forged])
                .await
                .unwrap();
            assert_eq!(refusal(&session.try_enter(&used).await.unwrap_err()).0, "28000");
        }
    }
}

/// Transactions of one message start at the same moment, so the second could take the first one's statement.
#[tokio::test]
async fn a_fence_closes_between_the_transactions_of_one_message() {
    for fixture in fixtures().await {
        let mut session = fixture.session().await;
        let signed = session.key.sign(&session.token(fixture.a));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (message, mac) = (hex(&signed.message), hex(&signed.mac));
        // It waits, in the middle of the message, for a lock that the test holds.
        let superuser = fixture.superuser().await;
        // The test's own means: on a hardened database it is taken.
        let lend = format!(
            "grant execute on function pg_advisory_lock(bigint) to {}",
            fixture.made.app_role
        );
        superuser.batch_execute(&lend).await.unwrap();
        superuser.batch_execute("select pg_advisory_lock(42)").await.unwrap();
        let text = format!(
            "begin; select tenantry.enter('\\x{message}', '\\x{mac}');
             select set_config('evil.signed', current_setting('tenantry.signed'), false), set_config('evil.expect', current_setting('tenantry.expect'), false);
             commit;
             select pg_advisory_lock(42);
             select set_config('tenantry.signed', current_setting('evil.signed'), false), set_config('tenantry.expect', current_setting('evil.expect'), false);
             select body from app.note"
        );
        let pid = session.pid;
        let client = std::mem::replace(&mut session.client, fixture.app_client().await);
        let attack = tokio::spawn(async move { client.simple_query(&text).await });
        let waits = "select from pg_locks where pid = $1 and locktype = 'advisory' and not granted";
        while superuser.query(waits, &[&pid]).await.unwrap().is_empty() {}
        fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
            .await
            .unwrap();
        superuser.batch_execute("select pg_advisory_unlock(42)").await.unwrap();
        let refused = attack.await.unwrap().map(|answers| {
            answers
                .into_iter()
                .filter(|answer| matches!(answer, SimpleQueryMessage::Row(_)))
                .count()
        });
        assert_eq!(refusal(&refused.unwrap_err()).0, "22P02");
    }
}
