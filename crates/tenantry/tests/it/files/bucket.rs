//! Files in a bucket, of a server that speaks S3.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tenantry::{
    TenantId,
    files::{BucketError, FileError, Files, FilesConfig, ScopedFiles, StoredFile},
};
use tenantry_testing::{S3, s3};
use uuid::Uuid;

use super::{Filed, config, pieces, put, read};

/// What a bucket takes at least of an upload of several parts.
const PART_BYTES: usize = 5 << 20;

struct Bucketed {
    filed: Filed,
    s3: S3,
    place: Files,
}

impl Bucketed {
    async fn new() -> Self {
        let (mut filed, s3) = tokio::join!(Filed::new(), s3());
        let place = Files::in_bucket(&s3.place("production/files"), s3.settings(), config()).unwrap();
        filed.world.tenantry = filed.world.tenantry.clone().with_files(place.clone());
        Self { filed, s3, place }
    }

    async fn files(&self, n: usize) -> ScopedFiles {
        self.filed.files(n).await
    }

    /// What stands in the bucket of a tenant.
    fn of(&self, n: usize) -> BTreeSet<String> {
        let own = format!("production/files/t/{}/", self.filed.world.tenants[n]);
        let objects = self.s3.objects().into_iter();
        objects.filter(|object| object.starts_with(&own)).collect()
    }

    /// What was begun in the background is over, and nothing is left of it anywhere.
    async fn is_empty_again(&self, n: usize) {
        let since = Instant::now();
        loop {
            let left = (
                self.s3.objects(),
                self.s3.unfinished(),
                self.files(n).await.used().await.unwrap(),
            );
            if left == (BTreeSet::new(), 0, 0) {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "left: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn put_large(files: &ScopedFiles, path: &str, data: &[u8]) -> Result<StoredFile, FileError> {
    files.upload(path, "text/plain", pieces(data, 1 << 20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_files_stand_below_their_tenant_and_one_tenant_is_purged_alone() {
    let mut bucketed = Bucketed::new().await;
    // Of two parts, whatever the configuration says of their size: the bucket would refuse smaller ones at the end.
    let large = vec![b'x'; PART_BYTES + 1];
    put_large(&bucketed.files(0).await, "large", &large).await.unwrap();
    for n in 0..6 {
        let files = bucketed.files(n).await;
        put(&files, "letters/ada.txt", b"old").await.unwrap();
        put(&files, "letters/ada.txt", format!("of {n}").as_bytes())
            .await
            .unwrap();
        put(&files, "empty", b"").await.unwrap();
    }
    for n in 0..6 {
        let files = bucketed.files(n).await;
        let listed = files.list("", "", 10).await.unwrap();
        assert_eq!(bucketed.of(n).len(), listed.len(), "{listed:?}");
        assert_eq!(
            read(&files, "letters/ada.txt").await.unwrap(),
            format!("of {n}").into_bytes()
        );
        assert_eq!(read(&files, "empty").await.unwrap(), b"");
        assert!(files.delete("empty").await.unwrap());
        let recount = files.recount().await.unwrap();
        assert_eq!(
            (recount.orphans, recount.missing, recount.bytes),
            (0, 0, recount.bytes_before)
        );
    }
    assert!(read(&bucketed.files(0).await, "large").await.unwrap() == large);
    assert_eq!((bucketed.s3.objects().len(), bucketed.s3.unfinished()), (7, 0));

    let purged = bucketed.filed.world.tenants[0];
    assert_eq!(bucketed.place.count_tenant(purged).await.unwrap(), 2);
    bucketed.place.purge_tenant(purged).await.unwrap();
    assert_eq!(bucketed.place.count_tenant(purged).await.unwrap(), 0);
    assert_eq!((bucketed.of(0).len(), bucketed.s3.objects().len()), (0, 5));
    let gone = read(&bucketed.files(0).await, "large").await.unwrap_err();
    assert!(matches!(gone, FileError::Damaged(_)), "{gone}");
    assert_eq!(
        read(&bucketed.files(1).await, "letters/ada.txt").await.unwrap(),
        b"of 1"
    );

    // The same program with a secret that was replaced: neither damaged nor gone is what the file is.
    let place = bucketed.s3.place("production/files");
    let stranger = Files::in_bucket(&place, bucketed.s3.settings_of_a_stranger(), config()).unwrap();
    let world = &mut bucketed.filed.world;
    world.tenantry = world.tenantry.clone().with_files(stranger);
    let files = bucketed.files(1).await;
    for refused in [
        read(&files, "letters/ada.txt").await.unwrap_err(),
        put(&files, "small", b"x").await.unwrap_err(),
        put_large(&files, "large", &large).await.unwrap_err(),
    ] {
        assert!(
            matches!(refused, FileError::Bucket(BucketError::Refused { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(bucketed.s3.objects().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_bucket_that_ends_too_soon_leaves_no_part_of_it() {
    let bucketed = Bucketed::new().await;
    let quota = PART_BYTES + 100;
    let files = bucketed.files(0).await.with_quota(quota as u64);
    let begin = || pieces(&vec![b'x'; PART_BYTES], 1 << 20);

    // Its sender breaks off behind the first part.
    let broken = begin().chain(stream::iter([Err(std::io::Error::other("broke off"))]));
    let refused = files.upload("file", "text/plain", broken).await.unwrap_err();
    assert!(matches!(refused, FileError::Source(_)), "{refused}");
    bucketed.is_empty_again(0).await;

    // There is no room for the second part.
    let full = put_large(&files, "file", &vec![b'x'; quota + 1]).await.unwrap_err();
    assert!(matches!(full, FileError::QuotaExceeded { .. }), "{full}");
    bucketed.is_empty_again(0).await;

    // It is dropped when the first part is there.
    let waits = begin().chain(stream::pending::<Result<Bytes, std::io::Error>>());
    let mut upload = Box::pin(files.upload("file", "text/plain", waits));
    let since = Instant::now();
    // The upload itself, and its part.
    while bucketed.s3.unfinished() < 2 {
        let ended = tokio::time::timeout(Duration::from_millis(10), &mut upload).await;
        assert!(
            ended.is_err() && since.elapsed() < Duration::from_secs(20),
            "no part came: {ended:?}"
        );
    }
    drop(upload);
    bucketed.is_empty_again(0).await;

    // Nothing of all that is counted: there is room for a file of just the quota.
    put_large(&files, "file", &vec![b'x'; quota]).await.unwrap();
    assert_eq!((bucketed.of(0).len(), bucketed.s3.unfinished()), (1, 0));
}

#[tokio::test]
async fn who_is_not_let_into_a_bucket_is_told_which_and_what_to_do() {
    let s3 = s3().await;
    let tenant = TenantId::from_uuid(Uuid::now_v7());
    let open = |place: &str, settings: Vec<(&'static str, String)>| {
        Files::in_bucket(place, settings, FilesConfig::default()).unwrap()
    };
    let without_keys = || {
        let settings = s3.settings().into_iter();
        let mut settings: Vec<_> = settings
            .filter(|(name, _)| !name.ends_with("KEY_ID") && !name.ends_with("_KEY"))
            .collect();
        // Where a cloud's machines ask for their role: here nobody has one.
        settings.push(("AWS_METADATA_ENDPOINT", s3.endpoint()));
        settings
    };
    for (files, bucket, advice) in [
        (
            open(&s3.place("files"), s3.settings_of_a_stranger()),
            "s3://tenantry",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            open(&s3.place("files"), without_keys()),
            "s3://tenantry",
            "there are no credentials",
        ),
        (
            open("s3://another/files", s3.settings()),
            "s3://another",
            "there is no bucket",
        ),
    ] {
        let told = [
            files.count_tenant(tenant).await.unwrap_err(),
            // Nobody is to believe that a purge left nothing.
            files.purge_tenant(tenant).await.unwrap_err(),
        ];
        for error in told {
            assert!(matches!(error, FileError::Bucket(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(bucket) && text.contains(advice), "{text}");
        }
    }
    let plain = [("AWS_ENDPOINT", s3.endpoint())];
    let refused = Files::in_bucket(&s3.place("files"), plain, FilesConfig::default()).unwrap_err();
    assert!(refused.to_string().contains("AWS_ALLOW_HTTP=true"), "{refused}");
}
