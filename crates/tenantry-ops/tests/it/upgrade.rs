//! Tenant databases that an older Tenantry made ready are brought up to date before they are used.

use tenantry_catalog::server;
use tenantry_core::{Isolation, TENANT_DATABASE_VERSION as THIS, Tier};
use tenantry_ops::{Ops, Tenant, UpgradeError};
use tenantry_testing::cluster;

use crate::{
    child::Process,
    fleet::{Fleet, operator, ops_on},
    migrate::with,
};

/// As before version 2, which has a function of its own for the check of new rows.
const BEFORE: &str = "
    do $$ declare policy record; begin
      for policy in select schemaname, tablename from pg_policies where policyname = 'tenantry_write_insert' loop
        execute format('alter policy tenantry_write_insert on %I.%I with check ((select tenantry.may_write()))',
                       policy.schemaname, policy.tablename);
        execute format('alter policy tenantry_write_update on %I.%I with check ((select tenantry.may_write()))',
                       policy.schemaname, policy.tablename);
      end loop;
    end $$;
    drop function tenantry.binding_may_write();";

/// Three tenants with a row each, in databases as an older Tenantry would have left them.
struct Old {
    fleet: Fleet,
    tenants: Vec<Tenant>,
    databases: Vec<String>,
}

impl Old {
    async fn fleet() -> Self {
        let fleet = Fleet::start().await;
        let mut tenants = Vec::new();
        for isolation in Isolation::ALL {
            let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
            fleet.add_contact(tenant.id, "ann@example.com").await;
            tenants.push(tenant);
        }
        let mut databases: Vec<String> = tenants
            .iter()
            .map(|tenant| tenant.placement.as_ref().unwrap().database.clone())
            .collect();
        databases.dedup();
        assert_eq!(databases.len(), 2);
        for database in &databases {
            let admin = cluster().await.connect(database).await;
            admin.batch_execute(BEFORE).await.unwrap();
        }
        let old = Self {
            fleet,
            tenants,
            databases,
        };
        old.set_versions(THIS - 1, THIS - 1).await;
        old
    }

    /// What the catalog and the databases say.
    async fn set_versions(&self, in_catalog: i32, in_databases: i32) {
        let catalog = self.fleet.ops.catalog().client().await.unwrap();
        catalog
            .execute("update tenant_database set bootstrap_version = $1", &[&in_catalog])
            .await
            .unwrap();
        for database in &self.databases {
            let admin = cluster().await.connect(database).await;
            admin
                .execute(
                    "update tenantry_private.tenant_database set version = $1",
                    &[&in_databases],
                )
                .await
                .unwrap();
        }
    }

    async fn versions(&self) -> Vec<i32> {
        let catalog = self.fleet.ops.catalog().client().await.unwrap();
        let rows = catalog
            .query("select bootstrap_version from tenant_database", &[])
            .await
            .unwrap();
        let mut versions: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        for database in &self.databases {
            let admin = cluster().await.connect(database).await;
            let row = admin
                .query_one("select version from tenantry_private.tenant_database", &[])
                .await;
            versions.push(row.unwrap().get(0));
        }
        versions
    }

    /// Tables made from now on work, and what was there is there.
    async fn works(&self) {
        assert_eq!(self.versions().await, [THIS; 4]);
        let ops = ops_on(
            &self.fleet.catalog.url(),
            with("create table visits (id int primary key, place text);"),
        )
        .await;
        let report = ops.apply_migrations(&operator()).await.unwrap();
        assert_eq!((report.applied.len(), report.failed.len()), (3, 0), "{report:?}");
        for tenant in &self.tenants {
            assert_eq!(
                self.fleet.emails(tenant.id).await,
                ["ann@example.com", "help@example.com"]
            );
            let client = self.fleet.enter(tenant.id).await.unwrap();
            client
                .execute("insert into visits values (1, 'here')", &[])
                .await
                .unwrap();
            assert_eq!(client.query("select from visits", &[]).await.unwrap().len(), 1);
        }
    }

    async fn another_process(&self) -> Ops {
        ops_on(&self.fleet.catalog.url(), crate::fleet::config()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_is_refused_until_it_is_up_to_date_and_its_rows_stay() {
    let old = Old::fleet().await;
    let ops = &old.fleet.ops;
    let outdated = ops.outdated_databases(&operator()).await.unwrap();
    assert_eq!(outdated.len(), 2);
    assert!(outdated.iter().all(|found| found.version == Some(THIS - 1)));
    // New policies would name a function that is not there.
    let newer = ops_on(
        &old.fleet.catalog.url(),
        with("create table more (id int primary key);"),
    )
    .await;
    let report = newer.apply_migrations(&operator()).await.unwrap();
    assert_eq!((report.applied.len(), report.failed.len()), (0, 3));
    let error = report.failed[0].error.as_deref().unwrap();
    assert!(
        error.contains("older Tenantry") && error.contains("tenantry migrate apply"),
        "{error}"
    );
    // What a session of the version before 7 holds, later functions can't read.
    old.set_versions(6, 6).await;
    let bound = old.fleet.enter(old.tenants[2].id).await.unwrap();
    let done = ops.upgrade_databases(&operator()).await.unwrap();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|done| done.error.is_none()), "{done:?}");
    let ended = bound.query("select from contacts", &[]).await.unwrap_err();
    assert!(
        ended.is_closed() || ended.code().is_some_and(|code| code.code() == "57P01"),
        "{ended}"
    );
    old.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_outdated_no_server_is_asked() {
    let old = Old::fleet().await;
    let ops = &old.fleet.ops;
    ops.upgrade_databases(&operator()).await.unwrap();
    lead_nowhere(ops).await;
    assert!(ops.upgrade_databases(&operator()).await.unwrap().is_empty());
}

/// The server can't be reached any more.
async fn lead_nowhere(ops: &Ops) {
    let client = ops.catalog().client().await.unwrap();
    let id = server::find_by_name(&client, "one").await.unwrap().unwrap().id;
    let nowhere = "postgres://nobody:nothing@127.0.0.1:1/postgres".to_owned().into();
    server::set_admin_url(ops.catalog(), &client, id, &nowhere)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_brought_up_to_date_is_named_with_the_reason() {
    let old = Old::fleet().await;
    let ops = &old.fleet.ops;
    lead_nowhere(ops).await;
    let done = ops.upgrade_databases(&operator()).await.unwrap();
    assert_eq!(done.len(), 2);
    for done in done {
        assert!(done.may_pass, "the server may come back");
        assert!(old.databases.contains(&done.was.database));
        assert!(done.error.is_some());
    }
    assert_eq!(old.versions().await, [THIS - 1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_bring_it_up_to_date() {
    let old = Old::fleet().await;
    let other = old.another_process().await;
    let authority = operator();
    let (one, two) = tokio::join!(
        old.fleet.ops.upgrade_databases(&authority),
        other.upgrade_databases(&authority)
    );
    for done in one.unwrap().into_iter().chain(two.unwrap()) {
        assert_eq!(done.error, None);
    }
    old.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_database_and_catalog_is_followed_by_another() {
    let old = Old::fleet().await;
    let child = Process::start(&old.fleet.catalog.url(), "upgrade", "", "upgrade.before_record=stop");
    child.gets_killed_at("upgrade.before_record").await;
    assert_eq!(
        old.versions().await[..2],
        [THIS - 1; 2],
        "the catalog has not heard of it"
    );
    assert!(old.versions().await[2..].contains(&THIS));
    let done = old.fleet.ops.upgrade_databases(&operator()).await.unwrap();
    assert!(
        done.len() == 2 && done.iter().all(|done| done.error.is_none()),
        "{done:?}"
    );
    old.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_refused_and_nothing_is_changed() {
    let old = Old::fleet().await;
    let ops = &old.fleet.ops;
    // Another process was faster than the catalog's word.
    old.set_versions(THIS - 1, THIS + 1).await;
    for done in ops.upgrade_databases(&operator()).await.unwrap() {
        let error = done.error.unwrap();
        assert!(error.contains("newer Tenantry") && !done.may_pass, "{error}");
    }
    old.set_versions(THIS + 1, THIS + 1).await;
    for refused in [
        ops.upgrade_databases(&operator()).await.map(drop),
        ops.outdated_databases(&operator()).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, UpgradeError::Newer { found, .. } if found == THIS + 1));
        let error = error.to_string();
        assert!(
            error.contains(&old.databases[0]) || error.contains(&old.databases[1]),
            "{error}"
        );
        assert!(error.contains("update this program"), "{error}");
    }
    assert_eq!(old.versions().await, [THIS + 1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_made_in_an_older_database_gets_what_it_needs() {
    let old = Old::fleet().await;
    let tenant = old.fleet.create("later", Isolation::Schema).await.unwrap();
    assert_eq!(old.fleet.emails(tenant.id).await, ["help@example.com"]);
    // The database of another tenant is not this operation's.
    let mut versions = old.versions().await;
    versions.sort_unstable();
    assert_eq!(versions, [THIS - 1, THIS - 1, THIS, THIS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_keeps_its_tier() {
    let mut config = crate::fleet::config();
    config.force_signed = true;
    let fleet = Fleet::start_with(config).await;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    catalog
        .batch_execute("update tenant_database set bootstrap_version = bootstrap_version - 1")
        .await
        .unwrap();
    let ops = ops_on(&fleet.catalog.url(), crate::fleet::config()).await;
    ops.upgrade_databases(&operator()).await.unwrap();
    let row = catalog
        .query_one("select tier, bootstrap_version from tenant_database", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), Tier::Signed.as_str());
    assert_eq!(row.get::<_, i32>(1), THIS);
}

/// It has another oid, so that the pool refuses it; being made ready again gives it keys of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_noticed_and_made_ready_again() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Database).await.unwrap();
    fleet.add_contact(tenant.id, "ann@example.com").await;
    let database = tenant.placement.unwrap().database;
    let admin = cluster().await.connect("postgres").await;
    let owner: String = admin
        .query_one(
            "select datdba::regrole::text from pg_database where datname = $1",
            &[&database],
        )
        .await
        .unwrap()
        .get(0);
    for statement in [
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"),
        format!("create database {database}_backup template {database}"),
        format!("drop database {database} with (force)"),
        format!("create database {database} template {database}_backup owner {owner}"),
        format!("drop database {database}_backup"),
    ] {
        admin.batch_execute(&statement).await.unwrap();
    }
    let keys = async || {
        let sql = "select seal_keys_sealed, database_oid from tenant_database where kind = 'own'";
        let row = fleet
            .ops
            .catalog()
            .client()
            .await
            .unwrap()
            .query_one(sql, &[])
            .await
            .unwrap();
        (row.get::<_, Vec<u8>>(0), row.get::<_, i64>(1))
    };
    let before = keys().await;
    assert!(fleet.ops.outdated_databases(&operator()).await.unwrap().is_empty());
    fleet.ops.check_databases(&operator()).await.unwrap();
    let outdated = fleet.ops.outdated_databases(&operator()).await.unwrap();
    assert_eq!(outdated.len(), 1);
    assert_eq!((&outdated[0].database, outdated[0].version), (&database, None));
    let done = fleet.ops.upgrade_databases(&operator()).await.unwrap();
    assert!(done.len() == 1 && done[0].error.is_none(), "{done:?}");
    let after = keys().await;
    assert!(
        after.0 != before.0 && after.1 != before.1,
        "the original's keys open it no more"
    );
    fleet.ops.check_databases(&operator()).await.unwrap();
    assert!(fleet.ops.outdated_databases(&operator()).await.unwrap().is_empty());
    assert_eq!(fleet.emails(tenant.id).await, ["ann@example.com", "help@example.com"]);
}
