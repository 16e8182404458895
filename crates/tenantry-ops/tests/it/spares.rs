//! Schemas and databases made in advance, handed out, and removed where nobody wants them any more.

use std::{sync::Arc, time::Duration};

use tenantry_catalog::{
    server::{self, ServerState},
    tenant_database,
};
use tenantry_core::{Isolation, TenantState, own_schema_name};
use tenantry_engine::{
    Roles,
    migrate::{Files, Target, hold_still, ledger_text},
};
use tenantry_ops::{FleetConfig, Ops, ServerChange, TenantError};
use tenantry_sql::Identifier;
use tenantry_testing::{TestCluster, cluster, second_cluster};

use crate::{
    child::Process,
    fleet::{Fleet, config, files, operator, ops_on, request},
};

fn with(spares: usize) -> FleetConfig {
    let mut config = config();
    config.spare_schemas = spares;
    config
}

/// With one migration more.
fn newer(mut config: FleetConfig) -> FleetConfig {
    let mut all: Vec<(String, String)> = files()
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect();
    all.push((
        "0003_more.sql".to_owned(),
        "alter table contacts add column phone text".to_owned(),
    ));
    config.migrations = Some(Arc::new(Files::from_embedded(all).unwrap()));
    config
}

/// The oids and names of the schemas that wait.
async fn waiting(fleet: &Fleet) -> Vec<(u32, String)> {
    let sql = "select oid, nspname::text from pg_namespace where starts_with(nspname::text, 'spare_') order by 2";
    let rows = fleet.shared_admin().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn oid_of(fleet: &Fleet, schema: &str) -> Option<u32> {
    let sql = "select oid from pg_namespace where nspname = $1";
    let row = fleet.shared_admin().await.query_opt(sql, &[&schema]).await.unwrap();
    row.map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_becomes_the_next_tenants_schema_and_another_takes_its_place() {
    let fleet = Fleet::start_with(with(2)).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 2);
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 0);
    let spares = waiting(&fleet).await;
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    assert_eq!(oid_of(&fleet, &own_schema_name(tenant.id)).await, Some(spares[0].0));
    assert_eq!(waiting(&fleet).await, spares[1..]);
    // With what a tenant starts with, and its own.
    assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
    fleet.add_contact(tenant.id, "new@example.com").await;
    // The fleet knows its version; a spare is nobody's place.
    let status = fleet.ops.migration_status(&operator()).await.unwrap();
    let own = status.iter().find(|site| site.schema == own_schema_name(tenant.id));
    assert_eq!(
        own.map(|site| (site.version, site.pending.len())),
        Some((2, 0)),
        "{status:?}"
    );
    fleet.ops.reconcile_migrations(&operator()).await.unwrap();
    assert_eq!(fleet.ops.migration_status(&operator()).await.unwrap(), status);

    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 1);
    assert_eq!(waiting(&fleet).await.len(), 2);
    // It goes as every other tenant's does.
    fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
    fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(oid_of(&fleet, &own_schema_name(tenant.id)).await, None);
    // Fewer are wanted: none but those.
    let fewer = ops_on(&fleet.catalog.url(), with(1)).await;
    assert_eq!(fewer.make_spare_schemas().await.unwrap(), 0);
    assert_eq!(waiting(&fleet).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_is_behind_is_not_handed_out_and_is_brought_to_the_newest_version() {
    let fleet = Fleet::start_with(with(1)).await;
    fleet.ops.make_spare_schemas().await.unwrap();
    let spare = waiting(&fleet).await;
    let ops = ops_on(&fleet.catalog.url(), newer(with(1))).await;
    let create = async |slug: &str| -> String {
        let made = ops
            .create_tenant(&operator(), &request(slug, Isolation::Schema), None)
            .await;
        own_schema_name(made.unwrap().id)
    };
    let first = create("before").await;
    assert_ne!(oid_of(&fleet, &first).await, Some(spare[0].0));
    assert_eq!(ops.make_spare_schemas().await.unwrap(), 0, "it is mended, not replaced");
    let second = create("after").await;
    assert_eq!(oid_of(&fleet, &second).await, Some(spare[0].0));
    let columns =
        "select count(*) from information_schema.columns where column_name = 'phone' and table_schema in ($1, $2)";
    let row = fleet.shared_admin().await.query_one(columns, &[&first, &second]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 2);
}

/// While the application is deployed, both keep spares: one that the other brought up is not made anew each second.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_the_old_files_leaves_newer_spares_alone_until_they_are_nobodys() {
    let fleet = Fleet::start_with(with(1)).await;
    fleet.ops.make_spare_schemas().await.unwrap();
    let spare = waiting(&fleet).await;
    let ops = ops_on(&fleet.catalog.url(), newer(with(1))).await;
    ops.make_spare_schemas().await.unwrap();
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 0);
    assert_eq!(waiting(&fleet).await, spare);
    let version = "select max(version) from tenantry_private.migration where schema = $1";
    let admin = fleet.shared_admin().await;
    let found: i64 = admin.query_one(version, &[&spare[0].1]).await.unwrap().get(0);
    assert_eq!(found, 3);
    // Long after a deployment the newest migration was withdrawn: nobody else would make use of the spare.
    let long_ago = "update tenantry_private.migration set applied_at = applied_at - interval '1 hour'";
    admin.batch_execute(long_ago).await.unwrap();
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 1);
    assert_ne!(waiting(&fleet).await, spare);
}

/// While the application is deployed, a process with the new files brings up a spare that has just what one with the old files looks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_is_being_migrated_is_not_handed_out() {
    let fleet = Fleet::start_with(with(1)).await;
    fleet.ops.make_spare_schemas().await.unwrap();
    let (spare, name) = waiting(&fleet).await.remove(0);
    let roles = Roles::of(fleet.ops.catalog().installation());
    let target = Target {
        schema: Identifier::new(name).unwrap(),
        owner: roles.owner,
        application: roles.home,
        mover: roles.mover,
    };
    // The turn in which it is migrated.
    let applier = fleet.shared_admin().await;
    let held = hold_still(&applier, &[&target], Duration::from_secs(10)).await;
    held.unwrap();
    let meanwhile = fleet.create("meanwhile", Isolation::Schema).await.unwrap();
    assert_ne!(oid_of(&fleet, &own_schema_name(meanwhile.id)).await, Some(spare));
    assert_eq!(waiting(&fleet).await.len(), 1);
    applier.batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    let afterwards = fleet.create("afterwards", Isolation::Schema).await.unwrap();
    assert_eq!(oid_of(&fleet, &own_schema_name(afterwards.id)).await, Some(spare));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_gets_no_spares_and_keeps_none() {
    let mut config = with(1);
    config.spare_databases = 1;
    let fleet = Fleet::start_with(config).await;
    let client = fleet.ops.catalog().client().await.unwrap();
    let one = server::find_by_name(&client, "one").await.unwrap().unwrap();
    server::set_state(&client, one.id, ServerState::Draining).await.unwrap();
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 0);
    assert_eq!(fleet.ops.order_spare_databases().await.unwrap(), 0);
    assert!(waiting(&fleet).await.is_empty());
    server::set_state(&client, one.id, ServerState::Active).await.unwrap();
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 1);
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1);
    server::set_state(&client, one.id, ServerState::Draining).await.unwrap();
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 0);
    assert!(waiting(&fleet).await.is_empty());
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1, "one is dropped");
    assert_eq!(waiting_databases(&fleet).await, 0);
}

/// How many databases the catalog knows that are nobody's.
async fn waiting_databases(fleet: &Fleet) -> i64 {
    let client = fleet.ops.catalog().client().await.unwrap();
    let sql = "select count(*) from tenant_database as d where d.kind = 'own'
                 and not exists (select from placement as p where p.tenant_database = d.id)";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Looks after spares until none is left.
async fn keep_none(fleet: &Fleet, ops: &Ops) {
    let gone = fleet.poll("the spares to go", async || {
        waiting(fleet).await.is_empty() && waiting_databases(fleet).await == 0
    });
    tokio::select! {
        () = ops.keep_spares() => panic!("a server may be changed: it goes on"),
        () = gone => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_schemas_that_nobody_wants_any_more_go_some_at_a_time_and_none_is_left() {
    let fleet = Fleet::start_with(with(10)).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 10);
    let spares = waiting(&fleet).await;
    let none = ops_on(&fleet.catalog.url(), with(0)).await;
    assert_eq!(none.make_spare_schemas().await.unwrap(), 0);
    // The oldest, which tenants get first.
    assert_eq!(waiting(&fleet).await, spares[..2]);
    keep_none(&fleet, &none).await;
    assert!(waiting(&fleet).await.is_empty());
    let left = "select count(*) from tenantry_private.migration where starts_with(schema, 'spare_')";
    let left: i64 = fleet.shared_admin().await.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

/// Each is a tenant's or gone, and nothing in between.
#[tokio::test(flavor = "multi_thread")]
async fn spare_schemas_are_dropped_and_handed_out_at_the_same_time() {
    let fleet = Fleet::start_with(with(6)).await;
    fleet.ops.make_spare_schemas().await.unwrap();
    let none = ops_on(&fleet.catalog.url(), with(0)).await;
    let slugs: Vec<String> = (b'a'..b'g')
        .map(|letter| format!("tenant-{}", char::from(letter)))
        .collect();
    let creations = slugs.iter().map(|slug| fleet.create(slug, Isolation::Schema));
    let (tenants, ()) = tokio::join!(futures_util::future::join_all(creations), keep_none(&fleet, &none));
    for tenant in tenants {
        assert_eq!(fleet.emails(tenant.unwrap().id).await, ["help@example.com"]);
    }
    assert!(waiting(&fleet).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_databases_that_nobody_wants_any_more_go_two_at_a_time_but_for_one_that_is_being_taken() {
    let mut config = config();
    config.spare_databases = 4;
    let fleet = Fleet::start_with(config.clone()).await;
    let before = fleet.objects().await;
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 4);
    config.spare_databases = 0;
    let none = ops_on(&fleet.catalog.url(), config).await;
    let derived = fleet.ops.derive_migrations().await.unwrap().unwrap();
    let mut client = fleet.ops.catalog().client().await.unwrap();
    let one = server::find_by_name(&client, "one").await.unwrap().unwrap();
    // Who is about to place a tenant holds it like this.
    let transaction = client.transaction().await.unwrap();
    let taken = tenant_database::take_spare(&transaction, one.id, &ledger_text(&derived)).await;
    let taken = taken.unwrap().expect("four wait");
    assert_eq!(none.order_spare_databases().await.unwrap(), 2);
    assert_eq!(none.order_spare_databases().await.unwrap(), 0, "two are on their way");
    assert_eq!(spare_databases(&fleet, &none).await, 0);
    assert_eq!(spare_databases(&fleet, &none).await, 1, "the fourth is held");
    assert_eq!(spare_databases(&fleet, &none).await, 0);
    let found = tenant_database::find(&transaction, taken.id).await.unwrap().unwrap();
    assert_eq!((found.state, waiting_databases(&fleet).await), (taken.state, 1));
    transaction.rollback().await.unwrap();
    assert_eq!(spare_databases(&fleet, &none).await, 1);
    assert_eq!(fleet.objects().await, before, "with their roles");
    // That is what was wanted: nothing failed.
    let ended = "select count(*) from operation where state = 'cancelled' and error_code = 'not_wanted'";
    let ended: i64 = client.query_one(ended, &[]).await.unwrap().get(0);
    let failed = "select count(*) from operation where state = 'failed'";
    let failed: i64 = client.query_one(failed, &[]).await.unwrap().get(0);
    assert_eq!((ended, failed, waiting_databases(&fleet).await), (4, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_databases_are_dropped_and_handed_out_at_the_same_time() {
    let mut config = config();
    config.spare_databases = 3;
    let fleet = Fleet::start_with(config.clone()).await;
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 3);
    config.spare_databases = 0;
    let none = ops_on(&fleet.catalog.url(), config).await;
    let runner = tokio::spawn({
        let ops = none.clone();
        async move { ops.run_operations().await }
    });
    let slugs = ["a", "b", "c"].map(|name| format!("tenant-{name}"));
    let creations = slugs.iter().map(|slug| fleet.create(slug, Isolation::Database));
    let (tenants, ()) = tokio::join!(futures_util::future::join_all(creations), keep_none(&fleet, &none));
    fleet.operations_end().await;
    runner.abort();
    let mut names = Vec::new();
    for tenant in tenants {
        let tenant = tenant.unwrap();
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
        names.push(tenant.placement.unwrap().database);
    }
    names.sort();
    names.dedup();
    assert_eq!((names.len(), waiting_databases(&fleet).await), (3, 0), "{names:?}");
}

/// How many schemas and how many databases wait on this server.
async fn waiting_on(fleet: &Fleet, server: &str, cluster: &TestCluster) -> (i64, i64) {
    let client = fleet.ops.catalog().client().await.unwrap();
    let sql = "select d.name, (select count(*) from tenant_database as o where o.server = s.id and o.kind = 'own'
                                  and not exists (select from placement as p where p.tenant_database = o.id))
               from server as s join tenant_database as d on d.server = s.id and d.kind = 'shared'
               where s.name = $1";
    let row = client.query_one(sql, &[&server]).await.unwrap();
    let shared = cluster.connect(row.get(0)).await;
    let schemas = "select count(*) from pg_namespace where starts_with(nspname::text, 'spare_')";
    (shared.query_one(schemas, &[]).await.unwrap().get(0), row.get(1))
}

/// Gives the server numbers of its own, or takes them.
async fn set_spares(ops: &Ops, server: &str, schemas: Option<u16>, databases: Option<u16>) {
    let change = ServerChange {
        spare_schemas: Some(schemas),
        spare_databases: Some(databases),
        ..ServerChange::default()
    };
    let changed = ops.change_server(&operator(), server, &change).await.unwrap();
    assert_eq!((changed.spare_schemas, changed.spare_databases), (schemas, databases));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_own_numbers_of_spares_stand_above_the_configurations() {
    let mut config = with(1);
    config.spare_databases = 1;
    let fleet = Fleet::start_with(config).await;
    let (first, second) = (cluster().await, second_cluster().await);
    fleet.add("two", second).await;
    set_spares(&fleet.ops, "two", Some(2), Some(0)).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 3);
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1);
    assert_eq!(waiting_on(&fleet, "one", first).await, (1, 1));
    assert_eq!(waiting_on(&fleet, "two", second).await, (2, 0));

    set_spares(&fleet.ops, "one", Some(0), Some(0)).await;
    set_spares(&fleet.ops, "two", None, None).await;
    // Where none are wanted those from before are nobody's, and go.
    for isolation in [Isolation::Schema, Isolation::Database] {
        let mut request = request(&format!("by-{isolation}"), isolation);
        request.server = Some("one".to_owned());
        fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
    }
    assert_eq!(waiting_on(&fleet, "one", first).await, (1, 1));
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 0);
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 2, "one goes, one is made");
    assert_eq!(waiting_on(&fleet, "one", first).await, (0, 0));
    assert_eq!(waiting_on(&fleet, "two", second).await, (1, 1));

    // One number says nothing of the other.
    let change = ServerChange {
        spare_schemas: Some(Some(1)),
        ..ServerChange::default()
    };
    let changed = fleet.ops.change_server(&operator(), "one", &change).await.unwrap();
    assert_eq!((changed.spare_schemas, changed.spare_databases), (Some(1), Some(0)));
}

/// By processes whose configuration wants none, and by one that has not worked out the migrations yet.
#[tokio::test(flavor = "multi_thread")]
async fn spares_that_only_one_server_wants_are_handed_out_there() {
    let fleet = Fleet::start().await;
    let second = second_cluster().await;
    fleet.add("two", second).await;
    set_spares(&fleet.ops, "two", Some(1), Some(1)).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 1);
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1);
    let fresh = ops_on(&fleet.catalog.url(), config()).await;
    for (isolation, left) in [(Isolation::Database, (1, 0)), (Isolation::Schema, (0, 0))] {
        let mut request = request(&format!("by-{isolation}"), isolation);
        request.server = Some("two".to_owned());
        let tenant = fresh.create_tenant(&operator(), &request, None).await.unwrap();
        assert_eq!(waiting_on(&fleet, "two", second).await, left, "{isolation}");
        fleet.add_contact(tenant.id, "new@example.com").await;
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com", "new@example.com"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_wants_no_spares_hears_that_a_server_wants_some_and_that_it_does_not_any_more() {
    let fleet = Fleet::start().await;
    let (first, second) = (cluster().await, second_cluster().await);
    fleet.add("two", second).await;
    let keeper = tokio::spawn({
        let ops = fleet.ops.clone();
        async move {
            tokio::join!(ops.keep_spares(), ops.run_operations());
        }
    });
    // It has seen that there are none, and rests.
    tokio::time::sleep(Duration::from_secs(3)).await;
    set_spares(&fleet.ops, "two", Some(2), Some(1)).await;
    fleet
        .poll("the spares of one server", async || {
            waiting_on(&fleet, "two", second).await == (2, 1)
        })
        .await;
    assert_eq!(waiting_on(&fleet, "one", first).await, (0, 0));
    set_spares(&fleet.ops, "two", None, None).await;
    fleet
        .poll("the spares to go", async || {
            waiting_on(&fleet, "two", second).await == (0, 0)
        })
        .await;
    keeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_over_what_nobody_wants_leaves_the_rest_to_another() {
    let mut config = with(3);
    config.spare_databases = 2;
    let fleet = Fleet::start_with(config).await;
    let before = fleet.objects().await;
    fleet.ops.make_spare_schemas().await.unwrap();
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 2);
    for (place, schemas) in [
        ("spares.dropped_schema", 2),
        ("prepare_database.undo_database", 0),
        ("prepare_database.undone_database", 0),
    ] {
        let failpoint = format!("{place}=stop");
        let child = Process::start(&fleet.catalog.url(), "retire-spares", "nobody", &failpoint);
        child.gets_killed_at(place).await;
        assert_eq!(waiting(&fleet).await.len(), schemas, "killed at {place}");
    }
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    assert_eq!(waiting_databases(&fleet).await, 0);
    assert_eq!(fleet.objects().await, before);
    // Nothing is in the way of new ones.
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 3);
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_the_only_spare_one_gets_it_and_all_get_a_schema() {
    let fleet = Fleet::start_with(with(1)).await;
    fleet.ops.make_spare_schemas().await.unwrap();
    let spare = waiting(&fleet).await[0].0;
    let slugs: Vec<String> = (b'a'..b'g')
        .map(|letter| format!("tenant-{}", char::from(letter)))
        .collect();
    let keeper = tokio::spawn({
        let ops: Ops = fleet.ops.clone();
        async move { ops.keep_spares().await }
    });
    let creations = slugs.iter().map(|slug| fleet.create(slug, Isolation::Schema));
    let tenants = futures_util::future::join_all(creations).await;
    keeper.abort();
    let mut got_it = 0;
    for tenant in tenants {
        let tenant = tenant.unwrap();
        got_it += usize::from(oid_of(&fleet, &own_schema_name(tenant.id)).await == Some(spare));
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
    }
    assert_eq!(got_it, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_with_a_spare_in_its_hands_leaves_it_or_the_tenants_schema() {
    let fleet = Fleet::start_with(with(3)).await;
    assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 3);
    let before = waiting(&fleet).await;
    for place in [
        "recorded_schema",
        "in_turn",
        "after_schema",
        "before_tables",
        "after_tables",
    ] {
        let slug = format!("killed-at-{}", place.replace('_', "-"));
        let failpoint = format!("provision.{place}");
        let child = Process::start(
            &fleet.catalog.url(),
            "create-schema",
            &slug,
            &format!("{failpoint}=stop"),
        );
        child.gets_killed_at(&failpoint).await;
        let runner = tokio::spawn({
            let ops = fleet.ops.clone();
            async move { ops.run_operations().await }
        });
        let tenant = fleet.settled(&slug).await;
        runner.abort();
        assert_eq!(tenant.state, TenantState::Active, "killed at {place}");
        let oid = oid_of(&fleet, &own_schema_name(tenant.id)).await.unwrap();
        let left = waiting(&fleet).await;
        let was_spare = before.iter().any(|(spare, _)| *spare == oid);
        let gone = before.iter().filter(|spare| !left.contains(spare)).count();
        assert!(was_spare || gone == 3, "killed at {place}: {left:?}");
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
    }
    assert!(waiting(&fleet).await.is_empty(), "three tenants took the three spares");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_database_becomes_the_next_tenants_own_and_two_never_get_the_same() {
    let mut config = config();
    config.spare_databases = 2;
    let fleet = Fleet::start_with(config).await;
    assert_eq!(fleet.ops.order_spare_databases().await.unwrap(), 2);
    assert_eq!(
        fleet.ops.order_spare_databases().await.unwrap(),
        0,
        "two are on their way"
    );
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    let creations = ["a", "b", "c"].map(|name| format!("tenant-{name}"));
    let creations = creations.iter().map(|slug| fleet.create(slug, Isolation::Database));
    let tenants = futures_util::future::join_all(creations).await;
    let mut names = Vec::new();
    for tenant in tenants {
        let tenant = tenant.unwrap();
        fleet.add_contact(tenant.id, "new@example.com").await;
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com", "new@example.com"]);
        names.push(tenant.placement.unwrap().database);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "each has one to itself: {names:?}");
    let spares = names.iter().filter(|name| name.contains("_spare_")).count();
    assert_eq!(spares, 2, "{names:?}");
    assert_eq!(fleet.ops.order_spare_databases().await.unwrap(), 2);
    fleet.operations_end().await;
    runner.abort();
}

/// Orders what spare databases lack, and has it done by that process.
async fn spare_databases(fleet: &Fleet, ops: &Ops) -> usize {
    let ordered = ops.order_spare_databases().await.unwrap();
    let runner = tokio::spawn({
        let ops = ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    ordered
}

async fn own_database(ops: &Ops, slug: &str) -> (String, String) {
    let made = ops
        .create_tenant(&operator(), &request(slug, Isolation::Database), None)
        .await;
    let home = made.unwrap().placement.unwrap();
    (home.database, home.schema)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_database_that_is_behind_is_brought_to_the_newest_version_before_anybody_gets_it() {
    let mut config = config();
    config.spare_databases = 1;
    let fleet = Fleet::start_with(config.clone()).await;
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1);
    let client = fleet.ops.catalog().client().await.unwrap();
    let spare = "select name from tenant_database as d where kind = 'own'
                 and not exists (select from placement as p where p.tenant_database = d.id)";
    let spare: String = client.query_one(spare, &[]).await.unwrap().get(0);
    let ops = ops_on(&fleet.catalog.url(), newer(config)).await;
    let (database, _) = own_database(&ops, "before").await;
    assert_ne!(database, spare);

    // A process that died over it left an operation, which another goes on with; and two that look at once order it once.
    let other = ops_on(&fleet.catalog.url(), ops.fleet().clone()).await;
    let (one, two) = tokio::join!(ops.order_spare_databases(), other.order_spare_databases());
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let kept = "select state from tenant_database where name = $1";
    let state: String = client.query_one(kept, &[&spare]).await.unwrap().get(0);
    assert_eq!(state, "preparing", "nobody gets it meanwhile");
    assert_eq!(spare_databases(&fleet, &ops).await, 0);
    // The old files are no reason to order it again.
    assert_eq!(fleet.ops.order_spare_databases().await.unwrap(), 0);
    assert_eq!(ops.order_spare_databases().await.unwrap(), 0);
    let (database, schema) = own_database(&ops, "after").await;
    assert_eq!(database, spare);
    let admin = cluster().await.connect(&database).await;
    let phones = "select count(*) from information_schema.columns where column_name = 'phone' and table_schema = $1";
    let phones: i64 = admin.query_one(phones, &[&schema]).await.unwrap().get(0);
    assert_eq!(phones, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_database_of_files_that_were_edited_is_made_anew_and_fails_no_tenant() {
    let mut config = config();
    config.spare_databases = 1;
    let fleet = Fleet::start_with(config.clone()).await;
    assert_eq!(spare_databases(&fleet, &fleet.ops).await, 1);
    let there = async || -> Vec<String> {
        let like = format!("tn_{}_spare_", fleet.ops.catalog().installation());
        let sql = "select datname::text from pg_database where starts_with(datname::text, $1)";
        let rows = fleet.shared_admin().await.query(sql, &[&like]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = there().await;
    let edited = files().as_slice().to_vec().into_iter().map(|file| {
        let text = file.text.replace("email text unique", "email varchar unique");
        (file.name, text)
    });
    config.migrations = Some(Arc::new(Files::from_embedded(edited).unwrap()));
    let ops = ops_on(&fleet.catalog.url(), config).await;
    let (database, _) = own_database(&ops, "before").await;
    assert!(!before.contains(&database), "{database}");

    assert_eq!(
        spare_databases(&fleet, &ops).await,
        1,
        "it can't be brought up, and goes"
    );
    assert!(there().await.is_empty());
    assert_eq!(spare_databases(&fleet, &ops).await, 1, "another takes its place");
    let spares = there().await;
    assert!(spares.len() == 1 && spares != before, "{spares:?}");
    assert_eq!(own_database(&ops, "after").await.0, spares[0]);
}

/// The server of a spare that can't be made stays, with its tenants.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_database_that_cannot_be_made_is_forgotten_and_nothing_else() {
    let mut config = config();
    config.spare_databases = 1;
    config.attempts_max = 1;
    let fleet = Fleet::start_with(config).await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    fleet.ops.order_spare_databases().await.unwrap();
    let client = fleet.ops.catalog().client().await.unwrap();
    // Somebody has one of that name.
    let sql = "select name from tenant_database where kind = 'own'";
    let name: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let admin = fleet.shared_admin().await;
    admin.batch_execute(&format!("create database {name}")).await.unwrap();
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    let left = "select (select count(*) from tenant_database where kind = 'own'), (select count(*) from server)";
    let row = client.query_one(left, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (0, 1));
    fleet.add_contact(tenant.id, "new@example.com").await;
    let theirs = admin
        .execute("select from pg_database where datname = $1", &[&name])
        .await;
    assert_eq!(theirs.unwrap(), 1);
    admin.batch_execute(&format!("drop database {name}")).await.unwrap();
}

/// Whatever happened to it meanwhile: nobody is let into a schema that is not what its ledger says.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_looked_at_before_anybody_is_let_in() {
    let fleet = Fleet::start_with(with(1)).await;
    for damage in [
        "alter table {}.contacts no force row level security",
        "drop table {}.contacts cascade",
    ] {
        assert_eq!(fleet.ops.make_spare_schemas().await.unwrap(), 1);
        let [(_, spare)] = &waiting(&fleet).await[..] else {
            unreachable!()
        };
        let sql = damage.replace("{}", spare);
        fleet.shared_admin().await.batch_execute(&sql).await.unwrap();
        let created = fleet.create("acme", Isolation::Schema).await;
        let Err(TenantError::Failed { code, message, .. }) = created else {
            panic!("{damage}: {created:?}")
        };
        assert_eq!(
            (code.as_str(), message.contains("contact")),
            ("schema_unfit", true),
            "{message}"
        );
        // It is gone, and the next one is made anew.
        assert!(waiting(&fleet).await.is_empty());
        let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
        fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
        fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
    }
}
