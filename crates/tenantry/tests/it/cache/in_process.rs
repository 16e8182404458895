//! Values in this process.

use std::{collections::BTreeMap, time::Duration};

use tenantry::cache::{CacheConfig, CacheError, CacheKey, Reach, RedisState};

use super::{Process, canary, tenant};

#[tokio::test]
async fn a_tenant_never_reads_anothers_value() {
    let process = Process::new(CacheConfig::default());
    let (one, other) = (process.scope(1).await, process.scope(2).await);
    let keys = [
        "a",
        "a:b",
        "t:00000000-0000-0000-0000-000000000002:a",
        "",
        "*",
        "a\0b",
        "\u{1e}1:a",
    ];
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(one.cache().set(*key, &n).await.unwrap(), Reach::ThisProcess);
        assert_eq!(other.cache().get::<usize>(*key).await, None, "{key:?}");
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(one.cache().get::<usize>(*key).await.as_deref(), Some(&n), "{key:?}");
        let _ = other.cache().delete(*key).await;
        assert!(one.cache().get::<usize>(*key).await.is_some());
    }
    let _ = other.cache().purge().await;
    assert_eq!(process.cache().status().entries, keys.len() as u64);
    assert_eq!(process.cache().status().redis, RedisState::None);
}

#[tokio::test]
async fn keys_of_parts_never_meet() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    let _ = scope.cache().set(CacheKey::of(&["a:b", "c"]), &1).await.unwrap();
    assert_eq!(scope.cache().get::<i32>(CacheKey::of(&["a", "b:c"])).await, None);
    assert_eq!(scope.cache().get::<i32>("a:b:c").await, None);
    let found = scope.cache().get::<i32>(CacheKey::of(&["a:b", "c"])).await;
    assert_eq!(found.as_deref(), Some(&1));
}

#[tokio::test]
async fn a_value_ends_with_its_time() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    let cache = scope.cache();
    assert_eq!(CacheConfig::default().ttl, Duration::from_secs(300));
    let _ = cache.set_for("short", &1, Duration::from_millis(100)).await.unwrap();
    let _ = cache.set("long", &1).await.unwrap();
    assert!(cache.get::<i32>("short").await.is_some());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(cache.get::<i32>("short").await, None);
    assert!(cache.get::<i32>("long").await.is_some());
    // A value in its place lives as long as itself, and not as long as the one before.
    let _ = cache.set_for("long", &2, Duration::from_millis(100)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(cache.get::<i32>("long").await, None);
}

#[tokio::test]
async fn a_value_reads_as_what_it_is_and_as_nothing_else() {
    let process = Process::new(CacheConfig::default());
    let scope = process.scope(1).await;
    let cache = scope.cache();
    let contact = BTreeMap::from([("name", "Ada"), ("email", "a@b.c")]);
    let _ = cache.set("contact", &contact).await.unwrap();
    let read = cache.get::<BTreeMap<String, String>>("contact").await.unwrap();
    assert_eq!(read["name"], "Ada");
    let other = cache.get::<serde_json::Value>("contact").await.unwrap();
    assert_eq!(other["name"], "Ada");
    assert_eq!(cache.get::<i32>("contact").await, None);
}

#[tokio::test]
async fn a_value_that_can_not_be_kept_leaves_no_older_one() {
    let mut config = CacheConfig::default();
    config.value_bytes_max = 100;
    let process = Process::new(config);
    let scope = process.scope(1).await;
    let cache = scope.cache();
    let _ = cache.set("key", &"old").await.unwrap();
    let refused = cache.set("key", &"x".repeat(99)).await.unwrap_err();
    assert!(
        matches!(refused, CacheError::TooLarge { bytes: 101, max: 100 }),
        "{refused}"
    );
    assert_eq!(cache.get::<String>("key").await, None);
    let _ = cache.set("key", &"old").await.unwrap();
    let bad = BTreeMap::from([((1, 2), 3)]);
    let refused = cache.set("key", &bad).await.unwrap_err();
    assert!(matches!(refused, CacheError::Value(_)), "{refused}");
    assert_eq!(cache.get::<String>("key").await, None);
    // Computed, it is given and not kept.
    let computed = cache
        .get_or_compute("key", async || Ok::<_, ()>("x".repeat(200)))
        .await
        .unwrap();
    assert_eq!(computed.len(), 200);
    assert_eq!(cache.get::<String>("key").await, None);
}

#[tokio::test]
async fn a_purge_leaves_nothing_of_a_tenant_and_everything_of_others() {
    let process = Process::new(CacheConfig::default());
    let (one, other) = (process.scope(1).await, process.scope(2).await);
    for n in 0..200 {
        let value = format!("{} {n}", canary());
        let _ = one.cache().set(&format!("key {n}"), &value).await.unwrap();
        let _ = other.cache().set(&format!("key {n}"), &value).await.unwrap();
    }
    assert_eq!(process.cache().purge_tenant(tenant(1)).await, Reach::ThisProcess);
    for n in 0..200 {
        assert_eq!(one.cache().get::<String>(&format!("key {n}")).await, None);
        assert!(other.cache().get::<String>(&format!("key {n}")).await.is_some());
    }
    assert_eq!(process.cache().status().entries, 200);
}

#[tokio::test]
async fn a_tenant_that_fills_its_part_takes_nothing_from_others() {
    let mut config = CacheConfig::default();
    config.tenant_bytes_max = 100_000;
    let process = Process::new(config);
    let (one, other) = (process.scope(1).await, process.scope(2).await);
    let _ = other.cache().set("kept", &1).await.unwrap();
    for n in 0..2000 {
        let _ = one.cache().set(&n.to_string(), &"x".repeat(500)).await.unwrap();
    }
    let status = process.cache().status();
    assert!(status.bytes <= 101_000, "{status:?}");
    assert!(other.cache().get::<i32>("kept").await.is_some());
    assert!(one.cache().get::<String>("1999").await.is_some());
}
