//! Bytes of each tenant: never more than it may have, and none lost or counted for ever.

use std::time::Duration;

use futures_util::future::join_all;
use tenantry::{PoolConfig, Tenantry, files::FileError};
use uuid::Uuid;

use super::{Filed, config, pieces, put, read};
use crate::dropped::dropped_after;

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_never_get_more_than_there_is() {
    let filed = Filed::new().await;
    for n in [0, 2, 4] {
        let files = filed.files(n).await.with_quota(45_000);
        let uploads = (0..20).map(|upload| {
            let files = files.clone();
            tokio::spawn(async move { put(&files, &format!("file {upload}"), &[b'x'; 9_000]).await })
        });
        let mut kept = 0;
        for upload in join_all(uploads).await {
            match upload.unwrap() {
                Ok(_) => kept += 1,
                Err(FileError::QuotaExceeded { max, .. }) => assert_eq!(max, 45_000),
                Err(error) => panic!("{error}"),
            }
        }
        // Each of one part, so that none is refused half-way while it is in the way of others.
        assert_eq!(kept, 5);
        filed.settles(n, kept, 9_000 * kept as u64).await;
        // Now there is room again, up to the last byte.
        let left = 45_000 - 9_000 * kept;
        put(&files, "rest", &vec![b'x'; left]).await.unwrap();
        let full = put(&files, "more", b"x").await.unwrap_err();
        assert!(
            matches!(
                full,
                FileError::QuotaExceeded {
                    used: 45_000,
                    max: 45_000
                }
            ),
            "{full}"
        );
        // Nobody else's room is less for it.
        put(&filed.files(n ^ 1).await.with_quota(45_000), "file", &[b'x'; 45_000])
            .await
            .unwrap();
        filed.settles(n, kept + 1, 45_000).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_at_the_first_byte_too_much() {
    let mut config = config();
    config.file_bytes_max = 30_000;
    let filed = Filed::with(config).await;
    let files = filed.files(0).await;
    put(&files, "file", &[b'x'; 30_000]).await.unwrap();
    let refused = put(&files, "file", &[b'y'; 30_001]).await.unwrap_err();
    assert!(matches!(refused, FileError::TooLarge { max: 30_000 }), "{refused}");
    assert_eq!(read(&files, "file").await.unwrap(), [b'x'; 30_000]);
    let refused = put(&files.clone().with_file_max(9), "file", &[b'y'; 10])
        .await
        .unwrap_err();
    assert!(matches!(refused, FileError::TooLarge { max: 9 }), "{refused}");
    filed.settles(0, 1, 30_000).await;
}

/// Polls an upload so often, in a runtime of its own that then ends with all that it was about to do: what a process leaves that is
/// killed at that moment. Whether the upload had ended.
async fn killed_after(polls: usize, filed: &Filed, path: String) -> bool {
    let (source, audit) = (filed.world.source.clone(), filed.world.audit.clone());
    let (files, tenant) = (filed.world.tenantry.files().unwrap().clone(), filed.world.tenants[0]);
    let process = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ended = runtime.block_on(async {
            let tenantry = Tenantry::from_source(source, audit, PoolConfig::default()).with_files(files);
            let scope = tenantry.system_context(tenant, "killed").await.unwrap();
            dropped_after(polls, put(&scope.files().unwrap(), &path, &[b'x'; 25_000])).await
        });
        runtime.shutdown_background();
        ended
    });
    process.await.unwrap()
}

#[tokio::test]
async fn what_a_killed_process_leaves_goes_with_a_recount_and_nothing_else_does() {
    let mut config = config();
    // Longer than an upload that goes on ever waits for its next step, on a busy machine too.
    config.upload_idle_max = Duration::from_secs(3);
    let filed = Filed::with(config).await;
    let files = filed.files(0).await;
    put(&files, "kept", &[b'k'; 15_000]).await.unwrap();
    let mut ended = 0;
    let mut killed = 0;
    for polls in 1..200 {
        let path = format!("file {polls}");
        if killed_after(polls, &filed, path.clone()).await {
            ended += 1;
            assert!(files.delete(&path).await.unwrap());
        } else {
            killed += 1;
        }
        if ended == 3 {
            break;
        }
    }
    assert!(ended == 3 && killed > 5, "{ended} {killed}");
    // Bytes without a row, as an older copy of the database would have them; and one that counts wrongly.
    std::fs::write(filed.place(0).join(Uuid::now_v7().simple().to_string()), "orphan").unwrap();
    std::fs::write(filed.place(0).join(format!("{}#1", Uuid::now_v7().simple())), "staged").unwrap();
    std::fs::write(filed.place(0).join("of somebody else"), "strange").unwrap();
    let scope = filed.scope(0).await;
    scope
        .execute("update stored_file_usage set bytes = 999999", &[])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    // Some came to their place before they were killed, or after it: PostgreSQL ends what it was sent.
    for stored in files.list("file ", "", 200).await.unwrap() {
        assert!(files.delete(&stored.path).await.unwrap());
    }
    let recount = files.recount().await.unwrap();
    assert!(recount.orphans >= 2, "{recount:?}");
    assert_eq!((recount.missing, recount.bytes), (0, 15_000), "{recount:?}");
    std::fs::remove_file(filed.place(0).join("of somebody else")).unwrap();
    filed.settles(0, 1, 15_000).await;
    assert_eq!(read(&files, "kept").await.unwrap(), [b'k'; 15_000]);
    let again = files.recount().await.unwrap();
    assert_eq!((again.leftovers, again.orphans, again.bytes_before), (0, 0, 15_000));
}

#[tokio::test]
async fn a_recount_leaves_an_upload_that_goes_on_alone() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let data = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    let upload = {
        let files = files.clone();
        tokio::spawn(async move { files.upload("file", "text/plain", data).await })
    };
    for _ in 0..4 {
        sender.send(Ok(vec![b'x'; 10_000].into())).await.unwrap();
        let recount = files.recount().await.unwrap();
        assert_eq!((recount.leftovers, recount.orphans, recount.missing), (0, 0, 0));
    }
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().bytes, 40_000);
    filed.settles(0, 1, 40_000).await;
}

#[tokio::test]
async fn leftovers_make_room_before_anybody_is_refused() {
    let mut config = config();
    config.upload_idle_max = Duration::from_millis(200);
    let filed = Filed::with(config).await;
    let files = filed.files(0).await.with_quota(60_000);
    // Killed when some of it was sent.
    let mut used = 0;
    for polls in 2..100 {
        let ended = killed_after(polls, &filed, format!("file {polls}")).await;
        used = files.used().await.unwrap();
        if ended || used > 0 {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    put(&files, "large", &[b'x'; 60_000]).await.unwrap();
    assert!(used > 0, "nothing was left");
    assert_eq!(files.used().await.unwrap(), 60_000);
}

#[tokio::test]
async fn an_upload_that_was_given_up_does_not_come_to_its_place() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    let scope = filed.scope(0).await;
    let give_up = {
        let scope = scope.clone();
        async move {
            scope
                .execute("update stored_file set state = 'doomed' where state = 'uploading'", &[])
                .await
                .unwrap();
            Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"the last piece"))
        }
    };
    let data = futures_util::StreamExt::chain(pieces(&[b'x'; 25_000], 5000), futures_util::stream::once(give_up));
    let refused = files.upload("file", "text/plain", data).await.unwrap_err();
    assert!(matches!(refused, FileError::GivenUp), "{refused}");
    assert!(matches!(files.stat("file").await, Err(FileError::NotFound)));
    files.recount().await.unwrap();
    filed.settles(0, 0, 0).await;
}

#[tokio::test]
async fn a_file_that_is_gone_from_the_store_is_told_and_not_forgotten() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    for path in ["gone", "cut", "whole"] {
        put(&files, path, &[b'x'; 15_000]).await.unwrap();
    }
    let scope = filed.scope(0).await;
    let place = async |path: &str| {
        let id: Uuid = scope
            .query_one("select id from stored_file where path = $1", &[&path])
            .await
            .unwrap()
            .get(0)
            .unwrap();
        filed.place(0).join(id.simple().to_string())
    };
    std::fs::remove_file(place("gone").await).unwrap();
    std::fs::write(place("cut").await, "short").unwrap();
    for path in ["gone", "cut"] {
        let damaged = read(&files, path).await.unwrap_err();
        assert!(matches!(damaged, FileError::Damaged(_)), "{path}: {damaged}");
    }
    let recount = files.recount().await.unwrap();
    assert_eq!(
        (recount.missing, recount.orphans, recount.bytes),
        (2, 0, 45_000),
        "{recount:?}"
    );
    assert_eq!(files.list("", "", 10).await.unwrap().len(), 3);
    assert_eq!(read(&files, "whole").await.unwrap(), [b'x'; 15_000]);
    assert!(files.delete("gone").await.unwrap() && files.delete("cut").await.unwrap());
    filed.settles(0, 1, 15_000).await;
}
