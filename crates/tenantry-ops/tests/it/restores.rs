//! A restore in a tenant's place as an operation: killed, called off or done by two at once, the tenant has its rows of before or the backup's,
//! and is served as it was.

use futures_util::future::join_all;
use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_ops::{BackupError, Operation, OperationKind, OperationState, Retention, Steer, SteerError, steps};
use tokio::task::JoinHandle;

use crate::{
    backups::World,
    child::Process,
    fleet::{config, operator, ops_on},
};

const BEFORE: &[&str] = &["help@example.com", "later@plain.example", "secret@plain.example"];
const OF_THE_BACKUP: &[&str] = &["help@example.com", "secret@plain.example"];

/// Slugs may not look alike.
const LETTERS: [char; 16] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's',
];

impl World {
    /// A tenant with a backup that lacks a row.
    async fn outgrown(&self, slug: &str, isolation: Isolation) -> TenantId {
        let tenant = self.fleet.create(slug, isolation).await.unwrap().id;
        self.fleet.add_contact(tenant, "secret@plain.example").await;
        self.back_up(tenant).await;
        self.fleet.add_contact(tenant, "later@plain.example").await;
        tenant
    }

    /// One for each of these places, in every isolation by turns: its slug, its id and the place.
    async fn outgrown_at(&self, places: Vec<String>) -> Vec<(String, TenantId, String)> {
        let mut outgrown = Vec::new();
        let isolations = Isolation::ALL.into_iter().cycle();
        for ((place, letter), isolation) in places.into_iter().zip(LETTERS).zip(isolations) {
            let slug = format!("killed-{letter}");
            outgrown.push((slug.clone(), self.outgrown(&slug, isolation).await, place));
        }
        outgrown
    }

    /// A process that restores the newest backup of a tenant in its place.
    fn child(&self, slug: &str, failpoints: &str) -> Process {
        Process::start_restoring(&self.fleet.catalog.url(), slug, failpoints, self.store.path())
    }

    /// Kills such a process at a place.
    async fn kill(&self, slug: &str, failpoints: &str, place: &str) {
        self.child(slug, failpoints).gets_killed_at(place).await;
    }

    /// Another process that works on whatever is due, until all of it has ended.
    async fn finish(&self) {
        let runner = self.runner();
        self.fleet.operations_end().await;
        runner.abort();
    }

    fn runner(&self) -> JoinHandle<()> {
        let ops = self.fleet.ops.clone();
        tokio::spawn(async move { ops.run_operations().await })
    }

    async fn state(&self, tenant: TenantId) -> TenantState {
        let found = self.fleet.ops.get_tenant(&operator(), &tenant.into()).await;
        found.unwrap().state
    }

    /// The tenant's only restore.
    async fn restore(&self, tenant: TenantId) -> Operation {
        let by = operator();
        let made = self.fleet.ops.list_operations(&by, Some(tenant), None, 10).await;
        let mut restores = made.unwrap();
        restores.retain(|one| one.kind == OperationKind::Restore);
        assert_eq!(restores.len(), 1, "{restores:?}");
        restores.remove(0)
    }

    /// How often the audit log says that rows were replaced.
    async fn told(&self, tenant: TenantId) -> usize {
        let told = self.fleet.ops.list_audit(&operator(), Some(tenant), None, 100).await;
        let told = told.unwrap();
        told.iter().filter(|entry| entry.action == "tenant.restored").count()
    }
}

/// Every place where a process can be killed, in order.
fn places() -> Vec<String> {
    let mut places = Vec::new();
    for step in steps(OperationKind::Restore, Isolation::Shared) {
        places.push(format!("restore.before_{step}"));
        // The last step ends the operation.
        if *step != "activate" {
            places.push(format!("restore.after_{step}"));
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_killed_at_any_step_is_finished_by_another_process() {
    let world = World::start(Retention::default()).await;
    let other = world.outgrown("other", Isolation::Shared).await;
    let killed = world.outgrown_at(places()).await;
    join_all(killed.iter().map(|(slug, _, place)| {
        let (world, stop) = (&world, format!("{place}=stop"));
        async move { world.kill(slug, &stop, place).await }
    }))
    .await;
    for (_, tenant, place) in &killed {
        assert_eq!(world.state(*tenant).await, TenantState::Suspended, "killed at {place}");
    }
    world.finish().await;
    for (_, tenant, place) in &killed {
        let restore = world.restore(*tenant).await;
        assert_eq!(restore.state, OperationState::Done, "killed at {place}: {restore:?}");
        assert_eq!(world.state(*tenant).await, TenantState::Active, "killed at {place}");
        assert_eq!(world.fleet.emails(*tenant).await, OF_THE_BACKUP, "killed at {place}");
        assert_eq!(world.told(*tenant).await, 1, "killed at {place}");
        world.fleet.add_contact(*tenant, "after@plain.example").await;
    }
    assert_eq!(world.fleet.emails(other).await, BEFORE);
}

/// Until the commit nothing has become of it, and then all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_in_place_killed_while_it_is_undone_leaves_all_rows_of_before_or_all_of_the_backup() {
    let world = World::start(Retention::default()).await;
    let failing = places();
    let failing = failing[..6].iter().map(|place| format!("{place}=fail")).collect();
    let killed = world.outgrown_at(failing).await;
    join_all(killed.iter().enumerate().map(|(number, (slug, _, place))| {
        // There is no way back where the rows are there, and so no end of it.
        let stop = match number % 2 == 0 || place.contains("after_load") {
            true => "restore.undo",
            false => "restore.undone",
        };
        let failpoints = format!("{place},{stop}=stop");
        let world = &world;
        async move { world.kill(slug, &failpoints, stop).await }
    }))
    .await;
    world.finish().await;
    for (_, tenant, place) in &killed {
        let (ended, rows) = match place.contains("after_load") {
            true => (OperationState::Done, OF_THE_BACKUP),
            false => (OperationState::Failed, BEFORE),
        };
        assert_eq!(world.restore(*tenant).await.state, ended, "{place}");
        assert_eq!(world.state(*tenant).await, TenantState::Active, "{place}");
        assert_eq!(world.fleet.emails(*tenant).await, rows, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_undoing_finds_restored_stays_so_however_often_it_is_killed() {
    let world = World::start(Retention::default()).await;
    let stops = [
        "before_beside",
        "after_beside",
        "before_open",
        "after_open",
        "before_activate",
    ];
    let stops = stops.map(|place| format!("restore.{place}"));
    let killed = world.outgrown_at(stops.to_vec()).await;
    join_all(killed.iter().map(|(slug, _, stop)| {
        let failpoints = format!("restore.after_load=fail,{stop}=stop");
        let world = &world;
        async move { world.kill(slug, &failpoints, stop).await }
    }))
    .await;
    world.finish().await;
    for (_, tenant, stop) in &killed {
        let restore = world.restore(*tenant).await;
        assert_eq!(restore.state, OperationState::Done, "{stop}: {restore:?}");
        assert_eq!(world.state(*tenant).await, TenantState::Active, "{stop}");
        assert_eq!(world.fleet.emails(*tenant).await, OF_THE_BACKUP, "{stop}");
        assert_eq!(world.told(*tenant).await, 1, "{stop}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_sleeps_over_its_lease_restores_nothing_when_it_wakes() {
    let world = World::start(Retention::default()).await;
    let places = ["in_turn", "before_load", "after_load", "before_open"].map(|place| format!("restore.{place}"));
    let outgrown = world.outgrown_at(places.to_vec()).await;
    let mut asleep = Vec::new();
    for (slug, tenant, place) in outgrown {
        let mut child = world.child(&slug, &format!("{place}=nap"));
        let stopped = tokio::task::spawn_blocking(move || {
            assert!(child.stops_at(&place));
            child.signal("STOP");
            (child, place)
        });
        let (child, place) = stopped.await.unwrap();
        asleep.push((tenant, place, child));
    }
    world.finish().await;
    for (tenant, place, child) in asleep {
        assert_eq!(world.state(tenant).await, TenantState::Active, "{place}");
        world.fleet.add_contact(tenant, "new@plain.example").await;
        // It wakes with the nap over, and goes on where it was: with a lease that it has lost.
        child.signal("CONT");
        child.ends().await;
        let rows = ["help@example.com", "new@plain.example", "secret@plain.example"];
        assert_eq!(world.fleet.emails(tenant).await, rows, "{place}");
        let restore = world.restore(tenant).await;
        assert_eq!(restore.state, OperationState::Done, "{place}: {restore:?}");
        assert_eq!(world.told(tenant).await, 1, "{place}");
    }
}

/// The rows are there, and nobody has to read them again to know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_after_its_commit_needs_its_backup_no_more() {
    let world = World::start(Retention::default()).await;
    let tenant = world.outgrown("acme", Isolation::Shared).await;
    world
        .kill("acme", "restore.after_load=stop", "restore.after_load")
        .await;
    let listed = world.fleet.ops.list_backups(&operator(), Some(&tenant.into())).await;
    std::fs::remove_file(world.object(&listed.unwrap()[0])).unwrap();
    world.finish().await;
    assert_eq!(world.restore(tenant).await.state, OperationState::Done);
    assert_eq!(world.fleet.emails(tenant).await, OF_THE_BACKUP);
}

/// Where backups stand in a folder of the machine whose process was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_only_processes_without_the_backup_take_over_lets_the_tenant_in_as_it_was() {
    let world = World::start(Retention::default()).await;
    let tenant = world.outgrown("acme", Isolation::Schema).await;
    world
        .kill("acme", "restore.before_load=stop", "restore.before_load")
        .await;
    let elsewhere = ops_on(&world.fleet.catalog.url(), config()).await;
    let runner = tokio::spawn(async move { elsewhere.run_operations().await });
    world.fleet.operations_end().await;
    runner.abort();
    let restore = world.restore(tenant).await;
    assert_eq!(restore.state, OperationState::Failed);
    let error = restore.error.unwrap();
    assert!(error.contains("this process can't read the backup"), "{error}");
    assert_eq!(world.fleet.emails(tenant).await, BEFORE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_stays_so_whoever_finishes_its_restore() {
    let world = World::start(Retention::default()).await;
    let tenant = world.outgrown("acme", Isolation::Shared).await;
    let ops = &world.fleet.ops;
    ops.suspend_tenant(&operator(), &tenant.into()).await.unwrap();
    world
        .kill("acme", "restore.after_load=stop", "restore.after_load")
        .await;
    world.finish().await;
    assert_eq!(world.restore(tenant).await.state, OperationState::Done);
    is_shut(&world, tenant).await;
    ops.resume_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(world.fleet.emails(tenant).await, OF_THE_BACKUP);
}

/// The tenant is suspended for the restore; that it shall stay so is somebody else's wish.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_an_operator_suspends_while_it_is_restored_in_place_stays_suspended() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    let restoring = world.restoring(tenant, made.id).await;
    let suspended = ops.suspend_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(suspended.state, TenantState::Suspended);
    writer.batch_execute("commit").await.unwrap();
    let restored = restoring.await.unwrap().unwrap();
    assert_eq!(restored.state, TenantState::Suspended);
    is_shut(&world, tenant).await;
    ops.resume_tenant(&operator(), &tenant.into()).await.unwrap();
    assert_eq!(world.fleet.emails(tenant).await, ["help@example.com"]);
}

async fn is_shut(world: &World, tenant: TenantId) {
    assert_eq!(world.state(tenant).await, TenantState::Suspended);
    let refusal = world.fleet.enter(tenant).await.unwrap_err();
    assert_eq!(refusal.code().unwrap().code(), "TN002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_that_is_called_off_leaves_the_rows_of_before_and_is_never_paused() {
    let world = World::start(Retention::default()).await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    let restoring = world.restoring(tenant, made.id).await;
    let id = world.restore(tenant).await.id;
    let paused = ops.steer_operation(&operator(), id, Steer::Pause).await;
    assert!(matches!(paused, Err(SteerError::OnlyCalledOff { .. })), "{paused:?}");
    ops.steer_operation(&operator(), id, Steer::Abort).await.unwrap();
    let error = restoring.await.unwrap().unwrap_err();
    assert!(matches!(error, BackupError::Tenant(_)), "{error}");
    assert_eq!(world.restore(tenant).await.state, OperationState::Cancelled);
    assert_eq!(world.state(tenant).await, TenantState::Active);
    writer.batch_execute("commit").await.unwrap();
    assert_eq!(
        world.fleet.emails(tenant).await,
        ["help@example.com", "late@plain.example"]
    );
    let again = ops.steer_operation(&operator(), id, Steer::Abort).await;
    assert!(matches!(again, Err(SteerError::Ended { .. })), "{again:?}");
}

/// What else would be done to it waits, or comes when the restore has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_being_restored_in_place_is_kept_and_the_tenant_is_nobody_elses() {
    let world = World::start(Retention {
        last: 1,
        daily: 0,
        weekly: 0,
    })
    .await;
    let ops = &world.fleet.ops;
    let tenant = world.fleet.create("acme", Isolation::Shared).await.unwrap().id;
    let made = world.back_up(tenant).await;
    let writer = world.writing(tenant).await;
    let restoring = world.restoring(tenant, made.id).await;
    world.back_up(tenant).await;
    assert_eq!(world.objects(tenant), 2, "the older one is wanted");
    let busy = ops.resume_tenant(&operator(), &tenant.into()).await.unwrap_err();
    assert!(busy.to_string().contains("restore"), "{busy}");
    let second = ops.restore_backup_in_place(&operator(), made.id).await.unwrap_err();
    assert!(second.to_string().contains("restore"), "{second}");
    writer.batch_execute("commit").await.unwrap();
    restoring.await.unwrap().unwrap();
    assert_eq!(ops.remove_old_backups(&operator()).await.unwrap(), 1);
    assert_eq!(world.objects(tenant), 1);
    assert_eq!(world.fleet.emails(tenant).await, ["help@example.com"]);
}
