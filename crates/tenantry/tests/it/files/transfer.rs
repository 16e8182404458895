//! In and out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use tenantry::{
    ErrorKind, Role,
    files::{FileError, Files, PathError},
};

use super::{Filed, config, pieces, put, read};
use crate::dropped::dropped_after;

#[tokio::test]
async fn a_file_is_kept_listed_read_and_deleted_in_every_isolation_and_seen_by_nobody_else() {
    let filed = Filed::new().await;
    let text = |n: usize, len: usize| format!("file of {n} ").repeat(len).into_bytes();
    for n in 0..6 {
        let files = filed.files(n).await;
        let (small, large) = (text(n, 1), text(n, 5000));
        let stored = put(&files, "letters/ada.txt", &small).await.unwrap();
        assert_eq!(
            (stored.bytes, stored.content_type.as_str()),
            (small.len() as u64, "text/plain")
        );
        put(&files, "letters/large", &large).await.unwrap();
        put(&files, "empty", b"").await.unwrap();
        assert_eq!(files.used().await.unwrap(), (small.len() + large.len()) as u64);
        assert_eq!(filed.there(n).len(), 3);
    }
    for n in 0..6 {
        let files = filed.files(n).await;
        assert_eq!(read(&files, "letters/ada.txt").await.unwrap(), text(n, 1));
        assert_eq!(read(&files, "letters/large").await.unwrap(), text(n, 5000));
        assert_eq!(read(&files, "empty").await.unwrap(), b"");
        assert_eq!(
            files.stat("letters/large").await.unwrap().bytes,
            text(n, 5000).len() as u64
        );
        assert!(matches!(files.stat("letters").await, Err(FileError::NotFound)));
        assert!(matches!(files.download("letters/none").await, Err(FileError::NotFound)));
        assert!(files.delete("letters/large").await.unwrap());
        assert!(!files.delete("letters/large").await.unwrap());
        assert_eq!(
            (files.used().await.unwrap(), filed.there(n).len()),
            (text(n, 1).len() as u64, 2)
        );
    }
    // The others' were not touched by any of that.
    for n in 0..6 {
        assert_eq!(
            read(&filed.files(n).await, "letters/ada.txt").await.unwrap(),
            text(n, 1)
        );
    }
    filed.world.assert_untouched().await;
}

#[tokio::test]
async fn lists_are_paged_in_order_and_by_their_beginning() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    let mut expected = Vec::new();
    for n in 0..25 {
        for folder in ["a", "a/b", "ab", "Z", "ä"] {
            let path = format!("{folder}/{n:02}");
            put(&files, &path, b"x").await.unwrap();
            expected.push(path);
        }
    }
    expected.sort();
    for prefix in ["", "a/", "a", "ä/", "none"] {
        let wanted: Vec<_> = expected
            .iter()
            .filter(|path| path.starts_with(prefix))
            .cloned()
            .collect();
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = files.list(prefix, &after, 7).await.unwrap();
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { break };
            after = last.path.clone();
            found.extend(page.into_iter().map(|file| file.path));
        }
        assert_eq!(found, wanted, "{prefix}");
    }
    assert!(filed.files(1).await.list("", "", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused_before_anything_is_done() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    for (path, why) in [
        ("../x", PathError::Dots),
        ("/etc/passwd", PathError::Slash),
        ("%2e%2e/x", PathError::Encoded),
        ("a\0b", PathError::Character),
        ("a\\b", PathError::Character),
        ("\u{ff0e}\u{ff0e}/x", PathError::Dots),
    ] {
        let refused = |error: &FileError| matches!(error, FileError::Path(reason) if *reason == why);
        assert!(
            put(&files, path, b"x").await.is_err_and(|error| refused(&error)),
            "{path:?}"
        );
        assert!(read(&files, path).await.is_err_and(|error| refused(&error)), "{path:?}");
        assert!(files.delete(path).await.is_err_and(|error| refused(&error)), "{path:?}");
        assert!(files.stat(path).await.is_err_and(|error| refused(&error)), "{path:?}");
        assert!(
            files
                .link(path, Duration::from_secs(1))
                .is_err_and(|error| refused(&error)),
            "{path:?}"
        );
    }
    let wrong = files.upload("a", "text", pieces(b"x", 1)).await.unwrap_err();
    assert!(matches!(wrong, FileError::ContentType));
    assert!(filed.there(0).is_empty());
    assert!(!filed.folder.path().join("t").exists());
}

#[tokio::test]
async fn two_paths_that_look_the_same_are_never_both_there() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    put(&files, "Report é.txt", b"one").await.unwrap();
    for other in ["report é.txt", "REPORT É.TXT", "Report \u{ff45}\u{301}.txt"] {
        let refused = put(&files, other, b"other").await.unwrap_err();
        assert!(
            matches!(&refused, FileError::LookAlike { existing } if existing == "Report é.txt"),
            "{refused}"
        );
        assert!(matches!(read(&files, other).await, Err(FileError::NotFound)));
        assert!(!files.delete(other).await.unwrap());
    }
    // The same one, written in another form.
    put(&files, "Report e\u{301}.txt", b"two").await.unwrap();
    assert_eq!(read(&files, "Report é.txt").await.unwrap(), b"two");
    filed.settles(0, 1, 3).await;
    // Another tenant's is nobody's business.
    put(&filed.files(1).await, "report é.txt", b"other").await.unwrap();
    // Two at once.
    let (one, other) = tokio::join!(put(&files, "new", b"1"), put(&files, "NEW", b"2"));
    assert!(one.is_ok() != other.is_ok() || one.is_err(), "{one:?} {other:?}");
    assert_eq!(
        files.list("", "", 10).await.unwrap().len(),
        1 + usize::from(one.is_ok() || other.is_ok())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_is_read_old_or_new_and_never_mixed() {
    let filed = Filed::new().await;
    let files = filed.files(2).await;
    let version = |n: usize| n.to_string().repeat(40_000 + n).into_bytes();
    put(&files, "file", &version(0)).await.unwrap();
    let writing = {
        let files = files.clone();
        tokio::spawn(async move {
            for n in 1..9 {
                put(&files, "file", &version(n)).await.unwrap();
            }
        })
    };
    while !writing.is_finished() {
        let data = read(&files, "file").await.unwrap();
        let n = usize::from(data[0] - b'0');
        assert!(data == version(n), "{n} of {} bytes", data.len());
    }
    writing.await.unwrap();
    assert_eq!(read(&files, "file").await.unwrap(), version(8));
    filed.settles(2, 1, version(8).len() as u64).await;
    // Many at once: one of them is there in the end, whole, and nothing is left of the others.
    let all = (0..9).map(|n| {
        let files = files.clone();
        tokio::spawn(async move { put(&files, "file", &version(n)).await })
    });
    for put in futures_util::future::join_all(all).await {
        assert!(matches!(put.unwrap(), Ok(_) | Err(FileError::GivenUp)));
    }
    let last = read(&files, "file").await.unwrap();
    assert_eq!(last, version(usize::from(last[0] - b'0')));
    filed.settles(2, 1, last.len() as u64).await;
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let filed = Filed::new().await;
    for n in [0, 2, 4] {
        put(&filed.files(n).await, "file", b"text").await.unwrap();
        let viewer = filed.scope(n).await.at_most(Role::Viewer).files().unwrap();
        assert_eq!(read(&viewer, "file").await.unwrap(), b"text");
        let read_only = |error: FileError| match error {
            FileError::Database(error) => error.kind() == ErrorKind::ReadOnlyRole,
            _ => false,
        };
        assert!(put(&viewer, "other", b"x").await.is_err_and(read_only));
        assert!(put(&viewer, "file", b"x").await.is_err_and(read_only));
        assert!(viewer.delete("file").await.is_err_and(read_only));
        assert!(
            viewer
                .upload_link("file", 1, Duration::from_secs(9))
                .is_err_and(read_only)
        );
        filed.settles(n, 1, 4).await;
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_at_any_await_leaves_nothing() {
    let filed = Filed::new().await;
    for n in [0, 2, 4] {
        let files = filed.files(n).await;
        put(&files, "kept", b"kept").await.unwrap();
        let (mut ends, mut dropped) = (0, 0);
        for polls in 1..400 {
            let path = format!("file {polls}");
            // Of several parts, and of one.
            let data = vec![b'x'; if polls % 2 == 0 { 25_000 } else { 100 }];
            if dropped_after(polls, put(&files, &path, &data)).await {
                assert_eq!(read(&files, &path).await.unwrap(), data);
                assert!(files.delete(&path).await.unwrap());
                ends += 1;
                if ends == 4 {
                    break;
                }
            } else {
                dropped += 1;
                // It came to its place after all, whole, or nothing is left.
                let since = Instant::now();
                while filed.there(n).len() != 1 {
                    assert!(since.elapsed() < Duration::from_secs(20), "left: {:?}", filed.there(n));
                    if let Ok(read) = read(&files, &path).await {
                        assert_eq!(read, data);
                        files.delete(&path).await.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                filed.settles(n, 1, 4).await;
                assert!(matches!(files.stat(&path).await, Err(FileError::NotFound)));
            }
        }
        assert!(ends == 4 && dropped > 5, "{ends} {dropped}");
        assert_eq!(read(&files, "kept").await.unwrap(), b"kept");
    }
}

#[tokio::test]
async fn whatever_else_is_dropped_leaves_what_it_says() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    for polls in 1..20 {
        put(&files, "file", &[b'x'; 25_000]).await.unwrap();
        let read_all = async {
            let mut download = files.download("file").await.unwrap();
            while download.next().await.unwrap().is_some() {}
        };
        dropped_after(polls, read_all).await;
        dropped_after(polls, files.list("", "", 10)).await;
        dropped_after(polls, files.stat("file")).await;
        dropped_after(polls, files.used()).await;
        dropped_after(polls, files.recount()).await;
        assert_eq!(read(&files, "file").await.unwrap().len(), 25_000);
        dropped_after(polls, files.delete("file")).await;
        // It is there whole, or it is not and goes with the next recount.
        match read(&files, "file").await {
            Ok(data) => assert_eq!(data.len(), 25_000),
            Err(error) => {
                assert!(matches!(error, FileError::NotFound), "{error}");
                files.recount().await.unwrap();
                filed.settles(0, 0, 0).await;
            }
        }
    }
}

#[tokio::test]
async fn an_upload_whose_sender_breaks_off_leaves_nothing() {
    let filed = Filed::new().await;
    let files = filed.files(0).await;
    for at in [0, 1, 5, 20] {
        let data = (0..=at).map(move |n| match n {
            n if n == at => Err(std::io::Error::other("broke off")),
            _ => Ok(Bytes::from(vec![b'x'; 3000])),
        });
        let refused = files
            .upload("file", "text/plain", stream::iter(data))
            .await
            .unwrap_err();
        assert!(matches!(refused, FileError::Source(_)), "{refused}");
        filed.settles(0, 0, 0).await;
    }
}

/// Counts the bytes that are held.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_large_file_goes_in_and_out_in_bounded_memory() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 500;
    let mut config = config();
    config.part_bytes = 512 * 1024;
    let filed = Filed::with(config).await;
    let files = filed.files(0).await;
    let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let data = (0..PIECES).map({
        let (held, most) = (Arc::clone(&held), Arc::clone(&most));
        move |n| {
            let now = held.fetch_add(PIECE, Ordering::Relaxed) + PIECE;
            most.fetch_max(now, Ordering::Relaxed);
            let piece = Counted(vec![n as u8; PIECE], Arc::clone(&held));
            Ok::<_, std::io::Error>(Bytes::from_owner(piece))
        }
    });
    let stored = files
        .upload("large", "application/x-large", stream::iter(data))
        .await
        .unwrap();
    assert_eq!(stored.bytes, (PIECE * PIECES) as u64);
    let most = most.load(Ordering::Relaxed);
    assert!(most <= 2 * 512 * 1024 + PIECE, "{most} bytes were held at once");
    let mut download = files.download("large").await.unwrap();
    let (mut read, mut largest) = (0, 0);
    while let Some(piece) = download.next().await.unwrap() {
        assert_eq!(piece[0], (read / PIECE) as u8);
        read += piece.len();
        largest = largest.max(piece.len());
    }
    assert_eq!(read, PIECE * PIECES);
    assert!(largest <= 1024 * 1024, "{largest}");
}

/// The other kind of store, which is told from a folder: here in memory.
#[tokio::test]
async fn in_an_object_store_tenants_are_apart_and_one_is_purged_alone() {
    let mut filed = Filed::new().await;
    let objects = Arc::new(object_store::memory::InMemory::new());
    let files = Files::over(objects.clone(), "production/files", config());
    filed.world.tenantry = filed.world.tenantry.clone().with_files(files.clone());
    for n in 0..6 {
        let files = filed.files(n).await;
        put(&files, "one", format!("small of {n}").as_bytes()).await.unwrap();
        put(&files, "many", format!("large of {n}").repeat(3000).as_bytes())
            .await
            .unwrap();
        put(&files, "many", format!("again of {n}").repeat(3000).as_bytes())
            .await
            .unwrap();
    }
    let all = |objects: &Arc<object_store::memory::InMemory>| {
        let objects = objects.clone();
        async move {
            use futures_util::TryStreamExt as _;
            use object_store::ObjectStore as _;
            let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
            listed
                .into_iter()
                .map(|object| object.location.to_string())
                .collect::<Vec<_>>()
        }
    };
    let names = all(&objects).await;
    assert_eq!(names.len(), 12);
    for n in 0..6 {
        let own = format!("production/files/t/{}/", filed.world.tenants[n]);
        assert_eq!(names.iter().filter(|name| name.starts_with(&own)).count(), 2);
        assert_eq!(
            read(&filed.files(n).await, "many").await.unwrap(),
            format!("again of {n}").repeat(3000).into_bytes()
        );
        let recount = filed.files(n).await.recount().await.unwrap();
        assert_eq!(
            (recount.orphans, recount.missing, recount.bytes),
            (0, 0, recount.bytes_before)
        );
    }
    files.purge_tenant(filed.world.tenants[3]).await.unwrap();
    let names = all(&objects).await;
    assert_eq!(names.len(), 10);
    assert!(
        !names
            .iter()
            .any(|name| name.contains(&filed.world.tenants[3].to_string()))
    );
    let gone = read(&filed.files(3).await, "one").await.unwrap_err();
    assert!(matches!(gone, FileError::Damaged(_)), "{gone}");
    // Whole or not at all, also when it is dropped half-way through the removal.
    for polls in 1..6 {
        dropped_after(polls, files.purge_tenant(filed.world.tenants[2])).await;
    }
    files.purge_tenant(filed.world.tenants[2]).await.unwrap();
    assert_eq!(all(&objects).await.len(), 8);
}
