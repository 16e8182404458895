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

#[tokio::test(flavor = "multi_thread")]
async fn an_own_database_is_hardened_when_it_is_made_and_a_shared_one_by_choice() {
    use tenantry_ops::{DatabaseKind, HardenedDatabases, HardeningChange};
    for (wanted, own, shared) in [
        (HardenedDatabases::Own, true, false),
        (HardenedDatabases::All, true, true),
        (HardenedDatabases::None, false, false),
    ] {
        let mut config = crate::fleet::config();
        config.hardening = wanted;
        let fleet = Fleet::start_with(config).await;
        let operator = crate::fleet::operator();
        let tenant = fleet.create("acme", Isolation::Database).await.unwrap();
        let found = fleet.ops.check_hardening(&operator).await.unwrap();
        assert_eq!(found.len(), 2);
        for database in &found {
            let expected = if database.kind == DatabaseKind::Own {
                own
            } else {
                shared
            };
            let hardening = database.found.as_ref().unwrap();
            assert_eq!(
                (hardening.is_whole(), hardening.is_none()),
                (expected, !expected),
                "{database:?}"
            );
            let named = match (database.kind, expected) {
                (DatabaseKind::Own, true) => "T4, own and hardened, sealed",
                _ => "T2, sealed",
            };
            assert_eq!(database.protection(), named);
        }
        // The application goes on, and is refused what was taken.
        fleet.add_contact(tenant.id, "new@example.com").await;
        let client = fleet.enter(tenant.id).await.unwrap();
        assert_eq!(client.batch_execute("select pg_sleep(0)").await.is_err(), own);
        // Databases that exist are hardened, or given back, when somebody asks for it.
        for (change, whole) in [
            (HardeningChange::Harden { except: &[] }, true),
            (HardeningChange::Undo, false),
            (HardeningChange::Harden { except: &["sleep"] }, false),
        ] {
            let changed = fleet
                .ops
                .change_hardening(&operator, "one", None, change)
                .await
                .unwrap();
            assert_eq!(changed.len(), 2);
            for database in changed {
                let found = database.found.unwrap();
                assert_eq!(found.is_whole(), whole, "{found:?}");
                if !whole && !found.is_none() {
                    assert_eq!(found.left_names(), "sleep");
                }
            }
        }
        fleet.add_contact(tenant.id, "last@example.com").await;
    }
}
