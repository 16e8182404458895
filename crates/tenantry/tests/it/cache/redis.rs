//! Values in a real Redis, for several processes.

use std::{sync::Arc, time::Duration};

use redis::{AsyncCommands as _, aio::MultiplexedConnection, cmd};
use tenantry::cache::{CacheConfig, CacheKey, Reach, RedisConfig, RedisState};
use tenantry_testing::Redis;
use tokio::sync::Notify;

use super::{Process, canary, tenant};

pub(super) fn config(url: String) -> CacheConfig {
    let mut config = CacheConfig::default();
    config.local_ttl = Duration::from_millis(200);
    let mut redis = RedisConfig::new(url);
    // A crowded machine is not a slow Redis.
    redis.timeout = Duration::from_secs(2);
    redis.pause = Duration::from_millis(200);
    config.redis = Some(redis);
    config
}

/// Two processes on one Redis, and a look into it.
struct Two {
    one: Process,
    other: Process,
    look: MultiplexedConnection,
    config: CacheConfig,
    _redis: Redis,
}

impl Two {
    async fn start() -> Option<Self> {
        let redis = tenantry_testing::redis().await?;
        Some(Self {
            one: Process::new(config(redis.url())),
            other: Process::new(config(redis.url())),
            look: look(&redis).await,
            config: config(redis.url()),
            _redis: redis,
        })
    }

    /// What is computed is stored in the background.
    async fn stored(&mut self, name: &str) -> Vec<u8> {
        for _ in 0..500 {
            if let Some(raw) = self.look.get::<_, Option<Vec<u8>>>(name).await.unwrap() {
                return raw;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing is stored as {name}");
    }
}

pub(super) async fn look(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn name(n: u128, key: &str) -> String {
    format!("t:{}:{key}", tenant(n))
}

/// All that Redis holds, whatever it is called and of whatever kind it is.
async fn everything(look: &mut MultiplexedConnection) -> String {
    let mut all = String::new();
    let names: Vec<String> = look.keys("*").await.unwrap();
    for name in names {
        all += &format!("{name}\n");
        let kind: String = cmd("TYPE").arg(&name).query_async(look).await.unwrap();
        let values: Vec<Vec<u8>> = match kind.as_str() {
            "string" => vec![look.get(&name).await.unwrap()],
            "zset" => look.zrange(&name, 0, -1).await.unwrap(),
            "hash" => look.hgetall::<_, Vec<Vec<u8>>>(&name).await.unwrap(),
            _ => Vec::new(),
        };
        for value in values {
            all += &format!("  {}\n", String::from_utf8_lossy(&value));
        }
    }
    all
}

/// How often a command ran since the last reset.
async fn calls(look: &mut MultiplexedConnection) -> Vec<(String, u64)> {
    let stats: String = cmd("INFO").arg("commandstats").query_async(look).await.unwrap();
    let calls = stats.lines().filter_map(|line| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let number = rest.split(',').next()?.parse().ok()?;
        Some((command.to_owned(), number))
    });
    calls
        .filter(|(command, _)| !matches!(command.as_str(), "info" | "config|resetstat"))
        .collect()
}

async fn reset(look: &mut MultiplexedConnection) {
    cmd("CONFIG").arg("RESETSTAT").query_async::<()>(look).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_stands_under_its_name_with_its_tenant_for_five_minutes() {
    let Some(mut two) = Two::start().await else { return };
    let scope = two.one.scope(1).await;
    assert_eq!(
        scope.cache().set("greeting", &"hello").await.unwrap(),
        Reach::Everywhere
    );
    assert_eq!(two.one.cache().status().redis, RedisState::Connected);
    let raw = two.stored(&name(1, "greeting")).await;
    let text = String::from_utf8(raw).unwrap();
    assert!(
        text.contains(&tenant(1).to_string()) && text.contains("\"hello\""),
        "{text}"
    );
    let ttl: i64 = two.look.ttl(name(1, "greeting")).await.unwrap();
    assert!((290..=300).contains(&ttl), "{ttl}");
    let other = two.other.scope(1).await;
    assert_eq!(
        other.cache().get::<String>("greeting").await.as_deref().unwrap(),
        "hello"
    );
    let foreign = two.other.scope(2).await;
    assert_eq!(foreign.cache().get::<String>("greeting").await, None);
    // A key that pretends to be in another tenant's place.
    let pretended = format!("{}:greeting", tenant(1));
    let _ = foreign.cache().set(&format!("t:{pretended}"), &"bad").await.unwrap();
    assert_eq!(
        scope.cache().get::<String>("greeting").await.as_deref().unwrap(),
        "hello"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_computes_or_changes_the_others_see_in_time() {
    let Some(mut two) = Two::start().await else { return };
    let (one, other) = (two.one.scope(1).await, two.other.scope(1).await);
    assert_eq!(
        *one.cache().get_or_compute("n", async || Ok::<_, ()>(1)).await.unwrap(),
        1
    );
    two.stored(&name(1, "n")).await;
    assert_eq!(
        *other
            .cache()
            .get_or_compute("n", async || Ok::<_, ()>(2))
            .await
            .unwrap(),
        1
    );
    assert_eq!(two.other.cache().status().computed, 0);
    // What it holds itself it believes for so long and no longer.
    assert_eq!(one.cache().set("n", &3).await.unwrap(), Reach::Everywhere);
    assert_eq!(one.cache().get::<i32>("n").await.as_deref(), Some(&3));
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(other.cache().get::<i32>("n").await.as_deref(), Some(&3));
    assert_eq!(one.cache().delete("n").await, Reach::Everywhere);
    assert_eq!(one.cache().get::<i32>("n").await, None);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(other.cache().get::<i32>("n").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_makes_things_slower_and_never_wrong() {
    let Some(mut two) = Two::start().await else { return };
    let (one, other) = (two.one.scope(1).await, two.other.scope(1).await);
    for key in ["changed", "deleted"] {
        assert_eq!(one.cache().set(key, &1).await.unwrap(), Reach::Everywhere);
        assert_eq!(other.cache().get::<i32>(key).await.as_deref(), Some(&1));
    }
    // Not a byte more.
    let mut limit = cmd("CONFIG");
    limit.arg("SET").arg("maxmemory");
    limit.clone().arg(1).query_async::<()>(&mut two.look).await.unwrap();

    // A deletion is told still, and what was computed before it is not stored.
    let begun = Arc::new(Notify::new());
    let go_on = Arc::new(Notify::new());
    let computing = {
        let (scope, begun, go_on) = (two.other.scope(1).await, begun.clone(), go_on.clone());
        tokio::spawn(async move {
            let compute = async || {
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, ()>(1)
            };
            *scope.cache().get_or_compute("computed", compute).await.unwrap()
        })
    };
    begun.notified().await;
    assert_eq!(one.cache().delete("computed").await, Reach::Everywhere);
    assert_eq!(one.cache().delete("deleted").await, Reach::Everywhere);
    assert_eq!(one.cache().set("changed", &2).await.unwrap(), Reach::Everywhere);
    // There is room again before it is stored.
    limit.clone().arg(0).query_async::<()>(&mut two.look).await.unwrap();
    go_on.notify_one();
    assert_eq!(computing.await.unwrap(), 1);
    limit.clone().arg(1).query_async::<()>(&mut two.look).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    for key in ["changed", "deleted", "computed"] {
        assert_eq!(two.other.scope(1).await.cache().get::<i32>(key).await, None, "{key}");
    }

    // What is computed is given and not stored, which is no failure; who comes now finds Redis too, and a purge is one.
    let computed = other.cache().get_or_compute("more", async || Ok::<_, ()>(3)).await;
    assert_eq!(*computed.unwrap(), 3);
    let third = Process::new(two.config.clone());
    assert_eq!(third.scope(1).await.cache().get::<i32>("more").await, None);
    assert_eq!(one.cache().purge().await, Reach::Everywhere);
    for process in [&two.one, &two.other, &third] {
        let status = process.cache().status();
        assert_eq!(
            (status.redis, status.redis_failures),
            (RedisState::Connected, 0),
            "{status:?}"
        );
    }
    limit.arg(0).query_async::<()>(&mut two.look).await.unwrap();
    assert_eq!(one.cache().set("changed", &4).await.unwrap(), Reach::Everywhere);
    assert_eq!(other.cache().get::<i32>("changed").await.as_deref(), Some(&4));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_one_command_and_what_is_here_none() {
    let Some(mut two) = Two::start().await else { return };
    let (one, other) = (two.one.scope(1).await, two.other.scope(1).await);
    let _ = one.cache().set("a", &1).await.unwrap();
    let _ = other.cache().set("b", &1).await.unwrap();
    let _ = one.cache().delete("b").await;
    let look = &mut two.look;
    reset(look).await;
    assert_eq!(other.cache().get::<i32>("a").await.as_deref(), Some(&1));
    assert_eq!(calls(look).await, [("mget".to_owned(), 1)]);
    reset(look).await;
    for _ in 0..100 {
        assert!(other.cache().get::<i32>("a").await.is_some());
    }
    assert_eq!(calls(look).await, []);
    for change in ["set", "delete"] {
        reset(look).await;
        match change {
            "set" => drop(one.cache().set("a", &2).await.unwrap()),
            _ => drop(one.cache().delete("a").await),
        }
        // What a script does there by itself is no way over the network.
        let calls = calls(look).await;
        let sent: Vec<_> = calls
            .iter()
            .filter(|(command, _)| command.starts_with("eval"))
            .collect();
        assert_eq!(sent, [&("evalsha".to_owned(), 1)], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_or_mangled_value_counts_as_none_is_removed_and_told() {
    let Some(mut two) = Two::start().await else { return };
    let (one, victim) = (two.one.scope(1).await, two.one.scope(2).await);
    let secret = canary();
    let _ = victim.cache().set("key", &secret).await.unwrap();
    let _ = one.cache().set("other", &secret).await.unwrap();
    let theirs = two.stored(&name(2, "key")).await;
    let own_other = two.stored(&name(1, "other")).await;
    // Another tenant's value, another's with this tenant's generation before it, another key's, a piece, a changed byte, nothing of ours.
    let mut adapted = own_other[..16].to_vec();
    adapted.extend(&theirs[16..]);
    let mut changed = own_other.clone();
    let last = changed.len() - 3;
    changed[last] ^= 1;
    let cases = [
        (theirs.clone(), true),
        (adapted, true),
        (own_other.clone(), true),
        (own_other[..own_other.len() - 1].to_vec(), false),
        (changed, false),
        (b"x".to_vec(), false),
        (b"\xff\xfe nothing that is a text at all".to_vec(), false),
    ];
    let (mut foreign, mut mangled) = (0, 0);
    for (raw, is_foreign) in cases {
        two.look.set::<_, _, ()>(name(1, "key"), &raw[..]).await.unwrap();
        assert_eq!(
            one.cache().get::<String>("key").await,
            None,
            "{}",
            String::from_utf8_lossy(&raw)
        );
        let there: bool = two.look.exists(name(1, "key")).await.unwrap();
        assert!(!there);
        if is_foreign {
            foreign += 1
        } else {
            mangled += 1
        }
        let status = two.one.cache().status();
        assert_eq!((status.foreign, status.mangled), (foreign, mangled));
        two.look.set::<_, _, ()>(name(1, "key"), &raw[..]).await.unwrap();
        if is_foreign {
            foreign += 1
        } else {
            mangled += 1
        }
        let computed = one
            .cache()
            .get_or_compute("key", async || Ok::<_, ()>("own".to_owned()))
            .await;
        assert_eq!(*computed.unwrap(), "own");
        two.stored(&name(1, "key")).await;
        let _ = one.cache().delete("key").await;
    }
    // A key of another kind.
    two.look.rpush::<_, _, ()>(name(1, "key"), "x").await.unwrap();
    assert_eq!(one.cache().get::<String>("key").await, None);
    assert_eq!(one.cache().set("key", &"own").await.unwrap(), Reach::Everywhere);
    assert_eq!(one.cache().get::<String>("key").await.as_deref().unwrap(), "own");
    assert_eq!(victim.cache().get::<String>("key").await.as_deref(), Some(&secret));
    assert_eq!(two.one.cache().status().redis_failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_no_trace_of_a_tenant_in_redis_and_all_of_others_without_keys() {
    let Some(mut two) = Two::start().await else { return };
    let (one, other) = (two.one.scope(1).await, two.one.scope(2).await);
    let (gone, kept) = (canary(), canary());
    for n in 0..300 {
        let _ = one.cache().set(&format!("{gone} {n}"), &gone).await.unwrap();
        let _ = one
            .cache()
            .set(CacheKey::of(&["a", &n.to_string()]), &gone)
            .await
            .unwrap();
        let _ = other.cache().set(&format!("{kept} {n}"), &kept).await.unwrap();
    }
    let _ = one.cache().delete(&format!("{gone} 0")).await;
    reset(&mut two.look).await;
    // From another process, which holds nothing of it.
    assert_eq!(two.other.cache().purge_tenant(tenant(1)).await, Reach::Everywhere);
    let calls = calls(&mut two.look).await;
    assert!(calls.iter().all(|(command, _)| command != "keys"), "{calls:?}");
    let left = everything(&mut two.look).await;
    assert!(!left.contains(&gone), "{left}");
    assert_eq!(
        left.matches(&tenant(1).to_string()).count(),
        1,
        "its generation only: {left}"
    );
    tokio::time::sleep(Duration::from_millis(250)).await;
    for n in 0..300 {
        assert_eq!(one.cache().get::<String>(&format!("{gone} {n}")).await, None);
        assert_eq!(
            other.cache().get::<String>(&format!("{kept} {n}")).await.as_deref(),
            Some(&kept)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_value_does_not_come_back_after_a_purge_or_a_change_in_another_process() {
    let Some(mut two) = Two::start().await else { return };
    let (one, other) = (two.one.scope(1).await, two.other.scope(1).await);
    for (n, how) in ["purge", "delete", "set"].into_iter().cycle().take(6).enumerate() {
        let key = format!("key {n}");
        let late = canary();
        if n >= 3 {
            // There was something before.
            let _ = one
                .cache()
                .set_for(&key, &"before", Duration::from_millis(50))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let computing = {
            let (one, key, late) = (one.clone(), key.clone(), late.clone());
            let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
            tokio::spawn(async move {
                let compute = async || {
                    began.notify_one();
                    go_on.notified().await;
                    Ok::<_, ()>(late)
                };
                one.cache().get_or_compute(&key, compute).await.unwrap().to_string()
            })
        };
        began.notified().await;
        match how {
            "purge" => drop(two.other.cache().purge_tenant(tenant(1)).await),
            "delete" => drop(other.cache().delete(&key).await),
            _ => drop(other.cache().set(&key, &"newer").await.unwrap()),
        }
        go_on.notify_one();
        assert_eq!(computing.await.unwrap(), late);
        // Longer than storing in the background takes, and than this process believes its own copy.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let expected = (how == "set").then(|| "newer".to_owned());
        for scope in [&one, &other] {
            let found = scope.cache().get::<String>(&key).await.map(|found| found.to_string());
            assert_eq!(found, expected, "{how} {n}");
        }
        assert!(!everything(&mut two.look).await.contains(&late), "{how} {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_part_of_redis_is_bounded_and_its_own_values_make_room() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    let mut config = config(redis.url());
    config.local_ttl = Duration::from_millis(1);
    if let Some(redis) = &mut config.redis {
        redis.tenant_bytes_max = 20_000;
    }
    let process = Process::new(config);
    let mut look = look(&redis).await;
    let (one, other) = (process.scope(1).await, process.scope(2).await);
    let _ = other.cache().set("kept", &1).await.unwrap();
    for n in 0..300 {
        let value = "x".repeat(500);
        // Short ones end by themselves, and the same key again counts once.
        let _ = one.cache().set(&format!("key {}", n % 150), &value).await.unwrap();
        let _ = one
            .cache()
            .set_for("short", &value, Duration::from_millis(5))
            .await
            .unwrap();
        let names: Vec<String> = look.keys(format!("t:{}:*", tenant(1))).await.unwrap();
        let mut bytes = 0;
        for name in &names {
            bytes += name.len() + look.strlen::<_, usize>(name).await.unwrap();
        }
        assert!(bytes <= 20_000, "{bytes} after {n}");
        assert!(n < 40 || names.len() > 15, "{names:?}");
    }
    assert!(one.cache().get::<String>("key 149").await.is_some());
    assert!(other.cache().get::<i32>("kept").await.is_some());
    // One that has no room at all takes the older one of its key away.
    let huge = "x".repeat(30_000);
    let _ = one.cache().set("key 149", &huge).await.unwrap();
    assert_eq!(one.cache().get::<String>("key 149").await, None);
}
