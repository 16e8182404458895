//! What a tenant has beside its rows goes when it is purged at the command line.

use redis::AsyncCommands as _;
use tenantry_testing::test_folder;

use crate::fleet::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_cached_values_and_files_of_the_tenant_with_it() {
    let Some(redis) = tenantry_testing::redis().await else {
        return;
    };
    let installation = Installation::with_server().await;
    let folder = test_folder();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut look = client.get_multiplexed_async_connection().await.unwrap();
    let mut ids = Vec::new();
    for slug in ["gone", "kept"] {
        let id = installation.json(&["tenant", "create", slug])["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let files = folder.path().join("t").join(&id);
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("0198f2c47a1e7c3d9a550d6f4f1b2a90"), "canary").unwrap();
        look.set::<_, _, ()>(format!("t:{id}:key"), "canary").await.unwrap();
        ids.push((id, files));
    }
    let files = folder.path().to_str().unwrap();
    let purge =
        |url: &str| installation.run(&["tenant", "purge", "gone", "--yes", "--files", files, "--redis-url", url]);
    installation.json(&["tenant", "delete", "gone"]);
    assert!(ids[0].1.exists(), "it can be recovered");
    let purged = purge(&redis.url());
    assert_eq!(purged.code, 0, "{purged:?}");
    let there = async |look: &mut redis::aio::MultiplexedConnection, id: &str| {
        look.exists::<_, bool>(format!("t:{id}:key")).await.unwrap()
    };
    assert!(!ids[0].1.exists() && !there(&mut look, &ids[0].0).await);
    assert!(ids[1].1.exists() && there(&mut look, &ids[1].0).await);
    // What it left is nothing, and that is signed; what comes there later is found.
    let id = ids[0].0.as_str();
    let erasure = |more: &[&str]| {
        let with = ["--files", files, "--redis-url", &redis.url(), "--json"];
        installation.run(&[&["tenant", "erasure"], more, &with].concat())
    };
    let certified = erasure(&["gone"]);
    assert_eq!(certified.json()["certificate"]["verdict"], "erased", "{certified:?}");
    let document = installation.write("certificate.json", &certified.stdout);
    let verified = erasure(&["--verify", document.to_str().unwrap()]);
    assert_eq!(verified.json()["certificate"], certified.json()["certificate"]);
    let changed = certified.stdout.replace("\"erased\"", "\"left\"");
    let document = installation.write("changed.json", &changed);
    let refused = erasure(&["--verify", document.to_str().unwrap()]);
    assert!(refused.fails(1).contains("differs"), "{refused:?}");
    look.set::<_, _, ()>(format!("t:{id}:late"), "canary").await.unwrap();
    std::fs::create_dir_all(&ids[0].1).unwrap();
    std::fs::write(ids[0].1.join("late"), "canary").unwrap();
    let left = erasure(&[id, "--scan"]);
    assert_eq!(left.code, 1, "{left:?}");
    for place in ["cached values", "files"] {
        let told = format!("objects of the tenant in beside {place}");
        assert!(left.stderr.contains(&told), "{left:?}");
    }
    // A secret of the address is in no message.
    let bad = purge("http://:hunter2@127.0.0.1");
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(
        !bad.stderr.contains("hunter2") && bad.stderr.contains("redis_url"),
        "{bad:?}"
    );
}
