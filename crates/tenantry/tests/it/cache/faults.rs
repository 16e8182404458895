//! Redis away, slow and back: slower, never wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tenantry::cache::{Reach, RedisState};
use tenantry_testing::{FaultProxy, Redis};

use super::{
    Process,
    redis::{config, look},
    tenant,
};
use crate::dropped::dropped_after;

/// A process that reaches Redis by way of a proxy, with little patience.
async fn behind(redis: &Redis) -> (Process, FaultProxy) {
    let proxy = FaultProxy::start("127.0.0.1", redis.port()).await;
    let mut config = config(redis.url_by(proxy.port()));
    if let Some(redis) = &mut config.redis {
        redis.timeout = Duration::from_millis(200);
        redis.pause = Duration::from_millis(100);
    }
    (Process::new(config), proxy)
}

/// Asks until Redis is in use.
async fn connected(process: &Process) {
    let since = Instant::now();
    let scope = process.scope(99).await;
    while process.cache().status().redis != RedisState::Connected {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{:?}",
            process.cache().status()
        );
        scope.cache().get::<i32>("nothing").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_values_are_computed_and_nobody_waits_for_long() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    for fault in ["cut", "stall", "kill"] {
        let (process, proxy) = behind(&redis).await;
        let scope = process.scope(1).await;
        connected(&process).await;
        match fault {
            "cut" => proxy.cut(),
            "stall" => proxy.stall(),
            _ => redis.kill(),
        }
        let since = Instant::now();
        for n in 0..200 {
            let key = format!("{fault} {n}");
            let value = scope
                .cache()
                .get_or_compute(&key, async || Ok::<_, ()>(n))
                .await
                .unwrap();
            assert_eq!(*value, n);
            assert_eq!(scope.cache().set(&key, &n).await.unwrap(), Reach::ThisProcess);
        }
        // One look each pause, and not one each call.
        let looks = process.cache().status().redis_failures;
        assert!(looks < 100, "{fault}: {looks} looks in {:?}", since.elapsed());
        assert_eq!(process.cache().status().redis, RedisState::Away);
        assert!(process.cache().status().redis_failures > 0);
        if fault != "kill" {
            proxy.heal();
            connected(&process).await;
            assert_eq!(scope.cache().set("back", &1).await.unwrap(), Reach::Everywhere);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_at_first_is_used_when_it_is() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    let (process, proxy) = behind(&redis).await;
    proxy.cut();
    let scope = process.scope(1).await;
    assert_eq!(
        *scope
            .cache()
            .get_or_compute("a", async || Ok::<_, ()>(1))
            .await
            .unwrap(),
        1
    );
    assert_eq!(process.cache().status().redis, RedisState::Away);
    proxy.heal();
    connected(&process).await;
    assert_eq!(scope.cache().set("a", &2).await.unwrap(), Reach::Everywhere);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_did_not_reach_redis_makes_nobody_believe_the_old_value_once_it_is_back() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    for (n, fault) in ["cut", "stall", "lost answer"].into_iter().enumerate() {
        for change in ["set", "delete", "purge"] {
            let (here, proxy) = behind(&redis).await;
            let there = Process::new(config(redis.url()));
            let key = format!("key {n} {change}");
            let (scope, other) = (here.scope(1).await, there.scope(1).await);
            let bystander = there.scope(2).await;
            connected(&here).await;
            assert_eq!(other.cache().set(&key, &"old").await.unwrap(), Reach::Everywhere);
            let _ = bystander.cache().set(&key, &"kept").await.unwrap();
            assert_eq!(scope.cache().get::<String>(&key).await.as_deref().unwrap(), "old");
            match fault {
                "cut" => proxy.cut(),
                "stall" => proxy.stall(),
                _ => proxy.cut_after_answer_bytes(0),
            }
            let reach = match change {
                "set" => scope.cache().set(&key, &"new").await.unwrap(),
                "delete" => scope.cache().delete(&key).await,
                _ => scope.cache().purge().await,
            };
            assert_eq!(reach, Reach::ThisProcess, "{fault} {change}");
            // It sees its own change at once, with and without Redis.
            assert_eq!(scope.cache().get::<String>(&key).await, None, "{fault} {change}");
            proxy.heal();
            connected(&here).await;
            let found = scope.cache().get::<String>(&key).await;
            assert_ne!(found.as_deref().map(String::as_str), Some("old"), "{fault} {change}");
            tokio::time::sleep(Duration::from_millis(250)).await;
            let found = other.cache().get::<String>(&key).await;
            assert_ne!(found.as_deref().map(String::as_str), Some("old"), "{fault} {change}");
            assert_eq!(bystander.cache().get::<String>(&key).await.as_deref().unwrap(), "kept");
        }
    }
}

/// The truth changes, and after each change the key is forgotten: whoever asks afterwards gets the newest, whatever the network does.
#[tokio::test(flavor = "multi_thread")]
async fn under_faults_a_process_never_reads_what_it_has_forgotten() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    let (process, proxy) = behind(&redis).await;
    let process = Arc::new(process);
    let truth = Arc::new(AtomicU64::new(0));
    let forgotten = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(6);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (process, truth, forgotten) = (Arc::clone(&process), Arc::clone(&truth), Arc::clone(&forgotten));
        tasks.push(tokio::spawn(async move {
            let scope = process.scope(1).await;
            let mut reads = 0_u64;
            while Instant::now() < until {
                let least = forgotten.load(Ordering::SeqCst);
                let compute = async || {
                    let value = truth.load(Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(reads % 3)).await;
                    Ok::<_, ()>(value)
                };
                let read = scope.cache().get_or_compute("truth", compute).await.unwrap();
                assert!(*read >= least, "read {read} after {least} was forgotten");
                reads += 1;
            }
            reads
        }));
    }
    let scope = process.scope(1).await;
    let mut faults = 0;
    while Instant::now() < until {
        match faults % 5 {
            0 => proxy.cut(),
            1 | 3 => proxy.heal(),
            2 => proxy.stall(),
            _ => proxy.cut_once(),
        }
        faults += 1;
        for _ in 0..3 {
            let newest = truth.fetch_add(1, Ordering::SeqCst) + 1;
            let _ = match newest % 3 {
                0 => scope.cache().purge().await,
                _ => scope.cache().delete("truth").await,
            };
            forgotten.store(newest, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    proxy.heal();
    for task in tasks {
        assert!(task.await.unwrap() > 100);
    }
    assert!(process.cache().status().redis_failures > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_at_every_await_nothing_old_is_left() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    let process = Process::new(config(redis.url()));
    let mut look = look(&redis).await;
    connected(&process).await;
    let scope = process.scope(1).await;
    let cache = scope.cache();
    for polls in 1..12 {
        for what in ["set", "set_for", "delete", "purge", "purge_tenant", "get", "compute"] {
            let _ = cache.set("key", &"old").await.unwrap();
            if polls % 2 == 0 {
                assert!(cache.get::<String>("key").await.is_some());
            }
            let long = Duration::from_secs(60);
            match what {
                "set" => drop(dropped_after(polls, cache.set("key", &"new")).await),
                "set_for" => drop(dropped_after(polls, cache.set_for("key", &"new", long)).await),
                "delete" => drop(dropped_after(polls, cache.delete("key")).await),
                "purge" => drop(dropped_after(polls, cache.purge()).await),
                "purge_tenant" => drop(dropped_after(polls, process.cache().purge_tenant(tenant(1))).await),
                "get" => drop(dropped_after(polls, cache.get::<String>("key")).await),
                _ => {
                    let _ = cache.delete("key").await;
                    let compute = async || {
                        tokio::task::yield_now().await;
                        Ok::<_, ()>("new".to_owned())
                    };
                    dropped_after(polls, cache.get_or_compute_for("key", long, compute)).await;
                }
            }
            // What was begun goes on.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let found = cache.get::<String>("key").await.map(|found| found.to_string());
            match what {
                "get" => assert_eq!(found.as_deref(), Some("old"), "{polls}"),
                // Polled once, it was begun.
                _ => assert_ne!(found.as_deref(), Some("old"), "{what} {polls}"),
            }
            let next = cache.get_or_compute("key", async || Ok::<_, ()>("next".to_owned()));
            tokio::time::timeout(Duration::from_secs(5), next)
                .await
                .unwrap()
                .unwrap();
        }
    }
    assert_eq!(process.cache().status().redis_failures, 0);
    let held: Vec<String> = redis::AsyncCommands::keys(&mut look, "t:*").await.unwrap();
    assert!(held.len() <= 1, "{held:?}");
}
