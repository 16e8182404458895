//! Connecting, migrating, checking the key.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tenantry_catalog::{Catalog, CatalogError, MasterKey, server};
use tenantry_core::ServerId;
use tenantry_testing::{cluster, database};

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_start_on_an_empty_catalog_at_once() {
    let database = database().await;
    let url = database.url();
    let key = key();
    let starts = (0..8).map(|_| Catalog::connect(&url, &key));
    let catalogs = futures_util::future::join_all(starts).await;
    let ids: Vec<_> = catalogs
        .into_iter()
        .map(|catalog| catalog.unwrap().installation().clone())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// Who waits for a tenant's row and then looks where it lives would see where it lived before.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_after_a_wait_shows_what_was_waited_for_whatever_the_servers_default() {
    let database = database().await;
    let name = database.name();
    let default = format!("alter database {name} set default_transaction_isolation = 'repeatable read'");
    database.connect().await.batch_execute(&default).await.unwrap();
    let catalog = Catalog::connect(&database.url(), &key()).await.unwrap();
    let mut client = catalog.client().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let row = transaction.query_one("show transaction_isolation", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "read committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_newer_catalog_and_an_edited_migration_are_refused_at_start() {
    let database = database().await;
    Catalog::connect(&database.url(), &key()).await.unwrap();
    let wrong = Catalog::connect(&database.url(), &MasterKey::from_bytes([8; 32])).await;
    assert!(matches!(wrong, Err(CatalogError::WrongKey)));
    let client = database.connect().await;
    client
        .batch_execute("insert into tenantry_catalog.migration (version, name, checksum) values (1000, 'future', '')")
        .await
        .unwrap();
    let newer = Catalog::connect(&database.url(), &key()).await;
    assert!(matches!(newer, Err(CatalogError::TooNew { found: 1000, .. })));
    client
        .batch_execute(
            "delete from tenantry_catalog.migration where version = 1000;
                        update tenantry_catalog.migration set checksum = 'x' where version = 1",
        )
        .await
        .unwrap();
    let edited = Catalog::connect(&database.url(), &key()).await;
    assert!(matches!(edited, Err(CatalogError::Changed { version: 1 })));
}

/// Two processes could begin one each, where one of them was paused at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_rollouts_from_when_there_could_be_several_the_one_at_work_or_the_newest_stays() {
    let before = "set search_path = tenantry_catalog;
                  drop index operation_one_live_migration;
                  create unique index operation_one_live_migration on operation (kind)
                      where kind in ('migrate', 'plan_migrations', 'verify_migrations')
                        and state in ('pending', 'running', 'undoing');
                  delete from migration where version = 21;
                  truncate operation cascade";
    let one = "insert into tenantry_catalog.operation (id, kind, state, created_at)
               values (gen_random_uuid(), 'migrate', $1, now() - make_interval(hours => $2))";
    let database = database().await;
    Catalog::connect(&database.url(), &key()).await.unwrap();
    let client = database.connect().await;
    for (states, left) in [
        (
            &["paused", "running", "paused"][..],
            ["cancelled", "running", "cancelled"],
        ),
        (&["done", "paused", "paused"], ["done", "paused", "cancelled"]),
    ] {
        client.batch_execute(before).await.unwrap();
        for (hours, state) in (0..).zip(states) {
            client.execute(one, &[state, &hours]).await.unwrap();
        }
        Catalog::connect(&database.url(), &key()).await.unwrap();
        let sql = "select state from tenantry_catalog.operation order by created_at desc";
        let rows = client.query(sql, &[]).await.unwrap();
        let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, left, "{states:?}");
    }
    let second = client.execute(one, &[&"pending", &0]).await.unwrap_err();
    let constraint = second.as_db_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("operation_one_live_migration"), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_or_that_nobody_answers_is_an_error_and_no_secret_is_repeated() {
    for url in [
        "mysql://x",
        "postgres://user:hunter2@127.0.0.1:1/catalog",
        "postgres://user:hunter2@127.0.0.1:port/x",
    ] {
        let refused = Catalog::connect(url, &key()).await.unwrap_err();
        let said = format!("{refused} {refused:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_of_the_same_cluster_may_not_connect_to_the_catalog() {
    let database = database().await;
    Catalog::connect(&database.url(), &key()).await.unwrap();
    let role = format!("stranger_{}", tenantry_testing::installation_id());
    let client = database.connect().await;
    client
        .batch_execute(&format!("create role {role} login password 'pw'"))
        .await
        .unwrap();
    let refused = cluster()
        .await
        .config_for(database.name(), &role, "pw")
        .connect(tokio_postgres::NoTls)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    client.batch_execute(&format!("drop role {role}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_encrypted_in_their_rows_and_open_nowhere_else() {
    let database = database().await;
    let catalog = Catalog::connect(&database.url(), &key()).await.unwrap();
    let client = catalog.client().await.unwrap();
    let ids = [1, 2].map(|number| ServerId::from_uuid(uuid::Uuid::from_u128(number)));
    for (number, id) in ids.iter().enumerate() {
        let url: SecretString = format!("postgres://postgres:hunter{number}@db/postgres").into();
        let new = server::NewServer {
            id: *id,
            name: ["one", "two"][number],
            region: "eu",
            capacity: None,
            connections: None,
            admin_url: &url,
            mover_password: &"hush".to_owned().into(),
            server_version: 150_000,
            system_identifier: number as i64,
        };
        assert_eq!(
            server::insert(&catalog, &client, &new).await.unwrap(),
            server::Inserted::Yes
        );
    }
    let opened = server::administration(&catalog, &client, ids[0]).await.unwrap();
    assert_eq!(
        opened.admin_url.expose_secret(),
        "postgres://postgres:hunter0@db/postgres"
    );
    let stored = client
        .query_one("select string_agg(s::text, '') from server as s", &[])
        .await
        .unwrap();
    let stored: String = stored.get(0);
    assert!(
        !stored.contains(&hex::encode("hunter")) && !stored.contains("hunter"),
        "{stored}"
    );
    client
        .batch_execute("update server set admin_url_sealed = (select admin_url_sealed from server where name = 'two')")
        .await
        .unwrap();
    let swapped = server::administration(&catalog, &client, ids[0]).await;
    assert!(matches!(swapped, Err(CatalogError::Secret(_))), "{swapped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_stops_answers_with_an_error_and_works_again_when_it_is_back() {
    let mut own = tenantry_testing::own_cluster(Default::default()).await;
    let url = own.cluster().admin_url("postgres");
    let catalog = Catalog::connect(&url, &key()).await.unwrap();
    own = tokio::task::spawn_blocking(move || {
        own.kill();
        own
    })
    .await
    .unwrap();
    let gone = async {
        let client = catalog.client().await?;
        client.query_one("select 1", &[]).await?;
        Ok::<_, CatalogError>(())
    };
    let error = tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let own = tokio::task::spawn_blocking(move || {
        own.restart();
        own
    })
    .await
    .unwrap();
    let client = catalog.client().await.unwrap();
    client.query_one("select 1", &[]).await.unwrap();
    drop(own);
}
