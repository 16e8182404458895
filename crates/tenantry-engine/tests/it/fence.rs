//! The fence: what closes, for whom, and what is waited for.

use std::time::Duration;

use tenantry_core::{Epoch, TenantId, Tier};
use tenantry_engine::{
    fence::{self, Closed, Drained, Ended, State, Wait},
    transfer::HistoryAhead,
};

use crate::seal_support::{Fixture, Session, in_each_tier, new_tenant, refusal, sealed};

in_each_tier! {
    a_migration_reaches_a_suspended_tenant_and_leaves_its_fence
    a_closed_tenant_is_refused_with_the_reason_and_opens_again
    a_snapshot_from_before_the_fence_is_waited_for
    at_the_deadline_the_fence_opens_again
    a_forced_fence_ends_the_sessions_in_the_way
    two_tenants_fenced_at_once_are_both_closed
    nothing_is_written_after_the_wait
    a_tenant_that_is_on_its_way_is_not_open
}

const LONG: Wait = Wait {
    deadline: Duration::from_secs(60),
    force: false,
};
const NOT_LONG: Wait = Wait {
    deadline: Duration::from_millis(60),
    force: false,
};

/// How a statement of a session that was bound before is refused.
async fn fenced(session: &mut Session, tenant: TenantId) {
    let (code, message) = refusal(&session.notes_as(tenant).await.unwrap_err());
    match code.as_str() {
        // The compiled form, or the signed tier's reader.
        "22P02" => assert!(message.contains("tenantry: fenced"), "{message}"),
        // The signed tier enters in each transaction.
        code => assert!(matches!(code, "TN001" | "TN002" | "TN003"), "{code} {message}"),
    }
}

async fn enter_code(fixture: &Fixture, tenant: TenantId) -> String {
    let mut session = fixture.session().await;
    let signed = session.key.sign(&session.token(tenant));
    refusal(&session.try_enter(&signed).await.unwrap_err()).0
}

async fn a_closed_tenant_is_refused_with_the_reason_and_opens_again(fixture: Fixture) {
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    let mut other = fixture.session().await;
    other.enter(fixture.b).await;
    for (why, code) in [
        (Closed::Moving, "TN003"),
        (Closed::Suspended, "TN002"),
        (Closed::Gone, "TN001"),
    ] {
        fence::close(&fixture.client, fixture.a, Epoch::FIRST, why)
            .await
            .unwrap();
        let read = fence::read(&fixture.client, fixture.a).await.unwrap().unwrap();
        assert_eq!(
            (read.epoch, read.state, read.compiled),
            (Epoch::FIRST, State::from(why), true)
        );
        let drained = fence::wait_for_older(&fixture.client, fixture.a, Epoch::FIRST, LONG)
            .await
            .unwrap();
        assert_eq!(drained, Drained::Closed { terminated: 0 });
        fenced(&mut bound, fixture.a).await;
        assert_eq!(enter_code(&fixture, fixture.a).await, code);
        // nobody else is touched
        assert_eq!(other.notes_as(fixture.b).await.unwrap(), [format!("of {}", fixture.b)]);
    }
    fence::open(&fixture.client, fixture.a, Epoch::FIRST).await.unwrap();
    let read = fence::read(&fixture.client, fixture.a).await.unwrap().unwrap();
    assert_eq!((read.state, read.compiled), (State::Open, false));
    assert_eq!(bound.notes_as(fixture.a).await.unwrap(), [format!("of {}", fixture.a)]);
    let mut late = fixture.session().await;
    late.enter(fixture.a).await;
    assert_eq!(late.notes_as(fixture.a).await.unwrap(), [format!("of {}", fixture.a)]);
}

/// The lost fence: under an older snapshot a row that closes the tenant is not seen.
async fn a_snapshot_from_before_the_fence_is_waited_for(fixture: Fixture) {
    let superuser = fixture.superuser().await;
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let mut bound = fixture.session().await;
        bound.enter(fixture.a).await;
        bound.begin_at(fixture.a, isolation).await;
        let written = bound
            .client
            .execute("update app.note set body = 'late'", &[])
            .await
            .unwrap();
        assert_eq!(written, 1);
        fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
            .await
            .unwrap();
        let mover = fixture.admin.connect(fixture.database.name()).await.unwrap();
        let tenant = fixture.a;
        let wait = tokio::spawn(async move { fence::wait_for_older(&mover, tenant, Epoch::FIRST, LONG).await });
        for _ in 0..20 {
            bound.client.batch_execute("select 1").await.unwrap();
        }
        assert!(!wait.is_finished(), "{isolation}");
        bound.client.batch_execute("commit").await.unwrap();
        assert_eq!(wait.await.unwrap().unwrap(), Drained::Closed { terminated: 0 });
        // What was waited for is there for the copy.
        let late = "select from app.note where body = 'late'";
        assert_eq!(superuser.query(late, &[]).await.unwrap().len(), 1);
        // Now it is closed, whatever snapshot it asks for.
        for isolation in ["read committed", "repeatable read", "serializable"] {
            bound
                .client
                .batch_execute(&format!("begin isolation level {isolation}"))
                .await
                .unwrap();
            let refused = match bound.open(fixture.a).await {
                Ok(()) => bound.notes().await.unwrap_err(),
                Err(refused) => refused,
            };
            assert!(matches!(refusal(&refused).0.as_str(), "22P02" | "TN003"));
            bound.client.batch_execute("rollback").await.unwrap();
        }
        fence::open(&fixture.client, fixture.a, Epoch::FIRST).await.unwrap();
        bound
            .write_as(tenant, &format!("update app.note set body = 'of {tenant}'"))
            .await
            .unwrap();
    }
}

async fn at_the_deadline_the_fence_opens_again(fixture: Fixture) {
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    bound.begin(fixture.a).await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    let drained = fence::wait_for_older(&fixture.client, fixture.a, Epoch::FIRST, NOT_LONG)
        .await
        .unwrap();
    assert!(matches!(drained, Drained::Reopened { blockers } if blockers.len() == 1));
    assert_eq!(bound.notes().await.unwrap().len(), 1);
    bound.client.batch_execute("commit").await.unwrap();
    assert_eq!(bound.notes_as(fixture.a).await.unwrap().len(), 1);
    let read = fence::read(&fixture.client, fixture.a).await.unwrap().unwrap();
    assert_eq!((read.state, read.compiled), (State::Open, false));
}

async fn a_forced_fence_ends_the_sessions_in_the_way(fixture: Fixture) {
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    bound.begin(fixture.a).await;
    let idle = fixture.session().await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Gone)
        .await
        .unwrap();
    let force = Wait {
        force: true,
        ..NOT_LONG
    };
    let drained = fence::wait_for_older(&fixture.client, fixture.a, Epoch::FIRST, force)
        .await
        .unwrap();
    assert_eq!(drained, Drained::Closed { terminated: 1 });
    assert!(bound.client.batch_execute("select 1").await.is_err());
    idle.client.batch_execute("select 1").await.unwrap();
}

async fn two_tenants_fenced_at_once_are_both_closed(fixture: Fixture) {
    let mut of_a = fixture.session().await;
    let mut of_b = fixture.session().await;
    of_a.enter(fixture.a).await;
    of_b.enter(fixture.b).await;
    let one = fixture.admin.connect(fixture.database.name()).await.unwrap();
    let two = fixture.admin.connect(fixture.database.name()).await.unwrap();
    for _ in 0..4 {
        let (first, second) = tokio::join!(
            fence::close(&one, fixture.a, Epoch::FIRST, Closed::Suspended),
            fence::close(&two, fixture.b, Epoch::FIRST, Closed::Suspended)
        );
        first.unwrap();
        second.unwrap();
        fenced(&mut of_a, fixture.a).await;
        fenced(&mut of_b, fixture.b).await;
        let (first, second) = tokio::join!(
            fence::open(&one, fixture.a, Epoch::FIRST),
            fence::open(&two, fixture.b, Epoch::FIRST)
        );
        first.unwrap();
        second.unwrap();
        assert_eq!(of_a.notes_as(fixture.a).await.unwrap().len(), 1);
        assert_eq!(of_b.notes_as(fixture.b).await.unwrap().len(), 1);
    }
}

/// Writers on bound connections, each statement a transaction of its own, while the fence closes again and again.
async fn nothing_is_written_after_the_wait(fixture: Fixture) {
    let (tenant, b) = (fixture.a, fixture.b);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let mut session = fixture.session().await;
        session.enter(tenant).await;
        let stop = stop.clone();
        writers.push(tokio::spawn(async move {
            let (mut written, mut refused) = (0_u32, 0_u32);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let id = 1_000 * (writer + 1) + i32::try_from(written).unwrap();
                session.client.batch_execute("begin").await.unwrap();
                let done = match session.open(tenant).await {
                    Ok(()) => {
                        session
                            .client
                            .execute("insert into app.note (id) values ($1)", &[&id])
                            .await
                    }
                    Err(error) => Err(error),
                };
                let end = session.client.batch_execute("commit").await;
                match (done, end) {
                    (Ok(_), Ok(())) => written += 1,
                    _ => refused += 1,
                }
            }
            (written, refused)
        }));
    }
    let superuser = fixture.superuser().await;
    let count = async || -> i64 {
        superuser
            .query_one("select count(*) from app.note where tenant_id <> $1", &[b.as_uuid()])
            .await
            .unwrap()
            .get(0)
    };
    for _ in 0..3 {
        fence::close(&fixture.client, tenant, Epoch::FIRST, Closed::Moving)
            .await
            .unwrap();
        let drained = fence::wait_for_older(&fixture.client, tenant, Epoch::FIRST, LONG)
            .await
            .unwrap();
        assert_eq!(drained, Drained::Closed { terminated: 0 });
        let at_once = count().await;
        for _ in 0..5 {
            assert_eq!(count().await, at_once);
        }
        fence::open(&fixture.client, tenant, Epoch::FIRST).await.unwrap();
        // until some writer got through again
        while count().await == at_once {}
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut written, mut refused) = (0, 0);
    for writer in writers {
        let (done, not_done) = writer.await.unwrap();
        written += done;
        refused += not_done;
    }
    assert_eq!(count().await, i64::from(written) + 1);
    assert!(refused > 0);
}

async fn a_migration_reaches_a_suspended_tenant_and_leaves_its_fence(fixture: Fixture) {
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Suspended)
        .await
        .unwrap();
    let owner = tenantry_engine::Roles::of(&fixture.installation).owner;
    let act_for = format!(
        "begin; select tenantry_private.act_for('{}'); set local role {owner}",
        fixture.a
    );
    let act_done = format!("set local role none; select tenantry_private.act_done('{}')", fixture.a);
    fixture.client.batch_execute(&act_for).await.unwrap();
    let reached = fixture
        .client
        .execute("update app.note set body = 'migrated'", &[])
        .await
        .unwrap();
    assert_eq!(reached, 1);
    fixture.client.batch_execute(&act_done).await.unwrap();
    fixture.client.batch_execute("commit").await.unwrap();
    fenced(&mut bound, fixture.a).await;
    assert_eq!(enter_code(&fixture, fixture.a).await, "TN002");

    // Whoever forgets the end does not commit.
    if fixture.made.tier == Tier::Sealed {
        fixture.client.batch_execute(&act_for).await.unwrap();
        let error = fixture.client.batch_execute("commit").await.unwrap_err();
        assert_eq!(refusal(&error).0, "55000");
        fenced(&mut bound, fixture.a).await;
    }
}

async fn a_tenant_that_is_on_its_way_is_not_open(fixture: Fixture) {
    let tenant = new_tenant();
    fence::register(&fixture.client, tenant, Epoch(3), false).await.unwrap();
    fence::register(&fixture.client, tenant, Epoch(3), false).await.unwrap();
    assert_eq!(enter_code(&fixture, tenant).await, "TN003");
    fence::open(&fixture.client, tenant, Epoch(3)).await.unwrap();
    // open, but at a placement that the token does not know of
    assert_eq!(enter_code(&fixture, tenant).await, "TN001");
    let mut session = fixture.session().await;
    let mut token = session.token(tenant);
    token.epoch = Epoch(3);
    session.enter_with(token).await;
}

/// `enter` reads the fence under the snapshot of its transaction, which may be older than the fence.
#[tokio::test]
async fn a_binding_made_under_an_older_snapshot_is_refused_in_the_next_transaction() {
    let fixture = sealed().await;
    let mut session = fixture.session().await;
    session
        .client
        .batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    session.enter(fixture.a).await;
    let drained = fence::wait_for_older(&fixture.client, fixture.b, Epoch::FIRST, NOT_LONG)
        .await
        .unwrap();
    assert!(
        matches!(drained, Drained::Reopened { .. }),
        "its transaction was not waited for"
    );
    session.client.batch_execute("commit").await.unwrap();
    fenced(&mut session, fixture.a).await;
    // and while it is connected, its fence is not forgotten
    assert_eq!(fence::forget(&fixture.client).await.unwrap(), 0);
}

#[tokio::test]
async fn a_prepared_transaction_is_waited_for() {
    let fixture = sealed().await;
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    bound.begin(fixture.a).await;
    bound
        .client
        .batch_execute("insert into app.note (id) values (7)")
        .await
        .unwrap();
    let name = format!("p{}", fixture.a.as_uuid().simple());
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    let mover = fixture.admin.connect(fixture.database.name()).await.unwrap();
    let tenant = fixture.a;
    // It becomes a prepared one while it is waited for.
    let wait = tokio::spawn(async move { fence::wait_for_older(&mover, tenant, Epoch::FIRST, LONG).await });
    bound
        .client
        .batch_execute(&format!("prepare transaction '{name}'"))
        .await
        .unwrap();
    let drained = fence::wait_for_older(&fixture.client, tenant, Epoch::FIRST, NOT_LONG)
        .await
        .unwrap();
    let Drained::Reopened { blockers } = drained else {
        panic!("a prepared transaction was not waited for");
    };
    assert_eq!(blockers, [format!("prepared {name}")]);
    assert!(!wait.is_finished());
    bound
        .client
        .batch_execute(&format!("commit prepared '{name}'"))
        .await
        .unwrap();
    assert_eq!(wait.await.unwrap().unwrap(), Drained::Closed { terminated: 0 });
}

/// It may see the later of two entries and not the older, and forget that one.
#[tokio::test]
async fn a_history_is_brought_ahead_only_when_older_transactions_are_over() {
    let fixture = sealed().await;
    let superuser = fixture.superuser().await;
    let begin = async || {
        HistoryAhead::begin(&superuser, &superuser, fixture.a, NOT_LONG.deadline)
            .await
            .unwrap()
    };
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    bound.begin(fixture.a).await;
    assert!(begin().await.is_none());
    bound.client.batch_execute("commit").await.unwrap();
    assert!(begin().await.is_some());
}

#[tokio::test]
async fn transactions_of_others_are_not_waited_for() {
    let fixture = sealed().await;
    let other = sealed().await;
    let mut elsewhere = other.session().await;
    elsewhere.enter(other.a).await;
    elsewhere.begin(other.a).await;
    let superuser = fixture.superuser().await;
    superuser
        .batch_execute("begin; select count(*) from app.note")
        .await
        .unwrap();
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    let drained = fence::wait_for_older(&fixture.client, fixture.a, Epoch::FIRST, NOT_LONG)
        .await
        .unwrap();
    assert_eq!(drained, Drained::Closed { terminated: 0 });
}

#[tokio::test]
async fn a_fence_is_forgotten_when_no_connection_is_older() {
    let fixture = sealed().await;
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Gone)
        .await
        .unwrap();
    assert_eq!(fence::forget(&fixture.client).await.unwrap(), 0);
    fenced(&mut bound, fixture.a).await;
    // one that came later does not count
    let young = fixture.session().await;
    let pid = bound.pid;
    drop(bound);
    while !fixture
        .client
        .query("select from pg_stat_activity where pid = $1", &[&pid])
        .await
        .unwrap()
        .is_empty()
    {}
    assert_eq!(fence::forget(&fixture.client).await.unwrap(), 1);
    let read = fence::read(&fixture.client, fixture.a).await.unwrap().unwrap();
    assert_eq!((read.state, read.compiled), (State::Gone, false));
    assert_eq!(enter_code(&fixture, fixture.a).await, "TN001");
    drop(young);
}

#[tokio::test]
async fn a_later_placement_opens_only_when_older_connections_are_gone() {
    let fixture = sealed().await;
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Gone)
        .await
        .unwrap();
    fence::register(&fixture.client, fixture.a, Epoch(2), false)
        .await
        .unwrap();
    let error = fence::open(&fixture.client, fixture.a, Epoch(2)).await.unwrap_err();
    assert_eq!(error.code(), Some("55000"));
    fenced(&mut bound, fixture.a).await;
    let force = Wait {
        force: true,
        ..NOT_LONG
    };
    bound.client.batch_execute("begin").await.unwrap();
    let drained = fence::wait_for_older(&fixture.client, fixture.a, Epoch(2), force)
        .await
        .unwrap();
    assert_eq!(drained, Drained::Closed { terminated: 1 });
    while fence::open(&fixture.client, fixture.a, Epoch(2)).await.is_err() {}
    assert_eq!(enter_code(&fixture, fixture.a).await, "TN001");
}

/// What is in a transaction ends when that is over; what comes later stays.
#[tokio::test]
async fn connections_from_before_the_fence_are_ended_when_they_are_idle() {
    let fixture = sealed().await;
    let mut idle = fixture.session().await;
    idle.enter(fixture.a).await;
    let mut busy = fixture.session().await;
    busy.enter(fixture.b).await;
    busy.client.batch_execute("begin; select 1").await.unwrap();
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    let ended = fence::end_older(&fixture.client, fixture.a, NOT_LONG).await.unwrap();
    assert!(matches!(&ended, Ended::Left { pids } if pids.len() == 1), "{ended:?}");
    assert!(idle.client.batch_execute("select 1").await.is_err());
    assert!(fence::open(&fixture.client, fixture.a, Epoch(2)).await.is_err());
    busy.client.batch_execute("commit").await.unwrap();
    let ended = fence::end_older(&fixture.client, fixture.a, LONG).await.unwrap();
    assert_eq!(ended, Ended::All { terminated: 1 });
    let young = fixture.session().await;
    fence::open(&fixture.client, fixture.a, Epoch(2)).await.unwrap();
    young.client.batch_execute("select 1").await.unwrap();
}

/// Its start seems to be later than the fence: it would be let into the new home with the old one's search path.
#[tokio::test]
async fn a_connection_from_before_the_fence_is_ended_also_where_the_clock_was_set_back() {
    let fixture = sealed().await;
    let mut bound = fixture.session().await;
    bound.enter(fixture.a).await;
    fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
        .await
        .unwrap();
    fixture
        .client
        .batch_execute("update tenantry_private.fence set settled_at = settled_at - interval '1 hour' where settled_at is not null")
        .await
        .unwrap();
    let ended = fence::end_older(&fixture.client, fixture.a, LONG).await.unwrap();
    assert_eq!(ended, Ended::All { terminated: 1 });
    assert!(bound.client.batch_execute("select 1").await.is_err());
}

#[tokio::test]
async fn a_fence_is_not_changed_from_an_older_snapshot() {
    let fixture = sealed().await;
    for isolation in ["repeatable read", "serializable"] {
        fixture
            .client
            .batch_execute(&format!("begin isolation level {isolation}"))
            .await
            .unwrap();
        let error = fence::close(&fixture.client, fixture.a, Epoch::FIRST, Closed::Moving)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some("25001"));
        fixture.client.batch_execute("rollback").await.unwrap();
    }
}

#[tokio::test]
async fn a_placement_that_is_not_here_can_be_neither_closed_nor_opened() {
    let fixture = sealed().await;
    let stranger = new_tenant();
    let close = fence::close(&fixture.client, stranger, Epoch::FIRST, Closed::Gone)
        .await
        .unwrap_err();
    assert_eq!(close.code(), Some("TN001"));
    let open = fence::open(&fixture.client, stranger, Epoch::FIRST).await.unwrap_err();
    assert_eq!(open.code(), Some("TN001"));
    let stale = fence::close(&fixture.client, fixture.a, Epoch(2), Closed::Gone)
        .await
        .unwrap_err();
    assert_eq!(stale.code(), Some("TN001"));
    let again = fence::register(&fixture.client, fixture.a, Epoch(2), true)
        .await
        .unwrap_err();
    assert_eq!(again.code(), Some("TN001"));
    assert_eq!(fence::read(&fixture.client, stranger).await.unwrap(), None);
}
