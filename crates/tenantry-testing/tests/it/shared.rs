use tenantry_testing::{cluster, database, database_on, installation_id, second_cluster};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

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
    let tables: i64 = client
        .query_one("select count(*) from pg_class where oid >= 16384", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(tables, 0);
    // It goes although a client is connected and something holds it.
    client.simple_query("begin").await.unwrap();
    client.simple_query("create table held ()").await.unwrap();
    let admin = cluster().await.connect("postgres").await;
    drop(database);
    let left = admin
        .query("select from pg_database where datname = $1", &[&name])
        .await
        .unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_database_goes_with_its_replication_slots() {
    let database = database().await;
    let name = database.name().to_owned();
    let create = "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')";
    database
        .connect()
        .await
        .query_one(create, &[&format!("slot_{name}")])
        .await
        .unwrap();
    drop(database);
    let admin = cluster().await.connect("postgres").await;
    let left = admin
        .query("select from pg_database where datname = $1", &[&name])
        .await
        .unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn the_second_cluster_is_another_server_of_the_newest_version() {
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
    let database = database_on(second).await;
    let two: i64 = database
        .connect()
        .await
        .query_one(identifier, &[])
        .await
        .unwrap()
        .get(0);
    assert_ne!(one, two);
    assert!(second.major() >= first.major());
}

#[tokio::test]
async fn urls_and_configurations_lead_to_the_same_place() {
    let database = database().await;
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("select current_database(), current_user", &[])
        .await
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1)),
        (database.name(), database.cluster().superuser())
    );
}

#[tokio::test]
async fn the_restricted_administrator_makes_roles_and_schemas_but_grants_no_parameter() {
    let database = database().await;
    let admin = database.restricted_admin().await;
    let (client, connection) = admin.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let role = format!("tn_{}_owner", installation_id());
    client
        .batch_execute(&format!("create role {role} nologin; create schema made"))
        .await
        .unwrap();
    let refused = client
        .batch_execute(&format!("grant set on parameter backtrace_functions to {role}"))
        .await;
    assert_eq!(refused.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    let superuser: bool = client
        .query_one("select rolsuper from pg_roles where rolname = current_user", &[])
        .await
        .unwrap()
        .get(0);
    assert!(!superuser);
}

#[test]
fn installation_ids_are_eight_hex_digits_and_differ() {
    let ids: std::collections::BTreeSet<String> = (0..100).map(|_| installation_id()).collect();
    assert!(ids.len() > 95);
    assert!(
        ids.iter()
            .all(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    );
}
