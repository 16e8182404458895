//! The application's migrations over the fleet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use tenantry_catalog::{fleet_state, server, tenant_database};
use tenantry_core::{Isolation, TenantId, TenantState, own_schema_name};
use tenantry_engine::migrate::Files;
use tenantry_ops::{FailureBudget, FleetConfig, MigrationError, Mistake, Ops, Rollout, RolloutError};
use tenantry_testing::second_cluster;

use crate::{
    child::Process,
    fleet::{Fleet, config, files, operator, ops_on, request},
};

/// The usual migrations and one more.
pub(crate) fn with(text: &str) -> FleetConfig {
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
    let request = request("later", Isolation::Shared);
    let later = ops.create_tenant(&operator(), &request, None).await.unwrap();
    assert_eq!(fleet.emails(later.id).await, ["help@example.com", "news@example.com"]);
}

/// It was seeded before the roll-out, and is activated after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_being_made_while_a_seed_is_rolled_out_has_it() {
    let fleet = Fleet::start().await;
    fleet.create("first", Isolation::Shared).await.unwrap();
    let place = "provision.before_activate";
    let child = Process::start(&fleet.catalog.url(), "create-shared", "late", &format!("{place}=stop"));
    let child = child.comes_to(place).await;
    let newer = "-- tenantry: seed\ninsert into contacts (email, name) values ('news@example.com', 'News');";
    let ops = ops_on(&fleet.catalog.url(), with(newer)).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    drop(child);
    let runner = tokio::spawn(async move { ops.run_operations().await });
    let late = fleet.settled("late").await;
    runner.abort();
    assert_eq!(fleet.emails(late.id).await, ["help@example.com", "news@example.com"]);
}

/// Which schemas there are, the catalog says: a name that looks like one of a tenant's is not enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_only_looks_like_a_tenants_is_left_alone() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    let home = tenant.placement.unwrap();
    let admin = tenantry_testing::cluster().await.connect(&home.database).await;
    let stranger = own_schema_name(TenantId::from_uuid(uuid::Uuid::now_v7()));
    admin
        .batch_execute(&format!(
            "create schema {stranger}; create table {stranger}.contacts (like {}.contacts)",
            home.schema
        ))
        .await
        .unwrap();
    let ops = ops_on(&fleet.catalog.url(), with("alter table contacts add column fax text;")).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!(
        (report.applied.len(), report.failed.len()),
        (2, 0),
        "shared tables, and the tenant's schema"
    );
    let with_fax = admin
        .query(
            "select table_schema::text from information_schema.columns
             where column_name = 'fax' and table_name = 'contacts' order by 1",
            &[],
        )
        .await
        .unwrap();
    let with_fax: Vec<String> = with_fax.iter().map(|row| row.get(0)).collect();
    assert_eq!(with_fax, ["app", home.schema.as_str()]);
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

const COLUMN: &str = "alter table contacts add column phone text; create index on contacts (phone);";

/// A fleet with so many tenants in schemas of their own, `t0` and so on, and use cases with one more migration.
async fn schemas(count: usize, more: &str) -> (Fleet, Ops) {
    let fleet = Fleet::start().await;
    for n in 0..count {
        fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), with(more)).await;
    (fleet, ops)
}

/// How often PostgreSQL was asked to connect to the shared tenant database.
async fn sessions(fleet: &Fleet) -> i64 {
    let client = fleet.ops.catalog().client().await.unwrap();
    let name: String = client
        .query_one("select name from tenant_database where kind = 'shared'", &[])
        .await
        .unwrap()
        .get(0);
    // Statistics arrive with a delay of up to a second.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    client
        .query_one("select sessions from pg_stat_database where datname = $1", &[&name])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_pending_no_tenant_database_is_touched() {
    let (fleet, ops) = schemas(2, COLUMN).await;
    assert_eq!(ops.apply_migrations(&operator()).await.unwrap().applied.len(), 3);
    let before = sessions(&fleet).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.current), (0, 3));
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(status.iter().all(|site| site.version == 3), "{status:?}");
    assert_eq!(sessions(&fleet).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_too_many_stops_a_rollout_and_the_next_run_goes_on() {
    let more = "alter table contacts add constraint named check (name <> '');";
    let (fleet, ops) = schemas(6, more).await;
    for n in 0..6 {
        let tenant = fleet.settled(&format!("t{n}")).await;
        let client = fleet.enter(tenant.id).await.unwrap();
        let sql = "insert into contacts (email, name) values ('x@example.com', '')";
        client.execute(sql, &[]).await.unwrap();
    }
    let mut rollout = Rollout::default();
    rollout.canaries = vec!["t0".to_owned()];
    rollout.budget = FailureBudget::Count(0);
    let seen = parking_lot::Mutex::new(Vec::new());
    let report = ops
        .roll_out(&operator(), &rollout, &|progress| {
            seen.lock().push((progress.wave, progress.done))
        })
        .await
        .unwrap();
    assert_eq!((report.applied.len(), report.failed.len(), report.left), (0, 1, 6));
    assert_eq!(report.failed[0].slug.as_deref(), Some("t0"));
    assert_eq!(
        seen.into_inner(),
        [("canaries".to_owned(), 0), ("canaries".to_owned(), 1)]
    );

    // Without a budget the others go on; the stragglers are tried again by themselves.
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len(), report.left), (1, 6, 0));
    let tenant = fleet.settled("t3").await;
    let client = fleet.enter(tenant.id).await.unwrap();
    client
        .execute("delete from contacts where name = ''", &[])
        .await
        .unwrap();
    let mut retry = Rollout::default();
    retry.only_failed = true;
    let report = ops.roll_out(&operator(), &retry, &|_| {}).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (1, 5));
    assert_eq!(report.applied[0].slug.as_deref(), Some("t3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_can_be_migrated_before_the_others() {
    let (_fleet, ops) = schemas(3, COLUMN).await;
    let mut rollout = Rollout::default();
    rollout.only = vec!["t1".to_owned()];
    let report = ops.roll_out(&operator(), &rollout, &|_| {}).await.unwrap();
    assert_eq!(report.applied.len(), 1);
    let status = ops.migration_status(&operator()).await.unwrap();
    let at_three: Vec<_> = status.iter().filter(|site| site.version == 3).collect();
    assert_eq!(at_three.len(), 1);
    assert_eq!(at_three[0].slug.as_deref(), Some("t1"));
    rollout.only = vec!["nobody".to_owned()];
    let refused = ops.roll_out(&operator(), &rollout, &|_| {}).await;
    assert!(
        matches!(&refused, Err(MigrationError::Rollout(RolloutError::NoSuchSite(name))) if name == "nobody"),
        "{refused:?}"
    );
}

/// A run that was killed had committed in schemas that the catalog has not heard of; and a restored database has less than
/// the catalog believes.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_in_the_placement_is_the_truth() {
    let (fleet, ops) = schemas(3, COLUMN).await;
    ops.apply_migrations(&operator()).await.unwrap();
    let client = fleet.ops.catalog().client().await.unwrap();
    client
        .execute("delete from app_migration where version = 3", &[])
        .await
        .unwrap();
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (4, 0), "{report:?}");

    let admin = fleet.shared_admin().await;
    admin
        .batch_execute("delete from tenantry_private.migration where version = 3 and schema = 'app'; drop index app.contacts_phone_idx; alter table app.contacts drop column phone")
        .await
        .unwrap();
    assert_eq!(ops.apply_migrations(&operator()).await.unwrap().applied.len(), 0);
    let corrected = ops.reconcile_migrations(&operator()).await.unwrap();
    assert_eq!(
        corrected.iter().map(|line| line.corrected).sum::<u64>(),
        1,
        "{corrected:?}"
    );
    let lines = corrected.iter().flat_map(|line| &line.corrections);
    let told: Vec<_> = lines
        .map(|line| (line.schema.as_str(), line.version, line.mistake))
        .collect();
    assert_eq!(told, [("app", 3, Mistake::Extra)], "{corrected:?}");
    assert_eq!(ops.apply_migrations(&operator()).await.unwrap().applied.len(), 1);
    // What somebody wrote by hand there, in each way that can be wrong.
    client
        .batch_execute(
            "delete from app_migration where version = 1 and schema_name = 'app';
             update app_migration set checksum = 'x' where version = 2 and schema_name = 'app';
             insert into app_migration (tenant_database, schema_name, version, name, checksum)
             select id, 'gone', 1, '0001_gone.sql', 'x' from tenant_database",
        )
        .await
        .unwrap();
    let corrected = ops.reconcile_migrations(&operator()).await.unwrap();
    assert_eq!(corrected[0].corrected, 3, "{corrected:?}");
    let lines = corrected[0].corrections.iter();
    let told: Vec<_> = lines
        .map(|line| (line.schema.as_str(), line.version, line.mistake))
        .collect();
    assert_eq!(
        told,
        [
            ("app", 1, Mistake::Missing),
            ("app", 2, Mistake::Changed),
            ("gone", 1, Mistake::Extra)
        ]
    );
    assert_eq!(ops.reconcile_migrations(&operator()).await.unwrap()[0].corrected, 0);
}

/// Schemas are made while a database's ledgers are read: what is not among them may be there all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_since_the_ledgers_were_read_stays() {
    let fleet = Fleet::start().await;
    let client = fleet.ops.catalog().client().await.unwrap();
    let database = tenant_database::list_ready(&client).await.unwrap().remove(0);
    let reconcile = async |read_at: DateTime<Utc>| -> usize {
        let corrected = fleet_state::reconcile(&client, database.id, &[], read_at).await;
        corrected.unwrap().len()
    };
    let earlier = "select now() - interval '1 hour'";
    let earlier: DateTime<Utc> = client.query_one(earlier, &[]).await.unwrap().get(0);
    assert_eq!(reconcile(earlier).await, 0);
    let now = fleet_state::now(&client).await.unwrap();
    assert_eq!(reconcile(now).await, 2);
}

/// Another process may have committed it a moment ago, without waiting for the disk.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_hears_of_what_a_schema_has_already_when_the_disk_has_it() {
    let fleet = Fleet::start().await;
    let client = fleet.ops.catalog().client().await.unwrap();
    client.execute("delete from app_migration", &[]).await.unwrap();
    let admin = fleet.shared_admin().await;
    let written = async || -> String {
        let sql =
            "select xmin::text from tenantry_private.migration where schema = 'app' order by version desc limit 1";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    };
    let before = written().await;
    let report = fleet.ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (1, 0), "{report:?}");
    assert_ne!(
        written().await,
        before,
        "only a commit that has written something waits for the disk"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_apply_each_file_once() {
    let (fleet, ops) = schemas(6, COLUMN).await;
    let other = ops_on(&fleet.catalog.url(), with(COLUMN)).await;
    let operator = operator();
    let (one, two) = tokio::join!(ops.apply_migrations(&operator), other.apply_migrations(&operator));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.failed.len(), two.failed.len()), (0, 0), "{one:?} {two:?}");
    let admin = fleet.shared_admin().await;
    let rows = admin
        .query(
            "select schema, count(*) from tenantry_private.migration where version = 3 group by schema",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row.get::<_, i64>(1) == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_file_is_told_from_the_catalog_and_named_by_the_run() {
    let (fleet, ops) = schemas(1, COLUMN).await;
    ops.apply_migrations(&operator()).await.unwrap();
    let edited = ops_on(
        &fleet.catalog.url(),
        with("alter table contacts add column phone varchar;"),
    )
    .await;
    let status = edited.migration_status(&operator()).await.unwrap();
    assert!(status.iter().all(|site| site.error.is_some()), "{status:?}");
    let report = edited.apply_migrations(&operator()).await.unwrap();
    assert_eq!(report.failed.len(), 2);
    assert!(
        report
            .failed
            .iter()
            .all(|site| site.error.as_ref().unwrap().contains("0003_more.sql")),
        "{report:?}"
    );
}

/// Its reason is of a file that nobody has any more; the schema lacks nothing, so that no run would try it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_a_file_that_was_withdrawn_counts_no_more() {
    let more = "alter table contacts add constraint named check (name <> '');";
    let (fleet, ops) = schemas(1, more).await;
    let canary = fleet.settled("t0").await;
    let client = fleet.enter(canary.id).await.unwrap();
    let sql = "insert into contacts (email, name) values ('x@example.com', '')";
    client.execute(sql, &[]).await.unwrap();
    let mut rollout = Rollout::default();
    rollout.only = vec!["t0".to_owned()];
    let failures = async || fleet.ops.count_fleet().await.unwrap().migration_failures;
    for withdrawn_by_a_run in [true, false] {
        let report = ops.roll_out(&operator(), &rollout, &|_| {}).await.unwrap();
        assert_eq!(report.failed.len(), 1, "{report:?}");
        assert_eq!(failures().await, 1);
        let status = ops.migration_status(&operator()).await.unwrap();
        assert_eq!(
            status.iter().filter(|site| site.error.is_some()).count(),
            1,
            "{status:?}"
        );

        // The usual files are those without it.
        let status = fleet.ops.migration_status(&operator()).await.unwrap();
        assert!(status.iter().all(|site| site.error.is_none()), "{status:?}");
        if withdrawn_by_a_run {
            let report = fleet.ops.apply_migrations(&operator()).await.unwrap();
            assert_eq!((report.applied.len(), report.current), (0, 2), "{report:?}");
        } else {
            fleet.ops.reconcile_migrations(&operator()).await.unwrap();
        }
        assert_eq!(failures().await, 0);
    }
}

/// A process with the old files serves until it is replaced. What it makes meanwhile is of the old version.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_made_at_the_old_version_during_a_rollout_is_migrated_at_its_end() {
    let (fleet, ops) = schemas(1, COLUMN).await;
    ops.derive_migrations().await.unwrap();
    let schema = fleet.settled("t0").await.placement.unwrap().schema;
    let holder = fleet.shared_admin().await;
    holder
        .batch_execute(&format!("begin; lock table {schema}.contacts"))
        .await
        .unwrap();
    let running = tokio::spawn({
        let ops = ops.clone();
        async move { ops.apply_migrations(&operator()).await }
    });
    let admin = fleet.shared_admin().await;
    let waits = format!("select count(*) from pg_locks where not granted and relation = '{schema}.contacts'::regclass");
    fleet
        .poll("the roll-out to come to the first schema", async || {
            admin.query_one(&waits, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
    fleet.create("late", Isolation::Schema).await.unwrap();
    holder.batch_execute("rollback").await.unwrap();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (3, 0), "{report:?}");
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(
        status.len() == 3 && status.iter().all(|site| site.version == 3 && site.pending.is_empty()),
        "{status:?}"
    );
}

/// Every schema of a server that swallows what is sent would wait as long as a connection may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_and_the_others_are_migrated() {
    let fleet = Fleet::start().await;
    fleet.add("two", second_cluster().await).await;
    for (slug, server) in (0..8)
        .map(|n| (format!("there{n}"), "two"))
        .chain([("here".to_owned(), "one")])
    {
        let mut request = request(&slug, Isolation::Schema);
        request.server = Some(server.to_owned());
        fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), with(COLUMN)).await;
    ops.derive_migrations().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let hangs_up = tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        }
    });
    let catalog = fleet.ops.catalog();
    let client = catalog.client().await.unwrap();
    let two = server::find_by_name(&client, "two").await.unwrap().unwrap();
    let nobody = format!("postgres://nobody:x@{address}/postgres").into();
    server::set_admin_url(catalog, &client, two.id, &nobody).await.unwrap();

    let report = ops.apply_migrations(&operator()).await.unwrap();
    hangs_up.abort();
    assert_eq!((report.applied.len(), report.failed.len()), (2, 9), "{report:?}");
    let given_up = report.failed.iter().filter(|site| {
        assert_eq!(site.server, "two");
        site.error.as_ref().is_some_and(|error| error.contains("in a row"))
    });
    assert!(given_up.count() >= 4, "{report:?}");
    // Three in a row, one by the other connection meanwhile, and one for the wave of shared tables.
    let asked = asked.load(Ordering::Relaxed);
    assert!((4..=5).contains(&asked), "{asked}");

    // They are pending, as before.
    let there = second_cluster().await.admin_url("postgres").into();
    server::set_admin_url(catalog, &client, two.id, &there).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), with(COLUMN)).await;
    let report = ops.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (9, 0), "{report:?}");
}

/// Shared tables that are newer than a process's files have seeds that it can't give. One that has them makes the tenant.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_the_old_files_leaves_a_new_tenant_to_one_with_the_newer_ones() {
    let news = "-- tenantry: seed\ninsert into contacts (email, name) values ('news@example.com', 'News');";
    let mut without_seeds = config();
    let all = files();
    let first = &all.as_slice()[0];
    let first = Files::from_embedded([(first.name.clone(), first.text.clone())]).unwrap();
    without_seeds.migrations = Some(Arc::new(first));
    for (old, new, emails) in [
        (config(), with(news), &["help@example.com", "news@example.com"][..]),
        (without_seeds, config(), &["help@example.com"][..]),
    ] {
        let fleet = Fleet::start_with(old).await;
        let ops = ops_on(&fleet.catalog.url(), new).await;
        ops.apply_migrations(&operator()).await.unwrap();
        let created = tokio::spawn({
            let ops = fleet.ops.clone();
            async move {
                ops.create_tenant(&operator(), &request("acme", Isolation::Shared), None)
                    .await
            }
        });
        let client = fleet.ops.catalog().client().await.unwrap();
        fleet
            .poll("the old process to find itself too old", async || {
                let sql = "select count(*) from operation where kind = 'provision' and error_code = 'migrations_newer'";
                client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
            })
            .await;
        let runner = tokio::spawn(async move { ops.run_operations().await });
        let tenant = created.await.unwrap().unwrap();
        runner.abort();
        assert_eq!(tenant.state, TenantState::Active);
        assert_eq!(fleet.emails(tenant.id).await, emails);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_edited_after_it_was_applied_is_refused_with_the_difference() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let all = files();
    let edited = all
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.replace("name text not null", "name text")));
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded(edited).unwrap()));
    let ops = ops_on(&fleet.catalog.url(), config).await;
    let report = ops.roll_out(&operator(), &Rollout::default(), &|_| {}).await.unwrap();
    // The shared tables and the tenant's.
    assert_eq!(report.failed.len(), 2, "{report:?}");
    for failed in &report.failed {
        let error = failed.error.as_deref().unwrap();
        assert!(
            error.contains("`0001_contacts.sql` was changed after it had been applied"),
            "{error}"
        );
        let has = |start: &str, end: &str| error.lines().any(|line| line.starts_with(start) && line.contains(end));
        assert!(has("-", "name text not null") && has("+", "name text)"), "{error}");
    }
}
