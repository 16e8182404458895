//! Operators who pause a move, let it go on, or call it off.

use futures_util::future::join_all;
use tenantry_core::{Isolation, OperationId, TenantId};
use tenantry_ops::{Operation, OperationState, Steer, SteerError};

use super::{
    killed::LETTERS,
    online::{following, logical},
};
use crate::{
    child::Process,
    fleet::{Fleet, operator},
};

/// Where a process is at work on the move when an operator wants it to stop.
const PLACES: [&str; 7] = [
    "after_prepare",
    "slot_made",
    "after_follow",
    "after_compare",
    "after_close",
    "after_copy",
    "before_switch",
];

/// A tenant whose move another process has brought to a place, where it hangs.
struct Hanging {
    tenant: TenantId,
    operation: OperationId,
    rows: String,
    place: &'static str,
    _process: Process,
}

impl Fleet {
    async fn newest(&self, tenant: TenantId) -> Operation {
        let mut newest = self
            .ops
            .list_operations(&operator(), Some(tenant), None, 1)
            .await
            .unwrap();
        newest.remove(0)
    }

    async fn hanging(&self, places: &[&'static str]) -> Vec<Hanging> {
        let mut tenants = Vec::new();
        for (place, letter) in places.iter().copied().zip(LETTERS) {
            let slug = format!("hung-{letter}");
            let tenant = self.filled(&slug, Isolation::Shared).await.id;
            tenants.push((slug, tenant, self.rows(tenant).await, place));
        }
        let hung = tenants.into_iter().map(|(slug, tenant, rows, place)| async move {
            let stop = format!("move.{place}");
            let process = Process::start(&self.catalog.url(), "follow-schema@two", &slug, &format!("{stop}=stop"));
            let process = process.comes_to(&stop).await;
            Hanging {
                tenant,
                operation: self.newest(tenant).await.id,
                rows,
                place,
                _process: process,
            }
        });
        join_all(hung).await
    }

    async fn comes_to(&self, id: OperationId, state: OperationState, place: &str) {
        self.poll(&format!("{place}: {state}"), async || {
            self.ops.get_operation(&operator(), id).await.unwrap().state == state
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_move_serves_the_tenant_where_it_was_and_goes_on_when_it_is_resumed() {
    let fleet = logical(following()).await;
    let hung = fleet.hanging(&PLACES).await;
    for one in &hung {
        let steered = fleet.ops.steer_move(&operator(), one.operation, Steer::Pause).await;
        assert!(steered.is_ok(), "{}: {steered:?}", one.place);
    }
    for one in &hung {
        fleet.comes_to(one.operation, OperationState::Paused, one.place).await;
        assert_eq!(fleet.rows(one.tenant).await, one.rows, "{}", one.place);
        assert_eq!(fleet.place(one.tenant).await, "shared@one");
        fleet.add_contact(one.tenant, "meanwhile@example.com").await;
        // Nobody else works on the tenant, and nobody takes the operation.
        assert!(fleet.ops.suspend_tenant(&operator(), &one.tenant.into()).await.is_err());
        let rests = fleet
            .ops
            .finish_move(&operator(), one.operation, &|_| ())
            .await
            .unwrap();
        assert_eq!((rests.state, rests.wish), (OperationState::Paused, None));
    }
    for one in &hung {
        let rows = fleet.rows(one.tenant).await;
        fleet
            .ops
            .steer_move(&operator(), one.operation, Steer::Resume)
            .await
            .unwrap();
        let ended = fleet
            .ops
            .finish_move(&operator(), one.operation, &|_| ())
            .await
            .unwrap();
        assert_eq!(ended.state, OperationState::Done, "{}: {ended:?}", one.place);
        assert_eq!(fleet.rows(one.tenant).await, rows, "{}", one.place);
        fleet.lives_once(one.tenant, one.place).await;
    }
    assert_eq!(fleet.streams().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_called_off_leaves_the_tenant_where_it_was_and_nothing_behind() {
    let fleet = logical(following()).await;
    let hung = fleet.hanging(&PLACES).await;
    for one in &hung {
        fleet
            .ops
            .steer_move(&operator(), one.operation, Steer::Abort)
            .await
            .unwrap();
    }
    for one in &hung {
        fleet
            .comes_to(one.operation, OperationState::Cancelled, one.place)
            .await;
        let ended = fleet.ops.get_operation(&operator(), one.operation).await.unwrap();
        assert_eq!(ended.error_code.as_deref(), Some("aborted"), "{ended:?}");
        assert_eq!(fleet.rows(one.tenant).await, one.rows, "{}", one.place);
        fleet.lives_once(one.tenant, one.place).await;
        assert_eq!(fleet.open_cleanups(one.operation).await, 0, "{}", one.place);
        let again = fleet.ops.steer_move(&operator(), one.operation, Steer::Abort).await;
        assert!(matches!(again, Err(SteerError::Ended { .. })), "{again:?}");
    }
    assert_eq!(fleet.streams().await, [""; 0]);
    fleet.moves(hung[0].tenant, "schema@two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_switch_a_move_can_not_be_paused_or_called_off() {
    let fleet = logical(following()).await;
    let hung = fleet.hanging(&["after_switch"]).await;
    let one = &hung[0];
    for steer in [Steer::Pause, Steer::Abort, Steer::Resume] {
        let refused = fleet.ops.steer_move(&operator(), one.operation, steer).await;
        let Err(error @ SteerError::TooLate { soaks: false }) = refused else {
            panic!("{refused:?}");
        };
        assert!(error.to_string().contains("move it back with another move"), "{error}");
    }
    for steer in [Steer::Rollback, Steer::Finish] {
        let refused = fleet.ops.steer_move(&operator(), one.operation, steer).await;
        assert!(matches!(refused, Err(SteerError::NotKept)), "{refused:?}");
    }
    let operation = one.operation;
    drop(hung);
    let ended = fleet.ops.finish_move(&operator(), operation, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Done);
}

/// No process is at work on it: it waits for its next try.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_nobody_works_on_is_called_off_by_whoever_asks() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Shared).await;
    let begun = fleet.begin_move(tenant.id, "database").await.unwrap();
    fleet.ops.steer_move(&operator(), begun.id, Steer::Abort).await.unwrap();
    let ended = fleet.ops.finish_move(&operator(), begun.id, &|_| ()).await.unwrap();
    assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");
    fleet.lives_once(tenant.id, "called off").await;
    let other = fleet
        .ops
        .list_operations(&operator(), Some(tenant.id), None, 10)
        .await
        .unwrap();
    let provisioned = other.last().unwrap();
    let refused = fleet.ops.steer_move(&operator(), provisioned.id, Steer::Abort).await;
    assert!(matches!(refused, Err(SteerError::NotSteered { .. })), "{refused:?}");
}
