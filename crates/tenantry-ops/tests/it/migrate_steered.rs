//! Operators who pause a roll-out, let it go on, or call it off.

use std::{num::NonZeroU16, time::Duration};

use serde_json::json;
use tenantry_catalog::operation::{self, NewOperation, OperationKind, Wish};
use tenantry_core::{Isolation, OperationId, OperatorScope};
use tenantry_ops::{MigrationError, Operation, OperationState, Ops, RolloutRequest, Steer, SteerError};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    fleet::{Fleet, operator, ops_on},
    migrate_killed,
    migrate_verify::{ended, key},
};

/// A runner looks three times a second for what is wanted.
const HEARD: Duration = Duration::from_secs(2);

/// A roll-out over three tenants with schemas of their own and the shared tables, and a process that works on it.
struct Rolling {
    fleet: Fleet,
    ops: Ops,
    operation: Operation,
    runner: JoinHandle<()>,
}

impl Drop for Rolling {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

/// The fleet that it goes over, and the tenants' tables that it changes.
async fn three() -> (Fleet, Vec<String>) {
    let fleet = Fleet::start().await;
    let mut tables = Vec::new();
    for n in 0..3 {
        let tenant = fleet.create(&format!("t{n}"), Isolation::Schema).await.unwrap();
        tables.push(format!("{}.contacts", tenant.placement.unwrap().schema));
    }
    (fleet, tables)
}

impl Rolling {
    async fn start(fleet: Fleet, request: &RolloutRequest) -> Self {
        let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(1)).await;
        let operation = ops.start_rollout(&operator(), request).await.unwrap();
        let runner = tokio::spawn({
            let ops = ops.clone();
            async move { ops.run_operations().await }
        });
        Self {
            fleet,
            ops,
            operation,
            runner,
        }
    }

    /// One schema is at work, and waits until the transaction of the connection ends.
    async fn at_work() -> (Self, tokio_postgres::Client) {
        let (fleet, tables) = three().await;
        let (holder, admin) = (fleet.shared_admin().await, fleet.shared_admin().await);
        let lock = format!("begin; lock table {}", tables.join(", "));
        holder.batch_execute(&lock).await.unwrap();
        let request = RolloutRequest {
            per_server: NonZeroU16::new(1),
            ..RolloutRequest::default()
        };
        let rolling = Self::start(fleet, &request).await;
        let waits = "select count(*) from pg_locks where not granted and locktype = 'relation'
                        and database = (select oid from pg_database where datname = current_database())";
        rolling
            .fleet
            .poll("a schema to be at work", async || {
                admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
            })
            .await;
        (rolling, holder)
    }

    /// It waits for an hour behind its first wave.
    async fn between_waves() -> Self {
        let (fleet, _) = three().await;
        Self::between_waves_of(fleet).await
    }

    async fn between_waves_of(fleet: Fleet) -> Self {
        let request = RolloutRequest {
            canaries: vec!["t0".to_owned()],
            pause_seconds: 3600,
            ..RolloutRequest::default()
        };
        let rolling = Self::start(fleet, &request).await;
        rolling
            .comes_to("the pause", |seen| seen.progress["next_wave_at"].is_string())
            .await;
        rolling
    }

    async fn steer(&self, steer: Steer) -> Result<Operation, SteerError> {
        self.ops.steer_operation(&operator(), self.operation.id, steer).await
    }

    async fn seen(&self) -> Operation {
        self.ops.get_operation(&operator(), self.operation.id).await.unwrap()
    }

    async fn comes_to(&self, what: &str, so: impl Fn(&Operation) -> bool) -> Operation {
        self.fleet.poll(what, async || so(&self.seen().await)).await;
        self.seen().await
    }

    async fn ended(&self) -> Operation {
        ended(&self.fleet, &self.ops, &self.operation).await
    }

    /// How many schemas have what is rolled out.
    async fn done(&self) -> i64 {
        let admin = self.fleet.shared_admin().await;
        let sql = "select count(*) from tenantry_private.migration where version = 3";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// Of the schemas, how many were migrated, failed and were left, by the operation's progress.
fn counts(operation: &Operation) -> [u64; 3] {
    ["applied", "failed", "left"].map(|figure| {
        let progress = &operation.progress;
        progress[figure]
            .as_u64()
            .unwrap_or_else(|| panic!("{figure}: {progress}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_called_off_ends_with_the_schema_at_work_and_tells_what_is_left() {
    let (rolling, holder) = Rolling::at_work().await;
    let wanted = rolling.steer(Steer::Abort).await.unwrap();
    assert_eq!(
        (wanted.state, wanted.wish),
        (OperationState::Running, Some(Wish::Abort))
    );
    // What is at work is not cut off.
    tokio::time::sleep(HEARD).await;
    assert_eq!(rolling.seen().await.state, OperationState::Running);
    for steer in [Steer::Pause, Steer::Resume] {
        let refused = rolling.steer(steer).await;
        assert!(matches!(refused, Err(SteerError::CalledOff)), "{refused:?}");
    }
    holder.batch_execute("rollback").await.unwrap();
    let stopped = rolling.ended().await;
    assert_eq!(stopped.state, OperationState::Cancelled, "{stopped:?}");
    assert_eq!(stopped.error_code.as_deref(), Some("aborted"));
    assert_eq!(counts(&stopped), [1, 0, 3]);
    let error = stopped.error.as_deref().unwrap();
    assert!(error.contains("1 schemas migrated, 0 failed, 3 not tried"), "{error}");
    assert_eq!(rolling.done().await, 1);
    let again = rolling.steer(Steer::Abort).await;
    assert!(matches!(again, Err(SteerError::Ended { .. })), "{again:?}");

    let rest = RolloutRequest::default();
    let rest = rolling.ops.start_rollout(&operator(), &rest).await.unwrap();
    let rest = ended(&rolling.fleet, &rolling.ops, &rest).await;
    assert_eq!(rest.state, OperationState::Done, "{rest:?}");
    assert_eq!((counts(&rest), &rest.progress["current"]), ([3, 0, 0], &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_rests_until_it_is_resumed_and_counts_as_one() {
    let (rolling, holder) = Rolling::at_work().await;
    rolling.steer(Steer::Pause).await.unwrap();
    tokio::time::sleep(HEARD).await;
    holder.batch_execute("rollback").await.unwrap();
    let paused = rolling
        .comes_to("the pause", |seen| seen.state == OperationState::Paused)
        .await;
    assert_eq!((paused.wish, counts(&paused)), (None, [1, 0, 3]));
    // Nobody takes it, and nobody begins another one.
    let ops = &rolling.ops;
    let rests = ops.finish_steered(&operator(), paused.id, &|_| ()).await.unwrap();
    assert_eq!(rests.state, OperationState::Paused);
    let second = ops.start_rollout(&operator(), &RolloutRequest::default()).await;
    assert!(
        matches!(second, Err(MigrationError::Paused(id)) if id == paused.id),
        "{second:?}"
    );
    assert_eq!(rolling.done().await, 1);

    rolling.steer(Steer::Pause).await.unwrap();
    rolling.steer(Steer::Resume).await.unwrap();
    let ended = rolling.ended().await;
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!((counts(&ended), &ended.progress["current"]), ([4, 0, 0], &0.into()));
    assert_eq!(rolling.done().await, 4);
}

/// It would wait for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_waits_for_its_next_wave_is_stopped_at_once_and_waits_on_when_it_is_resumed() {
    let rolling = Rolling::between_waves().await;
    let waits = rolling.seen().await;
    let next_wave_at = &waits.progress["next_wave_at"];
    rolling.steer(Steer::Pause).await.unwrap();
    let paused = rolling
        .comes_to("the pause", |seen| seen.state == OperationState::Paused)
        .await;
    assert_eq!(&paused.progress["next_wave_at"], next_wave_at);
    rolling.steer(Steer::Resume).await.unwrap();
    let on = rolling
        .comes_to("the next try", |seen| {
            seen.state == OperationState::Running && seen.progress["left"].is_null()
        })
        .await;
    assert_eq!(&on.progress["next_wave_at"], next_wave_at);
    assert_eq!((&on.progress["done"], &on.progress["total"]), (&1.into(), &4.into()));
    rolling.steer(Steer::Abort).await.unwrap();
    let ended = rolling.ended().await;
    assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");
    assert_eq!(counts(&ended), [1, 0, 3]);
    assert!(ended.progress.get("next_wave_at").is_none(), "{}", ended.progress);
    assert_eq!(rolling.done().await, 1);
}

/// The catalog itself refuses the second one: who begins it may have been slow since it looked.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_begin_a_rollout_at_once_one_is_refused_also_where_the_others_is_paused_by_then() {
    let (fleet, _) = three().await;
    let mut client = fleet.ops.catalog().client().await.unwrap();
    let slow = client.transaction().await.unwrap();
    let kind = OperationKind::Migrate;
    let seen = operation::find_live_of_fleet(&slow, kind).await.unwrap();
    assert!(seen.is_none(), "{seen:?}");
    let rolling = Rolling::between_waves_of(fleet).await;
    rolling.steer(Steer::Pause).await.unwrap();
    rolling
        .comes_to("the pause", |seen| seen.state == OperationState::Paused)
        .await;
    let new = NewOperation {
        id: OperationId::from_uuid(Uuid::now_v7()),
        kind,
        tenant: None,
        database: None,
        input: &json!({}),
        run_after: None,
    };
    assert!(!operation::insert(&slow, &new).await.unwrap(), "one is under way");
    slow.commit().await.unwrap();

    // It goes on, whoever else would begin one at that moment.
    let others = (0..4).map(|_| async {
        let ops = ops_on(&rolling.fleet.catalog.url(), migrate_killed::config(1)).await;
        ops.start_rollout(&operator(), &RolloutRequest::default()).await
    });
    let (resumed, others) = tokio::join!(rolling.steer(Steer::Resume), futures_util::future::join_all(others));
    assert_eq!(resumed.unwrap().state, OperationState::Pending);
    for other in others {
        let Err(MigrationError::Paused(live) | MigrationError::Running(live)) = other else {
            panic!("{other:?}")
        };
        assert_eq!(live, rolling.operation.id);
    }
    rolling.steer(Steer::Abort).await.unwrap();
    assert_eq!(rolling.ended().await.state, OperationState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_nobody_works_on_is_called_off_by_whoever_asks_and_may() {
    let fleet = Fleet::start().await;
    fleet.create("acme", Isolation::Schema).await.unwrap();
    let ops = ops_on(&fleet.catalog.url(), migrate_killed::config(1)).await;
    let operation = ops
        .start_rollout(&operator(), &RolloutRequest::default())
        .await
        .unwrap();
    for scopes in [&[][..], &[OperatorScope::Read, OperatorScope::Tenants]] {
        let refused = ops.steer_operation(&key(scopes), operation.id, Steer::Abort).await;
        assert!(matches!(refused, Err(SteerError::Forbidden(_))), "{refused:?}");
    }
    let allowed = key(&[OperatorScope::Migrations]);
    for steer in [Steer::Rollback, Steer::Finish] {
        let refused = ops.steer_operation(&allowed, operation.id, steer).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("has no {steer}")), "{refused}");
    }
    ops.steer_operation(&allowed, operation.id, Steer::Abort).await.unwrap();
    let ended = ops.finish_steered(&allowed, operation.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");
    assert!(ended.error.unwrap().contains("before it began"));

    let looks = ops.start_plan(&operator()).await.unwrap();
    let refused = ops.steer_operation(&operator(), looks.id, Steer::Pause).await;
    assert!(matches!(refused, Err(SteerError::NotSteered { .. })), "{refused:?}");
}
