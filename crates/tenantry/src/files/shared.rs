//! The place of all tenants' files.

use std::{fmt, path::Path, sync::Arc};

use object_store::ObjectStore;
use tenantry_bucket::Bucket;
use tenantry_core::TenantId;

use super::{FileError, FilesConfig, store::Store};

/// The place of all tenants' files: made once and given to [`Tenantry::with_files`](crate::Tenantry::with_files). Cheap to clone.
///
/// Files are reached through a scope. By itself it only removes those of a tenant that is purged.
#[derive(Clone)]
pub struct Files(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) config: FilesConfig,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("store", &self.0.store)
            .field("config", &self.0.config)
            .finish()
    }
}

impl Files {
    /// In a local folder, which is made where there is none. Several processes may use one, also over a network's file system that
    /// keeps what it is told to sync.
    ///
    /// # Errors
    ///
    /// [`FileError::Folder`] and [`FileError::Store`] where it can't be made or entered.
    pub fn in_folder(root: impl AsRef<Path>, config: FilesConfig) -> Result<Self, FileError> {
        let store = Store::in_folder(root.as_ref())?;
        Ok(Self(Arc::new(Inner { store, config })))
    }

    /// Where a text says: in a folder, or with the feature `s3` in `s3://bucket/prefix`, with what the environment says of it
    /// (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT` and the like).
    ///
    /// # Errors
    ///
    /// As [`in_bucket`](Self::in_bucket) for a text with `://`, else as [`in_folder`](Self::in_folder).
    pub fn at(location: &str, config: FilesConfig) -> Result<Self, FileError> {
        if location.contains("://") {
            return Self::in_bucket(location, tenantry_bucket::environment(), config);
        }
        Self::in_folder(location, config)
    }

    /// In `s3://bucket/prefix`, with settings of the program's own instead of the environment's, under the same names. Parts of
    /// uploads are 5 MiB or larger there. Let the bucket remove uploads of several parts that were never completed: they are seen
    /// nowhere else.
    ///
    /// Nothing is sent yet: whether the bucket lets this program in, the first call shows.
    ///
    /// # Errors
    ///
    /// [`FileError::Location`] for another text, and in a program without the feature `s3`; [`FileError::Bucket`] where a setting
    /// can't be used, and for an endpoint without TLS that `AWS_ALLOW_HTTP` does not allow.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example() -> Result<(), tenantry::files::FileError> {
    /// use tenantry::files::{Files, FilesConfig};
    ///
    /// let settings = [
    ///     ("AWS_ENDPOINT", "https://objects.example.com"),
    ///     ("AWS_ACCESS_KEY_ID", "files"),
    ///     ("AWS_SECRET_ACCESS_KEY", "secret"),
    /// ];
    /// let files = Files::in_bucket("s3://files/production", settings, FilesConfig::default())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_bucket<K: AsRef<str>, V: Into<String>>(
        location: &str,
        settings: impl IntoIterator<Item = (K, V)>,
        config: FilesConfig,
    ) -> Result<Self, FileError> {
        let bucket = Bucket::open(location, settings)?.ok_or(FileError::Location)?;
        let store = Store::in_bucket(bucket);
        Ok(Self(Arc::new(Inner { store, config })))
    }

    /// In any object store, below a prefix that nothing else uses.
    pub fn over(objects: Arc<dyn ObjectStore>, prefix: &str, config: FilesConfig) -> Self {
        let store = Store::over(objects, prefix);
        Self(Arc::new(Inner { store, config }))
    }

    /// Removes all bytes of a tenant, for the operation that purges a tenant; its list goes with its tables. It takes the
    /// tenant by its id because a purged tenant has no scope any more.
    ///
    /// Can be done again, and goes on where it was stopped.
    ///
    /// # Errors
    ///
    /// [`FileError::Folder`], [`FileError::Bucket`], [`FileError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, some files are removed and others not.
    pub async fn purge_tenant(&self, tenant: TenantId) -> Result<(), FileError> {
        self.0.store.remove_all(tenant).await
    }

    /// How many objects the store holds of a tenant, for whoever proves that a purge left nothing: also those that no file is called.
    ///
    /// # Errors
    ///
    /// [`FileError::Folder`], [`FileError::Bucket`], [`FileError::Store`].
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn count_tenant(&self, tenant: TenantId) -> Result<usize, FileError> {
        Ok(self.0.store.list(tenant).await?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_an_unknown_kind_is_refused_and_none_is_made_of_it() {
        for location in ["ftp://files.example.com/x", "file:///srv/files", "://", "http://x"] {
            let refused = Files::at(location, FilesConfig::default());
            assert!(matches!(refused, Err(FileError::Location)), "{location}");
        }
        let bucket = Files::at("s3://bucket/some/prefix", FilesConfig::default());
        assert_eq!(bucket.is_ok(), cfg!(feature = "s3"));
    }
}
