//! Nothing in the folder leads out of it, nor from one tenant to another.

use std::{fs, os::unix::fs::symlink};

use tenantry::files::{FileError, Files};
use uuid::Uuid;

use super::{Filed, config, put, read};

fn is_link(error: &FileError) -> bool {
    matches!(error, FileError::Damaged(why) if why.contains("symbolic link"))
}

#[tokio::test]
async fn a_link_in_the_place_of_a_tenants_folder_is_not_followed() {
    let filed = Filed::new().await;
    let (attacker, victim) = (filed.files(0).await, filed.files(1).await);
    put(&victim, "secret", b"canary").await.unwrap();
    put(&attacker, "secret", b"public").await.unwrap();
    // The same names in both, so that nothing but the folder is in the way.
    let id: Uuid = filed
        .scope(0)
        .await
        .query_one("select id from stored_file", &[])
        .await
        .unwrap()
        .get(0)
        .unwrap();
    fs::write(filed.place(1).join(id.simple().to_string()), "canary").unwrap();
    fs::remove_dir_all(filed.place(0)).unwrap();
    symlink(filed.place(1), filed.place(0)).unwrap();
    let before = filed.there(1);
    assert!(read(&attacker, "secret").await.is_err_and(|error| is_link(&error)));
    assert!(put(&attacker, "other", b"x").await.is_err_and(|error| is_link(&error)));
    assert!(
        put(&attacker, "large", &[b'x'; 50_000])
            .await
            .is_err_and(|error| is_link(&error))
    );
    assert!(attacker.delete("secret").await.is_err_and(|error| is_link(&error)));
    assert!(attacker.recount().await.is_err_and(|error| is_link(&error)));
    assert_eq!(filed.there(1), before, "nothing came there and nothing went");
    // A purge takes the link away, and never what it leads to.
    let files = Files::in_folder(filed.folder.path(), config()).unwrap();
    files.purge_tenant(filed.world.tenants[0]).await.unwrap();
    assert!(!filed.place(0).is_symlink());
    assert_eq!(filed.there(1), before);
    assert_eq!(read(&victim, "secret").await.unwrap(), b"canary");
}

#[tokio::test]
async fn a_link_in_the_place_of_a_file_is_not_followed_and_is_removed_itself() {
    let filed = Filed::new().await;
    let outside = tenantry_testing::test_folder();
    let target = outside.path().join("target");
    fs::write(&target, "canary").unwrap();
    let files = filed.files(0).await;
    put(&files, "file", b"public").await.unwrap();
    let name = filed.there(0).into_iter().next().unwrap();
    fs::remove_file(filed.place(0).join(&name)).unwrap();
    symlink(&target, filed.place(0).join(&name)).unwrap();
    assert!(read(&files, "file").await.is_err_and(|error| is_link(&error)));
    assert!(files.delete("file").await.unwrap());
    assert_eq!(fs::read_to_string(&target).unwrap(), "canary");
    filed.settles(0, 0, 0).await;
    // The folder of all tenants, too.
    put(&files, "file", b"public").await.unwrap();
    let all = filed.folder.path().join("t");
    fs::rename(&all, outside.path().join("t")).unwrap();
    symlink(outside.path().join("t"), &all).unwrap();
    assert!(read(&files, "file").await.is_err_and(|error| is_link(&error)));
    let purge = Files::in_folder(filed.folder.path(), config()).unwrap();
    let refused = purge.purge_tenant(filed.world.tenants[0]).await;
    assert!(refused.is_err_and(|error| is_link(&error)));
    assert_eq!(fs::read_dir(outside.path().join("t")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_purge_leaves_no_trace_of_a_tenant_and_all_of_others() {
    let filed = Filed::new().await;
    let canary = Uuid::now_v7().to_string();
    for n in 0..6 {
        let files = filed.files(n).await;
        for path in 0..5 {
            put(
                &files,
                &format!("{path} {canary}"),
                format!("{canary} of {n}").as_bytes(),
            )
            .await
            .unwrap();
        }
    }
    // What killed uploads left.
    fs::write(filed.place(2).join(format!("{}#1", Uuid::now_v7().simple())), &canary).unwrap();
    let store = Files::in_folder(filed.folder.path(), config()).unwrap();
    store.purge_tenant(filed.world.tenants[2]).await.unwrap();
    assert!(!filed.place(2).exists());
    // Twice is once, and a tenant that never had a file has none.
    store.purge_tenant(filed.world.tenants[2]).await.unwrap();
    for n in [0, 1, 3, 4, 5] {
        let files = filed.files(n).await;
        assert_eq!(
            read(&files, &format!("0 {canary}")).await.unwrap(),
            format!("{canary} of {n}").into_bytes()
        );
        assert_eq!(filed.there(n).len(), 5);
    }
    // Names in the folder say nothing of what files are called.
    for n in [0, 1, 3, 4, 5] {
        assert!(filed.there(n).iter().all(|name| Uuid::try_parse(name).is_ok()));
    }
}
