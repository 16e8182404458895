//! Transactions in a scope.

use tenantry::{Error, ErrorKind, Transaction};

use crate::world::World;

async fn insert(transaction: &mut Transaction, id: i32) -> Result<u64, Error> {
    transaction
        .execute("insert into contact (id, name) values ($1, 'new')", &[&id])
        .await
}

#[tokio::test]
async fn a_transaction_is_kept_whole_or_not_at_all() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let kept: Result<i32, Error> = scope
            .transaction(async |tx| {
                insert(tx, 2).await?;
                insert(tx, 3).await?;
                Ok(7)
            })
            .await;
        assert_eq!(kept.unwrap(), 7);
        let undone: Result<(), Error> = scope
            .transaction(async |tx| {
                insert(tx, 4).await?;
                insert(tx, 2).await?;
                Ok(())
            })
            .await;
        assert_eq!(undone.unwrap_err().database().unwrap().code(), "23505");
        assert_eq!(world.names(n).await.len(), 3);
    }
}

#[tokio::test]
async fn a_part_may_fail_by_itself() {
    let world = World::new().await;
    let scope = world.scope(3).await;
    let done: Result<(), Error> = scope
        .transaction(async |tx| {
            insert(tx, 2).await?;
            let part: Result<(), Error> = tx
                .savepoint(async |tx| {
                    insert(tx, 3).await?;
                    tx.savepoint(async |tx| insert(tx, 4).await).await?;
                    insert(tx, 2).await?;
                    Ok(())
                })
                .await;
            assert!(part.is_err());
            insert(tx, 5).await?;
            Ok(())
        })
        .await;
    done.unwrap();
    let scope = world.scope(3).await;
    let ids: Vec<(i32,)> = scope.query_as("select id from contact order by id", &[]).await.unwrap();
    assert_eq!(ids, [(1,), (2,), (5,)]);
}

#[tokio::test]
async fn an_error_that_was_swallowed_does_not_commit() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let done: Result<(), Error> = scope
        .transaction(async |tx| {
            insert(tx, 2).await?;
            let _ = insert(tx, 1).await;
            Ok(())
        })
        .await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Database);
    assert_eq!(world.names(0).await.len(), 1);
}

#[tokio::test]
async fn a_transactions_future_can_be_spawned() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let task = tokio::spawn(async move {
        let name = String::from("spawned");
        scope
            .transaction(async |tx| {
                tx.execute("insert into contact (id, name) values (8, $1)", &[&name])
                    .await?;
                let part: Result<u64, Error> = tx.savepoint(async |tx| insert(tx, 9).await).await;
                part
            })
            .await
    });
    assert_eq!(task.await.unwrap().unwrap(), 1);
    assert_eq!(world.names(0).await.len(), 3);
}

#[tokio::test]
async fn an_empty_transaction_sends_nothing_and_is_no_error() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    scope.begin().await.unwrap().commit().await.unwrap();
    let done: Result<(), Error> = scope.transaction(async |_| Ok(())).await;
    done.unwrap();
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_undone_at_once() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let mut transaction = scope.begin().await.unwrap();
    insert(&mut transaction, 2).await.unwrap();
    // The row is locked until the transaction is gone.
    drop(transaction);
    assert_eq!(
        scope
            .execute("insert into contact (id, name) values (2, 'after')", &[])
            .await
            .unwrap(),
        1
    );
}
