//! Computing once, whatever happens to who computes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use tenantry::{Scope, cache::CacheConfig};
use tokio::sync::Notify;

use super::Process;
use crate::dropped::dropped_after;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_ask_at_once_compute_once() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    let computed = Arc::new(AtomicU64::new(0));
    let askers = (0..1000).map(|_| {
        let (scope, computed) = (scope.clone(), Arc::clone(&computed));
        tokio::spawn(async move {
            let compute = async || {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, ()>(computed.fetch_add(1, Ordering::Relaxed))
            };
            *scope.cache().get_or_compute("key", compute).await.unwrap()
        })
    });
    for asker in join_all(askers).await {
        assert_eq!(asker.unwrap(), 0);
    }
    assert_eq!(computed.load(Ordering::Relaxed), 1);
    assert_eq!(process.cache().status().computed, 1);
}

/// Somebody computes the key until told, and says when that began.
fn computing(
    scope: &Scope,
    began: &Arc<Notify>,
    go_on: &Arc<Notify>,
    value: u64,
) -> tokio::task::JoinHandle<Option<u64>> {
    let (scope, began, go_on) = (scope.clone(), Arc::clone(began), Arc::clone(go_on));
    tokio::spawn(async move {
        let compute = async || {
            began.notify_one();
            go_on.notified().await;
            Ok::<_, ()>(value)
        };
        scope
            .cache()
            .get_or_compute("key", compute)
            .await
            .ok()
            .map(|value| *value)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_who_waits_computes_when_one_is_dropped_panics_or_fails() {
    let process = Process::new(CacheConfig::default());
    for how in ["drop", "panic", "fail"] {
        let scope = process.scope(1).await;
        let _ = scope.cache().delete("key").await;
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let first = {
            let (scope, began, go_on) = (scope.clone(), Arc::clone(&began), Arc::clone(&go_on));
            tokio::spawn(async move {
                let compute = async || {
                    began.notify_one();
                    go_on.notified().await;
                    match how {
                        "panic" => panic!("on purpose"),
                        _ => Err::<u64, _>("on purpose"),
                    }
                };
                scope.cache().get_or_compute("key", compute).await.map(|value| *value)
            })
        };
        began.notified().await;
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let scope = scope.clone();
                tokio::spawn(async move {
                    *scope
                        .cache()
                        .get_or_compute("key", async || Ok::<_, ()>(7))
                        .await
                        .unwrap()
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        match how {
            "drop" => first.abort(),
            _ => go_on.notify_one(),
        }
        for waiting in waiting {
            let value = tokio::time::timeout(Duration::from_secs(10), waiting).await;
            assert_eq!(value.unwrap().unwrap(), 7, "{how}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_computed_is_given_and_not_kept() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    for how in ["delete", "set", "purge", "purge by id"] {
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let late = computing(&scope, &began, &go_on, 1);
        began.notified().await;
        match how {
            "delete" => drop(scope.cache().delete("key").await),
            "set" => drop(scope.cache().set("key", &2_u64).await.unwrap()),
            "purge" => drop(scope.cache().purge().await),
            _ => drop(process.cache().purge_tenant(scope.context().tenant).await),
        }
        // Who asks now does not wait for the outdated one.
        let now = scope
            .cache()
            .get_or_compute("key", async || Ok::<_, ()>(2))
            .await
            .unwrap();
        assert_eq!(*now, 2, "{how}");
        go_on.notify_one();
        assert_eq!(late.await.unwrap(), Some(1), "{how}");
        assert_eq!(scope.cache().get::<u64>("key").await.as_deref(), Some(&2), "{how}");
        let _ = scope.cache().delete("key").await;
    }
}

#[tokio::test]
async fn dropped_at_every_await_it_leaves_the_key_to_others() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    for polls in 1..20 {
        let compute = async || {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            Ok::<_, ()>(1)
        };
        let cache = scope.cache();
        let ended = dropped_after(polls, cache.get_or_compute("key", compute)).await;
        let next = cache.get_or_compute("key", async || Ok::<_, ()>(2)).now_or_never();
        assert_eq!(*next.expect("nobody has the turn").unwrap(), if ended { 1 } else { 2 });
        let _ = cache.delete("key").await;
    }
}
