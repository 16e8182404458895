//! Statements in a context.

use std::time::Duration;

use tenantry_wire::{Error, Savepoint, Session};

use crate::support::Sealed;

async fn names(session: &mut Session, sealed: &Sealed, tenant: usize) -> Vec<String> {
    let outcome = session
        .query(&sealed.binding(tenant), "select name from contact order by id", &[])
        .await
        .unwrap();
    outcome.rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[tokio::test]
async fn each_tenant_sees_its_own_rows_on_one_connection() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    for _ in 0..8 {
        assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
        assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
        assert_eq!(names(&mut session, &sealed, 1).await, ["Bob"]);
    }
}

#[tokio::test]
async fn without_context_there_are_no_rows_on_a_bound_connection() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    names(&mut session, &sealed, 0).await;
    let outcome = session
        .connection()
        .query("select name from app.contact", &[])
        .await
        .unwrap();
    assert!(outcome.rows.is_empty());
    let sql = "insert into app.contact (id, name) values (9, 'x')";
    assert!(session.connection().query(sql, &[]).await.is_err());
}

#[tokio::test]
async fn a_failed_statement_does_not_unbind_and_a_failed_first_one_does_not_bind() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let (first, second) = (sealed.binding(0), sealed.binding(1));
    let failing = "select 1 / (id - id) from contact";
    assert_eq!(
        session.query(&first, failing, &[]).await.unwrap_err().code(),
        Some("22012")
    );
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
    // Rebinding and failing in one Sync takes the binding back too.
    session.query(&second, failing, &[]).await.unwrap_err();
    assert!(session.serves(&first));
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
    assert_eq!(names(&mut session, &sealed, 1).await, ["Bob"]);
}

#[tokio::test]
async fn a_transaction_is_kept_or_undone() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let binding = sealed.binding(1);
    let insert = "insert into contact (id, name) values ($1, $2)";

    session.begin();
    session.query(&binding, insert, &[&2_i64, &"Eve"]).await.unwrap();
    session.query(&binding, insert, &[&3_i64, &"Fay"]).await.unwrap();
    session.rollback().await.unwrap();
    assert!(session.is_idle());
    assert_eq!(names(&mut session, &sealed, 1).await, ["Bob"]);

    session.begin();
    session.query(&binding, insert, &[&2_i64, &"Eve"]).await.unwrap();
    session.savepoint(&binding, &[], Savepoint::Set, 1).await.unwrap();
    session.query(&binding, insert, &[&2_i64, &"Eve"]).await.unwrap_err();
    session.savepoint(&binding, &[], Savepoint::Undo, 1).await.unwrap();
    session.query(&binding, insert, &[&3_i64, &"Fay"]).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(names(&mut session, &sealed, 1).await, ["Bob", "Eve", "Fay"]);
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_failed_transaction_is_not_committed() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let binding = sealed.binding(0);
    session.begin();
    session
        .query(&binding, "insert into contact (id, name) values (5, 'Gus')", &[])
        .await
        .unwrap();
    session
        .query(&binding, "insert into contact (id, name) values (5, 'Gus')", &[])
        .await
        .unwrap_err();
    assert!(matches!(session.commit().await, Err(Error::TransactionFailed)));
    assert!(session.is_idle());
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn undoing_the_transaction_that_was_bound_for_keeps_the_binding() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let binding = sealed.binding(0);
    session.begin();
    session
        .query(&binding, "select 1 / (id - id) from contact", &[])
        .await
        .unwrap_err();
    session.rollback().await.unwrap();
    assert!(session.serves(&binding));
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn statements_made_stale_by_a_migration_are_renewed() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let admin = sealed.database.connect().await;
    let binding = sealed.binding(0);
    let (all, by_id) = ("select * from contact", "select name from contact where id = $1");
    assert_eq!(session.query(&binding, all, &[]).await.unwrap().rows[0].len(), 3);
    session.query(&binding, by_id, &[&1_i64]).await.unwrap();
    admin
        .batch_execute("alter table app.contact add note text, alter id type int4")
        .await
        .unwrap();
    assert_eq!(session.query(&binding, all, &[]).await.unwrap().rows[0].len(), 4);
    assert_eq!(session.query(&binding, by_id, &[&1_i32]).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_stale_statement_in_a_transaction_fails_once_and_is_forgotten() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let binding = sealed.binding(0);
    let all = "select * from contact";
    session.query(&binding, all, &[]).await.unwrap();
    let admin = sealed.database.connect().await;
    admin
        .batch_execute("alter table app.contact add note text")
        .await
        .unwrap();
    session.begin();
    session.query(&binding, "select 1", &[]).await.unwrap();
    assert_eq!(
        session.query(&binding, all, &[]).await.unwrap_err().code(),
        Some("0A000")
    );
    session.rollback().await.unwrap();
    session.begin();
    session.query(&binding, "select 1", &[]).await.unwrap();
    assert_eq!(session.query(&binding, all, &[]).await.unwrap().rows[0].len(), 4);
    session.commit().await.unwrap();
}

#[tokio::test]
async fn what_outlasts_a_call_is_refused_before_it_is_sent() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    for sql in [
        "set search_path = x",
        "prepare a as select 1",
        "listen x",
        "begin",
        "copy contact to stdout",
    ] {
        let error = session.query(&sealed.binding(0), sql, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{sql}: {error}");
    }
    let error = session
        .query(&sealed.binding(0), "select 1; select 2", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("42601"));
}

#[tokio::test]
async fn rows_are_read_one_by_one() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let binding = sealed.binding(0);
    let sql = "select n, name from contact, generate_series(1, $1) n";
    let mut reader = session.stream(&binding, sql, &[&1000]).await.unwrap();
    let mut sum = 0;
    while let Some(row) = session.next_row(&mut reader).await.unwrap() {
        sum += row.get::<i32>(0).unwrap();
        assert_eq!(row.get::<&str>(1).unwrap(), "Ada");
    }
    assert_eq!(sum, 500_500);
    assert!(session.is_idle() && session.next_row(&mut reader).await.unwrap().is_none());
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn copy_out_gives_the_tenants_rows_only() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    session
        .copy_out(
            &sealed.binding(1),
            "copy (select name from contact) to stdout (format csv)",
        )
        .await
        .unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = session.next_chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(text, b"Bob\n");
    assert!(session.is_idle());
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_token_for_another_backend_or_of_another_key_is_rejected() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let foreign = tenantry_core::seal::Key::new(3, [8; 32]);
    let binding = tenantry_wire::Binding {
        key: &foreign,
        ..sealed.binding(0)
    };
    assert_eq!(
        session.query(&binding, "select 1", &[]).await.unwrap_err().code(),
        Some("28000")
    );
    assert_eq!(names(&mut session, &sealed, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_dropped_stream_leaves_the_session_for_nobody() {
    let sealed = Sealed::new().await;
    let mut session = sealed.session().await;
    let sql = "select n from generate_series(1, 10000000) n";
    let call = async {
        let mut reader = session.stream(&sealed.binding(0), sql, &[]).await.unwrap();
        session.next_row(&mut reader).await.unwrap();
        std::future::pending::<()>().await;
    };
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    assert!(!session.is_idle());
}
