//! Where objects of ours stand, and what is done there by whoever keeps some.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{Error, ObjectStore, ObjectStoreExt as _, path::Path as ObjectPath};

use crate::{Bucket, BucketError};

/// Where objects stand: in a bucket that a text named, or in another store, below a prefix that nothing else uses. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Objects {
    /// How they are reached.
    pub store: Arc<dyn ObjectStore>,
    /// Below it stand all of them.
    pub prefix: ObjectPath,
    /// What messages call the bucket, if it is one that a text named.
    bucket: Option<Arc<str>>,
}

impl From<Bucket> for Objects {
    fn from(bucket: Bucket) -> Self {
        Self {
            store: bucket.objects,
            prefix: bucket.prefix,
            bucket: Some(bucket.name.into()),
        }
    }
}

impl Objects {
    /// In any store.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: ObjectPath::from(prefix),
            bucket: None,
        }
    }

    /// Whether they stand in a bucket that a text named.
    pub fn is_in_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    /// What a failure of the store means.
    pub fn failed(&self, error: Error) -> BucketError {
        match &self.bucket {
            Some(bucket) => BucketError::of(bucket, error),
            None => BucketError::Store(error),
        }
    }

    /// Nothing, where all that failed is that the object is not there. That its bucket is not is another matter.
    ///
    /// # Errors
    ///
    /// What else has failed.
    pub fn unless_absent(&self, error: Error) -> Result<(), BucketError> {
        match self.failed(error) {
            BucketError::Store(Error::NotFound { .. }) => Ok(()),
            error => Err(error),
        }
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    ///
    /// What the store's failure means.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is there or it is not.
    pub async fn remove(&self, object: &ObjectPath) -> Result<(), BucketError> {
        let deleted = self.store.delete(object).await;
        deleted.or_else(|error| self.unless_absent(error))
    }

    /// Removes all that stand in a folder.
    ///
    /// # Errors
    ///
    /// What the store's failure means; some are removed then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, some are removed and others not.
    pub async fn remove_all(&self, folder: &ObjectPath) -> Result<(), BucketError> {
        // With the separator behind it: a tenant's id never begins another's, but nothing here should rest on that.
        let own = format!("{folder}/");
        let listed = self.store.list(Some(folder));
        let locations = listed.try_filter_map(move |object| {
            let is_own = object.location.as_ref().starts_with(&own);
            std::future::ready(Ok(is_own.then_some(object.location)))
        });
        // A bucket takes a thousand names at once: a request for each would be hours for a tenant of a million files.
        let mut deleted = self.store.delete_stream(locations.boxed());
        while let Some(location) = deleted.next().await {
            location.map(drop).or_else(|error| self.unless_absent(error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn an_object_that_is_not_there_is_told_from_a_bucket_that_is_not() {
        let other = Objects::over(Arc::new(InMemory::new()), "");
        let bucket = Objects {
            bucket: Some("s3://files".into()),
            ..other.clone()
        };
        let absent = |text: &str| Error::NotFound {
            path: "t/1/2".to_owned(),
            source: text.into(),
        };
        for objects in [&other, &bucket] {
            objects.unless_absent(absent("<Code>NoSuchKey</Code>")).unwrap();
            let failed = objects.unless_absent(Error::NotImplemented {
                operation: "delete".to_owned(),
                implementer: "S3".to_owned(),
            });
            assert!(matches!(failed, Err(BucketError::Store(_))), "{failed:?}");
        }
        let missing = bucket.unless_absent(absent("<Code>NoSuchBucket</Code>"));
        assert!(matches!(missing, Err(BucketError::Missing { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn one_folder_is_removed_and_none_that_begins_as_it_does() {
        let objects = Objects::over(Arc::new(InMemory::new()), "ours");
        let of = |folder: &str| objects.prefix.clone().join(folder);
        for (folder, name) in [("a", "1"), ("a", "2"), ("ab", "1")] {
            let data = "x".into();
            objects.store.put(&of(folder).join(name), data).await.unwrap();
        }
        objects.remove(&of("a").join("1")).await.unwrap();
        objects.remove(&of("a").join("1")).await.unwrap();
        objects.remove_all(&of("a")).await.unwrap();
        let left: Vec<_> = objects.store.list(None).try_collect().await.unwrap();
        let left: Vec<_> = left.iter().map(|object| object.location.as_ref()).collect();
        assert_eq!(left, ["ours/ab/1"]);
    }
}
