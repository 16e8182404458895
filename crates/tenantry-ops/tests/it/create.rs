//! Creating tenants.

use tenantry_core::{Isolation, TenantState};

use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_each_isolation_is_made_seeded_and_apart_from_the_others() {
    let fleet = Fleet::start().await;
    let mut tenants = Vec::new();
    for isolation in Isolation::ALL {
        let tenant = fleet
            .create(&format!("acme-{isolation}"), isolation)
            .await
            .expect("it is made");
        assert_eq!(tenant.state, TenantState::Active);
        assert_eq!(tenant.placement.as_ref().expect("it lives").isolation, isolation);
        fleet.add_contact(tenant.id, &format!("{isolation}@example.com")).await;
        tenants.push(tenant);
    }
    for tenant in tenants {
        let isolation = tenant.placement.expect("it lives").isolation;
        assert_eq!(
            fleet.emails(tenant.id).await,
            ["help@example.com".to_owned(), format!("{isolation}@example.com")]
                .iter()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_tenant_takes_few_statements_and_one_transaction_in_its_database() {
    let mut config = crate::fleet::config();
    // Without seeds, which are the application's own statements.
    let files = [(
        "0001_contacts.sql",
        "create table contacts (id uuid primary key, email text unique, name text not null);",
    )];
    config.migrations = Some(std::sync::Arc::new(
        tenantry_engine::migrate::Files::from_embedded(files).unwrap(),
    ));
    let settings = vec![("log_statement".to_owned(), "all".to_owned())];
    let own = tenantry_testing::own_cluster(tenantry_testing::OwnClusterOptions {
        settings,
        ..Default::default()
    })
    .await;
    let fleet = Fleet::empty(config).await;
    fleet.add("one", own.cluster()).await;
    let first = fleet.create("first", Isolation::Shared).await.unwrap();
    let database = first.placement.unwrap().database;
    let log = || std::fs::read_to_string(own.cluster().log_file()).unwrap();
    let before = log().len();
    fleet.create("second", Isolation::Shared).await.unwrap();
    let said = log().split_off(before);
    let here: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(&format!("@{database} ")))
        .collect();
    let statements: Vec<&str> = here
        .iter()
        .filter_map(|line| Some(line.split_once("LOG:  ")?.1))
        .collect();
    let count: usize = statements
        .iter()
        .map(|text| text.trim_end_matches(';').split(';').count())
        .sum();
    assert!((1..10).contains(&count), "{statements:#?}");
    let begun = statements.iter().filter(|text| text.contains(": begin;")).count();
    assert_eq!(begun, 1, "{statements:#?}");
    let elsewhere = said
        .lines()
        .filter(|line| line.contains("LOG:  ") && !line.contains(&format!("@{database} ")));
    assert_eq!(elsewhere.count(), 0, "{said}");
}
