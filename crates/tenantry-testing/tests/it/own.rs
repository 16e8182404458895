use tenantry_testing::{OwnClusterOptions, own_cluster};

#[tokio::test]
async fn a_test_can_kill_stop_and_restart_a_server_of_its_own_without_losing_what_was_committed() {
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let mut own = own_cluster(OwnClusterOptions {
        settings,
        ..OwnClusterOptions::default()
    })
    .await;
    let folder = own.folder().to_owned();
    let client = own.connect("postgres").await;
    client
        .batch_execute("create table kept as select 1 as n")
        .await
        .unwrap();
    let row = client
        .query_one("select current_setting('work_mem'), current_setting('fsync')", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("7MB", "off"));

    own.kill();
    assert!(client.simple_query("select 1").await.is_err());
    own.restart();
    own.connect("postgres")
        .await
        .batch_execute("insert into kept values (2)")
        .await
        .unwrap();
    own.stop();
    own.restart();
    let rows = own
        .connect("postgres")
        .await
        .query("select n from kept", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);

    drop(own);
    assert!(!folder.exists());
    assert_eq!(tenantry_postgres::servers_below(&folder), []);
}
