//! Drift over the fleet, what pending files do on a copy, and roll-outs as operations.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tenantry_catalog::{operation::OperationState, server};
use tenantry_core::{Isolation, Operator, OperatorKeyId, OperatorScope};
use tenantry_engine::migrate::Files;
use tenantry_ops::{
    Authority, DriftState, FleetConfig, MigrationError, Operation, Ops, Origin, Rehearsal, Rollout, RolloutRequest,
    VerifiedSite, Verify,
};
use tenantry_testing::{FaultProxy, TestCluster, cluster, second_cluster};

use crate::{
    child::Process,
    fleet::{Fleet, config, files, operator, ops_on, request},
    migrate_killed,
};

const REPAIR: Verify = Verify {
    only: Vec::new(),
    repair: true,
};

fn with(more: &[(&str, &str)]) -> FleetConfig {
    let mut all: Vec<(String, String)> = files()
        .as_slice()
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect();
    all.extend(more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    let mut config = config();
    config.migrations = Some(Arc::new(Files::from_embedded(all).unwrap()));
    config
}

async fn verified(ops: &Ops, verify: &Verify) -> Vec<VerifiedSite> {
    ops.verify_migrations(&operator(), verify, &|_| {}).await.unwrap()
}

fn objects(site: &VerifiedSite) -> Vec<&str> {
    site.differences
        .iter()
        .map(|difference| difference.object.as_str())
        .collect()
}

async fn scratch_databases(fleet: &Fleet) -> i64 {
    let like = format!("tn_{}_try_", fleet.ops.catalog().installation());
    let server = cluster().await.connect("postgres").await;
    server
        .query_one(
            "select count(*) from pg_database where starts_with(datname::text, $1)",
            &[&like],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_found_in_every_isolation_and_repaired_where_that_is_safe() {
    let fleet = Fleet::start().await;
    let mut homes = Vec::new();
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("a-{isolation}"), isolation).await.unwrap();
        homes.push(tenant.placement.unwrap());
    }
    let found = verified(&fleet.ops, &Verify::default()).await;
    assert_eq!(found.len(), 3);
    assert!(
        found
            .iter()
            .all(|site| site.is_right() && site.as_expected && site.version == 2),
        "{found:#?}"
    );
    let print = found[0].fingerprint.clone().unwrap();
    assert!(
        found.iter().all(|site| site.fingerprint.as_ref() == Some(&print)),
        "{found:#?}"
    );

    for home in &homes {
        let admin = cluster().await.connect(&home.database).await;
        admin
            .batch_execute(&format!(
                "set search_path = {}; drop policy tenantry_floor on contacts; alter table notes drop column text",
                home.schema
            ))
            .await
            .unwrap();
    }
    let one = Verify {
        only: vec!["a-schema".to_owned()],
        repair: false,
    };
    let found = verified(&fleet.ops, &one).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        objects(&found[0]),
        [
            "policy tenantry_floor on table contacts",
            "column text of table notes",
            "right of application to update columns of table notes"
        ]
    );
    assert_eq!(found[0].differences[0].state, DriftState::Repairable);
    assert!(!found[0].is_right());

    let repaired = verified(&fleet.ops, &REPAIR).await;
    for site in &repaired {
        assert_eq!(site.differences[0].state, DriftState::Repaired, "{site:#?}");
        let DriftState::Left(sentence) = &site.differences[1].state else {
            panic!("{site:#?}")
        };
        assert!(sentence.contains("backup"), "{sentence}");
        assert!(!site.is_right());
    }
    for home in &homes {
        let admin = cluster().await.connect(&home.database).await;
        let sql = repaired[0].differences[1].sql.join("; ");
        admin
            .batch_execute(&format!("set search_path = {}, tenantry_ext; {sql}", home.schema))
            .await
            .unwrap();
    }
    assert!(verified(&fleet.ops, &REPAIR).await.iter().all(VerifiedSite::is_right));
    let clean = verified(&fleet.ops, &Verify::default()).await;
    assert!(
        clean.iter().all(|site| site.as_expected && site.differences.is_empty()),
        "{clean:#?}"
    );
    assert_eq!(scratch_databases(&fleet).await, 0);

    let client = fleet.ops.catalog().client().await.unwrap();
    let audited: i64 = client
        .query_one("select count(*) from audit_log where action = 'migration.repair'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(audited, 6, "each schema, each time");
}

/// The repair's turn may come long after the comparison, behind a roll-out. What it runs then is what the new version makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_does_not_undo_what_was_applied_while_it_waited() {
    let fleet = Fleet::start().await;
    let home = fleet
        .create("acme", Isolation::Schema)
        .await
        .unwrap()
        .placement
        .unwrap();
    let schema = &home.schema;
    let newer = with(&[(
        "0003_name.sql",
        "alter table contacts alter column name set default 'new';",
    )]);
    let checksum = newer.migrations.as_ref().unwrap().as_slice()[2].checksum.clone();
    let ops = ops_on(&fleet.catalog.url(), newer).await;
    ops.derive_migrations().await.unwrap();
    let admin = cluster().await.connect(&home.database).await;
    let turn = format!("hashtextextended('tenantry migrate {schema}', 0)");
    admin
        .batch_execute(&format!(
            "set search_path = {schema}; drop policy tenantry_floor on contacts; select pg_advisory_lock({turn})"
        ))
        .await
        .unwrap();
    let repair = tokio::spawn({
        let ops = ops.clone();
        let one = Verify {
            only: vec!["acme".to_owned()],
            repair: true,
        };
        async move { verified(&ops, &one).await }
    });
    let waiting = "select count(*) from pg_locks
                   where locktype = 'advisory' and not granted
                     and database = (select oid from pg_database where datname = current_database())";
    fleet
        .poll("the repair to wait for its turn", async || {
            admin.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
    admin
        .batch_execute(&format!(
            "alter table contacts alter column name set default 'new';
             insert into tenantry_private.migration (schema, version, name, checksum, engine_version, duration_ms)
             values ('{schema}', 3, '0003_name.sql', '{checksum}', 'test', 0)"
        ))
        .await
        .unwrap();
    // By itself: one batch is one transaction, and a turn that is given up in it comes before its commit.
    admin
        .batch_execute(&format!("select pg_advisory_unlock({turn})"))
        .await
        .unwrap();
    let found = repair.await.unwrap();
    assert_eq!((found[0].version, found[0].is_right()), (3, true), "{found:#?}");
    assert_eq!(objects(&found[0]), ["policy tenantry_floor on table contacts"]);
    let default = "select column_default from information_schema.columns
                   where table_schema = $1 and table_name = 'contacts' and column_name = 'name'";
    let default: Option<String> = admin.query_one(default, &[schema]).await.unwrap().get(0);
    assert!(default.is_some_and(|default| default.contains("new")));
}

/// A schema that is behind is compared with what its own version makes; one that lives on is no drift.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_compared_with_its_own_version() {
    let fleet = Fleet::start().await;
    for slug in ["old", "new"] {
        fleet.create(slug, Isolation::Schema).await.unwrap();
    }
    let newer = with(&[(
        "0003_more.sql",
        "alter table contacts add column phone text; create index on contacts (phone);",
    )]);
    let ops = ops_on(&fleet.catalog.url(), newer).await;
    let mut rollout = Rollout::default();
    rollout.only = vec!["new".to_owned()];
    ops.roll_out(&operator(), &rollout, &|_| {}).await.unwrap();
    let found = verified(&ops, &Verify::default()).await;
    let versions: Vec<_> = found.iter().map(|site| (site.version, site.is_right())).collect();
    assert_eq!(
        versions.iter().filter(|found| **found == (2, true)).count(),
        2,
        "{found:#?}"
    );
    assert_eq!(
        versions.iter().filter(|found| **found == (3, true)).count(),
        1,
        "{found:#?}"
    );
    // Who has not the newer file can't say what that schema should be.
    let found = verified(&fleet.ops, &Verify::default()).await;
    let odd: Vec<_> = found.iter().filter(|site| site.error.is_some()).collect();
    assert_eq!(odd.len(), 1);
    assert_eq!(odd[0].slug.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_files_are_rehearsed_on_a_copy_of_each_version_and_the_copies_go() {
    let fleet = Fleet::start().await;
    for slug in ["old", "new"] {
        fleet.create(slug, Isolation::Schema).await.unwrap();
    }
    let more = [
        ("0003_phone.sql", "alter table contacts add column phone text;"),
        (
            "0004_long.sql",
            "alter table notes alter text type varchar(100); alter table contacts add check (phone <> '');",
        ),
        (
            "0005_index.sql",
            "-- tenantry: no transaction\ncreate index concurrently contacts_phone on contacts (phone);",
        ),
        (
            "0006_rows.sql",
            "-- tenantry: all tenants\nupdate contacts set phone = null;",
        ),
        ("0007_new.sql", "create table apart (id int primary key);"),
    ];
    let three = ops_on(&fleet.catalog.url(), with(&more[..1])).await;
    let mut rollout = Rollout::default();
    rollout.only = vec!["new".to_owned()];
    three.roll_out(&operator(), &rollout, &|_| {}).await.unwrap();

    let ops = ops_on(&fleet.catalog.url(), with(&more)).await;
    let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    let shape: Vec<_> = rehearsals
        .iter()
        .map(|of| (of.from, of.sites, of.files.len(), of.error.clone()))
        .collect();
    assert_eq!(shape, [(2, 2, 5, None), (3, 1, 4, None)]);
    let files = &rehearsals[0].files;
    let lock = |file: usize, table: &str| {
        let found = files[file].locks.iter().find(|lock| lock.table == table);
        found.map(|lock| (lock.mode.as_str(), lock.blocks))
    };
    assert_eq!(
        lock(0, "contacts"),
        Some(("AccessExclusiveLock", Some("reads and writes")))
    );
    assert_eq!(
        (&files[0].rewrites, &files[0].scans),
        (&vec![], &vec![]),
        "a new column without default is cheap"
    );
    assert!(
        files[1].rewrites.contains(&"notes".to_owned()) && files[1].rewrites.contains(&"notes_pkey".to_owned()),
        "text to varchar(100) writes the table anew, with its indexes: {:?}",
        files[1]
    );
    assert!(files[1].scans.contains(&"contacts".to_owned()), "{:?}", files[1]);
    assert_eq!(lock(2, "contacts"), Some(("ShareUpdateExclusiveLock", None)));
    assert_eq!(files[2].scans, ["contacts"]);
    assert!(files[3].data && files[3].locks.is_empty());
    assert!(
        files[3].notes.iter().any(|note| note.text.starts_with("not run")),
        "{:?}",
        files[3]
    );
    assert!(files[4].locks.is_empty() && files[4].scans.is_empty(), "{:?}", files[4]);
    assert_eq!(scratch_databases(&fleet).await, 0);
    // Nothing of the fleet was touched.
    let status = ops.migration_status(&operator()).await.unwrap();
    assert!(status.iter().all(|site| site.version <= 3), "{status:?}");
    // With nothing pending nothing is made.
    assert_eq!(
        fleet.ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap(),
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tries_each_server_that_has_tenants_behind_and_says_which_can_not_be_asked() {
    let fleet = Fleet::start().await;
    fleet.add("two", second_cluster().await).await;
    fleet.create("here", Isolation::Schema).await.unwrap();
    let mut there = request("there", Isolation::Schema);
    there.server = Some("two".to_owned());
    fleet.ops.create_tenant(&operator(), &there, None).await.unwrap();
    let more = [("0003_phone.sql", "alter table contacts add column phone text;")];
    let ops = ops_on(&fleet.catalog.url(), with(&more)).await;
    let copies = Mutex::new(Vec::new());
    let progress = |done, total| copies.lock().push((done, total));
    let rehearsals = ops.rehearse_migrations(&operator(), &progress).await.unwrap();
    let shape = |rehearsals: &[Rehearsal]| -> Vec<_> {
        let shape = rehearsals
            .iter()
            .map(|of| (of.server.clone(), of.from, of.sites, of.files.len(), of.error.is_some()));
        shape.collect()
    };
    let both = [("one".to_owned(), 2, 2, 1, false), ("two".to_owned(), 2, 2, 1, false)];
    assert_eq!(shape(&rehearsals), both);
    assert_eq!(*copies.lock(), [(1, 2), (2, 2)]);

    // One that is away is told, and the other is tried all the same.
    let catalog = fleet.ops.catalog();
    let client = catalog.client().await.unwrap();
    let id = server::find_by_name(&client, "two").await.unwrap().unwrap().id;
    let nowhere = "postgres://nobody:x@127.0.0.1:1/postgres".into();
    server::set_admin_url(catalog, &client, id, &nowhere).await.unwrap();
    let rehearsals = ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    let one_of_two = [("one".to_owned(), 2, 2, 1, false), ("two".to_owned(), 2, 2, 0, true)];
    assert_eq!(shape(&rehearsals), one_of_two);
}

/// Lets the way to a server lead through a proxy from now on.
async fn through_a_proxy(fleet: &Fleet, name: &str, there: &TestCluster, options: &str) -> FaultProxy {
    let proxy = FaultProxy::start(there.host(), there.port()).await;
    let address = format!(
        "postgres://{}:{}@127.0.0.1:{}/postgres{options}",
        there.superuser(),
        there.password(),
        proxy.port()
    );
    let address = address.into();
    let catalog = fleet.ops.catalog();
    let client = catalog.client().await.unwrap();
    let id = server::find_by_name(&client, name).await.unwrap().unwrap().id;
    server::set_admin_url(catalog, &client, id, &address).await.unwrap();
    proxy
}

/// A tenant with a schema on this server; the schema's name.
async fn schema_on(fleet: &Fleet, server: &str, slug: &str) -> String {
    let mut request = request(slug, Isolation::Schema);
    request.server = Some(server.to_owned());
    let made = fleet.ops.create_tenant(&operator(), &request, None).await;
    made.unwrap().placement.unwrap().schema
}

/// Every schema of a server that swallows what is sent would wait as long as a connection may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up_and_the_others_are_verified() {
    let fleet = Fleet::start().await;
    fleet.add("two", second_cluster().await).await;
    schema_on(&fleet, "one", "here").await;
    let mut there = Vec::new();
    for n in 0..8 {
        there.push(schema_on(&fleet, "two", &format!("there{n}")).await);
    }
    let proxy = through_a_proxy(&fleet, "two", second_cluster().await, "").await;
    let heard = Mutex::new(Vec::new());
    let accepted = Mutex::new(None);
    let done = |schema: &str| {
        heard.lock().push(schema.to_owned());
        if there.iter().any(|name| name == schema) {
            accepted.lock().get_or_insert_with(|| {
                proxy.cut();
                proxy.accepted()
            });
        }
    };
    let found = fleet
        .ops
        .verify_migrations(&operator(), &Verify::default(), &done)
        .await
        .unwrap();
    let (one, two): (Vec<_>, Vec<_>) = found.iter().partition(|site| site.server == "one");
    assert!(one.len() == 2 && one.iter().all(|site| site.is_right()), "{one:#?}");
    assert_eq!(two.len(), 9);
    let given_up = two
        .iter()
        .filter(|site| site.error.as_ref().is_some_and(|error| error.contains("in a row")));
    assert!(given_up.count() >= 2, "{two:#?}");
    // Three in a row, and one to drop the scratch database.
    let asked = proxy.accepted() - accepted.lock().unwrap();
    assert!(asked <= 4, "{asked}");
    assert_eq!(heard.lock().len(), found.len(), "each is told");

    proxy.heal();
    let found = verified(&fleet.ops, &Verify::default()).await;
    assert!(found.iter().all(VerifiedSite::is_right), "{found:#?}");
}

/// The first server is silent until the second one was read.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_verified_beside_each_other() {
    let fleet = Fleet::start().await;
    fleet.add("two", second_cluster().await).await;
    schema_on(&fleet, "one", "here").await;
    let there = schema_on(&fleet, "two", "there").await;
    let proxy = through_a_proxy(&fleet, "one", cluster().await, "").await;
    proxy.stall();
    let done = |schema: &str| {
        if schema == there {
            proxy.heal();
        }
    };
    let found = fleet
        .ops
        .verify_migrations(&operator(), &Verify::default(), &done)
        .await
        .unwrap();
    assert!(
        found.len() == 4 && found.iter().all(VerifiedSite::is_right),
        "{found:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_in_the_middle_does_not_hold_a_comparison_for_ever() {
    let mut impatient = config();
    impatient.patience_per_try = Duration::from_secs(5);
    let fleet = Fleet::start().await;
    for slug in ["first", "second"] {
        fleet.create(slug, Isolation::Schema).await.unwrap();
    }
    let ops = ops_on(&fleet.catalog.url(), impatient).await;
    ops.derive_migrations().await.unwrap();
    let proxy = through_a_proxy(&fleet, "one", cluster().await, "?connect_timeout=1").await;
    // From the shared tables on, which are read first.
    let found = tokio::time::timeout(
        Duration::from_secs(60),
        ops.verify_migrations(&operator(), &Verify::default(), &|_| proxy.stall()),
    )
    .await;
    let found = found.expect("it ends").unwrap();
    assert!(found.len() == 3 && found[0].is_right(), "{found:#?}");
    for silent in &found[1..] {
        let error = silent.error.as_deref().unwrap_or_default();
        assert!(error.contains("no answer within"), "{found:#?}");
    }
    proxy.heal();
    let found = verified(&ops, &Verify::default()).await;
    assert!(found.iter().all(VerifiedSite::is_right), "{found:#?}");
}

/// Killed while it works in a scratch database, a process leaves it to the next run, which drops it at once; one that is in
/// use stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_database_of_a_process_that_was_killed_is_gone_with_the_next_run() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    // Enough files that the child is met at work.
    let files = 40;
    let child = Process::start(&fleet.catalog.url(), "rehearse", &files.to_string(), "");
    fleet
        .poll("the child to make a scratch database", async || {
            scratch_databases(&fleet).await > 0
        })
        .await;
    // While its maker lives, nobody else drops it.
    assert!(
        verified(&fleet.ops, &Verify::default())
            .await
            .iter()
            .all(VerifiedSite::is_right)
    );
    fleet
        .poll("the child to go on with its work", async || {
            scratch_databases(&fleet).await > 0
        })
        .await;
    drop(child);
    fleet
        .poll("the next run to sweep up", async || {
            verified(&fleet.ops, &Verify::default()).await;
            scratch_databases(&fleet).await == 0
        })
        .await;
}

/// As the child of the test above.
pub(crate) async fn rehearse(url: &str, files: usize) {
    let ops = ops_on(url, migrate_killed::config(files)).await;
    loop {
        ops.rehearse_migrations(&operator(), &|_, _| {}).await.unwrap();
    }
}

pub(crate) fn key(scopes: &[OperatorScope]) -> Authority {
    Authority::Operator {
        operator: Operator {
            key: OperatorKeyId::from_uuid(uuid::Uuid::now_v7()),
            name: "ci".to_owned(),
            scopes: scopes.to_vec().into(),
        },
        origin: Origin::default(),
    }
}

/// The operation, once it has ended.
pub(crate) async fn ended(fleet: &Fleet, ops: &Ops, operation: &Operation) -> Operation {
    fleet
        .poll("the operation to end", async || {
            let found = ops.get_operation(&operator(), operation.id).await.unwrap();
            found.state.is_final()
        })
        .await;
    ops.get_operation(&operator(), operation.id).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_an_operation_that_tells_how_far_it_is_and_who_stayed_behind() {
    let fleet = Fleet::start().await;
    let spoiled = fleet.create("spoiled", Isolation::Schema).await.unwrap();
    fleet.create("fine", Isolation::Schema).await.unwrap();
    let client = fleet.enter(spoiled.id).await.unwrap();
    let insert = "insert into contacts (email, name) values ('x@example.com', '')";
    client.execute(insert, &[]).await.unwrap();
    let more = with(&[(
        "0003_more.sql",
        "alter table contacts add constraint named check (name <> '');",
    )]);
    let ops = ops_on(&fleet.catalog.url(), more).await;

    for scopes in [&[][..], &[OperatorScope::Read, OperatorScope::Tenants]] {
        let refused = ops.start_rollout(&key(scopes), &RolloutRequest::default()).await;
        assert!(matches!(refused, Err(MigrationError::Forbidden(_))), "{refused:?}");
    }
    let allowed = key(&[OperatorScope::Migrations]);
    let refused = |field: fn(&mut RolloutRequest)| {
        let mut request = RolloutRequest::default();
        field(&mut request);
        let (ops, allowed) = (&ops, &allowed);
        async move { ops.start_rollout(allowed, &request).await.unwrap_err().to_string() }
    };
    assert!(
        refused(|request| request.max_failures = Some("few".to_owned()))
            .await
            .contains("max_failures")
    );
    assert!(
        refused(|request| request.wave_of = vec!["gold".to_owned()])
            .await
            .contains("name=value")
    );
    assert!(
        refused(|request| request.waves = vec![50, 10])
            .await
            .contains("don't grow")
    );
    assert!(
        refused(|request| request.tenants = vec!["nobody".to_owned()])
            .await
            .contains("nobody")
    );

    let request = RolloutRequest {
        canaries: vec!["fine".to_owned()],
        ..RolloutRequest::default()
    };
    let operation = ops.start_rollout(&allowed, &request).await.unwrap();
    assert_eq!(operation.state, OperationState::Pending);
    let second = ops.start_rollout(&allowed, &request).await;
    assert!(
        matches!(second, Err(MigrationError::Running(id)) if id == operation.id),
        "{second:?}"
    );

    let runner = ops.clone();
    let runner = tokio::spawn(async move { runner.run_operations().await });
    let done = ended(&fleet, &ops, &operation).await;
    assert_eq!(done.state, OperationState::Failed);
    assert_eq!(done.error_code.as_deref(), Some("schemas_left_behind"));
    assert_eq!(done.progress["applied"], 2, "{}", done.progress);
    assert_eq!(done.progress["behind"][0]["tenant"], "spoiled", "{}", done.progress);
    let error = done.progress["behind"][0]["error"].as_str().unwrap();
    assert!(error.contains("named"), "{error}");

    client
        .execute("delete from contacts where name = ''", &[])
        .await
        .unwrap();
    let request = RolloutRequest {
        only_failed: true,
        ..RolloutRequest::default()
    };
    let operation = ops.start_rollout(&allowed, &request).await.unwrap();
    let done = ended(&fleet, &ops, &operation).await;
    assert_eq!(done.state, OperationState::Done, "{done:?}");
    assert_eq!(
        (&done.progress["applied"], &done.progress["failed"]),
        (&1.into(), &0.into())
    );
    runner.abort();
}
