use tenantry_testing::{cluster, database, second_cluster};

#[tokio::test]
async fn a_test_has_an_empty_database_of_its_own_that_goes_with_it() {
    let database = database().await;
    let name = database.name().to_owned();
    let client = database.connect().await;
    let row = client
        .query_one("select current_database(), current_setting('fsync')", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (name.as_str(), "off"));
    drop(database);
    let admin = cluster().await.connect("postgres").await;
    let left = admin
        .query("select from pg_database where datname = $1", &[&name])
        .await
        .unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn the_second_cluster_is_another_server() {
    let first = cluster().await;
    let second = second_cluster().await;
    let identifier = "select system_identifier from pg_control_system()";
    let one: i64 = first
        .connect("postgres")
        .await
        .query_one(identifier, &[])
        .await
        .unwrap()
        .get(0);
    let two: i64 = second
        .connect("postgres")
        .await
        .query_one(identifier, &[])
        .await
        .unwrap()
        .get(0);
    assert_ne!(one, two);
    assert!(second.major() >= first.major());
}
