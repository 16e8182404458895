//! Backups of single tenants: out, back beside the tenant or in its place, and gone with their key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tenantry_catalog::backup;
use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_ops::{BackupError, BackupStore, RestoreRequest, Retention};
use tenantry_testing::{TestFolder, test_folder};

use crate::fleet::{Fleet, config, operator};

struct World {
    fleet: Fleet,
    store: TestFolder,
}

impl World {
    async fn start(retention: Retention) -> Self {
        let store = test_folder();
        let mut config = config();
        config.retention = Duration::ZERO;
        config.backups = Some(BackupStore::in_folder(store.path()).unwrap());
        config.backup_retention = retention;
        Self {
            fleet: Fleet::start_with(config).await,
            store,
        }
    }

    async fn back_up(&self, tenant: TenantId) -> backup::Backup {
        self.fleet.ops.create_backup(&operator(), &tenant.into()).await.unwrap()
    }

    fn object(&self, backup: &backup::Backup) -> PathBuf {
        let folder = self.store.path().join("b").join(backup.tenant.to_string());
        folder.join(backup.id.to_string())
    }

    fn objects(&self, tenant: TenantId) -> usize {
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
    let abandoned = uuid::Uuid::now_v7();
    assert!(backup::begin(&catalog, abandoned, tenant.id).await.unwrap());
    let error = ops.create_backup(&operator(), &tenant.id.into()).await.unwrap_err();
    assert!(matches!(error, BackupError::Busy), "{error}");
    assert_eq!(ops.back_up_due(Duration::ZERO).await.unwrap(), 0);
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
