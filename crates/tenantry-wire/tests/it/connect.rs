//! Getting in, and being thrown out.

use std::sync::Arc;

use tenantry_wire::{Connection, Endpoint, Error, Options};

use crate::support::{connect, endpoint};

#[tokio::test]
async fn scram_lets_in_with_the_password_only() {
    let database = tenantry_testing::database().await;
    let connection = connect(&database).await;
    assert!(connection.is_idle() && connection.server_version() >= 150_000 && connection.process_id() > 0);

    let mut endpoint = Endpoint::clone(&endpoint(&database));
    endpoint.password = "wrong".to_owned().into();
    let error = Connection::connect(Arc::new(endpoint), &Options::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("28P01"));
}

#[tokio::test]
async fn a_terminated_connection_is_seen_without_a_call() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    assert!(!connection.is_closed());
    let admin = database.connect().await;
    admin
        .execute("select pg_terminate_backend($1, 5000)", &[&connection.process_id()])
        .await
        .unwrap();
    // The server's farewell has left it; the loopback delivers it in an instant.
    for _ in 0..1000 {
        if connection.is_closed() {
            return;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("the end of the connection was not seen");
}

#[tokio::test]
async fn a_cancelled_statement_leaves_the_connection_usable_when_its_end_was_read() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let token = connection.cancel_token();
    let (result, ()) = tokio::join!(connection.query("select pg_sleep(60)", &[]), async {
        let admin = database.connect().await;
        let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()";
        while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        token.cancel().await.unwrap();
    });
    assert_eq!(result.unwrap_err().code(), Some("57014"));
    assert!(connection.is_idle());
    connection.query("select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn settings_the_connection_relies_on_may_not_change() {
    let database = tenantry_testing::database().await;
    let mut connection = connect(&database).await;
    let error = connection
        .batch("set standard_conforming_strings = off")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Drift(name) if name == "standard_conforming_strings"),
        "{error}"
    );
    assert!(!connection.is_usable());
}
