//! A run over the fleet that is killed at any moment is completed by the next one.
//!
//! `TENANTRY_KILLED_SCHEMAS` and `TENANTRY_KILLS` make it long: 1000 and 50 are what the documentation reports.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tenantry_core::Isolation;
use tenantry_engine::migrate::Files;
use tenantry_ops::FleetConfig;
use tenantry_testing::{OwnClusterOptions, own_cluster};

use crate::{
    child::Process,
    fleet::{self, Fleet, files, operator, ops_on},
};

/// So many migrations beyond the usual ones.
pub(crate) fn config(more: usize) -> FleetConfig {
    let mut all: Vec<(String, String)> = files()
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect();
    for n in 0..more {
        let name = format!("{:04}_more.sql", n + 3);
        all.push((
            name,
            format!("alter table contacts add column c{n} text; create index on contacts (c{n});"),
        ));
    }
    let mut config = fleet::config();
    config.migrations = Some(Arc::new(Files::from_embedded(all).unwrap()));
    config
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_moment_is_completed_and_each_file_applied_once() {
    let (schemas, kills) = (number("TENANTRY_KILLED_SCHEMAS", 12), number("TENANTRY_KILLS", 6));
    // A thousand creations on a busy machine: patience is not what is tested here.
    let mut patient = fleet::config();
    patient.lease = Duration::from_secs(60);
    patient.wait = Duration::from_secs(600);
    let fleet = Fleet::start_with(patient).await;
    stream::iter(0..schemas)
        .for_each_concurrent(4, |n| {
            let fleet = &fleet;
            async move {
                fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
            }
        })
        .await;
    let admin = fleet.shared_admin().await;
    let at = async |version: i64| -> i64 {
        let sql = "select count(*) from tenantry_private.migration where version = $1";
        admin.query_one(sql, &[&version]).await.unwrap().get(0)
    };
    let holder = fleet.shared_admin().await;
    let own = "select min(nspname)::text from pg_namespace where nspname ~ '^t_[0-9a-f]{32}$'";
    let held: String = admin.query_one(own, &[]).await.unwrap().get(0);
    let mut killed_half_way = 0;
    for round in 1..=kills {
        let version = round as i64 + 2;
        // Worked out ahead, so that the child is killed while it migrates and not before.
        let ops = ops_on(&fleet.catalog.url(), config(round)).await;
        ops.derive_migrations().await.unwrap();
        let until = rand::random_range(0..schemas as i64);
        // One schema is kept from being done, or a quick machine has done all of them before the child is killed.
        let lock = format!("begin; lock table {held}.contacts");
        holder.batch_execute(&lock).await.unwrap();
        let child = Process::start(&fleet.catalog.url(), "migrate", &round.to_string(), "");
        fleet
            .poll("the child to come far enough", async || at(version).await >= until)
            .await;
        drop(child);
        let had = at(version).await;
        holder.batch_execute("rollback").await.unwrap();
        killed_half_way += usize::from(had > 0 && had <= schemas as i64);

        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        assert_eq!(report.applied.len() + report.current, schemas + 1);
        assert_eq!(
            at(version).await,
            schemas as i64 + 1,
            "each placement has the version once"
        );
        let sql = "select count(*) from pg_attribute as a join pg_class as c on c.oid = a.attrelid
                   where c.relname = 'contacts' and c.relkind = 'r' and a.attname = $1";
        let columns: i64 = admin
            .query_one(sql, &[&format!("c{}", round - 1)])
            .await
            .unwrap()
            .get(0);
        assert_eq!(columns, schemas as i64 + 1);
        let corrected = ops.reconcile_migrations(&operator()).await.unwrap();
        assert!(corrected.iter().all(|line| line.corrected == 0), "{corrected:?}");
    }
    assert!(killed_half_way > 0, "no kill met a run that was half way");
}

/// Schemas are committed without waiting for the disk, many at once. What a run has told, and the catalog has written down, is
/// there all the same after the server has crashed.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_told_outlives_a_crash_of_the_server() {
    let schemas = 5;
    // Nothing reaches the disk by itself while the test runs.
    let settings = vec![("wal_writer_delay".to_owned(), "10s".to_owned())];
    let mut server = own_cluster(OwnClusterOptions {
        settings,
        ..OwnClusterOptions::default()
    })
    .await;
    let fleet = Fleet::empty(fleet::config()).await;
    fleet.add("one", server.cluster()).await;
    for n in 0..schemas {
        fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), config(1)).await;
    ops.derive_migrations().await.unwrap();
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (schemas + 1, 0));
    server.kill();
    server.restart();
    let client = fleet.ops.catalog().client().await.unwrap();
    let sql = "select name from tenant_database where kind = 'shared'";
    let database: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let admin = server.connect(&database).await;
    let sql = "select count(*) from tenantry_private.migration where version = 3";
    let there: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(there, schemas as i64 + 1);
    let corrected = ops.reconcile_migrations(&operator()).await.unwrap();
    assert!(corrected.iter().all(|line| line.corrected == 0), "{corrected:?}");
}
