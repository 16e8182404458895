//! Events: told in order, at least once, by one process at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tenantry::{
    AccountId, Catalog, MasterKey, PoolConfig, ResolverConfig, Role, TenantId, Tenantry,
    events::{Consumer, ConsumerReport, Event, EventKind},
};
use tenantry_core::Isolation;
use tenantry_ops::{
    ApiKeyRequest, Authority, FleetConfig, IdentityConfig, MoveRequest, NewMember, Operation, OperationState, Ops,
    Origin, ServerRequest, Steer, TenantPatch, TenantRef, TenantRequest,
};
use tenantry_testing::{TestCluster, TestDatabase, cluster, database, logical_cluster};
use tokio::{sync::oneshot, task::JoinHandle};

struct Fixture {
    ops: Ops,
    catalog: Catalog,
    tenantry: Tenantry,
    _database: TestDatabase,
}

fn system() -> Authority {
    Authority::system("a test")
}

impl Fixture {
    async fn new() -> Self {
        Self::on(cluster().await).await
    }

    async fn on(server: &TestCluster) -> Self {
        let database = database().await;
        let catalog = Catalog::connect(&database.url(), &MasterKey::generate()).await.unwrap();
        let mut fleet = FleetConfig::default();
        fleet.wait = Duration::from_secs(50);
        let ops = Ops::with_fleet(catalog.clone(), IdentityConfig::new("i", "a"), fleet);
        let request = ServerRequest {
            name: "first".to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: server.admin_url("postgres").into(),
        };
        ops.add_server(&system(), &request).await.unwrap();
        let config = ResolverConfig::new("i", "a");
        let tenantry = Tenantry::on_catalog(catalog.clone(), config, PoolConfig::default()).unwrap();
        Self {
            ops,
            catalog,
            tenantry,
            _database: database,
        }
    }

    async fn tenant(&self, slug: &str) -> TenantId {
        let request = TenantRequest::new(slug.parse().unwrap(), slug.parse().unwrap());
        self.ops.create_tenant(&system(), &request, None).await.unwrap().id
    }

    async fn member(&self, tenant: TenantId, email: &str) -> AccountId {
        let new = NewMember {
            email: email.parse().unwrap(),
            password: None,
            name: None,
            role: Role::Member,
        };
        self.ops.add_member(&system(), tenant, &new).await.unwrap().account
    }

    async fn moves(&self, tenant: TenantId, to: Isolation, soak: Option<Duration>) -> Operation {
        let request = MoveRequest {
            to,
            server: None,
            force: false,
            wait: false,
            soak,
        };
        let begun = self.ops.move_tenant(&system(), &tenant.into(), &request, None).await;
        let begun = begun.unwrap_or_else(|error| panic!("{to}: {error}"));
        self.ops.finish_move(&system(), begun.id, &|_| ()).await.unwrap()
    }

    fn consumer(&self) -> Consumer {
        let consumer = self.tenantry.events("test").unwrap();
        consumer.poll(Duration::from_millis(5)).pause(Duration::from_millis(20))
    }

    async fn in_catalog(&self, sql: &str) {
        self.catalog.client().await.unwrap().batch_execute(sql).await.unwrap();
    }
}

/// What a handler was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn add(&self, event: Event) {
        self.0.lock().push(event);
    }

    fn kinds_of(&self, tenant: TenantId) -> Vec<EventKind> {
        let told = self.0.lock();
        told.iter()
            .filter(|event| event.tenant == Some(tenant))
            .map(|event| event.kind)
            .collect()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Waits until so many were told.
    async fn until(&self, count: usize) {
        let begun = Instant::now();
        while self.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(20), "told: {:?}", self.0.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// In the order in which things took effect, and none twice.
    fn are_in_order(&self) {
        let ids: Vec<i64> = self.0.lock().iter().map(|event| event.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
}

/// A consumer at work.
struct Running {
    task: JoinHandle<ConsumerReport>,
    stop: oneshot::Sender<()>,
}

impl Running {
    fn start<F, E>(consumer: Consumer, handler: impl Fn(Event) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or(()) };
        let task = tokio::spawn(async move { consumer.run(handler, stopped).await.unwrap() });
        Self { task, stop }
    }

    fn telling(consumer: Consumer, told: &Told) -> Self {
        let told = told.clone();
        Self::start(consumer, move |event| {
            told.add(event);
            async { Ok::<_, String>(()) }
        })
    }

    async fn stop(self) -> ConsumerReport {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn what_took_effect_is_told_in_order_and_nothing_else() {
    let fixture = Fixture::new().await;
    let told = Told::default();
    let running = Running::telling(fixture.consumer().from_the_first(), &told);

    let acme = fixture.tenant("acme").await;
    let twice = TenantRequest::new("acme".parse().unwrap(), "acme".parse().unwrap());
    assert!(fixture.ops.create_tenant(&system(), &twice, None).await.is_err());
    fixture.member(acme, "ann@acme.example").await;
    let one = TenantRef::Id(acme);
    fixture.ops.suspend_tenant(&system(), &one).await.unwrap();
    fixture.ops.resume_tenant(&system(), &one).await.unwrap();
    fixture.ops.delete_tenant(&system(), &one).await.unwrap();
    fixture.ops.purge_tenant(&system(), &one).await.unwrap();
    told.until(7).await;
    let report = running.stop().await;

    assert_eq!((report.delivered, report.failed), (7, 0));
    let expected = [
        EventKind::TenantCreated,
        EventKind::TenantActivated,
        EventKind::MemberAdded,
        EventKind::TenantSuspended,
        EventKind::TenantResumed,
        EventKind::TenantDeleted,
        EventKind::TenantPurged,
    ];
    assert_eq!(told.kinds_of(acme), expected);
    told.are_in_order();
    let added = told.0.lock()[2].clone();
    assert!(added.actor == "system" && added.after.is_some(), "{added:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_told_when_they_took_effect_with_both_homes() {
    let fixture = Fixture::on(logical_cluster().await).await;
    let told = Told::default();
    let acme = fixture.tenant("acme").await;
    let only = [EventKind::TenantMoved, EventKind::TenantMovedBack];
    let running = Running::telling(fixture.consumer().from_the_first().only(&only), &told);

    // One that is refused, and one that is called off before anything was switched.
    let same = MoveRequest {
        to: Isolation::Shared,
        server: None,
        force: false,
        wait: false,
        soak: None,
    };
    let refused = fixture.ops.move_tenant(&system(), &acme.into(), &same, None).await;
    assert!(refused.is_err(), "{refused:?}");
    let to_schema = MoveRequest {
        to: Isolation::Schema,
        ..same
    };
    let begun = fixture
        .ops
        .move_tenant(&system(), &acme.into(), &to_schema, None)
        .await
        .unwrap();
    fixture.ops.steer_move(&system(), begun.id, Steer::Abort).await.unwrap();
    let ended = fixture.ops.finish_move(&system(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");

    for to in [Isolation::Schema, Isolation::Database, Isolation::Shared] {
        let ended = fixture.moves(acme, to, None).await;
        assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    }
    let soaks = fixture
        .moves(acme, Isolation::Database, Some(Duration::from_secs(600)))
        .await;
    fixture
        .ops
        .steer_move(&system(), soaks.id, Steer::Rollback)
        .await
        .unwrap();
    fixture.ops.finish_move(&system(), soaks.id, &|_| ()).await.unwrap();
    told.until(5).await;
    running.stop().await;

    told.are_in_order();
    let homes = |home: &Option<serde_json::Value>| home.as_ref().unwrap()["isolation"].as_str().unwrap().to_owned();
    let seen: Vec<_> = told
        .0
        .lock()
        .iter()
        .map(|event| (event.kind, homes(&event.before), homes(&event.after)))
        .collect();
    let way = [
        (EventKind::TenantMoved, "shared", "schema"),
        (EventKind::TenantMoved, "schema", "database"),
        (EventKind::TenantMoved, "database", "shared"),
        (EventKind::TenantMoved, "shared", "database"),
        (EventKind::TenantMovedBack, "database", "shared"),
    ];
    assert_eq!(seen, way.map(|(kind, from, to)| (kind, from.to_owned(), to.to_owned())));
}

#[tokio::test]
async fn what_changes_of_members_keys_and_the_tenant_itself_is_told() {
    let fixture = Fixture::new().await;
    let (acme, other) = (fixture.tenant("acme").await, fixture.tenant("other").await);
    let expected = [
        EventKind::MemberAdded,
        EventKind::MemberAccepted,
        EventKind::MemberRoleChanged,
        EventKind::MemberRemoved,
        EventKind::ApiKeyCreated,
        EventKind::ApiKeyRevoked,
        EventKind::TenantUpdated,
    ];
    let told = Told::default();
    let running = Running::telling(fixture.consumer().from_the_first().only(&expected), &told);
    let (ops, system) = (&fixture.ops, system());
    // Whoever has an account by then is invited, and accepts.
    fixture.member(other, "ann@acme.example").await;
    let ann = fixture.member(acme, "ann@acme.example").await;
    ops.accept_from_outside(ann, None, "acme", &Origin::default())
        .await
        .unwrap();
    ops.set_member_role(&system, acme, ann, Role::Viewer).await.unwrap();
    ops.remove_member(&system, acme, ann).await.unwrap();
    let request = ApiKeyRequest {
        name: "key".to_owned(),
        role: Role::Viewer,
        expires_at: None,
    };
    let (key, _) = ops.create_api_key(&system, acme, &request).await.unwrap();
    ops.revoke_api_key(&system, acme, key.id).await.unwrap();
    let patch = TenantPatch {
        name: Some("Acme".parse().unwrap()),
        ..TenantPatch::default()
    };
    ops.update_tenant(&system, &acme.into(), &patch).await.unwrap();
    told.until(8).await;
    running.stop().await;
    assert_eq!(told.kinds_of(acme), expected);
    assert_eq!(told.kinds_of(other), [EventKind::MemberAdded]);
    told.are_in_order();
}

#[tokio::test]
async fn a_new_consumer_begins_with_what_happens_from_now_on() {
    let fixture = Fixture::new().await;
    let before = fixture.tenant("before").await;
    let told = Told::default();
    let only = [EventKind::TenantActivated];
    let running = Running::telling(fixture.consumer().only(&only), &told);
    // Registered when it has begun; what happens while it stands still is told later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.stop().await;
    let meanwhile = fixture.tenant("meanwhile").await;
    let running = Running::telling(fixture.consumer().only(&only), &told);
    told.until(1).await;
    let after = fixture.tenant("after").await;
    told.until(2).await;
    running.stop().await;
    assert_eq!(told.kinds_of(before), []);
    assert_eq!(told.kinds_of(meanwhile), only);
    assert_eq!(told.kinds_of(after), only);
}

#[tokio::test]
async fn a_tenant_whose_event_fails_waits_and_the_others_go_on() {
    let fixture = Fixture::new().await;
    let (told, broken) = (Told::default(), Arc::new(Mutex::new(None)));
    let acme = fixture.tenant("acme").await;
    let other = fixture.tenant("other").await;
    *broken.lock() = Some(acme);
    let running = Running::start(fixture.consumer().from_the_first(), {
        let (told, broken) = (told.clone(), Arc::clone(&broken));
        move |event: Event| {
            let fails = event.tenant.is_some() && event.tenant == *broken.lock();
            if !fails {
                told.add(event);
            }
            async move { if fails { Err("the mail server is away") } else { Ok(()) } }
        }
    });
    told.until(2).await;
    fixture.member(acme, "ann@acme.example").await;
    fixture.member(other, "oz@other.example").await;
    told.until(3).await;
    assert_eq!(told.kinds_of(acme), []);
    let parked = fixture.consumer().parked().await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].tenant, Some(acme));
    assert!(parked[0].error.contains("mail server"), "{parked:?}");

    *broken.lock() = None;
    told.until(6).await;
    fixture.member(acme, "bob@acme.example").await;
    told.until(7).await;
    let report = running.stop().await;
    assert!(report.failed >= 1, "{report:?}");
    let expected = [
        EventKind::TenantCreated,
        EventKind::TenantActivated,
        EventKind::MemberAdded,
        EventKind::MemberAdded,
    ];
    assert_eq!(told.kinds_of(acme), expected);
    assert_eq!(fixture.consumer().parked().await.unwrap(), []);
}

/// What a handler does with the events of one tenant.
#[derive(Clone, Copy)]
enum Fault {
    PanicsAtOnce,
    PanicsLater,
    NeverEnds,
    SaysWhatCanNotBeKept,
}

/// That a handler with this fault stops one tenant, and nobody else; and what is noted of it.
async fn stops_one_tenant(fault: Fault) -> String {
    let fixture = Fixture::new().await;
    let (told, broken) = (Told::default(), Arc::new(Mutex::new(None)));
    let acme = fixture.tenant("acme").await;
    let other = fixture.tenant("other").await;
    *broken.lock() = Some(acme);
    let consumer = fixture
        .consumer()
        .from_the_first()
        .time_limit(Duration::from_millis(100));
    let running = Running::start(consumer, {
        let (told, broken) = (told.clone(), Arc::clone(&broken));
        move |event: Event| {
            let fault = (event.tenant.is_some() && event.tenant == *broken.lock()).then_some(fault);
            if matches!(fault, Some(Fault::PanicsAtOnce)) {
                panic!("at once");
            }
            let told = told.clone();
            async move {
                match fault {
                    None => told.add(event),
                    Some(Fault::NeverEnds) => std::future::pending().await,
                    Some(Fault::SaysWhatCanNotBeKept) => return Err(format!("no\0{}", "x".repeat(100_000))),
                    Some(Fault::PanicsAtOnce | Fault::PanicsLater) => panic!("later"),
                }
                Ok(())
            }
        }
    });
    // The other's two, and one more that comes while acme's wait.
    told.until(2).await;
    fixture.member(other, "oz@other.example").await;
    told.until(3).await;
    assert_eq!(told.kinds_of(acme), []);
    let parked = fixture.consumer().parked().await.unwrap();
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(parked[0].tenant, Some(acme));

    *broken.lock() = None;
    told.until(5).await;
    let report = running.stop().await;
    assert!(report.failed >= 1 && report.delivered == 5, "{report:?}");
    assert_eq!(
        told.kinds_of(acme),
        [EventKind::TenantCreated, EventKind::TenantActivated]
    );
    parked[0].error.clone()
}

#[tokio::test]
async fn a_handler_that_panics_stops_one_tenant_only() {
    for fault in [Fault::PanicsAtOnce, Fault::PanicsLater] {
        assert_eq!(stops_one_tenant(fault).await, "the handler panicked");
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_stops_one_tenant_only() {
    let error = stops_one_tenant(Fault::NeverEnds).await;
    assert_eq!(error, "the handler took longer than 100ms and was stopped");
}

#[tokio::test]
async fn a_handlers_error_that_can_not_be_kept_whole_stops_one_tenant_only() {
    let error = stops_one_tenant(Fault::SaysWhatCanNotBeKept).await;
    assert!(error.starts_with("nox") && error.len() == 2000, "{error}");
}

#[tokio::test]
async fn one_of_many_processes_delivers_and_another_takes_over() {
    let fixture = Fixture::new().await;
    let told = Told::default();
    let running: Vec<_> = (0..3)
        .map(|_| Running::telling(fixture.consumer().from_the_first(), &told))
        .collect();
    let acme = fixture.tenant("acme").await;
    told.until(2).await;
    // Each in its turn ends in order, and the next goes on.
    for (number, one) in running.into_iter().enumerate() {
        fixture.member(acme, &format!("m{number}@acme.example")).await;
        told.until(3 + number).await;
        one.stop().await;
    }
    told.are_in_order();
    assert_eq!(told.len(), 5);
}

#[tokio::test]
async fn a_process_that_is_gone_is_replaced_and_loses_no_event() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    // This one never ends with its first event, and is gone then.
    let begun = Arc::new(tokio::sync::Notify::new());
    let hanging = Running::start(fixture.consumer().from_the_first().lease(Duration::from_secs(1)), {
        let begun = Arc::clone(&begun);
        move |_| {
            begun.notify_one();
            std::future::pending::<Result<(), String>>()
        }
    });
    begun.notified().await;
    hanging.task.abort();
    let told = Told::default();
    let running = Running::telling(fixture.consumer().from_the_first(), &told);
    told.until(2).await;
    running.stop().await;
    assert_eq!(
        told.kinds_of(acme),
        [EventKind::TenantCreated, EventKind::TenantActivated]
    );
}

#[tokio::test]
async fn a_process_that_lost_its_lease_notes_nothing() {
    let fixture = Fixture::new().await;
    fixture.tenant("acme").await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let go_on = Arc::new(tokio::sync::Notify::new());
    let stalled = Running::start(fixture.consumer().from_the_first().lease(Duration::from_secs(60)), {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move |_| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, String>(())
            }
        }
    });
    begun.notified().await;
    let told = Told::default();
    let other = Running::telling(fixture.consumer().from_the_first(), &told);
    // As if it had stood still for longer than its lease; again, since its first beat may come after the first time.
    while told.len() == 0 {
        fixture
            .in_catalog("update event_consumer set leased_until = '-infinity'")
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told.until(2).await;
    let position = async || -> i64 {
        let client = fixture.catalog.client().await.unwrap();
        client
            .query_one("select position from event_consumer", &[])
            .await
            .unwrap()
            .get(0)
    };
    let before = position().await;
    go_on.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(position().await >= before, "an old position was noted");
    stalled.task.abort();
    other.stop().await;
    assert_eq!(told.len(), 2, "{:?}", told.0.lock());
}

#[tokio::test]
async fn a_consumer_needs_a_name_and_a_catalog() {
    let fixture = Fixture::new().await;
    for name in ["", "a\0b", &"x".repeat(101)] {
        assert!(fixture.tenantry.events(name).is_err(), "{name}");
    }
}
