//! Jobs by the clock: one for each due time, whoever works, dies or is suspended meanwhile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Timelike as _;
use parking_lot::Mutex;
use tenantry::{
    ErrorKind, PoolConfig, Role, Scope, TenantId, Tenantry,
    jobs::{Failure, Job, ListedSchedule, Missed, Run, Schedule, Worker},
};
use tenantry_core::Epoch;
use tenantry_engine::{fence, home, keys};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{ALL, Add, Odd, jobs_left, work, worker};
use crate::world::World;

const NIGHTLY: &str = "0 3 * * *";

type Outcome = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Counts how often it was done, by tenant.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<HashMap<TenantId, usize>>>);

impl Tally {
    fn of(&self, tenant: TenantId) -> usize {
        self.0.lock().get(&tenant).copied().unwrap_or_default()
    }

    fn all(&self) -> usize {
        self.0.lock().values().sum()
    }

    /// A handler that counts in the transaction that ends the job.
    fn handler(&self) -> impl Fn(Run, Add) -> Outcome + Clone + Send + Sync + use<> {
        let tally = self.0.clone();
        move |run: Run, _: Add| {
            let tally = tally.clone();
            let outcome: Outcome = Box::pin(async move {
                run.transaction(async |tx| -> Result<(), tenantry::Error> {
                    tx.execute("select count(*) from contact", &[]).await?;
                    Ok(())
                })
                .await?;
                *tally.lock().entry(run.scope().context().tenant).or_default() += 1;
                Ok(())
            });
            outcome
        }
    }
}

/// Makes everything in the database due a second ago, and lets the clocks of this process look.
async fn make_due(world: &World, database: usize) {
    let sql = "update tenantry_private.schedule
                  set next_at = clock_timestamp() - interval '1 s', dealt_at = least(dealt_at, clock_timestamp() - interval '2 s')";
    world.databases[database].admin.execute(sql, &[]).await.unwrap();
    look(world).await;
}

/// Clocks look when a schedule is set in their process: one whose kind nobody works on.
async fn look(world: &World) {
    let never = Schedule::new("0 0 1 1 *").unwrap();
    let nothing = Odd { how: String::new() };
    world
        .scope(0)
        .await
        .set_schedule("look", &never, &nothing)
        .await
        .unwrap();
}

/// How many are due and not dealt with.
async fn overdue(world: &World, database: usize) -> i64 {
    let sql = "select count(*) from tenantry_private.schedule where coalesce(next_at, '-infinity') <= clock_timestamp() and kind = 'add'";
    world.databases[database]
        .admin
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

async fn listed(scope: &Scope, name: &str) -> ListedSchedule {
    let all = scope.schedules().await.unwrap();
    let found = all.into_iter().find(|schedule| schedule.name == name);
    found.unwrap_or_else(|| panic!("there is no schedule {name}"))
}

/// Workers in handles of their own, as other processes would have them, until they are told to stop.
struct Others(
    Vec<(
        oneshot::Sender<()>,
        tokio::task::JoinHandle<tenantry::jobs::WorkerReport>,
    )>,
);

impl Others {
    fn start(world: &World, count: usize, make: impl Fn(&Tenantry) -> Worker) -> Self {
        let start = |_| {
            let tenantry = Tenantry::from_source(world.source.clone(), world.audit.clone(), PoolConfig::default());
            let (stop, stopped) = oneshot::channel::<()>();
            let running = tokio::spawn(make(&tenantry).run(async {
                let _ = stopped.await;
            }));
            (stop, running)
        };
        Self((0..count).map(start).collect())
    }

    async fn stop(self) -> u64 {
        let mut done = 0;
        for (stop, running) in self.0 {
            let _ = stop.send(());
            done += running.await.unwrap().done;
        }
        done
    }
}

#[tokio::test]
async fn a_schedule_is_set_listed_and_removed_by_its_tenants_admins() {
    let world = World::new().await;
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    let nightly = Schedule::in_zone(NIGHTLY, "Europe/Zurich")
        .unwrap()
        .missed(Missed::Skip);
    scope.set_schedule("nightly", &nightly, &Add { id: 100 }).await.unwrap();
    let shown = listed(&scope, "nightly").await;
    assert_eq!((shown.cron.as_str(), shown.zone.as_str()), (NIGHTLY, "Europe/Zurich"));
    assert_eq!((shown.missed, shown.everyone), (Missed::Skip, false));
    assert_eq!(
        (shown.kind.as_str(), shown.payload.as_str()),
        (Add::KIND, r#"{"id":100}"#)
    );
    assert!(shown.next_at.is_none(), "no worker has looked at it");
    work(worker(&world.tenantry).handle(Tally::default().handler()), async || {
        listed(&scope, "nightly").await.next_at.is_some()
    })
    .await;
    let planned = listed(&scope, "nightly").await;
    assert_eq!(planned.next_at, nightly.next_after(planned.made_at));
    assert_eq!(jobs_left(&scope, &ALL).await, 0, "it is not due yet");

    // The same again keeps its times; another time does not.
    scope.set_schedule("nightly", &nightly, &Add { id: 101 }).await.unwrap();
    let same = listed(&scope, "nightly").await;
    assert_eq!(
        (same.next_at, same.payload.as_str()),
        (planned.next_at, r#"{"id":101}"#)
    );
    let hourly = Schedule::new("@hourly").unwrap();
    scope.set_schedule("nightly", &hourly, &Add { id: 101 }).await.unwrap();
    assert!(listed(&scope, "nightly").await.next_at.is_none());

    assert!(other.schedules().await.unwrap().is_empty());
    assert!(!other.remove_schedule("nightly").await.unwrap());
    for role in [Role::Viewer, Role::Member] {
        let lower = scope.at_most(role);
        let refused = lower
            .set_schedule("nightly", &hourly, &Add { id: 1 })
            .await
            .unwrap_err();
        assert_eq!(refused.database().unwrap().code(), "42501");
        assert_eq!(lower.schedules().await.unwrap_err().database().unwrap().code(), "42501");
        let refused = lower.remove_schedule("nightly").await.unwrap_err();
        assert_eq!(refused.database().unwrap().code(), "42501");
    }
    assert!(scope.remove_schedule("nightly").await.unwrap());
    assert!(!scope.remove_schedule("nightly").await.unwrap());
    assert!(scope.schedules().await.unwrap().is_empty());
    assert_eq!(Schedule::new("no cron").unwrap_err().kind(), ErrorKind::Parameter);

    // Only with its transaction.
    let undone = scope
        .transaction::<(), tenantry::Error, _>(async |tx| {
            tx.set_schedule("undone", &hourly, &Add { id: 1 }).await?;
            tx.query("select 1/0", &[]).await?;
            Ok(())
        })
        .await;
    assert!(undone.is_err());
    assert!(scope.schedules().await.unwrap().is_empty());
}

#[tokio::test]
async fn each_due_time_makes_one_job_whoever_looks() {
    let world = World::new().await;
    let tally = Tally::default();
    let nightly = Schedule::new(NIGHTLY).unwrap();
    // Of each isolation.
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        scope.set_schedule("nightly", &nightly, &Add { id: 1 }).await.unwrap();
    }
    let others = Others::start(&world, 3, |tenantry| worker(tenantry).handle(tally.handler()));
    let rounds = 5;
    work(worker(&world.tenantry).handle(tally.handler()), async || {
        for round in 1..=rounds {
            for database in 0..3 {
                make_due(&world, database).await;
            }
            let begun = Instant::now();
            while tally.all() < 3 * round {
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "round {round}: {}",
                    tally.all()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        true
    })
    .await;
    // Long enough for a second one to show.
    tokio::time::sleep(Duration::from_millis(300)).await;
    others.stop().await;
    for n in [0, 2, 4] {
        assert_eq!(tally.of(world.tenants[n]), rounds, "{n}");
        let planned = listed(&world.scope(n).await, "nightly").await;
        assert!(planned.next_at.unwrap() > chrono::Utc::now());
    }
}

/// Workers that are dropped at any moment, while due times pass.
#[tokio::test]
async fn due_times_are_neither_lost_nor_doubled_by_workers_that_die() {
    let world = World::new().await;
    let nightly = Schedule::new(NIGHTLY).unwrap();
    for n in 0..4 {
        let scope = world.scope(n).await;
        for name in ["a", "b", "c"] {
            scope.set_schedule(name, &nightly, &Add { id: 1 }).await.unwrap();
        }
    }
    let dying = {
        let (source, audit) = (world.source.clone(), world.audit.clone());
        tokio::spawn(async move {
            // Only their clocks matter: they work on a kind of their own too, and never on this one for long.
            for life in 0_u64.. {
                let tenantry = Tenantry::from_source(source.clone(), audit.clone(), PoolConfig::default());
                let running = tokio::spawn(worker(&tenantry).handle(held).run(std::future::pending()));
                // Long enough, now and then, to get somewhere on a busy machine.
                tokio::time::sleep(Duration::from_millis(20 + life * 131 % 900)).await;
                running.abort();
            }
        })
    };
    let admin = &world.databases[0].admin;
    let count = "select count(*) from tenantry_private.job where kind = 'add'";
    let rounds = 12;
    for round in 1..=rounds {
        make_due(&world, 0).await;
        let begun = Instant::now();
        while overdue(&world, 0).await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "round {round}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A second apart, as the unique keys tell them.
        tokio::time::sleep(Duration::from_millis(1010)).await;
    }
    dying.abort();
    let made: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(made, 12 * rounds, "each schedule once in each round");
}

async fn held(_: Run, _: Add) -> Result<(), Failure> {
    std::future::pending().await
}

#[tokio::test]
async fn what_is_declared_for_every_tenant_reaches_each_and_later_ones_once() {
    let world = World::new().await;
    let tally = Tally::default();
    let make = |tenantry: &Tenantry| {
        worker(tenantry)
            .handle(tally.handler())
            .every_tenant("nightly", Schedule::new(NIGHTLY).unwrap(), &Add { id: 1 })
            .unwrap()
    };
    let everyone = async |count: i64| {
        let sql = "select count(*) from tenantry_private.schedule where everyone and next_at is not null";
        let mut there = 0;
        for database in &world.databases {
            there += database.admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        }
        there == count
    };
    work(make(&world.tenantry), async || everyone(6).await).await;
    assert_eq!(tally.all(), 0, "it is not due yet");
    // Its admins see it and can't take it away.
    let scope = world.scope(0).await;
    assert!(listed(&scope, "nightly").await.everyone);
    assert!(!scope.remove_schedule("nightly").await.unwrap());

    let late = TenantId::from_uuid(Uuid::now_v7());
    let home = world.source.homes.lock()[&world.tenants[0]].clone();
    let mut of_late = home.clone();
    of_late.placement.tenant = late;
    world.source.homes.lock().insert(late, of_late);
    fence::register(&world.databases[0].admin, late, Epoch::FIRST, true)
        .await
        .unwrap();
    let others = Others::start(&world, 2, make);
    work(make(&world.tenantry), async || {
        if !everyone(7).await {
            return false;
        }
        for database in 0..3 {
            make_due(&world, database).await;
        }
        let begun = Instant::now();
        while tally.all() < 7 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", tally.all());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    })
    .await;
    others.stop().await;
    for tenant in world.tenants.iter().chain([&late]) {
        assert_eq!(tally.of(*tenant), 1);
    }

    // A program that does not declare it any more makes none.
    make_due(&world, 0).await;
    let quiet = worker(&world.tenantry).handle(tally.handler());
    let begun = Instant::now();
    work(quiet, async || begun.elapsed() > Duration::from_millis(500)).await;
    assert_eq!(tally.all(), 7);
    // One that declares another time changes it.
    let hourly = worker(&world.tenantry)
        .handle(tally.handler())
        .every_tenant("nightly", Schedule::new("@hourly").unwrap(), &Add { id: 1 })
        .unwrap();
    work(hourly, async || listed(&scope, "nightly").await.cron == "@hourly").await;
    assert_eq!(tally.all(), 7, "it is due from now on, not for the times before");
}

#[tokio::test]
async fn a_suspended_tenants_schedule_waits_and_missed_times_are_one_job_or_none() {
    let world = World::new().await;
    let tally = Tally::default();
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    // Not within the minute in which a time counts as met.
    let hour = (chrono::Utc::now().hour() + 12) % 24;
    let once = Schedule::new(&format!("0 {hour} * * *")).unwrap();
    let skip = once.clone().missed(Missed::Skip);
    scope.set_schedule("once", &once, &Add { id: 1 }).await.unwrap();
    scope.set_schedule("skip", &skip, &Add { id: 1 }).await.unwrap();
    other.set_schedule("skip", &skip, &Add { id: 1 }).await.unwrap();
    let admin = &world.databases[0].admin;
    fence::close(admin, world.tenants[0], Epoch::FIRST, fence::Closed::Suspended)
        .await
        .unwrap();
    // Three days went by.
    let sql = "update tenantry_private.schedule
                  set next_at = date_trunc('hour', clock_timestamp()) - interval '3 days', dealt_at = clock_timestamp() - interval '5 days'
                where kind = 'add'";
    admin.execute(sql, &[]).await.unwrap();
    let one = || worker(&world.tenantry).handle(tally.handler());
    work(one(), async || {
        listed(&other, "skip").await.next_at.unwrap() > chrono::Utc::now()
    })
    .await;
    assert_eq!(tally.all(), 0, "one is suspended, the other skips what it missed");
    fence::open(admin, world.tenants[0], Epoch::FIRST).await.unwrap();
    work(one(), async || overdue(&world, 0).await == 0 && tally.all() == 1).await;
    let begun = Instant::now();
    work(one(), async || begun.elapsed() > Duration::from_millis(300)).await;
    assert_eq!(
        tally.of(world.tenants[0]),
        1,
        "one for three days, and none of what skips"
    );
}

/// Many tenants with the same minute: their jobs take turns with what somebody asks for.
#[tokio::test]
async fn a_minute_in_which_everybody_has_something_to_do_delays_nobody_else() {
    const TENANTS: usize = 1500;
    let world = World::new().await;
    let home = world.source.homes.lock()[&world.tenants[0]].clone();
    let mut many = Vec::new();
    for _ in 0..TENANTS {
        let tenant = TenantId::from_uuid(Uuid::now_v7());
        let mut of_it = home.clone();
        of_it.placement.tenant = tenant;
        world.source.homes.lock().insert(tenant, of_it);
        many.push(*tenant.as_uuid());
    }
    let register = "select count(tenantry.fence_register(id, 1, 0::int2)) from unnest($1::uuid[]) id";
    let admin = &world.databases[0].admin;
    admin.query_one(register, &[&many]).await.unwrap();
    let order: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = order.clone();
    let scheduled = move |_: Run, _: Add| {
        seen.lock().push(false);
        async { Ok(()) }
    };
    let seen = order.clone();
    let asked = move |_: Run, _: Odd| {
        seen.lock().push(true);
        async { Ok(()) }
    };
    let quiet = world.scope(1).await;
    let make = worker(&world.tenantry)
        .concurrency(1)
        .handle(scheduled)
        .handle(asked)
        .every_tenant("nightly", Schedule::new(NIGHTLY).unwrap(), &Add { id: 1 })
        .unwrap();
    let due = Mutex::new(false);
    let asked_at: Mutex<Vec<usize>> = Mutex::default();
    work(make, async || {
        let rows = "select count(*) from tenantry_private.schedule where everyone and next_at is not null";
        if !*due.lock() {
            let there: i64 = admin.query_one(rows, &[]).await.unwrap().get(0);
            if there < TENANTS as i64 {
                return false;
            }
            make_due(&world, 0).await;
            *due.lock() = true;
        }
        let begun = order.lock().len();
        let next = asked_at.lock().len();
        if begun > 50 * (next + 1) && next < 5 {
            quiet.enqueue(&Odd { how: String::new() }).await.unwrap();
            let begun = order.lock().len();
            asked_at.lock().push(begun);
        }
        next == 5 && order.lock().iter().filter(|asked| **asked).count() == 5
    })
    .await;
    let (order, asked_at) = (order.lock().clone(), asked_at.lock().clone());
    let places = order
        .iter()
        .enumerate()
        .filter(|(_, asked)| **asked)
        .map(|(place, _)| place);
    for (place, asked) in places.zip(asked_at) {
        // What runs, and one that was claimed while it was being enqueued.
        assert!(place <= asked + 2, "asked for at {asked}, begun at {place}");
    }
    assert!(order.len() < TENANTS, "it did not wait for the others");
}

#[tokio::test]
async fn schedules_are_signed_and_what_can_not_be_read_is_told() {
    let world = World::new().await;
    let tally = Tally::default();
    let (scope, other) = (world.scope(0).await, world.scope(1).await);
    let nightly = Schedule::new(NIGHTLY).unwrap();
    for name in ["good", "bent", "moved"] {
        scope.set_schedule(name, &nightly, &Add { id: 1 }).await.unwrap();
    }
    let admin = &world.databases[0].admin;
    for change in [
        "update tenantry_private.schedule set payload = '{\"id\":666}' where name = 'bent'".to_owned(),
        format!(
            "update tenantry_private.schedule set tenant = '{}' where name = 'moved'",
            world.tenants[1].as_uuid()
        ),
    ] {
        assert_eq!(admin.execute(&change, &[]).await.unwrap(), 1);
    }
    // By SQL from outside, which knows nothing of cron.
    let rubbish =
        "select tenantry.schedule_set('rubbish', 'at tea time', 'UTC', 1::int2, 'add', '{\"id\":1}', 0::int2, 1::int2)";
    scope.raw().query(rubbish, &[]).await.unwrap();
    // The key changes meanwhile.
    let old = world.source.homes.lock()[&world.tenants[0]].key.clone();
    let new = keys::generate(&[old.id()]);
    keys::add(admin, &new).await.unwrap();
    for home in world.source.homes.lock().values_mut() {
        if home.placement.database == world.databases[0].id {
            home.key = new.clone();
        }
    }
    world.tenantry.forget_placements();
    assert!(keys::retire(admin, old.id()).await.unwrap());
    make_due(&world, 0).await;
    work(worker(&world.tenantry).handle(tally.handler()), async || {
        tally.all() == 1
            && listed(&scope, "bent").await.broken.is_some()
            && listed(&other, "moved").await.broken.is_some()
            && listed(&scope, "rubbish").await.broken.is_some()
    })
    .await;
    assert_eq!((tally.of(world.tenants[0]), tally.of(world.tenants[1])), (1, 0));
    let why = async |scope: &Scope, name| listed(scope, name).await.broken.unwrap();
    assert!(why(&scope, "bent").await.contains("not as this database signed it"));
    assert!(why(&other, "moved").await.contains("not as this database signed it"));
    assert!(why(&scope, "rubbish").await.contains("no cron expression"));
    // Set anew, it works again.
    scope.set_schedule("rubbish", &nightly, &Add { id: 1 }).await.unwrap();
    assert!(listed(&scope, "rubbish").await.broken.is_none());
}

#[tokio::test]
async fn a_tenants_schedules_have_an_end_and_go_with_it() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let many = "select count(*) from generate_series(1, 1000) n,
        lateral (select tenantry.schedule_set('s' || n, '0 3 * * *', 'UTC', 1::int2, 'add', '{}', 0::int2, 1::int2)) s";
    scope.raw().query(many, &[]).await.unwrap();
    let nightly = Schedule::new(NIGHTLY).unwrap();
    let refused = scope
        .set_schedule("one more", &nightly, &Add { id: 1 })
        .await
        .unwrap_err();
    assert_eq!(refused.database().unwrap().code(), "54000");
    scope.set_schedule("s7", &nightly, &Add { id: 1 }).await.unwrap();
    world
        .scope(1)
        .await
        .set_schedule("mine", &nightly, &Add { id: 1 })
        .await
        .unwrap();
    scope.enqueue(&Add { id: 1 }).await.unwrap();
    let admin = &world.databases[0].admin;
    assert_eq!(home::delete_jobs(admin, world.tenants[0]).await.unwrap(), 1);
    assert!(scope.schedules().await.unwrap().is_empty());
    assert_eq!(world.scope(1).await.schedules().await.unwrap().len(), 1);
}
