//! The application's migrations over the fleet.

use std::sync::Arc;

use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::{FleetConfig, MigrationError};

use crate::fleet::{Fleet, config, files, operator, ops_on};

fn with(text: &str) -> FleetConfig {
    let mut all: Vec<(String, String)> = files()
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect();
    all.push(("0003_more.sql".to_owned(), text.to_owned()));
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded(all).unwrap()));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_migration_reaches_every_schema_and_a_second_run_does_nothing() {
    let fleet = Fleet::start().await;
    let mut tenants = Vec::new();
    for isolation in Isolation::ALL {
        tenants.push(fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap());
    }
    fleet
        .ops
        .suspend_tenant(&operator(), &tenants[1].id.into())
        .await
        .unwrap();
    let newer = "-- tenantry: seed\ninsert into contacts (email, name) values ('news@example.com', 'News');";
    let ops = ops_on(&fleet.catalog.url(), with(newer)).await;
    let status = ops.migration_status(&operator()).await.unwrap();
    assert_eq!(status.len(), 3);
    assert!(
        status
            .iter()
            .all(|site| site.version == 2 && site.pending == ["0003_more.sql"]),
        "{status:?}"
    );

    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!(
        (report.target, report.applied.len(), report.current, report.failed.len()),
        (3, 3, 0, 0)
    );
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.current), (0, 3));
    ops.resume_tenant(&operator(), &tenants[1].id.into()).await.unwrap();
    for tenant in &tenants {
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com", "news@example.com"]);
    }
    // New tenants get it too.
    let request = crate::fleet::request("later", Isolation::Shared);
    let later = ops.create_tenant(&operator(), &request, None).await.unwrap();
    assert_eq!(fleet.emails(later.id).await, ["help@example.com", "news@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_fails_stays_as_it_was_is_listed_and_stops_nobody() {
    let fleet = Fleet::start().await;
    let spoiled = fleet.create("spoiled", Isolation::Schema).await.unwrap();
    let fine = fleet.create("fine", Isolation::Schema).await.unwrap();
    let client = fleet.enter(spoiled.id).await.unwrap();
    client
        .execute("insert into contacts (email, name) values ('x@example.com', '')", &[])
        .await
        .unwrap();
    let ops = ops_on(
        &fleet.catalog.url(),
        with("alter table contacts add constraint named check (name <> '');"),
    )
    .await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (2, 1));
    assert_eq!(report.failed[0].slug.as_deref(), Some("spoiled"));
    assert!(
        report.failed[0].error.as_ref().unwrap().contains("named"),
        "{:?}",
        report.failed
    );
    let status = ops.migration_status(&operator()).await.unwrap();
    let stragglers: Vec<_> = status.iter().filter(|site| site.error.is_some()).collect();
    assert_eq!(stragglers.len(), 1);
    assert_eq!((stragglers[0].version, stragglers[0].tenant), (2, Some(spoiled.id)));

    client
        .execute("update contacts set name = 'X' where name = ''", &[])
        .await
        .unwrap();
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.current, report.failed.len()), (1, 2, 0));
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(
        status
            .iter()
            .all(|site| site.error.is_none() && site.pending.is_empty()),
        "{status:?}"
    );
    fleet.add_contact(fine.id, "new@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_migration_touches_nothing_and_no_migrations_are_no_success() {
    let fleet = Fleet::start().await;
    let ops = ops_on(
        &fleet.catalog.url(),
        with("create materialized view m as select 1 as x;"),
    )
    .await;
    let refused = ops.apply_migrations(&operator()).await;
    let Err(MigrationError::Refused(sentence)) = refused else {
        panic!("{refused:?}")
    };
    assert!(sentence.contains("0003_more.sql"), "{sentence}");
    let mut none = config();
    none.migrations = None;
    let ops = ops_on(&fleet.catalog.url(), none).await;
    assert!(matches!(
        ops.apply_migrations(&operator()).await,
        Err(MigrationError::NoMigrations)
    ));
}
