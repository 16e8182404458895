//! Spare schemas that are handed out beside the activation: nothing but the spare is needed, since there are no seeds.

use std::{sync::Arc, time::Duration};

use tenantry_core::{Isolation, TenantState, own_schema_name};
use tenantry_engine::migrate::Files;
use tenantry_ops::{FleetConfig, Tenant, TenantError};
use tenantry_testing::{OwnCluster, OwnClusterOptions, database, database_on, own_cluster};
use tokio_postgres::Client;

use crate::{
    child::Process,
    fleet::{Fleet, config, files, operator, ops_on},
};

const SPARES: usize = 5;

/// With a file that changed the data of the tenants there were, of which a new one has none.
pub(crate) fn unseeded() -> FleetConfig {
    let mut config = config();
    let first = files().as_slice()[0].clone();
    let tidy = "-- tenantry: each tenant\nupdate contacts set name = btrim(name);".to_owned();
    let all = vec![(first.name, first.text), ("0002_tidy.sql".to_owned(), tidy)];
    config.migrations = Some(Arc::new(Files::from_embedded(all).unwrap()));
    config.spare_schemas = SPARES;
    config
}

/// Tenants on a server of the test's own, with the catalog there too or elsewhere.
async fn fleet_on(own: &OwnCluster, is_catalog_there: bool) -> Fleet {
    let catalog = if is_catalog_there {
        database_on(own.cluster()).await
    } else {
        database().await
    };
    let ops = ops_on(&catalog.url(), unseeded()).await;
    let fleet = Fleet { catalog, ops };
    fleet.add("one", own.cluster()).await;
    fleet
}

/// As its administrator.
async fn shared_database(fleet: &Fleet, own: &OwnCluster) -> Client {
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql = "select name from tenant_database where kind = 'shared'";
    let name: String = catalog.query_one(sql, &[]).await.unwrap().get(0);
    own.connect(&name).await
}

/// The schemas that wait.
async fn waiting(admin: &Client) -> Vec<u32> {
    let sql = "select oid from pg_namespace where starts_with(nspname::text, 'spare_') order by nspname";
    let rows = admin.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Has it done by whoever comes next.
async fn settle(fleet: &Fleet, slug: &str) -> Tenant {
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    let tenant = fleet.settled(slug).await;
    runner.abort();
    tenant
}

/// It lives in one of these, has what it should, and works.
async fn assert_lives_in_one_of(fleet: &Fleet, admin: &Client, tenant: &Tenant, spares: &[u32]) {
    assert_eq!(tenant.state, TenantState::Active);
    let schema = own_schema_name(tenant.id);
    let sql = "select oid from pg_namespace where nspname = $1";
    let oid: u32 = admin.query_one(sql, &[&schema]).await.unwrap().get(0);
    assert!(spares.contains(&oid), "{schema} was made and not handed out");
    let sql = "select array_agg(version) from tenantry_private.migration_tenant where schema = $1";
    let noted: Option<Vec<i64>> = admin.query_one(sql, &[&schema]).await.unwrap().get(0);
    assert_eq!(noted, Some(vec![2]), "what changed others' data is none of its own");
    let status = fleet.ops.migration_status(&operator()).await.unwrap();
    let own = status.iter().find(|site| site.schema == schema);
    assert_eq!(own.map(|site| (site.version, site.pending.len())), Some((2, 0)));
    fleet.add_contact(tenant.id, "new@example.com").await;
    assert_eq!(fleet.emails(tenant.id).await, ["new@example.com"]);
}

/// The session that waits for the next tenant.
async fn until_one_is_at_hand(admin: &Client) {
    let sql = "select count(*) from pg_stat_activity
                where datname = current_database() and state = 'idle' and query like '%pg_advisory_unlock_all%'";
    for _ in 0..200 {
        if admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            // It is put back when its answer has come.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("none waits");
}

/// The record's commit is waited for before anything is made, and the activation's. The hand-out's only where it stands in another log.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_is_handed_out_by_four_messages_and_waited_for_where_its_log_is_another() {
    for (is_one_log, end) in [(true, "set local synchronous_commit = off; commit"), (false, "commit")] {
        let settings = vec![("log_statement".to_owned(), "all".to_owned())];
        let own = own_cluster(OwnClusterOptions {
            settings,
            ..Default::default()
        })
        .await;
        let fleet = fleet_on(&own, is_one_log).await;
        assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), SPARES);
        // It has to log in, and to plan.
        let first = fleet.create("first", Isolation::Schema).await.unwrap();
        until_one_is_at_hand(&shared_database(&fleet, &own).await).await;
        let log = || std::fs::read_to_string(own.cluster().log_file()).unwrap();
        let before = log().len();
        let second = fleet.create("second", Isolation::Schema).await.unwrap();
        assert_eq!(second.state, TenantState::Active);
        let said = log().split_off(before);
        let messages = |database: &str| -> Vec<&str> {
            said.lines()
                .filter(|line| line.contains(&format!("@{database} ")))
                .filter_map(|line| Some(line.split_once("LOG:  ")?.1))
                // Others' time: the connection is cleaned for the next one, and the catalog's changes are followed.
                .filter(|text| !text.contains("reset session authorization") && !text.contains("c.payload"))
                .collect()
        };
        let there = messages(&first.placement.unwrap().database);
        assert_eq!(there.len(), 4, "{there:#?}");
        assert_eq!(there.last(), Some(&format!("statement: {end}").as_str()));
        if is_one_log {
            let catalog = messages(fleet.catalog.name());
            let commits = catalog.iter().filter(|text| **text == "statement: COMMIT");
            assert_eq!(commits.count(), 2, "{catalog:#?}");
            assert!(
                !catalog.iter().any(|text| text.contains("synchronous_commit")),
                "{catalog:#?}"
            );
            assert!(catalog.len() <= 28, "{}: {catalog:#?}", catalog.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_over_a_hand_out_leaves_all_of_it_or_nothing() {
    let fleet = Fleet::start_with(unseeded()).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), SPARES);
    let admin = fleet.shared_admin().await;
    let spares = waiting(&admin).await;
    let places = [
        ("recorded_schema", false),
        ("in_turn", false),
        ("prepared", false),
        ("handed_out", true),
    ];
    for (number, (place, is_handed_out)) in places.into_iter().enumerate() {
        let slug = format!("killed-at-{}", place.replace('_', "-"));
        let failpoint = format!("provision.{place}");
        let stop = format!("{failpoint}=stop");
        let child = Process::start(&fleet.catalog.url(), "create-unseeded", &slug, &stop);
        child.gets_killed_at(&failpoint).await;
        let left = spares.len() - number - usize::from(is_handed_out);
        assert_eq!(waiting(&admin).await.len(), left, "killed at {place}");
        let tenant = settle(&fleet, &slug).await;
        assert_lives_in_one_of(&fleet, &admin, &tenant, &spares).await;
    }
    assert_eq!(waiting(&admin).await, spares[places.len()..], "each took one");
}

/// On one server the hand-out is lost with all that stands behind it in the log; on a server of its own it was waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_over_a_hand_out_has_all_of_it_or_nothing() {
    for is_one_log in [true, false] {
        // What is not waited for is written seldom.
        let settings = vec![("wal_writer_delay".to_owned(), "10s".to_owned())];
        let mut own = own_cluster(OwnClusterOptions {
            settings,
            ..Default::default()
        })
        .await;
        let fleet = fleet_on(&own, is_one_log).await;
        assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), SPARES);
        let spares = waiting(&shared_database(&fleet, &own).await).await;
        let place = "provision.handed_out";
        let child = Process::start(
            &fleet.catalog.url(),
            "create-unseeded",
            "acme",
            &format!("{place}=stop"),
        );
        let child = child.comes_to(place).await;
        own.kill();
        drop(child);
        tokio::task::block_in_place(|| own.restart());
        let tenant = settle(&fleet, "acme").await;
        let admin = shared_database(&fleet, &own).await;
        assert_lives_in_one_of(&fleet, &admin, &tenant, &spares).await;
        assert_eq!(waiting(&admin).await, spares[1..], "it took one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_each_gets_a_spare_of_its_own_while_there_are_any() {
    let fleet = Fleet::start_with(unseeded()).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), SPARES);
    let admin = fleet.shared_admin().await;
    let spares = waiting(&admin).await;
    let slugs: Vec<String> = (0..SPARES + 3).map(|number| format!("tenant-{number}")).collect();
    let creations = slugs.iter().map(|slug| fleet.create(slug, Isolation::Schema));
    let mut handed_out = 0;
    for tenant in futures_util::future::join_all(creations).await {
        let tenant = tenant.unwrap();
        let again = fleet.ops.get_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert_eq!(tenant, again, "what was answered is what is there");
        fleet.add_contact(tenant.id, "new@example.com").await;
        let sql = "select oid from pg_namespace where nspname = $1";
        let row = admin.query_one(sql, &[&own_schema_name(tenant.id)]).await.unwrap();
        handed_out += usize::from(spares.contains(&row.get(0)));
    }
    assert_eq!((handed_out, waiting(&admin).await.len()), (SPARES, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_was_damaged_goes_with_the_tenant_that_would_get_it() {
    let fleet = Fleet::start_with(unseeded()).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), SPARES);
    let admin = fleet.shared_admin().await;
    let oldest = "select min(nspname::text) from pg_namespace where starts_with(nspname::text, 'spare_')";
    let oldest: String = admin.query_one(oldest, &[]).await.unwrap().get(0);
    let damage = format!("drop table {oldest}.contacts cascade");
    admin.batch_execute(&damage).await.unwrap();
    let refused = fleet.create("acme", Isolation::Schema).await;
    let Err(TenantError::Failed { code, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "schema_unfit");
    let spares = waiting(&admin).await;
    assert_eq!(spares.len(), SPARES - 1);
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    assert_lives_in_one_of(&fleet, &admin, &tenant, &spares).await;
}
