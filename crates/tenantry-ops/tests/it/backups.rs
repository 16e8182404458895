//! Backups of single tenants: out, back beside the tenant or in its place, and gone with their key.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tenantry_catalog::{
    backup,
    operation::{self, NewOperation},
};
use tenantry_core::{Isolation, OperationId, TenantId, TenantState};
use tenantry_engine::migrate::Files;
use tenantry_ops::{
    BackupError, BackupStore, Beside, FleetConfig, OperationKind, RestoreRequest, Retention, Tenant, TenantError,
};
use tenantry_testing::{TestFolder, test_folder};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::fleet::{Fleet, config, operator, ops_on};

/// A fleet whose backups stand in a folder.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) store: TestFolder,
}

impl World {
    pub(crate) async fn start(retention: Retention) -> Self {
        let store = test_folder();
        Self {
            fleet: Fleet::start_with(Self::config(&store, retention)).await,
            store,
        }
    }

    fn config(store: &TestFolder, retention: Retention) -> FleetConfig {
        let mut config = config();
        config.retention = Duration::ZERO;
        config.backups = Some(BackupStore::in_folder(store.path()).unwrap());
        config.backup_retention = retention;
        config
    }

    /// Of a process that waits for nobody's transactions.
    fn impatient(&self) -> FleetConfig {
        let mut config = Self::config(&self.store, Retention::default());
        config.restore_drain = Duration::from_millis(100);
        config
    }

    pub(crate) async fn back_up(&self, tenant: TenantId) -> backup::Backup {
        self.fleet.ops.create_backup(&operator(), &tenant.into()).await.unwrap()
    }

    /// Somebody who writes for the tenant, and has not committed yet.
    pub(crate) async fn writing(&self, tenant: TenantId) -> tokio_postgres::Client {
        let writer = self.fleet.enter(tenant).await.unwrap();
        let write = "begin; insert into contacts (email, name) values ('late@plain.example', 'late')";
        writer.batch_execute(write).await.unwrap();
        writer
    }

    /// A restore in the tenant's place, which has suspended it.
    pub(crate) async fn restoring(&self, tenant: TenantId, backup: Uuid) -> JoinHandle<Result<Tenant, BackupError>> {
        let ops = self.fleet.ops.clone();
        let restoring = tokio::spawn(async move { ops.restore_backup_in_place(&operator(), backup).await });
        self.comes_to(tenant, TenantState::Suspended).await;
        restoring
    }

    pub(crate) async fn comes_to(&self, tenant: TenantId, wanted: TenantState) {
        let begun = Instant::now();
        loop {
            let now = self.fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
            if now.state == wanted {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "the tenant stays {}",
                now.state
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn object(&self, backup: &backup::Backup) -> PathBuf {
        let folder = self.store.path().join("b").join(backup.tenant.to_string());
        folder.join(backup.id.to_string())
    }

    pub(crate) fn objects(&self, tenant: TenantId) -> usize {
        let folder = self.store.path().join("b").join(tenant.to_string());
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    async fn tenants(&self) -> i64 {
        let client = self.fleet.ops.catalog().client().await.unwrap();
        client
            .query_one("select count(*) from tenant", &[])
            .await
            .unwrap()
            .get(0)
    }
}

fn request(backup: &backup::Backup, slug: &str) -> RestoreRequest {
    RestoreRequest::new(backup.id, slug.parse().unwrap())
}

fn change(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_restored_beside_itself_and_in_its_place_in_every_isolation_and_others_stay() {
    let world = World::start(Retention::default()).await;
    let other = world.fleet.create("other", Isolation::Shared).await.unwrap();
    world.fleet.add_contact(other.id, "canary@other.example").await;
    for isolation in Isolation::ALL {
        let tenant = world.fleet.create(&format!("of-{isolation}"), isolation).await.unwrap();
        world.fleet.add_contact(tenant.id, "secret@plain.example").await;
        let made = world.back_up(tenant.id).await;
        let text = std::fs::read(world.object(&made)).unwrap();
        assert!(!text.windows(6).any(|window| window == b"secret" || window == b"canary"));
        assert_eq!(made.rows, 2);
        world.fleet.add_contact(tenant.id, "later@plain.example").await;
        let beside = request(&made, &format!("beside-{isolation}"));
        let beside = world.fleet.ops.restore_backup(&operator(), &beside).await.unwrap();
        assert_eq!(beside.placement.unwrap().isolation, isolation);
        assert_eq!(
            world.fleet.emails(beside.id).await,
            ["help@example.com", "secret@plain.example"]
        );
        assert_eq!(world.fleet.emails(tenant.id).await.len(), 3);
        let back = world
            .fleet
            .ops
            .restore_backup_in_place(&operator(), made.id)
            .await
            .unwrap();
        assert_eq!((back.id, back.state), (tenant.id, TenantState::Active));
        assert_eq!(
            world.fleet.emails(tenant.id).await,
            ["help@example.com", "secret@plain.example"]
        );
        // It goes on: sequences, triggers and rights are as before.
        world.fleet.add_contact(tenant.id, "after@plain.example").await;
    }
    assert_eq!(
        world.fleet.emails(other.id).await,
        ["canary@other.example", "help@example.com"]
    );
}

/// Notes whose rows it was told are others now.
#[derive(Default, Debug)]
struct Values(Mutex<Vec<TenantId>>);

#[async_trait]
impl Beside for Values {
    fn name(&self) -> &'static str {
        "values"
    }

    async fn purge(&self, _: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    async fn outdate(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.lock().unwrap().push(tenant);
        // The rows are restored all the same.
        Err("the store is away".into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_of_rows_is_not_believed_once_others_were_restored_in_their_place() {
    let (store, values) = (test_folder(), Arc::new(Values::default()));
    let mut config = World::config(&store, Retention::default());
    config.besides.push(values.clone());
    let world = World {
        fleet: Fleet::start_with(config).await,
        store,
    };
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    ops.restore_backup(&operator(), &request(&made, "beside"))
        .await
        .unwrap();
    assert!(values.0.lock().unwrap().is_empty(), "nobody's rows were replaced");
    ops.restore_backup_in_place(&operator(), made.id).await.unwrap();
    assert_eq!(*values.0.lock().unwrap(), [tenant]);
}

/// What a transaction writes that began before the tenant was stopped is not left among the backup's rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_waits_for_who_writes_or_changes_nothing() {
    let world = World::start(Retention::default()).await;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;

    // It does not end: the rows stay as they are, and the tenant is served as before.
    let impatient = ops_on(&world.fleet.catalog.url(), world.impatient()).await;
    let error = impatient
        .restore_backup_in_place(&operator(), made.id)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, BackupError::InUse { transactions } if transactions.len() == 1),
        "{error}"
    );
    let now = world.fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(now.state, TenantState::Active);

    // It ends while it is waited for.
    let restoring = world.restoring(tenant, made.id).await;
    writer.batch_execute("commit").await.unwrap();
    restoring.await.unwrap().unwrap();
    assert_eq!(world.fleet.emails(tenant).await, ["help@example.com"]);
}

/// Whoever asked for a restore and does not wait for its end leaves no tenant that nobody serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_that_nobody_waits_for_ends_all_the_same() {
    let world = World::start(Retention::default()).await;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    world.restoring(tenant, made.id).await.abort();
    writer.batch_execute("commit").await.unwrap();
    world.comes_to(tenant, TenantState::Active).await;
    assert_eq!(world.fleet.emails(tenant).await, ["help@example.com"]);
}

/// What somebody decides while a restore works counts: it does not take a tenant back out of its deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_deleted_while_it_is_restored_in_place_stays_deleted() {
    let store = test_folder();
    let mut config = World::config(&store, Retention::default());
    config.retention = Duration::from_secs(86_400);
    let world = World {
        fleet: Fleet::start_with(config).await,
        store,
    };
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    let restoring = world.restoring(tenant, made.id).await;
    // The restore is called off for that, however long it would have waited.
    world
        .fleet
        .ops
        .delete_tenant(&operator(), &tenant.into())
        .await
        .unwrap();
    writer.batch_execute("rollback").await.unwrap();
    assert!(restoring.await.unwrap().is_err());
    let now = world.fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(now.state, TenantState::Deleted);
}

/// The ledger says which migrations the rows have had: rows of before would never get them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_migrated_while_it_is_restored_in_place_keeps_its_rows() {
    const FILES: [(&str, &str); 2] = [
        (
            "0001_contacts.sql",
            "create table contacts (id uuid primary key default gen_random_uuid(), email text unique, name text not null)",
        ),
        ("0002_extra.sql", "create table extra (id int primary key)"),
    ];
    let store = test_folder();
    let with = |files: &[(&'static str, &'static str)]| {
        let mut config = World::config(&store, Retention::default());
        config.migrations = Some(Arc::new(Files::from_embedded(files.iter().copied()).unwrap()));
        config
    };
    let (older, newer) = (with(&FILES[..1]), with(&FILES));
    let world = World {
        fleet: Fleet::start_with(older).await,
        store,
    };
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    let restoring = world.restoring(tenant, made.id).await;
    let release = ops_on(&world.fleet.catalog.url(), newer).await;
    release.apply_migrations(&operator()).await.unwrap();
    writer.batch_execute("commit").await.unwrap();
    let error = restoring.await.unwrap().unwrap_err();
    assert!(matches!(error, BackupError::OtherVersion), "{error}");
    let now = world.fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(now.state, TenantState::Active);
    assert_eq!(world.fleet.emails(tenant).await, ["late@plain.example"]);
}

/// A tenant that something is under way with is not restored into: where it moves, the rows would go to the home that it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_worked_on_is_not_restored_in_place() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    ops.suspend_tenant(&operator(), &tenant.into()).await.unwrap();
    let client = ops.catalog().client().await.unwrap();
    let asked = NewOperation {
        id: OperationId::from_uuid(Uuid::now_v7()),
        kind: OperationKind::Move,
        tenant: Some(tenant),
        database: None,
        input: &serde_json::json!({}),
        // Nobody is at it yet.
        run_after: Some(chrono::Utc::now() + chrono::Duration::hours(1)),
    };
    operation::insert(&client, &asked).await.unwrap();
    let error = ops.restore_backup_in_place(&operator(), made.id).await.unwrap_err();
    assert!(
        matches!(&error, BackupError::Tenant(TenantError::Busy { operation, .. }) if *operation == asked.id),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_store_is_not_believed_and_a_refused_restore_changes_nothing() {
    let world = World::start(Retention::default()).await;
    let (ops, tenant) = (
        &world.fleet.ops,
        world.fleet.create("acme", Isolation::Shared).await.unwrap(),
    );
    let other = world.fleet.create("other", Isolation::Shared).await.unwrap();
    let (first, second, others) = (
        world.back_up(tenant.id).await,
        world.back_up(tenant.id).await,
        world.back_up(other.id).await,
    );
    world.fleet.add_contact(tenant.id, "now@plain.example").await;
    assert_eq!(ops.verify_backup(&operator(), second.id).await.unwrap(), second);
    let whole = std::fs::read(world.object(&first)).unwrap();
    let tenants = world.tenants().await;
    let refused = async |what: &str| {
        let error = ops.verify_backup(&operator(), first.id).await.unwrap_err();
        assert!(
            matches!(error, BackupError::Store(_) | BackupError::Archive(_)),
            "{what}: {error}"
        );
        assert!(
            ops.restore_backup(&operator(), &request(&first, "no")).await.is_err(),
            "{what}"
        );
        assert!(
            ops.restore_backup_in_place(&operator(), first.id).await.is_err(),
            "{what}"
        );
    };
    for at in [0, 10, 41, 60, whole.len() - 1] {
        change(&world.object(&first), at);
        refused(&format!("byte {at}")).await;
        std::fs::write(world.object(&first), &whole).unwrap();
    }
    std::fs::write(world.object(&first), &whole[..whole.len() - 20]).unwrap();
    refused("cut off").await;
    // Another one in its place: of another tenant, or of another time.
    std::fs::copy(world.object(&others), world.object(&first)).unwrap();
    refused("another tenant's").await;
    std::fs::copy(world.object(&second), world.object(&first)).unwrap();
    refused("another time's").await;
    std::fs::remove_file(world.object(&first)).unwrap();
    refused("gone").await;
    assert_eq!(world.tenants().await, tenants);
    let now = ops.get_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(now.state, TenantState::Active);
    assert_eq!(
        world.fleet.emails(tenant.id).await,
        ["help@example.com", "now@plain.example"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_restores_the_newest_backup_and_leaves_nothing() {
    let world = World::start(Retention::default()).await;
    let tenant = world.fleet.create("acme", Isolation::Schema).await.unwrap();
    let error = world
        .fleet
        .ops
        .drill_backup(&operator(), &tenant.id.into())
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::None), "{error}");
    world.back_up(tenant.id).await;
    world.fleet.add_contact(tenant.id, "a@b.example").await;
    let newest = world.back_up(tenant.id).await;
    let before = world.fleet.objects().await;
    let drilled = world
        .fleet
        .ops
        .drill_backup(&operator(), &tenant.id.into())
        .await
        .unwrap();
    assert_eq!((drilled.backup.id, drilled.rows), (newest.id, 2));
    assert_eq!(world.fleet.objects().await, before);
    let listed = world
        .fleet
        .ops
        .list_backups(&operator(), Some(&tenant.id.into()))
        .await
        .unwrap();
    let when: Vec<bool> = listed.iter().map(|backup| backup.drilled_at.is_some()).collect();
    assert_eq!(when, [true, false]);
}

/// A drill whose process was killed leaves a tenant with a customer's rows, which another process removes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_left_is_removed_and_never_backed_up() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    world.back_up(tenant).await;
    let before = world.fleet.objects().await;
    let catalog = ops.catalog().client().await.unwrap();
    // Nothing of it was made yet; and all of it was.
    let (never, left) = (
        world.fleet.create("drill-x", Isolation::Schema).await.unwrap().id,
        Uuid::now_v7(),
    );
    backup::begin_drill(&catalog, never).await.unwrap();
    backup::begin_drill(&catalog, TenantId::from_uuid(left)).await.unwrap();
    // Both are at work, as far as anybody knows.
    ops.drill_backup(&operator(), &tenant.into()).await.unwrap();
    let state = async |tenant: TenantId| ops.get_tenant(&operator(), &tenant.into()).await.unwrap().state;
    assert_eq!(state(never).await, TenantState::Active);
    assert_eq!(
        ops.back_up_due(Duration::from_millis(1)).await.unwrap(),
        1,
        "of the one that is no drill"
    );
    let silent = "update backup_drill set seen_at = now() - interval '10 minutes'";
    catalog.execute(silent, &[]).await.unwrap();
    ops.drill_backup(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(state(never).await, TenantState::Purged);
    assert_eq!(world.fleet.objects().await, before);
    let rows = catalog.query("select from backup_drill", &[]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_erases_the_key_and_the_backups() {
    let world = World::start(Retention::default()).await;
    let (ops, tenant) = (
        &world.fleet.ops,
        world.fleet.create("gone", Isolation::Shared).await.unwrap(),
    );
    let kept = world.fleet.create("kept", Isolation::Shared).await.unwrap();
    let (made, stays) = (world.back_up(tenant.id).await, world.back_up(kept.id).await);
    let copy = std::fs::read(world.object(&made)).unwrap();
    let catalog = ops.catalog().client().await.unwrap();
    let key = backup::find_key(ops.catalog(), &catalog, tenant.id).await.unwrap();
    assert!(key.is_some());
    let stored = catalog
        .query_one(
            "select key_sealed from backup_key where tenant = $1",
            &[tenant.id.as_uuid()],
        )
        .await
        .unwrap();
    let sealed: Vec<u8> = stored.get(0);
    assert!(
        !sealed.windows(32).any(|window| window == key.unwrap()),
        "it is stored sealed"
    );
    // Where the key is erased and the backup is still known, it says so.
    ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
    ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(
        backup::find_key(ops.catalog(), &catalog, tenant.id).await.unwrap(),
        None
    );
    assert_eq!((world.objects(tenant.id), world.objects(kept.id)), (0, 1));
    let error = ops
        .restore_backup(&operator(), &request(&made, "back"))
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::NotFound), "{error}");
    // A backup that was about to begin gets no key that nobody would erase.
    let late = backup::ensure_key(ops.catalog(), &catalog, tenant.id, &[7; 32]).await;
    assert_eq!(late.unwrap(), None);
    // A copy that somebody kept of the object opens no more, whatever else is put back.
    std::fs::create_dir_all(world.object(&made).parent().unwrap()).unwrap();
    std::fs::write(world.object(&made), copy).unwrap();
    catalog
        .execute(
            "insert into backup (id, tenant, state, taken_at, bytes, rows, digest) values ($1, $2, 'kept', now(), 1, 1, $3)",
            &[&made.id, tenant.id.as_uuid(), &made.digest],
        )
        .await
        .unwrap();
    let error = ops
        .restore_backup(&operator(), &request(&made, "back"))
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::KeyErased), "{error}");
    ops.verify_backup(&operator(), stays.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn due_tenants_are_backed_up_once_and_old_backups_go() {
    let world = World::start(Retention {
        last: 2,
        daily: 0,
        weekly: 0,
    })
    .await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap();
    let asleep = world.fleet.create("asleep", Isolation::Shared).await.unwrap();
    ops.suspend_tenant(&operator(), &asleep.id.into()).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(ops.back_up_due(hour).await.unwrap(), 1);
    assert_eq!(ops.back_up_due(hour).await.unwrap(), 0);
    assert_eq!((world.objects(tenant.id), world.objects(asleep.id)), (1, 0));
    // One that is being written elsewhere is not written twice; one that was given up long ago goes.
    let catalog = ops.catalog().client().await.unwrap();
    let abandoned = Uuid::now_v7();
    assert!(backup::begin(&catalog, abandoned, tenant.id).await.unwrap());
    let error = ops.create_backup(&operator(), &tenant.id.into()).await.unwrap_err();
    assert!(matches!(error, BackupError::Busy), "{error}");
    assert_eq!(ops.back_up_due(Duration::from_millis(1)).await.unwrap(), 0);
    catalog
        .execute(
            "update backup set created_at = now() - interval '2 days' where id = $1",
            &[&abandoned],
        )
        .await
        .unwrap();
    assert_eq!(ops.remove_old_backups(&operator()).await.unwrap(), 1);
    let mut newest = Vec::new();
    for _ in 0..3 {
        newest.push(world.back_up(tenant.id).await.id);
    }
    let listed = ops.list_backups(&operator(), Some(&tenant.id.into())).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|backup| backup.id).collect();
    assert_eq!(ids, [newest[2], newest[1]]);
    assert_eq!(world.objects(tenant.id), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_backed_up_as_often_as_it_wants() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let usual = world.fleet.create("usual", Isolation::Shared).await.unwrap();
    let often = world.fleet.create("often", Isolation::Shared).await.unwrap();
    let never = world.fleet.create("never", Isolation::Schema).await.unwrap();
    let set = async |tenant: TenantId, interval| ops.set_backup_schedule(&operator(), &tenant.into(), interval).await;
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    let own = set(often.id, Some(hour)).await.unwrap();
    assert_eq!((own.interval, own.own), (hour, true));
    set(never.id, Some(Duration::ZERO)).await.unwrap();
    let shown = ops.get_backup_schedule(&operator(), &usual.id.into()).await.unwrap();
    assert_eq!((shown.interval, shown.own), (Duration::ZERO, false));

    // Where the fleet has no interval, who has one of its own is backed up all the same.
    let none = Duration::ZERO;
    assert_eq!(ops.back_up_due(none).await.unwrap(), 1);
    assert_eq!(ops.back_up_due(day).await.unwrap(), 1);
    let counts = || [usual.id, often.id, never.id].map(|tenant| world.objects(tenant));
    assert_eq!(counts(), [1, 1, 0]);
    // Two hours later.
    let catalog = ops.catalog().client().await.unwrap();
    catalog
        .execute("update backup set taken_at = taken_at - interval '2 hours'", &[])
        .await
        .unwrap();
    assert_eq!(ops.back_up_due(day).await.unwrap(), 1);
    assert_eq!(counts(), [1, 2, 0]);
    // And as often as the fleet again.
    set(often.id, None).await.unwrap();
    set(never.id, None).await.unwrap();
    assert_eq!(ops.back_up_due(day).await.unwrap(), 1);
    assert_eq!(counts(), [1, 2, 1]);

    for refused in [Duration::from_secs(1), Duration::MAX] {
        let error = set(often.id, Some(refused)).await.unwrap_err();
        assert!(matches!(error, BackupError::Interval), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_has_backed_up_meanwhile_is_not_backed_up_again() {
    let world = World::start(Retention::default()).await;
    let mut tenants = Vec::new();
    for slug in ["one", "two"] {
        tenants.push(world.fleet.create(slug, Isolation::Schema).await.unwrap());
    }
    tenants.sort_by_key(|tenant| tenant.id);
    let [first, second] = [tenants[0].id, tenants[1].id];
    // Nobody can read the first one's rows for a while, and the process that backs it up comes to the second later.
    let held = tenants[0].placement.as_ref().unwrap().schema.clone();
    let holder = world.fleet.shared_admin().await;
    let lock = format!("begin; lock table {held}.contacts");
    holder.batch_execute(&lock).await.unwrap();
    let day = Duration::from_secs(86_400);
    let late = tokio::spawn({
        let ops = world.fleet.ops.clone();
        async move { ops.back_up_due(day).await }
    });
    let catalog = world.fleet.ops.catalog().client().await.unwrap();
    world
        .fleet
        .poll("the first one to be begun", async || {
            let sql = "select count(*) from backup where state = 'writing'";
            catalog.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
    let config = World::config(&world.store, Retention::default());
    let other = ops_on(&world.fleet.catalog.url(), config).await;
    assert_eq!(other.back_up_due(day).await.unwrap(), 1);
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(late.await.unwrap().unwrap(), 1);
    assert_eq!((world.objects(first), world.objects(second)), (1, 1));
}

/// One that fails is due still, and is passed over.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_cannot_be_backed_up_keep_no_other_from_it() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let mut tenants = Vec::new();
    for number in 0..4 {
        tenants.push(
            world
                .fleet
                .create(&format!("t{number}"), Isolation::Shared)
                .await
                .unwrap()
                .id,
        );
    }
    tenants.sort();
    let last = tenants.pop().unwrap();
    // A file stands where the folder of each of their backups should be.
    std::fs::create_dir_all(world.store.path().join("b")).unwrap();
    for tenant in &tenants {
        std::fs::write(world.store.path().join("b").join(tenant.to_string()), "in the way").unwrap();
    }
    assert_eq!(ops.back_up_due(Duration::from_secs(3600)).await.unwrap(), 1);
    assert_eq!(world.objects(last), 1);
}
